//! Sink `video`: Motion JPEG in AVI, or Y4M.

use std::collections::HashMap;
use std::path::PathBuf;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{FRAME, Frame};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::avi::AviWriter;
use crate::file::OutputError;
use crate::jsonl::pattern;
use crate::pattern::{Pattern, check_path};
use crate::pixels::to_jpeg;
use crate::rate::{Clock, FrameRate};
use crate::y4m::Y4mWriter;

/// Writes frames to a video file: `.avi` holds Motion JPEG (up to 2 GiB), `.y4m` uncompressed YUV.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoConfig {
    /// The file, ending in `.avi` or `.y4m`. `{stream}` stands for the name of the stream: one file for each.
    pub path: String,
    /// Frames per second at which the file plays, or `auto`: from the frames.
    #[serde(default)]
    pub fps: FrameRate,
    /// Quality of the JPEG pictures in `.avi`.
    #[serde(default = "default_quality")]
    #[schemars(range(min = 1, max = 100))]
    pub quality: u8,
}

pub(crate) fn default_quality() -> u8 {
    90
}

/// Faults of the key `quality`.
pub(crate) fn check_quality(quality: u8) -> Option<ConfigIssue> {
    (!(1..=100).contains(&quality)).then(|| ConfigIssue {
        code: Code("E0161"),
        key: "quality".into(),
        message: format!("quality is {quality}"),
        help: Some("use 1 to 100".into()),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Avi,
    Y4m,
}

impl VideoConfig {
    fn container(&self) -> Option<Container> {
        let ending = self.path.rsplit_once('.')?.1.to_ascii_lowercase();
        match ending.as_str() {
            "avi" => Some(Container::Avi),
            "y4m" => Some(Container::Y4m),
            _ => None,
        }
    }
}

impl Config for VideoConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = check_path(&self.path, false);
        if self.container().is_none() && issues.is_empty() {
            issues.push(ConfigIssue {
                code: Code("E0162"),
                key: "path".into(),
                message: format!("`{}` names no kind of video file that can be written", self.path),
                help: Some("end the name with `.avi` (Motion JPEG) or `.y4m` (uncompressed)".into()),
            });
        }
        issues.extend(check_quality(self.quality));
        if let FrameRate::Fixed(fps) = self.fps
            && !(0.01..=1e6).contains(&fps)
        {
            issues.push(ConfigIssue {
                code: Code("E0161"),
                key: "fps".into(),
                message: format!("fps is {fps}"),
                help: Some("use frames per second above 0, such as 25, or `auto`".into()),
            });
        }
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.sink::<VideoConfig>(
        KindInfo {
            name: "video",
            summary: "Writes frames to an AVI (Motion JPEG) or Y4M file",
            ports: Ports {
                takes: &[FRAME],
                gives: &[],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

fn prepare(config: &VideoConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    let pattern = pattern(&config.path)?;
    if cx.streams.len() > 1 && !pattern.tells_streams() {
        let help = "put `{stream}` into the path, such as `out/{stream}.avi`";
        let message = format!("{} streams cannot share one video file", cx.streams.len());
        return Err(PrepareError::new(Code("E0360"), "path", message).help(help));
    }
    pattern.check_writable()?;
    let path = config.path.clone();
    let config = config.clone();
    let container = config.container().unwrap_or(Container::Avi);
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Video {
            config: config.clone(),
            container,
            pattern: pattern.clone(),
            open: HashMap::new(),
            rgb: Vec::new(),
            jpeg: Vec::new(),
        }) as Box<dyn Sink>)
    })
    .writes(path))
}

struct Video {
    config: VideoConfig,
    container: Container,
    pattern: Pattern,
    open: HashMap<StreamId, Recording>,
    rgb: Vec<u8>,
    jpeg: Vec<u8>,
}

struct Recording {
    writer: Writer,
    clock: Clock,
    path: PathBuf,
}

enum Writer {
    Avi(AviWriter),
    Y4m(Y4mWriter),
}

impl Recording {
    fn finish(self, fps: FrameRate) -> Result<(), OutputError> {
        let rate = self.clock.rate(fps);
        match self.writer {
            Writer::Avi(avi) => avi.finish(rate),
            Writer::Y4m(y4m) => y4m.finish(rate),
        }
    }
}

