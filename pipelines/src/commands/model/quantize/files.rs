//! Which files `--data` names, and which samples of them are taken.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flow_decode::{FrameReader, picture_codec};
use flow_model::Graph;

use crate::failure::Failure;

/// Where samples come from.
#[derive(Debug)]
pub enum Item {
    /// One sample: a file for each input.
    Files(Vec<PathBuf>),
    /// As many samples as it has frames.
    Clip {
        /// The file.
        path: PathBuf,
        /// Number of frames.
        frames: u64,
    },
}

impl Item {
    /// Number of samples that it may give.
    pub fn samples(&self) -> usize {
        match self {
            Self::Files(_) => 1,
            Self::Clip { frames, .. } => usize::try_from(*frames).unwrap_or(usize::MAX),
        }
    }
}

/// What the arguments name, and files among it that cannot be used, with the reason.
#[derive(Debug, Default)]
pub struct Found {
    pub items: Vec<Item>,
    pub skipped: Vec<(String, String)>,
}

/// Endings of pictures and tensors that are taken from a folder.
const SINGLE: [&str; 9] = ["bmp", "dib", "jpeg", "jpg", "jpe", "png", "pgm", "ppm", "npy"];
/// Endings of clips that are taken from a folder.
const CLIPS: [&str; 9] = ["mp4", "m4v", "mov", "avi", "y4m", "h264", "264", "mjpeg", "mjpg"];
/// Bytes by which a picture is told from a clip.
const PROBE: u64 = 1024;

/// The ending of a file's name, in lower case.
pub fn ending(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// What the arguments name, in their order; of each folder in the order of names.
pub fn find(graph: &Graph, arguments: &[String]) -> Result<Found, Failure> {
    let mut found = Found::default();
    for argument in arguments {
        let path = Path::new(argument);
        if graph.parameters.len() > 1 {
            found.items.extend(columns(graph, path)?);
        } else if path.is_dir() {
            listed(path, &[&SINGLE[..], &CLIPS[..]])?
                .into_iter()
                .for_each(|p| found.add(p));
        } else if path.is_file() {
            found.add(path.to_path_buf());
        } else if path.exists() {
            return Err(Failure::usage(format!(
                "--data {argument}: it is neither a file nor a folder"
            )));
        } else {
            let matching =
                glob::glob(argument).map_err(|e| Failure::usage(format!("--data {argument}: {e}")))?;
            let mut matching: Vec<PathBuf> =
                matching.filter_map(Result::ok).filter(|p| p.is_file()).collect();
            matching.sort();
            if matching.is_empty() {
                return Err(Failure::usage(format!(
                    "--data {argument}: no such file, and no file matches it as a pattern"
                )));
            }
            matching.into_iter().for_each(|p| found.add(p));
        }
    }
    Ok(found)
}

impl Found {
    /// Adds a file: a clip if it is one by its content.
    fn add(&mut self, path: PathBuf) {
        if ending(&path) == "npy" || !is_clip(&path) {
            self.items.push(Item::Files(vec![path]));
            return;
        }
        match FrameReader::count(&path) {
            Ok(frames) => self.items.push(Item::Clip { path, frames }),
            Err(e) => self.skipped.push((path.display().to_string(), e.to_string())),
        }
    }
}

/// Whether a file is no single picture. What cannot be read is left to be found out when it is.
fn is_clip(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|f| f.take(PROBE).read_to_end(&mut head));
    // A stream of JPEG pictures begins as one of them does.
    let stream = matches!(ending(path).as_str(), "mjpeg" | "mjpg");
    read.is_ok() && (picture_codec(&head).is_none() || stream)
}

fn listed(folder: &Path, endings: &[&[&str]]) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|e| Failure::file("read", folder, e))?;
    let wanted = |path: &Path| {
        let ending = ending(path);
        endings.iter().any(|list| list.contains(&ending.as_str()))
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.is_file() && wanted(p))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "--data {}: the folder holds nothing that can be used, which is files that end in {}",
            folder.display(),
            endings.concat().join(", ")
        )));
    }
    Ok(files)
}

/// The files of a network with several inputs: a folder for each input.
fn columns(graph: &Graph, folder: &Path) -> Result<Vec<Item>, Failure> {
    let mut columns = Vec::new();
    for &id in &graph.parameters {
        let column = folder.join(&*graph.node(id).name);
        if !column.is_dir() {
            let names: Vec<&str> = graph.parameters.iter().map(|&id| &*graph.node(id).name).collect();
            return Err(Failure::usage(format!(
                "--data {}: there is no folder {}; a network with several inputs takes one for each of {}",
                folder.display(),
                column.display(),
                names.join(", ")
            )));
        }
        columns.push(listed(&column, &[&SINGLE])?);
    }
    let count = columns[0].len();
    if columns.iter().any(|c| c.len() != count) {
        let counts: Vec<String> = columns.iter().map(|c| c.len().to_string()).collect();
        return Err(Failure::usage(format!(
            "--data {}: its folders hold {} files; expected as many for each input",
            folder.display(),
            counts.join(", ")
        )));
    }
    Ok((0..count)
        .map(|i| Item::Files(columns.iter().map(|c| c[i].clone()).collect()))
        .collect())
}
