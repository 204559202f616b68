//! Sink `video`: Motion JPEG in AVI or by itself, or Y4M; to files or to standard output.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{FRAME, Frame};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::avi::AviWriter;
use crate::file::{OutputError, PartFile};
use crate::jsonl::pattern;
use crate::pattern::{Pattern, check_path};
use crate::pipe::Pipe;
use crate::pixels::to_jpeg;
use crate::rate::{Clock, FrameRate};
use crate::y4m::Y4mWriter;

/// Writes frames to a video file, or to standard output: `.avi` holds Motion JPEG (up to 2 GiB), `.mjpeg` the same
/// pictures one behind the other, `.y4m` uncompressed YUV.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoConfig {
    /// The file, ending in `.avi`, `.mjpeg` or `.y4m`; `-` for standard output. `{stream}` stands for the name of the
    /// stream: one file for each.
    pub path: String,
    /// The format, where the name does not tell it; standard output gets `y4m` unless this says `mjpeg`.
    #[serde(default)]
    pub format: Option<VideoFormat>,
    /// Frames per second at which the file plays, or `auto`: from the frames (on standard output from the first two,
    /// since the header comes first). Bare MJPEG states none.
    #[serde(default)]
    pub fps: FrameRate,
    /// Quality of JPEG pictures.
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

/// What a video is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoFormat {
    /// Motion JPEG in AVI, with an index.
    Avi,
    /// JPEG pictures one behind the other.
    Mjpeg,
    /// Uncompressed YUV.
    Y4m,
}

impl VideoConfig {
    fn is_stdout(&self) -> bool {
        self.path == "-"
    }

    /// The format that the ending of the path stands for.
    fn by_ending(&self) -> Option<VideoFormat> {
        let ending = self.path.rsplit_once('.')?.1.to_ascii_lowercase();
        match ending.as_str() {
            "avi" => Some(VideoFormat::Avi),
            "mjpeg" | "mjpg" => Some(VideoFormat::Mjpeg),
            "y4m" => Some(VideoFormat::Y4m),
            _ => None,
        }
    }

    fn written_as(&self) -> Option<VideoFormat> {
        let otherwise = self.is_stdout().then_some(VideoFormat::Y4m);
        self.format.or_else(|| self.by_ending()).or(otherwise)
    }

    /// Why the format cannot be written there, and what can.
    fn check_format(&self) -> Option<ConfigIssue> {
        let (key, message, help) = match (self.format, self.by_ending()) {
            (Some(VideoFormat::Avi), _) if self.is_stdout() => (
                "format",
                "AVI cannot be written to standard output: its lengths are filled in at the end".to_owned(),
                "use `format: y4m` or `format: mjpeg`, or name a file",
            ),
            (Some(format), Some(ending)) if format != ending => (
                "format",
                format!("the name of `{}` says another format", self.path),
                "leave `format` out, or change the ending of `path`",
            ),
            (None, None) if !self.is_stdout() => (
                "path",
                format!("`{}` names no kind of video file that can be written", self.path),
                "end the name with `.avi` (Motion JPEG), `.mjpeg` or `.y4m` (uncompressed); `-` is standard output",
            ),
            _ => return None,
        };
        Some(ConfigIssue {
            code: Code("E0162"),
            key: key.into(),
            message,
            help: Some(help.into()),
        })
    }
}

