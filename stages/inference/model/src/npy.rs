//! NumPy's `.npy` files: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! Versions 1.0 and 2.0 (3.0 where the header is ASCII), little-endian, C order.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::tensor::{ElementType, Tensor, element_count};

/// An error of a `.npy` file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: not a usable .npy file: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The element type has no NumPy type.
    #[error("{}: tensors of {element_type} cannot be written as .npy; convert them first", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The element type.
        element_type: ElementType,
    },
}

/// NumPy's names of element types.
const DESCRIPTIONS: [(&str, ElementType); 12] = [
    ("|b1", ElementType::Boolean),
    ("|i1", ElementType::I8),
    ("|u1", ElementType::U8),
    ("<i2", ElementType::I16),
    ("<u2", ElementType::U16),
    ("<i4", ElementType::I32),
    ("<u4", ElementType::U32),
    ("<i8", ElementType::I64),
    ("<u8", ElementType::U64),
    ("<f2", ElementType::F16),
    ("<f4", ElementType::F32),
    ("<f8", ElementType::F64),
];

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header that is read, in bytes.
const MAX_HEADER: usize = 1 << 16;

/// Bytes before the header, at most: the magic number, the version and the length of the header.
const PREFIX: usize = 12;

/// Reads a tensor.
///
/// # Errors
/// If the file cannot be read, is big-endian or in Fortran order, has an unknown type, or is too short or long.
pub fn read(path: impl AsRef<Path>) -> Result<Tensor, NpyError> {
    read_at_most(path, usize::MAX)
}

/// Reads a tensor of at most `most` bytes; of a longer file, or of one that never ends, no more than that is read.
///
/// # Errors
/// As [`read`], and if the tensor is larger.
pub fn read_at_most(path: impl AsRef<Path>, most: usize) -> Result<Tensor, NpyError> {
    let path = path.as_ref();
    // What comes before the values, and one byte by which a longer file is told.
    let limit = most.saturating_add(MAX_HEADER + PREFIX + 1) as u64;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|source| NpyError::Io {
            path: path.to_path_buf(),
            source,
        })?;
    let parsed = if bytes.len() as u64 == limit {
        Err(format!("it is longer than the {most} bytes that are wanted"))
    } else {
        parse(&bytes)
    };
    parsed.map_err(|message| NpyError::Format {
        path: path.to_path_buf(),
        message,
    })
}

/// Reads a tensor from the bytes of a file; the error says what is wrong.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("it does not begin with \\x93NUMPY")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [major, ..] if !(1..=3).contains(major) => {
            return Err(format!("expected version 1, 2 or 3, found {major}"));
        }
        _ => return Err("the header is cut off".to_owned()),
    };
    if length > MAX_HEADER || length > rest.len() {
        return Err(format!(
            "the header of {length} bytes is cut off or longer than {MAX_HEADER} bytes"
        ));
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;

    let description = field(header, "descr")?.trim_matches(['\'', '"']);
    let element_type = DESCRIPTIONS
        .iter()
        .find(|d| d.0 == description || (d.1.bits() == 8 && description.get(1..) == d.0.get(1..)))
        .map(|d| d.1)
        .ok_or_else(|| {
            format!("element type {description:?} is not supported; save as little-endian numbers")
        })?;
    if field(header, "fortran_order")? != "False" {
        return Err("it is in Fortran order; save numpy.ascontiguousarray of it".to_owned());
    }
    let shape: Vec<usize> = field(header, "shape")?
        .trim_matches(['(', ')'])
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .map(|d| d.parse().map_err(|_| format!("{d:?} is not an axis length")))
        .collect::<Result<_, _>>()?;
    let expected = element_count(&shape)
        .and_then(|n| element_type.byte_len(n))
        .ok_or_else(|| format!("shape {shape:?} is too large"))?;
    if data.len() != expected {
        return Err(format!(
            "shape {shape:?} of {element_type} needs {expected} bytes, found {}",
            data.len()
        ));
    }
    Tensor::new(element_type, shape, data).map_err(|e| e.to_string())
}