impl Video {
    fn write(&mut self, packet: &Packet, frame: &Frame) -> Result<(), OutputError> {
        let stream = &packet.header.id.stream;
        if !self.open.contains_key(stream) {
            let path = self.pattern.path(&packet.header.id, "");
            let writer = match self.container {
                Container::Avi => Writer::Avi(AviWriter::create(&path, frame.width(), frame.height())?),
                Container::Y4m => Writer::Y4m(Y4mWriter::create(&path, frame)?),
            };
            let clock = Clock::default();
            self.open
                .insert(stream.clone(), Recording { writer, clock, path });
        }
        let Some(recording) = self.open.get_mut(stream) else {
            return Ok(());
        };
        match &mut recording.writer {
            Writer::Avi(avi) => {
                let fault = |why: String| OutputError::Frame {
                    path: recording.path.clone(),
                    why,
                };
                let (width, height) = avi.size();
                if (frame.width(), frame.height()) != (width, height) {
                    return Err(fault(format!(
                        "a frame of {}x{}; the file began with {width}x{height}",
                        frame.width(),
                        frame.height()
                    )));
                }
                self.jpeg.clear();
                to_jpeg(frame, self.config.quality, &mut self.rgb, &mut self.jpeg).map_err(fault)?;
                avi.write(&self.jpeg)?;
            }
            Writer::Y4m(y4m) => y4m.write(frame)?,
        }
        recording.clock.tick(packet.header.pts);
        Ok(())
    }
}

impl Sink for Video {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let Some(frame) = packet.shared_payload::<Frame>() else {
            let found = packet.raw_payload().port_type();
            return Err(StageError::packet(
                Code("E0704"),
                format!("`video` takes frames, the packet carries {found}"),
            ));
        };
        Ok(self.write(&packet, &frame)?)
    }

    fn end_of_stream(&mut self, stream: &StreamId) -> Result<(), StageError> {
        match self.open.remove(stream) {
            Some(recording) => Ok(recording.finish(self.config.fps)?),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), StageError> {
        // Every file is completed, even if one of them fails.
        let mut result = Ok(());
        for (_, recording) in self.open.drain() {
            let finished = recording.finish(self.config.fps);
            result = result.and(finished);
        }
        Ok(result?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::flat;
    use flow::packet::{Header, PacketId};
    use flow_frame::PixelFormat;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn packet(stream: &str, seq: u64, frame: Frame) -> Packet {
        let header = Header {
            id: PacketId {
                stream: stream.into(),
                epoch: 0,
                seq,
            },
            captured: Instant::now(),
            pts: Some(Duration::from_millis(100 * seq)),
        };
        Packet::new(header, Arc::new(frame))
    }

    fn sink(config: &str) -> Video {
        let config: VideoConfig = serde_json::from_str(config).unwrap();
        assert!(config.check().is_empty());
        Video {
            container: config.container().unwrap(),
            pattern: pattern(&config.path).unwrap(),
            config,
            open: HashMap::new(),
            rgb: Vec::new(),
            jpeg: Vec::new(),
        }
    }

    #[test]
    fn each_stream_has_its_file_and_a_change_of_size_costs_one_frame() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("{stream}.avi");
        let mut video = sink(&format!(r#"{{"path": {:?}}}"#, path.to_str().unwrap()));
        for seq in 0..5 {
            video
                .consume(packet("a", seq, flat(32, 16, PixelFormat::I420, 90)))
                .unwrap();
            video
                .consume(packet("b", seq, flat(16, 16, PixelFormat::Gray, 90)))
                .unwrap();
        }
        let e = video
            .consume(packet("a", 5, flat(16, 16, PixelFormat::I420, 0)))
            .unwrap_err();
        assert!(
            e.recoverable && e.message.contains("16x16") && e.message.contains("32x16"),
            "{e}"
        );
        assert!(!folder.path().join("a.avi").exists());
        video.end_of_stream(&"a".into()).unwrap();
        video.close().unwrap();
        for name in ["a.avi", "b.avi"] {
            let file = std::fs::read(folder.path().join(name)).unwrap();
            let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            assert_eq!((word(48), word(32)), (5, 100_000), "5 frames, 100 ms each");
        }
    }

    #[test]
    fn bad_keys_are_named() {
        let config: VideoConfig =
            serde_json::from_str(r#"{"path": "x.mkv", "fps": 0, "quality": 0}"#).unwrap();
        let keys: Vec<_> = config.check().into_iter().map(|i| i.key).collect();
        assert_eq!(keys, ["path", "quality", "fps"]);
    }
}
