//! Running the command with a deadline.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// Longer than any run of a test takes on a busy machine; only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A `flowrun` process to be.
#[derive(Debug)]
pub struct Flowrun {
    command: Command,
    input: Option<Vec<u8>>,
    from: Option<Stdio>,
}

/// What a process left.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` where a signal ended the process.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Flowrun {
    /// The executable with arguments, to run in `folder`. Variables that pipelines use are not passed on.
    pub fn new<S: AsRef<OsStr>>(
        executable: &str,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut command = Command::new(executable);
        command.args(arguments).current_dir(folder);
        for name in [
            "INPUT",
            "OUT",
            "MODEL",
            "LABELS",
            "FLOW_MAX_ISA",
            "FLOW_LOG",
            "RUST_LOG",
            "RUST_BACKTRACE",
        ] {
            command.env_remove(name);
        }
        Self {
            command,
            input: None,
            from: None,
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives bytes on stdin; without it stdin is empty.
    #[must_use]
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Some(bytes);
        self
    }

    /// Gives a file or the end of a pipe as stdin.
    #[must_use]
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.from = Some(from.into());
        self
    }

    /// The process to be, for a test that wants its streams itself.
    pub fn command(self) -> Command {
        self.command
    }

    /// Starts the process.
    pub fn start(mut self) -> Running {
        self.command.stdin(match (self.from.take(), &self.input) {
            (Some(from), _) => from,
            (None, Some(_)) => Stdio::piped(),
            (None, None) => Stdio::null(),
        });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the command starts");
        if let (Some(bytes), Some(mut stdin)) = (self.input.take(), child.stdin.take()) {
            // The process may end before it has read everything.
            std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        let stdout = drain(child.stdout.take().expect("stdout is piped"));
        let stderr = drain(child.stderr.take().expect("stderr is piped"));
        Running {
            child,
            stdout,
            stderr,
            started: Instant::now(),
        }
    }

    /// Runs the process to its end.
    pub fn run(self) -> Finished {
        self.start().wait()
    }
}

/// What a pipe gave so far, and the thread that reads it.
#[derive(Debug)]
struct Drain {
    text: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

fn drain(mut pipe: impl Read + Send + 'static) -> Drain {
    let text = Arc::new(Mutex::new(Vec::new()));
    let shared = text.clone();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match pipe.read(&mut buffer).expect("the pipe can be read") {
                0 => break,
                n => shared
                    .lock()
                    .expect("no reader panics")
                    .extend_from_slice(&buffer[..n]),
            }
        }
    });
    Drain { text, thread }
}

impl Drain {
    fn so_far(&self) -> String {
        let bytes = self.text.lock().expect("no reader panics");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn all(self) -> String {
        self.thread.join().expect("the pipe was read");
        let bytes = std::mem::take(&mut *self.text.lock().expect("no reader panics"));
        String::from_utf8(bytes).expect("the output is UTF-8")
    }
}

/// A process under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Drain,
    stderr: Drain,
    started: Instant,
}

impl Running {
    /// Process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until stderr holds these words.
    pub fn until_said(&mut self, words: &str) {
        let text = self.stderr.text.clone();
        self.until(words, || {
            let bytes = text.lock().expect("no reader panics");
            String::from_utf8_lossy(&bytes).contains(words)
        });
    }

    /// The first line of stderr that holds these words, once it is there in full.
    pub fn until_line(&mut self, words: &str) -> String {
        let text = self.stderr.text.clone();
        let mut line = None;
        self.until(words, || {
            let bytes = text.lock().expect("no reader panics");
            let said = String::from_utf8_lossy(&bytes).into_owned();
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            line = whole.lines().find(|line| line.contains(words)).map(str::to_owned);
            line.is_some()
        });
        line.unwrap_or_default()
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the process can be asked").is_some()
    }

    /// Waits until `condition` holds; panics if the process ends before, or after [`DEADLINE`].
    pub fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        while !condition() {
            let said = self.stderr.so_far();
            assert!(!self.has_ended(), "the process ended before {what}:\n{said}");
            assert!(self.started.elapsed() < DEADLINE, "no sign of {what}:\n{said}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(mut self) -> Finished {
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits for the end; a process that does not end is killed, and the test fails.
    pub fn wait(mut self) -> Finished {
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return Finished {
                    code: status.code(),
                    stdout: self.stdout.all(),
                    stderr: self.stderr.all(),
                };
            }
            if self.started.elapsed() > DEADLINE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let stderr = self.stderr.all();
                panic!("the process hangs; stderr:\n{stderr}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Finished {
    /// Panics with all that was said unless the exit code is this one; no process may panic.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}\n{}", self.stdout))
    }
}

/// A file as JSON.
#[track_caller]
pub fn json(path: impl Into<PathBuf>) -> Json {
    let path = path.into();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines of a file, each as JSON.
#[track_caller]
pub fn lines(path: impl Into<PathBuf>) -> Vec<Json> {
    let path = path.into();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Panics unless the sums of a summary's ledger match, for the run and for each stream.
#[track_caller]
pub fn assert_balanced(summary: &Json) {
    let sums = |ledger: &Json| {
        let number = |key: &str| {
            ledger[key]
                .as_u64()
                .unwrap_or_else(|| panic!("no `{key}` in {ledger}"))
        };
        let dropped: u64 = ledger["dropped"]
            .as_object()
            .expect("`dropped` is a mapping")
            .values()
            .map(|n| n.as_u64().expect("a count"))
            .sum();
        assert_eq!(
            number("in"),
            number("out") + dropped + number("dead_lettered"),
            "{ledger}"
        );
        number("in")
    };
    assert_eq!(summary["ledger"]["balanced"], true, "{summary}");
    let all = sums(&summary["ledger"]);
    let streams = summary["streams"].as_object().expect("`streams` is a mapping");
    assert_eq!(all, streams.values().map(sums).sum::<u64>());
}
