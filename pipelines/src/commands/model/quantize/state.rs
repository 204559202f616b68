//! The file that keeps an interrupted calibration.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flow_model::Graph;
use flow_quantize::{Checkpoint, Options, QuantizeError};
use sha2::{Digest, Sha256};

use super::samples::Samples;
use crate::commands::read_at_most;
use crate::commands::whole::folder;
use crate::failure::Failure;

/// Time between two writes.
const EVERY: Duration = Duration::from_secs(5);
/// What such a file begins with.
const MAGIC: &[u8] = b"flowrun calibration 1\n";
/// Largest file that is read.
const MAX_BYTES: u64 = 4 << 30;

/// SHA-256 of something.
pub type Key = [u8; 32];

/// What a calibration depends on, each by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    pub model: Key,
    /// The samples, by their content and order, and which of them calibrate.
    pub samples: Key,
    pub options: Key,
}

impl Keys {
    /// Digests of the f32 network, of the samples at those places, and of options; not of the number of threads, which
    /// changes nothing.
    pub fn of(
        graph: &Graph,
        samples: &Samples,
        calibration: &[usize],
        options: &Options,
    ) -> Result<Self, Failure> {
        let (xml, weights) = flow_model::ir::to_bytes(graph).map_err(Failure::failed)?;
        let mut model = Sha256::new();
        model.update(xml);
        model.update(weights);
        let options = Options {
            threads: 1,
            ..options.clone()
        };
        let version = env!("CARGO_PKG_VERSION");
        Ok(Self {
            model: model.finalize().into(),
            samples: digest([&samples.digest()[..], &digest(format!("{calibration:?}"))[..]].concat()),
            options: digest(format!("{version} {options:?}")),
        })
    }
}

/// The digest of some bytes.
pub fn digest(bytes: impl AsRef<[u8]>) -> Key {
    Sha256::digest(bytes).into()
}

/// What is known so far, in memory and now and then in a file beside the output.
pub struct State {
    path: PathBuf,
    keys: Keys,
    kept: Mutex<Kept>,
}

struct Kept {
    parts: BTreeMap<String, Vec<u8>>,
    written: Instant,
}

impl State {
    /// Goes on with what the file beside `output` keeps, if there is one; fails if that is of something else.
    pub fn open(output: &Path, keys: Keys) -> Result<Self, Failure> {
        let mut path = output.as_os_str().to_owned();
        path.push(".calibration");
        let path = PathBuf::from(path);
        let parts = if path.exists() {
            let parts = read(&path, keys)?;
            eprintln!("going on with the calibration that {} keeps", path.display());
            parts
        } else {
            BTreeMap::new()
        };
        Ok(Self {
            path,
            keys,
            kept: Mutex::new(Kept {
                parts,
                written: Instant::now(),
            }),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is known, if anything is, so that the same command goes on there.
    pub fn keep(&self) -> Result<Option<&Path>, Failure> {
        let kept = self.kept();
        if kept.parts.is_empty() {
            return Ok(None);
        }
        write(&self.path, self.keys, &kept.parts).map_err(|e| Failure::file("write", &self.path, e))?;
        Ok(Some(&self.path))
    }

    /// The calibration is done: removes the file.
    pub fn done(self) -> Result<(), Failure> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file("remove", &self.path, e)),
            _ => Ok(()),
        }
    }
}

impl Checkpoint for State {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        self.kept().parts.get(name).cloned()
    }

    fn save(&self, name: &str, bytes: Vec<u8>) -> Result<(), QuantizeError> {
        let mut kept = self.kept();
        kept.parts.insert(name.to_owned(), bytes);
        if kept.written.elapsed() < EVERY {
            return Ok(());
        }
        kept.written = Instant::now();
        write(&self.path, self.keys, &kept.parts).map_err(|e| QuantizeError::Kept {
            path: self.path.display().to_string(),
            message: e.to_string(),
        })
    }
}

/// Magic, digests, for each part the lengths of name and bytes and both, and the digest of all that.
fn write(path: &Path, keys: Keys, parts: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    [keys.model, keys.samples, keys.options]
        .iter()
        .for_each(|key| bytes.extend(key));
    for (name, part) in parts {
        for text in [name.as_bytes(), part] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text);
        }
    }
    bytes.extend(digest(&bytes));
    let mut file = tempfile::Builder::new()
        .prefix(".flowrun-")
        .tempfile_in(folder(path))?;
    file.write_all(&bytes)?;
    file.persist(path)?;
    Ok(())
}

fn read(path: &Path, keys: Keys) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let refused = |what: &str| {
        Failure::usage(format!(
            "{} {what}; delete it to begin again, or give -o another name",
            path.display()
        ))
    };
    let bytes = read_at_most(path, MAX_BYTES).map_err(|e| Failure::file("read", path, e))?;
    let parsed = bytes.split_last_chunk::<32>().and_then(|(bytes, sum)| {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (found, parts) = rest.split_at_checked(96)?;
        (digest(bytes) == *sum).then_some((found, parts))
    });
    let Some((found, mut rest)) = parsed else {
        return Err(refused("keeps no calibration, or one that was cut off"));
    };
    let wanted = [
        (keys.model, "another model"),
        (keys.samples, "other samples"),
        (keys.options, "other options"),
    ];
    for ((key, what), found) in wanted.iter().zip(found.chunks_exact(32)) {
        if found != key {
            return Err(refused(&format!(
                "keeps an interrupted calibration with {what}: the command that began it goes on there"
            )));
        }
    }
    let mut texts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((text, after)) = after.split_at_checked(length) else {
            return Err(refused("keeps no calibration"));
        };
        texts.push(text.to_vec());
        rest = after;
    }
    let pair = |pair: &[Vec<u8>]| (String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone());
    Ok(texts.chunks_exact(2).map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            model: digest("m"),
            samples: digest("s"),
            options: digest("o"),
        }
    }

    fn message(failure: Failure) -> String {
        match failure {
            Failure::Other { message, .. } => message,
            Failure::Pipeline(_) => String::new(),
        }
    }

    #[test]
    fn what_was_kept_is_found_again_and_removed_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("q.xml");
        let state = State::open(&output, keys()).unwrap();
        assert_eq!(state.keep().unwrap(), None, "nothing to keep");
        state.save("statistics", vec![1, 2, 3]).unwrap();
        state.save("bias", vec![]).unwrap();
        assert!(state.keep().unwrap().is_some());
        let again = State::open(&output, keys()).unwrap();
        assert_eq!(again.load("statistics"), Some(vec![1, 2, 3]));
        assert_eq!(again.load("bias"), Some(vec![]));
        assert_eq!(again.load("other"), None);
        again.done().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_kept_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("q.xml");
        let state = State::open(&output, keys()).unwrap();
        state.save("statistics", vec![1]).unwrap();
        state.keep().unwrap();
        let path = folder.path().join("q.xml.calibration");
        let refused = |keys| message(State::open(&output, keys).err().unwrap());
        let other = digest("x");
        for (keys, said) in [
            (
                Keys {
                    model: other,
                    ..keys()
                },
                "another model",
            ),
            (
                Keys {
                    samples: other,
                    ..keys()
                },
                "other samples",
            ),
            (
                Keys {
                    options: other,
                    ..keys()
                },
                "other options",
            ),
        ] {
            let text = refused(keys);
            assert!(text.contains(said) && text.contains("delete it"), "{text}");
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[130] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(refused(keys()).contains("keeps no calibration"));
    }
}
