//! Sink `images`: one picture file per frame.

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{FRAME, Frame};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::{OutputError, PartFile};
use crate::jsonl::pattern;
use crate::pattern::{Pattern, check_path};
use crate::pixels::{to_jpeg, to_png};
use crate::video::{check_quality, default_quality};

/// Writes each frame to a JPEG or PNG file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// The files, ending in `.jpg`, `.jpeg` or `.png`, such as `out/{stream}-{seq:06}.jpg`. There are `{stream}`,
    /// `{epoch}`, `{seq}` and `{origin}`, the name of the file the picture is from without folder and ending.
    pub path: String,
    /// Quality of JPEG pictures.
    #[serde(default = "default_quality")]
    #[schemars(range(min = 1, max = 100))]
    pub quality: u8,
}

impl ImagesConfig {
    fn is_png(&self) -> Option<bool> {
        let ending = self.path.rsplit_once('.')?.1.to_ascii_lowercase();
        match ending.as_str() {
            "png" => Some(true),
            "jpg" | "jpeg" => Some(false),
            _ => None,
        }
    }
}

impl Config for ImagesConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = check_path(&self.path, true);
        if self.is_png().is_none() && issues.is_empty() {
            issues.push(ConfigIssue {
                code: Code("E0162"),
                key: "path".into(),
                message: format!("`{}` names no kind of picture that can be written", self.path),
                help: Some("end the name with `.jpg` or `.png`".into()),
            });
        }
        issues.extend(check_quality(self.quality));
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.sink::<ImagesConfig>(
        KindInfo {
            name: "images",
            summary: "Writes each frame to a JPEG or PNG file",
            ports: Ports {
                takes: &[FRAME],
                gives: &[],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &ImagesConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    let pattern = pattern(&config.path)?;
    if cx.streams.len() > 1 && !pattern.tells_streams() {
        let help = "put `{stream}` into the path, such as `out/{stream}-{seq:06}.jpg`";
        let message = format!(
            "pictures of {} streams would overwrite each other",
            cx.streams.len()
        );
        return Err(PrepareError::new(Code("E0360"), "path", message).help(help));
    }
    pattern.check_writable()?;
    let path = config.path.clone();
    let (png, quality) = (config.is_png().unwrap_or(false), config.quality);
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Images {
            pattern: pattern.clone(),
            png,
            quality,
            rgb: Vec::new(),
            file: Vec::new(),
        }) as Box<dyn Sink>)
    })
    .writes(path))
}

struct Images {
    pattern: Pattern,
    png: bool,
    quality: u8,
    rgb: Vec<u8>,
    file: Vec<u8>,
}

impl Sink for Images {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let Some(frame) = packet.payload::<Frame>() else {
            let found = packet.raw_payload().port_type();
            return Err(StageError::packet(
                Code("E0704"),
                format!("`images` takes frames, the packet carries {found}"),
            ));
        };
        let path = self.pattern.path(&packet.header.id, frame.origin());
        self.file.clear();
        let encoded = if self.png {
            to_png(frame, &mut self.rgb, &mut self.file)
        } else {
            to_jpeg(frame, self.quality, &mut self.rgb, &mut self.file)
        };
        encoded.map_err(|why| OutputError::Frame {
            path: path.clone(),
            why,
        })?;
        let mut file = PartFile::create(&path)?;
        file.write(&self.file)?;
        Ok(file.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::flat;
    use flow::packet::{Header, PacketId};
    use flow_frame::PixelFormat;
    use std::sync::Arc;

    #[test]
    fn pictures_appear_under_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (ending, start) in [("jpg", &b"\xff\xd8"[..]), ("png", &b"\x89PNG"[..])] {
            let path = folder
                .path()
                .join(format!("{{stream}}/{{origin}}-{{seq:03}}.{ending}"));
            let mut images = Images {
                pattern: Pattern::parse(path.to_str().unwrap()).unwrap(),
                png: ending == "png",
                quality: 80,
                rgb: Vec::new(),
                file: Vec::new(),
            };
            let header = Header {
                id: PacketId {
                    stream: "cam".into(),
                    epoch: 0,
                    seq: 5,
                },
                captured: std::time::Instant::now(),
                pts: None,
            };
            let frame = flat(8, 8, PixelFormat::I420, 50).from_origin("in/cat.bmp".into());
            images.consume(Packet::new(header, Arc::new(frame))).unwrap();
            let file = std::fs::read(folder.path().join(format!("cam/cat-005.{ending}"))).unwrap();
            assert!(file.starts_with(start));
        }
    }

    #[test]
    fn a_name_that_is_always_the_same_is_refused() {
        let config: ImagesConfig = serde_json::from_str(r#"{"path": "out/{stream}.jpg"}"#).unwrap();
        assert!(config.check()[0].message.contains("overwrite"));
        let config: ImagesConfig = serde_json::from_str(r#"{"path": "out/{seq}.gif"}"#).unwrap();
        assert_eq!(config.check()[0].code, Code("E0162"));
    }
}
