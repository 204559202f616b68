//! Source kind `images`: the pictures of a folder or pattern, in natural order.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::error::PrepareError;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Source, StopFlag};
use flow_frame::{ENCODED, Encoded, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{E_NO_VIDEO, E_READ, E_VALUE, MediaError};
use crate::file::check_fps;
use crate::input::Input;
use crate::media::{DEFAULT_FPS, hex, picture_codec, time_of};
use crate::playback::{Item, Looping, Medium, Pace, Player};
use crate::still::read_whole;

/// What the names of pictures in a folder end with.
const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "png", "bmp", "ppm", "pgm", "pnm"];

/// Reads pictures (JPEG, PNG, BMP, PNM) of a folder or pattern in natural order: `img2` before `img10`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImagesConfig {
    /// A folder, or a pattern such as `shots/*.jpg`. Of a folder, the files named as pictures are read.
    path: String,
    /// Number of passes, `forever`, or `{times, on_wrap: continue | discontinuity}`.
    #[serde(default, rename = "loop")]
    looping: Looping,
    /// `asap`, `realtime` (`fps` pictures a second), or a factor such as `2x`.
    #[serde(default)]
    pace: Pace,
    /// Pictures per second; 25 where nothing is said.
    #[serde(default)]
    #[schemars(range(min = 0.001, max = 1000.0))]
    fps: Option<f64>,
}

impl Config for ImagesConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues: Vec<_> = check_fps(self.fps).into_iter().collect();
        if let Err(e) = glob::Pattern::new(&self.path) {
            issues.push(ConfigIssue {
                code: E_VALUE,
                key: "path".into(),
                message: format!("the pattern is not valid: {e}"),
                help: Some("write a literal bracket as `[[]`".into()),
            });
        }
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.source::<ImagesConfig>(
        KindInfo {
            name: "images",
            summary: "Reads the pictures of a folder or pattern in natural order",
            ports: Ports {
                takes: &[],
                gives: &[ENCODED],
            },
            replication: Replication::Single,
        },
        |config, cx| prepare_pictures(&config.path, config.looping, config.pace, config.fps, cx),
    );
}

/// Whether a path is a pattern.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Prepares a source of pictures.
pub(crate) fn prepare_pictures(
    path: &str,
    looping: Looping,
    pace: Pace,
    fps: Option<f64>,
    cx: &PrepareContext<'_>,
) -> Result<Prepared<dyn Source>, PrepareError> {
    let files: Arc<[PathBuf]> = list(path, cx)?.into();
    let (name, fps) = (path.to_owned(), fps.unwrap_or(DEFAULT_FPS));
    Ok(Prepared::<dyn Source>::new(move |_| {
        let opened = files.clone();
        let opener = move |_: &StopFlag| -> Result<Box<dyn Medium>, MediaError> {
            Ok(Box::new(Pictures {
                files: opened.clone(),
                index: 0,
                fps,
                pool: Pool::new(8),
            }))
        };
        Ok(Box::new(Player::new(
            name.clone(),
            Box::new(opener),
            looping,
            pace,
            Some(files.len() as u64),
        )))
    }))
}

/// The pictures that `path` names, in natural order.
fn list(path: &str, cx: &PrepareContext<'_>) -> Result<Vec<PathBuf>, PrepareError> {
    let resolved = cx.resolve(Path::new(path));
    let mut files = if resolved.is_dir() {
        let unreadable = |e: std::io::Error| {
            PrepareError::new(E_READ, "path", format!("cannot list the folder {path}: {e}"))
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&resolved).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let picture = file
                .extension()
                .and_then(|e| e.to_str())
                .is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()));
            if picture && file.is_file() {
                files.push(file);
            }
        }
        files
    } else if resolved.is_file() {
        vec![resolved]
    } else if is_pattern(path) {
        let mut files = matches(path)?;
        if files.is_empty() && Path::new(path).is_relative() {
            files = matches(&cx.folder.join(path).to_string_lossy())?;
        }
        files
    } else {
        return Err(
            PrepareError::new(E_READ, "path", format!("{path}: there is no such folder or file"))
                .help("paths are looked up in the working directory, then beside the pipeline file"),
        );
    };
    if files.is_empty() {
        return Err(
            PrepareError::new(E_NO_VIDEO, "path", format!("{path}: there are no pictures")).help(format!(
                "of a folder, files ending in {} are read; of a pattern, every file that matches",
                EXTENSIONS.join(", ")
            )),
        );
    }
    files.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(files)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, PrepareError> {
    let found = glob::glob(pattern).map_err(|e| {
        PrepareError::new(
            E_VALUE,
            "path",
            format!("the pattern {pattern} is not valid: {e}"),
        )
    })?;
    Ok(found.flatten().filter(|file| file.is_file()).collect())
}

