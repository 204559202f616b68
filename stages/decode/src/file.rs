//! Source kind `file`: a clip or a picture, recognised by its content.

use std::path::Path;
use std::sync::Arc;

use flow::error::PrepareError;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Source, StopFlag};
use flow_frame::{ENCODED, Encoded, FRAME, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{E_VALUE, MediaError};
use crate::images;
use crate::input::Input;
use crate::media::{MediaReader, Sample, Unit};
use crate::pipe::StoppableReader;
use crate::playback::{Item, Looping, Medium, Pace, Player};

/// Reads a clip or a picture: MP4/MOV, AVI, Y4M, H.264 Annex B, JPEG and MJPEG, PNG, BMP, PNM.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileConfig {
    /// The file; `-` is standard input. A folder, or a pattern such as `shots/*.jpg`, is read as
    /// `type: images` reads it.
    path: String,
    /// Number of passes, `forever`, or `{times, on_wrap: continue | discontinuity}`.
    #[serde(default, rename = "loop")]
    looping: Looping,
    /// `asap`, `realtime`, or a factor such as `2x`.
    #[serde(default)]
    pace: Pace,
    /// Whether the stream is live: packets may be lost where queues are lossy.
    #[serde(default)]
    #[allow(dead_code)]
    live: bool,
    /// Frames per second of media without times of their own: H.264 and MJPEG streams, pictures.
    #[serde(default)]
    #[schemars(range(min = 0.001, max = 1000.0))]
    fps: Option<f64>,
}

/// Checks that a frame rate is one.
pub(crate) fn check_fps(fps: Option<f64>) -> Option<ConfigIssue> {
    let fps = fps.filter(|fps| !(0.001..=1000.0).contains(fps))?;
    Some(ConfigIssue {
        code: E_VALUE,
        key: "fps".into(),
        message: format!("{fps} frames per second; expected 0.001 to 1000"),
        help: None,
    })
}

impl Config for FileConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues: Vec<_> = check_fps(self.fps).into_iter().collect();
        if self.path.is_empty() {
            issues.push(ConfigIssue {
                code: E_VALUE,
                key: "path".into(),
                message: "the path is empty".into(),
                help: Some("name a file, or `-` for standard input".into()),
            });
        }
        if self.path == "-" && self.looping.times != Some(1) {
            issues.push(ConfigIssue {
                code: E_VALUE,
                key: "loop".into(),
                message: "standard input can be read only once".into(),
                help: Some("leave out `loop`, or name a file".into()),
            });
        }
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.source::<FileConfig>(
        KindInfo {
            name: "file",
            summary: "Reads a clip or a picture, recognised by its content",
            ports: Ports {
                takes: &[],
                gives: &[ENCODED, FRAME],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

fn prepare(config: &FileConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Source>, PrepareError> {
    let config = config.clone();
    if config.path == "-" {
        return Ok(Prepared::<dyn Source>::new(move |_| {
            let fps = config.fps;
            let opener = move |stop: &StopFlag| -> Result<Box<dyn Medium>, MediaError> {
                let reader = StoppableReader::new(std::io::stdin(), stop.clone())
                    .map_err(|e| MediaError::Open(Arc::new(e)))?;
                let input = Input::from_stream("standard input", reader);
                Ok(Box::new(Clip::new(MediaReader::open(input, fps)?)))
            };
            Ok(Box::new(Player::new(
                "standard input".into(),
                Box::new(opener),
                config.looping,
                config.pace,
                None,
            )))
        })
        .reads("-"));
    }
    let path = cx.resolve(Path::new(&config.path));
    if path.is_dir() || (!path.exists() && images::is_pattern(&config.path)) {
        return images::prepare_pictures(&config.path, config.looping, config.pace, config.fps, cx);
    }
    let opened = open(&path, config.fps).map_err(|e| {
        let error = e.in_prepare("path", &config.path);
        match e {
            MediaError::Open(_) if !path.exists() => {
                error.help("paths are looked up in the working directory, then beside the pipeline file")
            }
            _ => error,
        }
    })?;
    let declared = opened.declared();
    let file = path.clone();
    Ok(Prepared::<dyn Source>::new(move |_| {
        let (path, fps) = (path.clone(), config.fps);
        let opener = move |stop: &StopFlag| -> Result<Box<dyn Medium>, MediaError> {
            let _ = stop;
            Ok(Box::new(Clip::new(open(&path, fps)?)))
        };
        Ok(Box::new(Player::new(
            config.path.clone(),
            Box::new(opener),
            config.looping,
            config.pace,
            declared,
        )))
    })
    .reads(file))
}

fn open(path: &Path, fps: Option<f64>) -> Result<MediaReader, MediaError> {
    let input = Input::open(path).map_err(|e| MediaError::Open(Arc::new(e)))?;
    Ok(MediaReader::open(input, fps)?.with_pool(Pool::new(8)))
}

/// A [`MediaReader`] as a medium.
pub(crate) struct Clip {
    reader: MediaReader,
    origin: Arc<str>,
}

impl Clip {
    pub(crate) fn new(reader: MediaReader) -> Self {
        // The frames of a clip would all bear one name; only a single picture is known by its file's.
        let name = match reader.declared() {
            Some(1) => Path::new(&**reader.name()).file_name(),
            _ => None,
        };
        let origin = name.map_or_else(|| Arc::from(""), |name| Arc::from(name.to_string_lossy()));
        Self { reader, origin }
    }
}

impl Medium for Clip {
    fn next(&mut self) -> Result<Option<Item>, MediaError> {
        let Some(Sample { pts, unit }) = self.reader.next()? else {
            return Ok(None);
        };
        Ok(Some(Item {
            pts,
            payload: match unit {
                Unit::Frame(frame) => Arc::new(frame.from_origin(self.origin.clone())),
                Unit::Encoded {
                    codec,
                    data,
                    keyframe,
                } => Arc::new(Encoded {
                    codec,
                    data,
                    keyframe,
                    origin: self.origin.clone(),
                }),
            },
        }))
    }
}
