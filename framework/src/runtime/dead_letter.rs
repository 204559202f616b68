//! Dead letters: the packets that `on_error: dead_letter` took out of the pipeline, each with what went wrong.

mod folder;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;

use super::component::guard;
use crate::config::plan::{DeadLetterSpec, Pipeline};
use crate::error::{Code, StageError};
use crate::ledger::lock;
use crate::packet::{Packet, PacketId, PayloadFile};
use folder::Folder;

/// Longest chain of causes in a letter.
const CAUSES: usize = 8;

/// A packet that failed, and why.
pub(crate) struct DeadLetter<'a> {
    pub(crate) pipeline: &'a str,
    pub(crate) component: &'a str,
    pub(crate) replica: usize,
    pub(crate) id: &'a PacketId,
    /// The packet, where it was kept.
    pub(crate) packet: Option<&'a Packet>,
    pub(crate) attempts: u32,
    pub(crate) error: &'a StageError,
}

#[derive(Serialize)]
struct Letter<'a> {
    pipeline: &'a str,
    stage: &'a str,
    replica: usize,
    stream: &'a str,
    epoch: u32,
    seq: u64,
    attempts: u32,
    code: &'a str,
    errors: Vec<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    carried: Option<Carried>,
}

/// What only a letter of its own says.
#[derive(Serialize)]
struct Carried {
    /// Presentation time, in nanoseconds.
    pts_ns: Option<u64>,
    files: Vec<About>,
}

#[derive(Serialize)]
struct About {
    name: String,
    about: String,
    bytes: usize,
}

impl DeadLetter<'_> {
    fn letter(&self, carried: Option<Carried>) -> Letter<'_> {
        let mut errors = vec![self.error.to_string()];
        let mut cause = self.error.source();
        while let Some(error) = cause.filter(|_| errors.len() <= CAUSES) {
            errors.push(error.to_string());
            cause = error.source();
        }
        Letter {
            pipeline: self.pipeline,
            stage: self.component,
            replica: self.replica,
            stream: &self.id.stream,
            epoch: self.id.epoch,
            seq: self.id.seq,
            attempts: self.attempts,
            code: self.error.code.0,
            errors,
            carried,
        }
    }

    fn line(&self) -> Vec<u8> {
        // Strings and numbers always serialize.
        let mut bytes = serde_json::to_vec(&self.letter(None)).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The letter as a file, with the files beside it.
    fn with_files(&self, files: &[PayloadFile]) -> Vec<u8> {
        let pts = self.packet.and_then(|packet| packet.header.pts);
        let about = |file: &PayloadFile| About {
            name: file.name.clone(),
            about: file.about.clone(),
            bytes: file.bytes.len(),
        };
        let carried = Carried {
            pts_ns: pts.map(|pts| u64::try_from(pts.as_nanos()).unwrap_or(u64::MAX)),
            files: files.iter().map(about).collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&self.letter(Some(carried))).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// The dead-letter files and folders of a run, each opened once and shared by all components that name it.
#[derive(Default)]
pub(crate) struct DeadLetters {
    files: BTreeMap<PathBuf, Mutex<Bounded>>,
    folders: BTreeMap<PathBuf, Mutex<Folder>>,
}

struct Bounded {
    file: File,
    written: u64,
}

impl DeadLetters {
    /// Creates the files that the pipeline names, emptying those that exist, and the folders, whose letters stay.
    ///
    /// # Errors
    /// `E0409` when one cannot be created.
    pub(crate) fn open(pipeline: &Pipeline) -> Result<Self, StageError> {
        let mut letters = Self::default();
        for component in &pipeline.components {
            let Some(spec) = component.on_error.letters() else {
                continue;
            };
            let failed = |path: &Path, e: std::io::Error| {
                let message = format!(
                    "cannot create `{}` for the dead letters of `{}`: {e}",
                    path.display(),
                    component.name
                );
                StageError::fatal(Code("E0409"), message).caused_by(e)
            };
            if let Some(path) = spec
                .path
                .as_ref()
                .filter(|path| !letters.files.contains_key(*path))
            {
                let created = path
                    .parent()
                    .map_or(Ok(()), std::fs::create_dir_all)
                    .and_then(|()| File::create(path));
                let file = created.map_err(|e| failed(path, e))?;
                letters
                    .files
                    .insert(path.clone(), Mutex::new(Bounded { file, written: 0 }));
            }
            if let Some(path) = spec
                .folder
                .as_ref()
                .filter(|path| !letters.folders.contains_key(*path))
            {
                let folder = Folder::open(path).map_err(|e| failed(path, e))?;
                letters.folders.insert(path.clone(), Mutex::new(folder));
            }
        }
        Ok(letters)
    }

    /// Writes a letter wherever it is to go.
    ///
    /// # Errors
    /// `E0409` when a limit is reached, or the letter cannot be written.
    pub(crate) fn write(&self, spec: &DeadLetterSpec, letter: &DeadLetter<'_>) -> Result<(), StageError> {
        if let Some((path, folder)) = spec
            .folder
            .as_ref()
            .and_then(|path| self.folders.get_key_value(path))
        {
            let files = letter.packet.map(|packet| {
                let made = guard(letter.component, "files", || {
                    Ok(packet.raw_payload().files(packet))
                });
                made.unwrap_or_default()
            });
            let files = files.unwrap_or_default();
            lock(folder).write(path, spec, letter, &files)?;
        }
        match spec.path.as_ref().and_then(|path| self.files.get_key_value(path)) {
            Some((path, file)) => append(path, &mut lock(file), spec.max_bytes, letter),
            None => Ok(()),
        }
    }
}

/// Appends one line.
fn append(path: &Path, to: &mut Bounded, max_bytes: u64, letter: &DeadLetter<'_>) -> Result<(), StageError> {
    let line = letter.line();
    let after = to.written.saturating_add(line.len() as u64);
    if after > max_bytes {
        let message = format!(
            "the dead-letter file `{}` has reached its limit of {max_bytes} bytes; mend what fails, or raise \
             `max_bytes`",
            path.display()
        );
        return Err(StageError::fatal(Code("E0409"), message));
    }
    // One write for a whole line: a crash leaves no half of one.
    to.file.write_all(&line).map_err(|e| {
        let message = format!("cannot write the dead-letter file `{}`: {e}", path.display());
        StageError::fatal(Code("E0409"), message).caused_by(e)
    })?;
    to.written = after;
    Ok(())
}
