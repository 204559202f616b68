//! Samples made ready for a network once, and kept in a file of the system's temporary folder.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flow_frame::Geometry;
use flow_model::{Graph, Tensor};
use flow_quantize::{Dataset, Progress, QuantizeError, stratified};
use sha2::{Digest, Sha256};

use super::files::{self, Item, ending};
use super::preprocess::Preprocess;
use super::source::{Made, Source, make};
use super::state::Key;
use crate::failure::Failure;

/// Sets of files per thread that are read at a time.
const AHEAD: usize = 4;

/// Samples as tensors, one after another in a file.
pub struct Samples {
    file: File,
    /// Type, shape and bytes of each input.
    inputs: Vec<(flow_model::ElementType, Vec<usize>, usize)>,
    about: Vec<About>,
    /// Of all bytes in the file.
    digest: Sha256,
    /// Whether every sample is a picture.
    pub pictures: bool,
    /// What could not be used, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// What is known of a sample besides its tensors.
#[derive(Debug, Clone)]
pub struct About {
    /// Its file, or the files of its inputs.
    pub files: String,
    /// Its place in the clip that the file is.
    pub frame: Option<u64>,
    /// From the input to the picture, where it is made from one.
    pub geometry: Option<Geometry>,
}

/// How samples are chosen and read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// What `--data` names.
    pub data: &'a [String],
    pub preprocess: &'a Preprocess,
    /// Number of samples, spread over all that there are.
    pub count: usize,
    /// Which sample of each stretch is taken.
    pub seed: u64,
    pub threads: usize,
}

