//! The parse phase: a pipeline file with its overrides and environment applied.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::{Environment, interpolate};
use super::overrides;
use super::streams::{self, Matches};
use super::tree::Node;
use super::yaml;
use crate::codes;
use crate::diagnostics::{Diagnostic, Diagnostics, Sources, Span};

/// A parsed pipeline file.
#[derive(Debug, Clone)]
pub struct Document {
    pub(super) root: Node,
    pub(super) sources: Arc<Sources>,
    /// Faults that did not keep the file from being parsed; [`check`](super::check()) reports them with its own.
    pub(super) found: Vec<Diagnostic>,
    pub(super) file: String,
    pub(super) folder: PathBuf,
}

/// What comes from the command line and the environment.
pub struct Options<'a> {
    /// `--set` arguments of the form `path=value`, applied in order.
    pub set: &'a [String],
    /// Looks up an environment variable.
    pub environment: Environment<'a>,
    /// Takes the place of variables that are needed and not set, for a pipeline that is looked at and not run.
    pub stand_in: Option<&'a str>,
    /// Finds the files of a pattern that `streams` gives; `None`: on disk.
    pub matches: Option<Matches<'a>>,
}

impl Default for Options<'_> {
    /// No overrides, the environment of the process. A variable that is not UTF-8 counts as not set.
    fn default() -> Self {
        Self {
            set: &[],
            environment: &|name| std::env::var(name).ok(),
            stand_in: None,
            matches: None,
        }
    }
}

/// Reads and parses a pipeline file; `-` is standard input.
pub fn load(file: &Path, options: &Options<'_>) -> Result<Document, Diagnostics> {
    // One byte more than allowed tells a file that is too large.
    let limit = yaml::MAX_FILE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|f| f.take(limit).read_to_end(&mut bytes))
    };
    let name = file.display().to_string();
    if let Err(error) = read {
        let mut diagnostics = Diagnostics::new(Arc::new(Sources::new(&name, "")));
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
            _ => error.to_string(),
        };
        diagnostics.push(Diagnostic::error(
            codes::FILE_UNREADABLE,
            Span::default(),
            format!("cannot read the pipeline file {name}: {reason}"),
        ));
        return Err(diagnostics);
    }
    parse(&name, &bytes, options)
}

/// Parses a pipeline file that `name` names, without I/O but for patterns of `streams`. Errors of syntax end it; everything else is kept for
/// [`check`](super::check()), so that all errors come out at once.
pub fn parse(name: &str, bytes: &[u8], options: &Options<'_>) -> Result<Document, Diagnostics> {
    let fail = |sources: Sources, error: Diagnostic| {
        let mut diagnostics = Diagnostics::new(Arc::new(sources));
        diagnostics.push(error);
        diagnostics
    };
    let text = match yaml::decode(bytes) {
        Ok(text) => text,
        Err(mut error) => {
            error.message = error.message.replacen("the pipeline file", name, 1);
            return Err(fail(Sources::new(name, ""), *error));
        }
    };
    let mut sources = Sources::new(name, text);
    let mut found = Vec::new();
    let mut root = match yaml::parse(text, 0, &mut found) {
        Ok(root) => root,
        Err(error) => return Err(fail(sources, *error)),
    };
    for argument in options.set {
        let source = sources.add("--set", argument);
        overrides::apply(&mut root, argument, source, &mut found);
    }
    interpolate(&mut root, options.environment, options.stand_in, &mut found);
    let folder = Path::new(name)
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let on_disk = |pattern: &str| streams::files(&folder, pattern);
    streams::expand(&mut root, options.matches.unwrap_or(&on_disk), &mut found);
    Ok(Document {
        root,
        sources: Arc::new(sources),
        found,
        file: name.to_owned(),
        folder,
    })
}
