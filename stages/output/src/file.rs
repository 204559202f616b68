//! Output files that appear whole.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flow::error::{Code, PrepareError, StageError};

/// Why an output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The system refused.
    #[error("cannot write {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The picture cannot be part of this file.
    #[error("{path}: {why}", path = path.display())]
    Frame {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nobody reads standard output any more.
    #[error("standard output was closed by the program that read it")]
    Closed(#[source] io::Error),
    /// The file is as large as its format allows.
    #[error("{path}: an AVI file ends at {limit} bytes; the frames up to here are complete and playable. Write \
             `.y4m`, a lower `quality`, or one file per stream with `{{stream}}`", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Largest size in bytes.
        limit: u64,
    },
}

impl OutputError {
    /// Stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Io { .. } => Code("E0701"),
            Self::Frame { .. } => Code("E0702"),
            Self::Full { .. } => Code("E0703"),
            Self::Closed(_) => Code("E0710"),
        }
    }

    /// What the system said about standard output.
    pub(crate) fn stdout(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed(source),
            _ => Self::Io {
                path: PathBuf::from("standard output"),
                source,
            },
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}

impl From<OutputError> for StageError {
    fn from(e: OutputError) -> Self {
        let message = e.to_string();
        match e {
            OutputError::Frame { .. } => StageError::packet(e.code(), message),
            _ => StageError::fatal(e.code(), message).caused_by(e),
        }
    }
}

/// A file written under its name with `.part` behind it until [`PartFile::finish`] renames it. Dropped without,
/// it stays under that name.
pub struct PartFile {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    position: u64,
}

impl PartFile {
    /// Creates the file, and the folders above it.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        make_folder_of(path)?;
        let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let file = File::create(&part).map_err(OutputError::io(&part))?;
        Ok(Self {
            file: BufWriter::with_capacity(256 << 10, file),
            part,
            path: path.to_path_buf(),
            position: 0,
        })
    }

    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far, overwritten ones counted once.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.file.write_all(bytes).map_err(OutputError::io(&self.part))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Replaces bytes written before.
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let end = self.position;
        let mut replace = || {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(bytes)?;
            self.file.seek(SeekFrom::Start(end))
        };
        replace().map(|_| ()).map_err(OutputError::io(&self.part))
    }

    /// Gives the file its name.
    pub fn finish(mut self) -> Result<(), OutputError> {
        self.file.flush().map_err(OutputError::io(&self.part))?;
        std::fs::rename(&self.part, &self.path).map_err(OutputError::io(&self.path))
    }
}

/// Checks before a run that a file can be written: that the nearest folder above it that is there takes files.
/// Leaves nothing behind. `fixed` is the path, or the part of it before the first placeholder.
pub(crate) fn check_writable(fixed: &Path, is_whole: bool) -> Result<(), PrepareError> {
    let refuse =
        |message: String, help: &str| Err(PrepareError::new(Code("E0701"), "path", message).help(help));
    if is_whole && fixed.is_dir() {
        let message = format!("{} is a folder", fixed.display());
        return refuse(message, "name a file in it");
    }
    // What stands behind the last separator belongs to the name of the file.
    let folder = match fixed.to_string_lossy().ends_with('/') {
        true => fixed,
        false => fixed.parent().unwrap_or(Path::new("")),
    };
    let folder = folder.ancestors().find(|a| a.exists()).unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    if !folder.is_dir() {
        let message = format!(
            "{} is a file, so nothing can be written below it",
            folder.display()
        );
        return refuse(message, "name a folder, or one that can be created");
    }
    let probe = folder.join(format!(".flowrun-{}.part", std::process::id()));
    match File::create(&probe) {
        Ok(_) => {
            // A probe that stays would be a nuisance, not a reason to refuse the run.
            let _ = std::fs::remove_file(&probe);
            Ok(())
        }
        Err(e) => refuse(
            format!("nothing can be written to the folder {}: {e}", folder.display()),
            "choose another folder, or mend its permissions",
        ),
    }
}

/// Creates the folders above `path`.
pub(crate) fn make_folder_of(path: &Path) -> Result<(), OutputError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            std::fs::create_dir_all(folder).map_err(OutputError::io(folder))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/out.bin");
        let mut file = PartFile::create(&path).unwrap();
        file.write(b"0000 rest").unwrap();
        file.overwrite(0, b"head").unwrap();
        file.write(b"!").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"head rest!");
        assert!(!folder.path().join("deep/out.bin.part").exists());
    }

    #[test]
    fn a_place_is_tried_out_before_a_run_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), b"").unwrap();
        assert!(check_writable(&at("new/deep/out.avi"), true).is_ok());
        assert!(check_writable(&at("new/frame-"), false).is_ok());
        assert!(check_writable(&at("file"), true).is_ok());
        for (place, is_whole) in [("file/out.avi", true), ("file/frame-", false), ("", true)] {
            let e = check_writable(&at(place), is_whole).unwrap_err();
            assert_eq!((e.code, &*e.key), (Code("E0701"), "path"), "{place}");
        }
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), b"").unwrap();
        let e = PartFile::create(&folder.path().join("file/out.bin"))
            .err()
            .unwrap();
        assert_eq!(e.code(), Code("E0701"));
        assert!(e.to_string().contains("file"));
    }
}