/// The text of a value of the header's dictionary.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let missing = || format!("the header has no `{key}`");
    let at = ["'", "\""].iter().find_map(|q| {
        let quoted = format!("{q}{key}{q}");
        header.find(&quoted).map(|i| i + quoted.len())
    });
    let value = header[at.ok_or_else(missing)?..]
        .trim_start()
        .strip_prefix(':')
        .ok_or_else(missing)?;
    let value = value.trim_start();
    let end = if value.starts_with('(') {
        value.find(')').map(|i| i + 1)
    } else {
        value.find([',', '}'])
    };
    Ok(value[..end.ok_or_else(missing)?].trim())
}

/// The bytes of a file in version 1.0; `None` if the element type has no NumPy type.
pub fn to_bytes(tensor: &Tensor) -> Option<Vec<u8>> {
    let description = DESCRIPTIONS.iter().find(|d| d.1 == tensor.element_type())?.0;
    let mut dims: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    // A tuple of one keeps its comma.
    if tensor.shape().len() > 1 {
        dims.truncate(dims.len() - 2);
    } else {
        dims.truncate(dims.trim_end().len());
    }
    let mut header = format!("{{'descr': '{description}', 'fortran_order': False, 'shape': ({dims}), }}");
    // The data begin at a multiple of 64 bytes, after a newline.
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).ok()?;
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + header.len() + tensor.bytes().len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(tensor.bytes());
    Some(bytes)
}

/// Writes a tensor; a file of that name appears only when it is whole.
///
/// # Errors
/// If the file cannot be written or the element type has no NumPy type.
pub fn write(path: impl AsRef<Path>, tensor: &Tensor) -> Result<(), NpyError> {
    let path = path.as_ref();
    let bytes = to_bytes(tensor).ok_or_else(|| NpyError::Type {
        path: path.to_path_buf(),
        element_type: tensor.element_type(),
    })?;
    crate::file::replace(path, |file| file.write_all(&bytes)).map_err(|source| NpyError::Io {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_type_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        for (_, element_type) in DESCRIPTIONS {
            for shape in [&[][..], &[3], &[2, 0], &[1, 2, 3]] {
                let values: Vec<i128> = (0..element_count(shape).unwrap() as i128)
                    .map(|v| v % 2)
                    .collect();
                let tensor = Tensor::from_i128(element_type, shape, &values).unwrap();
                let path = dir.path().join("t.npy");
                write(&path, &tensor).unwrap();
                assert_eq!(read(&path).unwrap(), tensor);
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_header_is_numpys() {
        let bytes = to_bytes(&Tensor::from_slice(&[2], &[1u8, 2]).unwrap()).unwrap();
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(&bytes[10..10 + header.len()], header.as_bytes());
        assert_eq!((bytes.len() - 2) % 64, 0);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = to_bytes(&Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap()).unwrap();
        assert!(
            parse(&good[..good.len() - 1])
                .unwrap_err()
                .contains("8 bytes, found 7")
        );
        let text = |from: &str, to: &str| {
            let text: Vec<u8> = good.clone();
            let at = text
                .windows(from.len())
                .position(|w| w == from.as_bytes())
                .unwrap();
            let mut text = text;
            text[at..at + to.len()].copy_from_slice(to.as_bytes());
            parse(&text).unwrap_err()
        };
        assert!(text("<f4", ">f4").contains("little-endian"));
        assert!(text("False", "True ").contains("Fortran"));
        assert!(text("(2,)", "(-,)").contains("axis length"));
    }

    proptest! {
        #[test]
        fn damaged_files_do_not_panic(at in 0usize..136, byte: u8, cut in 0usize..136) {
            let mut bytes = to_bytes(&Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap()).unwrap();
            bytes[at] = byte;
            let _ = parse(&bytes);
            let _ = parse(&bytes[..cut]);
        }
    }
}