impl Config for VideoConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = check_path(&self.path, false);
        if issues.is_empty() {
            issues.extend(self.check_format());
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
            summary: "Writes frames as video: AVI, MJPEG or Y4M, to files or to standard output",
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
    if !config.is_stdout() {
        pattern.check_writable()?;
    }
    let path = config.path.clone();
    let config = config.clone();
    let format = config.written_as().unwrap_or(VideoFormat::Avi);
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Video {
            config: config.clone(),
            format,
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
    format: VideoFormat,
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
    Mjpeg(PartFile),
    Y4m(Y4mWriter),
    Pipe(Pipe),
}

impl Writer {
    fn create(path: &Path, format: VideoFormat, frame: &Frame) -> Result<Self, OutputError> {
        Ok(match format {
            _ if path == Path::new("-") => Self::Pipe(Pipe::open()?),
            VideoFormat::Avi => Self::Avi(AviWriter::create(path, frame.width(), frame.height())?),
            VideoFormat::Mjpeg => Self::Mjpeg(PartFile::create(path)?),
            VideoFormat::Y4m => Self::Y4m(Y4mWriter::create(path, frame)?),
        })
    }
}

impl Recording {
    fn finish(self, fps: FrameRate) -> Result<(), OutputError> {
        let rate = self.clock.rate(fps);
        match self.writer {
            Writer::Avi(avi) => avi.finish(rate),
            Writer::Y4m(y4m) => y4m.finish(rate),
            Writer::Mjpeg(file) => file.finish(),
            Writer::Pipe(pipe) => pipe.finish(fps),
        }
    }
}

impl Video {
    fn write(&mut self, packet: &Packet, frame: &Frame) -> Result<(), OutputError> {
        let stream = &packet.header.id.stream;
        if !self.open.contains_key(stream) {
            let path = self.pattern.path(&packet.header.id, "");
            let writer = Writer::create(&path, self.format, frame)?;
            let clock = Clock::default();
            self.open
                .insert(stream.clone(), Recording { writer, clock, path });
        }
        let Some(recording) = self.open.get_mut(stream) else {
            return Ok(());
        };
        if self.format != VideoFormat::Y4m {
            let fault = |why: String| OutputError::Frame {
                path: recording.path.clone(),
                why,
            };
            if let Writer::Avi(avi) = &recording.writer
                && avi.size() != (frame.width(), frame.height())
            {
                let (width, height) = avi.size();
                return Err(fault(format!(
                    "a frame of {}x{}; the file began with {width}x{height}",
                    frame.width(),
                    frame.height()
                )));
            }
            self.jpeg.clear();
            to_jpeg(frame, self.config.quality, &mut self.rgb, &mut self.jpeg).map_err(fault)?;
        }
        match &mut recording.writer {
            Writer::Avi(avi) => avi.write(&self.jpeg)?,
            Writer::Mjpeg(file) => file.write(&self.jpeg)?,
            Writer::Y4m(y4m) => y4m.write(frame)?,
            Writer::Pipe(pipe) if self.format == VideoFormat::Mjpeg => pipe.write_jpeg(&self.jpeg)?,
            Writer::Pipe(pipe) => pipe.write_y4m(frame, packet.header.pts, self.config.fps)?,
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
            format: config.written_as().unwrap(),
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

    #[test]
    fn the_format_comes_from_the_name_or_the_key() {
        let config = |text: &str| -> VideoConfig { serde_json::from_str(text).unwrap() };
        for (text, format) in [
            (r#"{"path": "a.MJPG"}"#, VideoFormat::Mjpeg),
            (r#"{"path": "-"}"#, VideoFormat::Y4m),
            (r#"{"path": "-", "format": "mjpeg"}"#, VideoFormat::Mjpeg),
            (r#"{"path": "pipe", "format": "y4m"}"#, VideoFormat::Y4m),
        ] {
            assert!(config(text).check().is_empty(), "{text}");
            assert_eq!(config(text).written_as(), Some(format), "{text}");
        }
        for text in [
            r#"{"path": "-", "format": "avi"}"#,
            r#"{"path": "a.avi", "format": "y4m"}"#,
        ] {
            let issue = config(text).check().remove(0);
            assert_eq!((issue.code, &*issue.key), (Code("E0162"), "format"), "{text}");
        }
    }

    #[test]
    fn bare_mjpeg_holds_pictures_one_behind_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mjpeg");
        let mut video = sink(&format!(r#"{{"path": {:?}}}"#, path.to_str().unwrap()));
        // No header states a size, so that it may change.
        for (seq, width) in [(0, 32), (1, 16)] {
            video
                .consume(packet("a", seq, flat(width, 16, PixelFormat::I420, 90)))
                .unwrap();
        }
        video.close().unwrap();
        let file = std::fs::read(&path).unwrap();
        let starts = file.windows(3).filter(|w| *w == [0xFF, 0xD8, 0xFF]).count();
        assert_eq!(starts, 2);
        assert!(file.ends_with(&[0xFF, 0xD9]));
    }
}
