//! Dead letters: one JSON line for each packet that `on_error: dead_letter` took out of the pipeline.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;

use crate::config::plan::{OnError, Pipeline};
use crate::error::{Code, StageError};
use crate::ledger::lock;
use crate::packet::PacketId;

/// Longest chain of causes in a line.
const CAUSES: usize = 8;

/// A packet that failed, and why.
pub(crate) struct DeadLetter<'a> {
    pub(crate) pipeline: &'a str,
    pub(crate) component: &'a str,
    pub(crate) replica: usize,
    pub(crate) id: &'a PacketId,
    pub(crate) attempts: u32,
    pub(crate) error: &'a StageError,
}

#[derive(Serialize)]
struct Line<'a> {
    pipeline: &'a str,
    stage: &'a str,
    replica: usize,
    stream: &'a str,
    epoch: u32,
    seq: u64,
    attempts: u32,
    code: &'a str,
    errors: Vec<String>,
}

impl DeadLetter<'_> {
    fn line(&self) -> Vec<u8> {
        let mut errors = vec![self.error.to_string()];
        let mut cause = self.error.source();
        while let Some(error) = cause.filter(|_| errors.len() <= CAUSES) {
            errors.push(error.to_string());
            cause = error.source();
        }
        let line = Line {
            pipeline: self.pipeline,
            stage: self.component,
            replica: self.replica,
            stream: &self.id.stream,
            epoch: self.id.epoch,
            seq: self.id.seq,
            attempts: self.attempts,
            code: self.error.code.0,
            errors,
        };
        // Strings and numbers always serialize.
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// The dead-letter files of a run, each opened once and shared by all components that name it.
pub(crate) struct DeadLetters {
    files: BTreeMap<PathBuf, Mutex<Bounded>>,
}

struct Bounded {
    file: File,
    written: u64,
}

impl DeadLetters {
    /// Creates the files that the pipeline names, emptying those that exist.
    ///
    /// # Errors
    /// `E0409` when a file cannot be created.
    pub(crate) fn open(pipeline: &Pipeline) -> Result<Self, StageError> {
        let mut files = BTreeMap::new();
        for component in &pipeline.components {
            let mut action = &component.on_error;
            while let OnError::Retry { then, .. } = action {
                action = then;
            }
            let OnError::DeadLetter { path: Some(path), .. } = action else {
                continue;
            };
            if files.contains_key(path) {
                continue;
            }
            let created = path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| File::create(path));
            let file = created.map_err(|e| {
                let message = format!(
                    "cannot create the dead-letter file `{}` of `{}`: {e}",
                    path.display(),
                    component.name
                );
                StageError::fatal(Code("E0409"), message).caused_by(e)
            })?;
            files.insert(path.clone(), Mutex::new(Bounded { file, written: 0 }));
        }
        Ok(Self { files })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// `E0409` when the file is full (`max_bytes`) or cannot be written.
    pub(crate) fn write(
        &self,
        path: &Path,
        max_bytes: u64,
        letter: &DeadLetter<'_>,
    ) -> Result<(), StageError> {
        let Some(file) = self.files.get(path) else {
            return Ok(());
        };
        let line = letter.line();
        let mut bounded = lock(file);
        let after = bounded.written.saturating_add(line.len() as u64);
        if after > max_bytes {
            let message = format!(
                "the dead-letter file `{}` has reached its limit of {max_bytes} bytes; mend what fails, or raise \
                 `max_bytes`",
                path.display()
            );
            return Err(StageError::fatal(Code("E0409"), message));
        }
        // One write for a whole line: a crash leaves no half of one.
        bounded.file.write_all(&line).map_err(|e| {
            let message = format!("cannot write the dead-letter file `{}`: {e}", path.display());
            StageError::fatal(Code("E0409"), message).caused_by(e)
        })?;
        bounded.written = after;
        Ok(())
    }
}