impl Samples {
    /// Reads samples. Pictures that do not decode are replaced by others where there are any.
    pub fn read(graph: &Graph, how: &Reading<'_>, progress: &dyn Progress) -> Result<Self, Failure> {
        progress.phase("looking at data", how.data.len());
        let found = files::find(graph, how.data)?;
        let mut samples = Self::empty(graph)?;
        samples.skipped = found.skipped;
        let all: usize = found
            .items
            .iter()
            .map(Item::samples)
            .fold(0, usize::saturating_add);
        let chosen = stratified(all, how.count, how.seed);
        progress.phase("reading", chosen.len());
        let (sets, mut clips, spare) = divide(&found.items, &chosen);
        let mut sources: Vec<Source<'_>> = (0..how.threads.max(1))
            .map(|_| Source::new(graph, how.preprocess))
            .collect();
        clips.reverse();
        let mut spare = spare.into_iter();
        // Each with its place among the items, by which clips come in between.
        let mut waiting: std::collections::VecDeque<(usize, &[PathBuf])> = sets.into();
        while !waiting.is_empty() || !clips.is_empty() {
            let before = clips.last().map_or(usize::MAX, |clip| clip.0);
            let next = waiting.iter().take(AHEAD * sources.len());
            let sets: Vec<&[PathBuf]> = next.take_while(|(at, _)| *at < before).map(|s| s.1).collect();
            if sets.is_empty() {
                if let Some((_, path, frames)) = clips.pop() {
                    samples.clip(&mut sources[0], path, &frames, progress)?;
                }
                continue;
            }
            waiting.drain(..sets.len());
            for (set, made) in sets.iter().zip(make(&mut sources, &sets)) {
                let files = set
                    .iter()
                    .map(|p| p.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ");
                match made? {
                    Ok(made) => {
                        samples.pictures &= set.iter().all(|p| ending(p) != "npy");
                        samples.append(files, None, &made)?;
                    }
                    Err(why) => {
                        samples.skipped.push((files, why));
                        // Another one in its place, where there is one; at the end of all.
                        waiting.extend(spare.next().map(|set| (usize::MAX - 1, set)));
                    }
                }
                progress.step();
            }
            if progress.stopped() {
                return Err(Failure::failed(QuantizeError::Stopped));
            }
        }
        Ok(samples)
    }

    fn clip(
        &mut self,
        source: &mut Source<'_>,
        path: &Path,
        frames: &[u64],
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let name = path.display().to_string();
        let missing = source.clip(path, frames, progress, |frame, made| {
            self.append(name.clone(), Some(frame), &made)
        })?;
        if progress.stopped() {
            return Err(Failure::failed(QuantizeError::Stopped));
        }
        self.skipped.extend(missing.map(|why| (name, why)));
        Ok(())
    }

    fn empty(graph: &Graph) -> Result<Self, Failure> {
        let inputs = graph.parameters.iter().map(|&id| {
            let info = &graph.node(id).outputs[0];
            let shape = info.static_shape().unwrap_or_default();
            let bytes = info.element_type.byte_len(shape.iter().product()).unwrap_or(0);
            (info.element_type, shape, bytes)
        });
        let folder = std::env::temp_dir();
        Ok(Self {
            file: tempfile::tempfile_in(&folder)
                .map_err(|e| Failure::file("write samples to", &folder, e))?,
            inputs: inputs.collect(),
            about: Vec::new(),
            digest: Sha256::new(),
            pictures: true,
            skipped: Vec::new(),
        })
    }

    fn append(&mut self, files: String, frame: Option<u64>, made: &Made) -> Result<(), Failure> {
        for tensor in &made.tensors {
            let folder = std::env::temp_dir();
            let full = |e| Failure::file("write samples to (TMPDIR names another folder)", &folder, e);
            self.file.write_all(tensor.bytes()).map_err(full)?;
            self.digest.update(tensor.bytes());
        }
        self.about.push(About {
            files,
            frame,
            geometry: made.geometry,
        });
        Ok(())
    }

    /// What is known of sample `index`.
    pub fn about(&self, index: usize) -> Option<&About> {
        self.about.get(index)
    }

    /// SHA-256 of all samples.
    pub fn digest(&self) -> Key {
        self.digest.clone().finalize().into()
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.about.len()
    }
}

/// Sets of files to read, each with its place among the items; clips with the frames to read; and sets that were not
/// chosen.
#[allow(clippy::type_complexity, reason = "three lists that belong together")]
fn divide<'a>(
    items: &'a [Item],
    chosen: &[usize],
) -> (
    Vec<(usize, &'a [PathBuf])>,
    Vec<(usize, &'a Path, Vec<u64>)>,
    Vec<&'a [PathBuf]>,
) {
    let (mut sets, mut clips, mut spare) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut chosen) = (0usize, chosen);
    for (at, item) in items.iter().enumerate() {
        let end = first.saturating_add(item.samples());
        let (own, rest) = chosen.split_at(chosen.partition_point(|&c| c < end));
        match item {
            Item::Files(set) if own.is_empty() => spare.push(&set[..]),
            Item::Files(set) => sets.push((at, &set[..])),
            Item::Clip { .. } if own.is_empty() => {}
            Item::Clip { path, .. } => {
                clips.push((
                    at,
                    path.as_path(),
                    own.iter().map(|&c| (c - first) as u64).collect(),
                ));
            }
        }
        (first, chosen) = (end, rest);
    }
    (sets, clips, spare)
}

impl Dataset for Samples {
    fn len(&self) -> usize {
        self.about.len()
    }

    fn inputs(&self, index: usize) -> Result<Vec<Tensor>, String> {
        let whole: usize = self.inputs.iter().map(|i| i.2).sum();
        let mut at = (index as u64) * (whole as u64);
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for (element_type, shape, bytes) in &self.inputs {
            let mut data = vec![0; *bytes];
            self.file
                .read_exact_at(&mut data, at)
                .map_err(|e| e.to_string())?;
            at += *bytes as u64;
            tensors.push(Tensor::new(*element_type, shape.clone(), data).map_err(|e| e.to_string())?);
        }
        Ok(tensors)
    }

    fn name(&self, index: usize) -> String {
        self.about
            .get(index)
            .map_or_else(String::new, |about| match about.frame {
                Some(frame) => format!("{} frame {frame}", about.files),
                None => about.files.clone(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_divided_among_pictures_and_clips() {
        let picture = |n: &str| Item::Files(vec![PathBuf::from(n)]);
        let clip = |frames| Item::Clip {
            path: "clip".into(),
            frames,
        };
        let items = [picture("a"), clip(10), picture("b"), picture("c"), clip(2)];
        let (sets, clips, spare) = divide(&items, &[0, 1, 4, 10, 12, 13]);
        let names: Vec<(usize, &str)> = sets.iter().map(|(at, s)| (*at, s[0].to_str().unwrap())).collect();
        assert_eq!(names, [(0, "a"), (3, "c")]);
        assert_eq!(
            clips,
            [
                (1, Path::new("clip"), vec![0, 3, 9]),
                (4, Path::new("clip"), vec![0])
            ]
        );
        assert_eq!(spare, [&[PathBuf::from("b")]]);
    }
}
