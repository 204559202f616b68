//! OpenVINO IR: a `.xml` file with the layers and a `.bin` file with the constants.
//!
//! Format: <https://docs.openvino.ai/2025/documentation/openvino-ir-format.html>. Versions 10 and 11.

mod export;
mod read;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use read::axis;
pub use write::{to_bytes, write};

use crate::error::ModelError;
use crate::graph::Graph;
use crate::storage::{SharedBytes, Storage};

/// Largest `.xml` file that is read, in bytes.
pub const MAX_XML_BYTES: u64 = 512 << 20;

/// Where the constants of a model lie.
#[derive(Clone)]
pub enum Weights {
    /// In a file, mapped when the first constant needs it.
    File(PathBuf),
    /// In memory.
    Memory(SharedBytes),
}

/// Reads a model; its constants are in the file of the same name that ends in `.bin`.
///
/// The constants stay in the mapped file, so it must not be truncated while the graph lives.
///
/// # Errors
/// If a file is missing or unreadable, is not an IR v10 or v11, or any of its parts is wrong.
pub fn read(path: impl AsRef<Path>) -> Result<Graph, ModelError> {
    let path = path.as_ref();
    read_with(path, Weights::File(path.with_extension("bin")))
}

/// Reads a model whose constants lie elsewhere.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: impl AsRef<Path>, weights: Weights) -> Result<Graph, ModelError> {
    use std::io::Read;

    let path = path.as_ref();
    let failed = |source| ModelError::Io {
        path: path.to_path_buf(),
        action: "cannot read the model",
        help: "Give the path of the .xml file of an OpenVINO IR".to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_XML_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    parse(path, &bytes, weights)
}

/// Reads a model from the bytes of its `.xml`; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, xml: &[u8], weights: Weights) -> Result<Graph, ModelError> {
    let refused = |line, column, message| ModelError::Xml {
        path: path.to_path_buf(),
        line,
        column,
        message,
    };
    if xml.len() as u64 > MAX_XML_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_XML_BYTES >> 20);
        return Err(refused(1, 1, message));
    }
    let text = std::str::from_utf8(xml).map_err(|error| {
        let before = &xml[..error.valid_up_to()];
        let line = before.iter().filter(|&&b| b == b'\n').count() as u32 + 1;
        refused(line, 1, "the bytes are not UTF-8 text".to_owned())
    })?;
    read::graph(path, text, weights)
}

/// A mapped file.
struct Mapped(memmap2::Mmap);

impl Storage for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn give_back(&self) {
        // SAFETY: pages of a file that is only read have the same content when they are read again.
        let _stay_otherwise = unsafe { self.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

impl Weights {
    /// The bytes, mapping the file where they lie in one.
    fn open(&self, path: &Path) -> Result<SharedBytes, ModelError> {
        match self {
            Self::Memory(bytes) => Ok(Arc::clone(bytes)),
            Self::File(bin) => {
                let failed = |source| ModelError::Io {
                    path: bin.clone(),
                    action: "cannot read the weights",
                    help: format!("Put the .bin file beside {}", path.display()),
                    source,
                };
                let file = std::fs::File::open(bin).map_err(failed)?;
                if !file.metadata().map_err(failed)?.is_file() {
                    return Err(failed(std::io::Error::other("not a regular file")));
                }
                // SAFETY: the mapping is read-only and private to this process's use; the documentation of
                // `read` asks that the file is not truncated while the graph lives.
                let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
                Ok(Arc::new(Mapped(map)))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