/// Compares names as people count: runs of digits by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&x), Some(&y)) = (left.first(), right.first()) else {
            // Equal as counted (`01` and `1`): the plain order decides, so that the order is total.
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ((n, rest_a), (m, rest_b)) = (digits(left), digits(right));
            match n.len().cmp(&m.len()).then_with(|| n.cmp(m)) {
                Ordering::Equal => (left, right) = (rest_a, rest_b),
                different => return different,
            }
        } else if x == y {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return x.cmp(&y);
        }
    }
}

/// The leading digits without leading zeros, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().take_while(|&&b| b == b'0').count();
    (&number[zeros..], rest)
}

struct Pictures {
    files: Arc<[PathBuf]>,
    index: usize,
    fps: f64,
    pool: Pool,
}

impl Medium for Pictures {
    fn next(&mut self) -> Result<Option<Item>, MediaError> {
        let Some(file) = self.files.get(self.index) else {
            return Ok(None);
        };
        let pts = time_of(self.index as u64, self.fps);
        self.index += 1;
        let name = file
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        // Whatever is wrong with one file is the matter of one packet.
        let bytes = Input::open(file)
            .map_err(|e| e.to_string())
            .and_then(|mut input| read_whole(&mut input).map_err(|e| e.to_string()))
            .map_err(|e| MediaError::Packet {
                at: 0,
                what: format!("{name}: {e}"),
            })?;
        let codec = picture_codec(&bytes).ok_or_else(|| MediaError::Packet {
            at: 0,
            what: format!(
                "{name}: expected JPEG, PNG, BMP or PNM, found {}",
                if bytes.is_empty() {
                    "an empty file".into()
                } else {
                    hex(&bytes)
                }
            ),
        })?;
        let mut data = self.pool.take(bytes.len());
        data.copy_from_slice(&bytes);
        Ok(Some(Item {
            pts,
            payload: Arc::new(Encoded {
                codec,
                data,
                keyframe: true,
                origin: Arc::from(name),
            }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::jpeg::tests::encode;
    use crate::playback::tests::play;
    use std::collections::BTreeMap;

    fn prepare(path: &Path) -> Result<Prepared<dyn Source>, PrepareError> {
        let models = BTreeMap::new();
        let cx = PrepareContext {
            name: "shots",
            folder: Path::new("."),
            models: &models,
            downstream: &[],
            streams: &[],
            replicas: 1,
            threads: 1,
            batch: None,
        };
        prepare_pictures(
            &path.to_string_lossy(),
            Looping::default(),
            Pace::Asap,
            Some(10.0),
            &cx,
        )
    }

    #[test]
    fn numbers_are_counted() {
        let mut names = ["img10", "img2", "img02", "a", "img2b", "img1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "img1", "img02", "img2", "img2b", "img10"]);
    }

    #[test]
    fn a_folder_is_read_in_order_and_a_bad_file_costs_one_packet() {
        let folder = tempfile::tempdir().unwrap();
        let jpeg = encode(8, 8, &[90; 192], None);
        for name in ["p10.jpg", "p2.JPG"] {
            std::fs::write(folder.path().join(name), &jpeg).unwrap();
        }
        std::fs::write(folder.path().join("p3.png"), b"not a picture").unwrap();
        std::fs::write(folder.path().join("labels.txt"), b"cat").unwrap();
        for path in [folder.path().to_path_buf(), folder.path().join("p*")] {
            let prepared = prepare(&path).unwrap();
            let mut source = (prepared.build)(0).unwrap();
            assert_eq!(source.size_hint(), Some(3));
            let out = play(&mut *source);
            let names: Vec<_> = out
                .packets
                .iter()
                .map(|p| p.payload::<Encoded>().unwrap().origin.to_string())
                .collect();
            assert_eq!(names, ["p2.JPG", "p10.jpg"]);
            assert_eq!(out.packets[1].header.pts.unwrap().as_millis(), 200);
            assert_eq!(out.failed.len(), 1);
            assert!(out.failed[0].to_string().contains("p3.png"), "{}", out.failed[0]);
        }
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let e = prepare(folder.path()).err().unwrap();
        assert_eq!((e.code, e.key.as_str()), (E_NO_VIDEO, "path"));
        let e = prepare(&folder.path().join("none")).err().unwrap();
        assert_eq!((e.code, e.key.as_str()), (E_READ, "path"));
    }
}
