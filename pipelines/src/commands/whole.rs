//! Files that appear when they are whole.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file that an option names: opened beside its place before the work, so that a wrong path does not cost it, and put in
/// its place when it is written.
pub struct WholeFile<'a> {
    path: &'a Path,
    file: NamedTempFile,
}

impl<'a> WholeFile<'a> {
    /// Opens a file for what `option` names.
    pub fn create(option: &str, path: &'a Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Err(Failure::usage(format!(
                "{option} {}: it is a folder",
                path.display()
            )));
        }
        // Like any other output, readable by whom the umask allows.
        let mode = std::fs::Permissions::from_mode(0o666);
        let file = tempfile::Builder::new()
            .prefix(".flowrun-")
            .permissions(mode)
            .tempfile_in(folder(path));
        match file {
            Ok(file) => Ok(Self { path, file }),
            // The text of the error names a random file.
            Err(e) => Err(Failure::usage(format!(
                "{option} {}: cannot be written: {}",
                path.display(),
                e.kind()
            ))),
        }
    }

    /// Writes the file.
    pub fn write(mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes());
        written
            .and_then(|()| Ok(self.file.persist(self.path)?))
            .map(|_| ())
            .map_err(|e| Failure::file("write", self.path, e))
    }
}

/// The folder that a file stands in.
pub fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
