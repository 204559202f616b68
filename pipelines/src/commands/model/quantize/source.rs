//! From files to the inputs of a network.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flow_decode::{FrameReader, MAX_PACKET, decode_picture, picture_codec};
use flow_frame::{Frame, Geometry, Pool};
use flow_model::{Graph, OutputInfo, Tensor, npy};
use flow_preprocess::FrameToTensor;
use flow_quantize::Progress;

use super::files::ending;
use super::preprocess::Preprocess;
use crate::commands::read_at_most;
use crate::failure::Failure;

/// One sample.
pub struct Made {
    /// The inputs of the network, in order.
    pub tensors: Vec<Tensor>,
    /// From the input to the picture, where it is made from one.
    pub geometry: Option<Geometry>,
}

/// Makes samples; the inner error is why a file cannot be used.
pub struct Source<'a> {
    graph: &'a Graph,
    preprocess: &'a Preprocess,
    transform: Option<FrameToTensor>,
    pool: Pool,
}

impl<'a> Source<'a> {
    pub fn new(graph: &'a Graph, preprocess: &'a Preprocess) -> Self {
        Self {
            graph,
            preprocess,
            transform: None,
            pool: Pool::new(1),
        }
    }

    /// The sample of a file for each input.
    fn files(&mut self, set: &[PathBuf]) -> Result<Result<Made, String>, Failure> {
        let mut made = Made {
            tensors: Vec::with_capacity(set.len()),
            geometry: None,
        };
        let graph = self.graph;
        for (&id, path) in graph.parameters.iter().zip(set) {
            let info = &graph.node(id).outputs[0];
            let found = if ending(path) == "npy" {
                tensor(path, info)
            } else {
                match picture(path, &self.pool) {
                    Err(why) => Err(why),
                    Ok(frame) => self.frame(&frame, id)?.map(|(tensor, geometry)| {
                        made.geometry = Some(geometry);
                        tensor
                    }),
                }
            };
            match found {
                Ok(tensor) => made.tensors.push(tensor),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(made))
    }

    /// The input `id` made of a frame.
    fn frame(
        &mut self,
        frame: &Frame,
        id: flow_model::NodeId,
    ) -> Result<Result<(Tensor, Geometry), String>, Failure> {
        let node = self.graph.node(id);
        let info = &node.outputs[0];
        let transform = match &mut self.transform {
            Some(transform) => transform,
            none => none.insert(self.preprocess.transform(&node.name, info)?),
        };
        let made = transform.run(frame).map_err(|e| e.to_string());
        let shape = info.static_shape().unwrap_or_default();
        Ok(made.and_then(|(tensor, geometry)| {
            let tensor = Tensor::new(info.element_type, shape, tensor.data.to_vec());
            Ok((tensor.map_err(|e| e.to_string())?, geometry))
        }))
    }

    /// The samples of the frames at `wanted`, which rises; in place of a frame that does not decode the next one that
    /// does. Gives how many are missing in the end, with the reason if the clip cannot be read on.
    pub fn clip(
        &mut self,
        path: &Path,
        wanted: &[u64],
        progress: &dyn Progress,
        mut take: impl FnMut(u64, Made) -> Result<(), Failure>,
    ) -> Result<Option<String>, Failure> {
        let mut reader = match FrameReader::open(path) {
            Ok(reader) => reader,
            Err(e) => return Ok(Some(e.to_string())),
        };
        let [id] = self.graph.parameters[..] else {
            return Ok(Some("a clip is one input, the network has several".to_owned()));
        };
        let mut taken = 0;
        while taken < wanted.len() && !progress.stopped() {
            match reader.next(&|place| place >= wanted[taken]) {
                Ok(Some((place, frame))) if place >= wanted[taken] => match self.frame(&frame, id)? {
                    Ok((tensor, geometry)) => {
                        let made = Made {
                            tensors: vec![tensor],
                            geometry: Some(geometry),
                        };
                        take(place, made)?;
                        taken += 1;
                        progress.step();
                    }
                    Err(why) => return Ok(Some(why)),
                },
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Ok(Some(format!(
                        "{} of {} frames that were asked for cannot be had: {} of its packets do not decode",
                        wanted.len() - taken,
                        wanted.len(),
                        reader.failed()
                    )));
                }
                Err(e) => return Ok(Some(e.to_string())),
            }
        }
        Ok(None)
    }
}

/// The samples of several sets of files, in order, made on as many threads as there are sources.
pub fn make(sources: &mut [Source<'_>], sets: &[&[PathBuf]]) -> Vec<Result<Result<Made, String>, Failure>> {
    let next = AtomicUsize::new(0);
    let made: Mutex<Vec<Option<_>>> = Mutex::new(sets.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for source in sources {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(set) = sets.get(at) else { return };
                    let result = source.files(set);
                    made.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[at] = Some(result);
                }
            });
        }
    });
    let made = made
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    made.into_iter().flatten().collect()
}

fn tensor(path: &Path, info: &OutputInfo) -> Result<Tensor, String> {
    if !path.is_file() {
        return Err("it is no plain file".to_owned());
    }
    let shape = info.static_shape().unwrap_or_default();
    let bytes = info.element_type.byte_len(shape.iter().product()).unwrap_or(0);
    let found = npy::read_at_most(path, bytes).map_err(|e| e.to_string())?;
    if found.element_type() == info.element_type && shape == found.shape() {
        return Ok(found);
    }
    Err(format!(
        "it holds {} {:?}, the network takes {}",
        found.element_type(),
        found.shape(),
        flow_model::text::describe(info)
    ))
}

fn picture(path: &Path, pool: &Pool) -> Result<Frame, String> {
    let bytes = read_at_most(path, MAX_PACKET).map_err(|e| e.to_string())?;
    let codec = picture_codec(&bytes).ok_or("it is no JPEG, PNG, BMP or PNM picture")?;
    decode_picture(codec, &bytes, pool).map_err(|e| e.to_string())
}
