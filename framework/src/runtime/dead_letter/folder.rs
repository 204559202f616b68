//! A folder of dead letters: one folder for each, with `letter.json` and the files of what the packet carried.
//!
//! A letter is written under a name that begins with a dot and renamed when it is whole, so that nobody ever sees a half of
//! one. Letters of earlier runs stay, and count: whoever has run them again removes them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::DeadLetter;
use crate::config::plan::DeadLetterSpec;
use crate::error::{Code, StageError};
use crate::packet::PayloadFile;

/// What the name of a letter that is not whole begins with.
const PART: &str = ".part-";

pub(super) struct Folder {
    bytes: u64,
    count: u64,
    /// Tells letters of one millisecond from each other.
    next: u64,
}

impl Folder {
    /// Creates the folder, or counts what it holds; what a run that was killed left half done is removed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let mut this = Self {
            bytes: 0,
            count: 0,
            next: 0,
        };
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(PART) {
                fs::remove_dir_all(entry.path())?;
                continue;
            }
            this.count += 1;
            for file in fs::read_dir(entry.path())? {
                this.bytes += file?.metadata()?.len();
            }
        }
        Ok(this)
    }

    /// Writes a letter, whole or not at all.
    pub(super) fn write(
        &mut self,
        path: &Path,
        spec: &DeadLetterSpec,
        letter: &DeadLetter<'_>,
        files: &[PayloadFile],
    ) -> Result<(), StageError> {
        let json = letter.with_files(files);
        let bytes = files.iter().map(|file| file.bytes.len() as u64);
        let after = self.bytes.saturating_add(json.len() as u64 + bytes.sum::<u64>());
        let full = match () {
            () if after > spec.max_bytes => Some(format!("{} bytes (`max_bytes`)", spec.max_bytes)),
            () if self.count >= spec.max_count => Some(format!("{} letters (`max_count`)", spec.max_count)),
            () => None,
        };
        if let Some(limit) = full {
            let message = format!(
                "the dead-letter folder `{}` has reached its limit of {limit}; run its letters again or remove them, mend \
                 what fails, or raise the limit",
                path.display()
            );
            return Err(StageError::fatal(Code("E0409"), message));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Sorted by name, letters stand in the order in which they were written.
        let name = format!(
            "{:013}-{:06}-{}-{}-{}-{}",
            now.as_millis(),
            self.next,
            letter.component,
            letter.id.stream,
            letter.id.epoch,
            letter.id.seq
        );
        let part = path.join(format!("{PART}{name}"));
        let written = fs::create_dir(&part)
            .and_then(|()| {
                let mut files = files.iter();
                files.try_for_each(|file| fs::write(part.join(plain(&file.name)), &file.bytes))
            })
            .and_then(|()| fs::write(part.join("letter.json"), &json))
            .and_then(|()| fs::rename(&part, path.join(name)));
        written.map_err(|e| {
            let _ = fs::remove_dir_all(&part);
            let message = format!(
                "cannot write into the dead-letter folder `{}`: {e}",
                path.display()
            );
            StageError::fatal(Code("E0409"), message).caused_by(e)
        })?;
        (self.bytes, self.count, self.next) = (after, self.count + 1, self.next + 1);
        Ok(())
    }
}

/// A name that stays within the folder.
fn plain(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '_'
        }
    };
    let plain: String = name.chars().map(keep).collect();
    if plain.starts_with('.') {
        format!("_{plain}")
    } else {
        plain
    }
}
