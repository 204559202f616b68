//! Source kind `ffmpeg`: everything the `ffmpeg` program reads, as raw frames through a pipe.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flow::error::PrepareError;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Source, StopFlag};
use flow_frame::FRAME;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{E_NO_FFMPEG, E_READ, E_VALUE, MediaError};
use crate::file::Clip;
use crate::input::Input;
use crate::media::MediaReader;
use crate::pipe::StoppableReader;
use crate::playback::{Item, Looping, Medium, Pace, Player};

/// Lines of ffmpeg's messages that errors repeat.
const TAIL: usize = 8;

/// Reads what the `ffmpeg` program reads: other containers and codecs, network streams, devices.
///
/// Frames come as planar 4:2:0 with evenly spaced times; ffmpeg is not told to drop or repeat frames.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FfmpegConfig {
    /// A file.
    #[serde(default)]
    path: Option<String>,
    /// A URL or device, given to ffmpeg as it stands.
    #[serde(default)]
    url: Option<String>,
    /// Options before the input, such as `[-rtsp_transport, tcp]`.
    #[serde(default)]
    input_args: Vec<String>,
    /// Options behind the input, such as `[-vf, "scale=640:-2"]`.
    #[serde(default)]
    args: Vec<String>,
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
}

impl Config for FfmpegConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        match (&self.path, &self.url) {
            (Some(_), None) | (None, Some(_)) => Vec::new(),
            _ => vec![ConfigIssue {
                code: E_VALUE,
                key: String::new(),
                message: "expected either `path` or `url`".into(),
                help: None,
            }],
        }
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.source::<FfmpegConfig>(
        KindInfo {
            name: "ffmpeg",
            summary: "Reads whatever the ffmpeg program reads, as raw frames",
            ports: Ports {
                takes: &[],
                gives: &[FRAME],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

fn prepare(config: &FfmpegConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Source>, PrepareError> {
    prepare_with("ffmpeg", config, cx)
}

fn prepare_with(
    program: &str,
    config: &FfmpegConfig,
    cx: &PrepareContext<'_>,
) -> Result<Prepared<dyn Source>, PrepareError> {
    let probe = Command::new(program)
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Err(e) = probe {
        let message = match e.kind() {
            ErrorKind::NotFound => "the program `ffmpeg` is not installed".to_owned(),
            _ => format!("the program `ffmpeg` cannot be started: {e}"),
        };
        return Err(PrepareError::new(E_NO_FFMPEG, "type", message).help(
            "install it (Debian, Ubuntu: `apt install ffmpeg`), or use `type: file` for what it reads",
        ));
    }
    let input = match (&config.path, &config.url) {
        (Some(path), _) => {
            let resolved = cx.resolve(Path::new(path));
            if !resolved.exists() {
                return Err(PrepareError::new(
                    E_READ,
                    "path",
                    format!("{path}: there is no such file"),
                ));
            }
            // Without a protocol, a name that begins with `-` or holds `:` would mean something else.
            format!("file:{}", resolved.display())
        }
        (None, Some(url)) => url.clone(),
        (None, None) => return Err(PrepareError::new(E_VALUE, "", "expected either `path` or `url`")),
    };
    let name = config
        .path
        .clone()
        .or_else(|| config.url.clone())
        .unwrap_or_default();
    let (config, program) = (config.clone(), program.to_owned());
    Ok(Prepared::<dyn Source>::new(move |_| {
        let mut arguments: Vec<String> = ["-nostdin", "-hide_banner", "-loglevel", "error"]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(config.input_args.clone());
        arguments.extend(["-i".into(), input.clone(), "-map".into(), "0:v:0".into()]);
        arguments.extend(["-fps_mode", "passthrough", "-pix_fmt", "yuv420p"].map(str::to_owned));
        arguments.extend(config.args.clone());
        arguments.extend(["-f", "yuv4mpegpipe", "pipe:1"].map(str::to_owned));
        let program = program.clone();
        let opener = move |stop: &StopFlag| -> Result<Box<dyn Medium>, MediaError> {
            Ok(Box::new(Process::start(&program, &arguments, stop)?))
        };
        Ok(Box::new(Player::new(
            name.clone(),
            Box::new(opener),
            config.looping,
            config.pace,
            None,
        )))
    }))
}

/// A running ffmpeg; killed when let go.
struct Process {
    child: Child,
    clip: Option<Clip>,
    messages: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Process {
    fn start(program: &str, arguments: &[String], stop: &StopFlag) -> Result<Self, MediaError> {
        let failed = |e: io::Error| MediaError::Ffmpeg(format!("it cannot be started: {e}"));
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let messages = Arc::new(Mutex::new(VecDeque::new()));
        let mut process = Self {
            child,
            clip: None,
            messages: messages.clone(),
            listener: None,
        };
        let (Some(output), Some(errors)) = (output, errors) else {
            return Err(MediaError::Ffmpeg("its output cannot be read".into()));
        };
        let listener = std::thread::Builder::new()
            .name("ffmpeg messages".into())
            .spawn(move || listen(errors, &messages))
            .map_err(failed)?;
        process.listener = Some(listener);
        let reader = StoppableReader::new(output, stop.clone()).map_err(failed)?;
        match MediaReader::open(Input::from_stream("ffmpeg", reader), None) {
            Ok(reader) => process.clip = Some(Clip::new(reader)),
            Err(MediaError::Stopped) => return Err(MediaError::Stopped),
            // No output at all: what ffmpeg says is the better message.
            Err(e) => return Err(process.finish().err().unwrap_or(e)),
        }
        Ok(process)
    }

    /// Waits for the end of a process whose output has ended; its failure is an error.
    fn finish(&mut self) -> Result<(), MediaError> {
        let status = self
            .child
            .wait()
            .map_err(|e| MediaError::Ffmpeg(format!("waiting for it failed: {e}")))?;
        if let Some(listener) = self.listener.take() {
            // A listener that panicked has nothing more to say.
            let _ = listener.join();
        }
        if status.success() {
            return Ok(());
        }
        let messages: Vec<String> = match self.messages.lock() {
            Ok(lines) => lines.iter().cloned().collect(),
            Err(_) => Vec::new(),
        };
        Err(MediaError::Ffmpeg(format!(
            "it ended with {status}: {}",
            match messages.is_empty() {
                true => "it said nothing".to_owned(),
                false => messages.join(" | "),
            }
        )))
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the last lines of what ffmpeg says, each cut at 300 bytes.
fn listen(errors: impl io::Read, messages: &Mutex<VecDeque<String>>) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut errors, 4096).read_until(b'\n', &mut line);
        if !matches!(read, Ok(n) if n > 0) {
            return;
        }
        let text: String = String::from_utf8_lossy(&line)
            .trim_end()
            .chars()
            .take(300)
            .collect();
        if let Ok(mut lines) = messages.lock() {
            if lines.len() == TAIL {
                lines.pop_front();
            }
            lines.push_back(text);
        }
    }
}

impl Medium for Process {
    fn next(&mut self) -> Result<Option<Item>, MediaError> {
        let Some(clip) = &mut self.clip else {
            return Ok(None);
        };
        match clip.next() {
            Ok(None) => {
                self.clip = None;
                self.finish().map(|()| None)
            }
            other => other,
        }
    }

    fn close(&mut self) {
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
