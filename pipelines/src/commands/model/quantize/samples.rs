//! Samples of a folder, a pattern or a file, made ready for the network once and kept in a file of the system's
//! temporary folder.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flow_decode::{decode_picture, picture_codec};
use flow_frame::{Frame, Pool};
use flow_model::{Graph, Tensor, npy};
use flow_preprocess::FrameToTensor;
use flow_quantize::{Dataset, Progress, spread};

use super::preprocess::Preprocess;
use crate::failure::Failure;

/// Samples as tensors, one after another in a file.
pub struct Samples {
    file: File,
    /// Type, shape and bytes of each input.
    inputs: Vec<(flow_model::ElementType, Vec<usize>, usize)>,
    names: Vec<String>,
    /// Whether every sample is a picture.
    pub pictures: bool,
    /// What could not be used, with the reason.
    pub skipped: Vec<(String, String)>,
}

impl Samples {
    /// Reads `count` samples spread over what the arguments name.
    pub fn read(
        graph: &Graph,
        arguments: &[String],
        preprocess: &Preprocess,
        count: usize,
        progress: &dyn Progress,
    ) -> Result<Self, Failure> {
        let files = files(graph, arguments)?;
        let chosen = spread(files.len(), count);
        let mut samples = Self::empty(graph)?;
        let mut source = Source::new(graph, preprocess);
        progress.phase("reading", chosen.len());
        let mut spare: Vec<usize> = (0..files.len())
            .filter(|i| chosen.binary_search(i).is_err())
            .collect();
        let mut wanted: Vec<usize> = chosen.into_iter().rev().collect();
        while let Some(at) = wanted.pop() {
            let set = &files[at];
            let name = set
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ");
            match source.tensors(set)? {
                Ok(tensors) => {
                    samples.pictures &= set.iter().all(|p| ending(p) != "npy");
                    samples.append(name, &tensors)?;
                }
                Err(why) => {
                    samples.skipped.push((name, why));
                    // Another one in its place, where there is one.
                    wanted.extend(spare.pop());
                }
            }
            progress.step();
        }
        Ok(samples)
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
            names: Vec::new(),
            pictures: true,
            skipped: Vec::new(),
        })
    }

    fn append(&mut self, name: String, tensors: &[Tensor]) -> Result<(), Failure> {
        for tensor in tensors {
            let folder = std::env::temp_dir();
            let full = |e| Failure::file("write samples to (TMPDIR names another folder)", &folder, e);
            self.file.write_all(tensor.bytes()).map_err(full)?;
        }
        self.names.push(name);
        Ok(())
    }
}

impl Dataset for Samples {
    fn len(&self) -> usize {
        self.names.len()
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
        self.names.get(index).cloned().unwrap_or_default()
    }
}

/// Makes tensors of files.
struct Source<'a> {
    graph: &'a Graph,
    preprocess: &'a Preprocess,
    transform: Option<FrameToTensor>,
    pool: Pool,
}

impl<'a> Source<'a> {
    fn new(graph: &'a Graph, preprocess: &'a Preprocess) -> Self {
        Self {
            graph,
            preprocess,
            transform: None,
            pool: Pool::new(1),
        }
    }

    /// The inputs of one sample; the inner error is why this file cannot be used.
    fn tensors(&mut self, set: &[PathBuf]) -> Result<Result<Vec<Tensor>, String>, Failure> {
        let mut tensors = Vec::with_capacity(set.len());
        for (&id, path) in self.graph.parameters.iter().zip(set) {
            let node = self.graph.node(id);
            let info = &node.outputs[0];
            let found = if ending(path) == "npy" {
                npy::read(path).map_err(|e| e.to_string()).and_then(|t| {
                    let fits = t.element_type() == info.element_type
                        && info.static_shape().as_deref() == Some(t.shape());
                    let wanted = flow_model::text::describe(info);
                    if fits {
                        Ok(t)
                    } else {
                        Err(format!(
                            "it holds {} {:?}, the network takes {wanted}",
                            t.element_type(),
                            t.shape()
                        ))
                    }
                })
            } else {
                match picture(path, &self.pool) {
                    Err(why) => Err(why),
                    Ok(frame) => {
                        if self.transform.is_none() {
                            self.transform = Some(self.preprocess.transform(&node.name, info)?);
                        }
                        self.frame(&frame, info)
                    }
                }
            };
            match found {
                Ok(tensor) => tensors.push(tensor),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(tensors))
    }

    fn frame(&mut self, frame: &Frame, info: &flow_model::OutputInfo) -> Result<Tensor, String> {
        let transform = self.transform.as_mut().ok_or("no transform")?;
        let (tensor, _) = transform.run(frame).map_err(|e| e.to_string())?;
        Tensor::new(
            info.element_type,
            info.static_shape().unwrap_or_default(),
            tensor.data.to_vec(),
        )
        .map_err(|e| e.to_string())
    }
}

fn picture(path: &Path, pool: &Pool) -> Result<Frame, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let codec = picture_codec(&bytes).ok_or("it is no JPEG, PNG, BMP or PNM picture")?;
    decode_picture(codec, &bytes, pool).map_err(|e| e.to_string())
}

fn ending(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Endings of files that are taken from a folder.
const USABLE: [&str; 9] = ["bmp", "dib", "jpeg", "jpg", "jpe", "png", "pgm", "ppm", "npy"];

/// For each sample a file for each input.
fn files(graph: &Graph, arguments: &[String]) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let several = graph.parameters.len() > 1;
    let mut sets = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if several {
            sets.extend(columns(graph, path)?);
        } else if path.is_dir() {
            sets.extend(listed(path)?.into_iter().map(|p| vec![p]));
        } else if path.exists() {
            sets.push(vec![path.to_path_buf()]);
        } else {
            let found =
                glob::glob(argument).map_err(|e| Failure::usage(format!("--data {argument}: {e}")))?;
            let mut found: Vec<PathBuf> = found.filter_map(Result::ok).filter(|p| p.is_file()).collect();
            found.sort();
            if found.is_empty() {
                return Err(Failure::usage(format!(
                    "--data {argument}: no such file, and no file matches it as a pattern"
                )));
            }
            sets.extend(found.into_iter().map(|p| vec![p]));
        }
    }
    Ok(sets)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|e| Failure::file("read", folder, e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.is_file() && USABLE.contains(&ending(p).as_str()))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "--data {}: the folder holds no file that ends in {}",
            folder.display(),
            USABLE.join(", ")
        )));
    }
    Ok(files)
}

/// The files of a network with several inputs: a folder for each input.
fn columns(graph: &Graph, folder: &Path) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let mut columns = Vec::new();
    for &id in &graph.parameters {
        columns.push(listed(&folder.join(&*graph.node(id).name))?);
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
        .map(|i| columns.iter().map(|c| c[i].clone()).collect())
        .collect())
}
