//! Networks whose inputs have open axes: one compiled network per set of input shapes, made on first use.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flow_cpu::Input;
use flow_model::graph::Bounds;
use flow_model::{Graph, PartialShape};

use crate::engine::{Engine, Options, Session};
use crate::error::EngineError;

/// Compiled networks that an engine keeps, and sets of memory that a session keeps: those used last.
const MAX_KEPT: usize = 8;

/// The shape of an input as a user states it: `[1,3,224,224]`, `data[?,3,32..640,32..640]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    /// The input; none: every input.
    pub name: Option<String>,
    /// Lengths of the axes; `None` where an axis is open.
    pub shape: PartialShape,
    /// Limits of the axes.
    pub bounds: Vec<Bounds>,
}

impl InputShape {
    /// Fixed axes of every input.
    pub fn fixed(shape: &[usize]) -> Self {
        let bounds = |&length| Bounds {
            low: length,
            high: Some(length),
        };
        Self {
            name: None,
            shape: shape.iter().map(|&d| Some(d)).collect(),
            bounds: shape.iter().map(bounds).collect(),
        }
    }
}

impl FromStr for InputShape {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let wrong = || EngineError::ShapeSyntax(text.to_owned());
        let (name, axes) = text
            .trim()
            .strip_suffix(']')
            .and_then(|t| t.rsplit_once('['))
            .ok_or_else(wrong)?;
        let (mut shape, mut bounds) = (PartialShape::new(), Vec::new());
        for axis in axes.split(',').filter(|_| !axes.trim().is_empty()) {
            let (length, limits) = flow_model::ir::axis(axis).ok_or_else(wrong)?;
            shape.push(length);
            bounds.push(limits);
        }
        Ok(Self {
            name: Some(name.trim()).filter(|n| !n.is_empty()).map(str::to_owned),
            shape,
            bounds,
        })
    }
}

/// The graph of the model at `path` with the stated shapes.
///
/// # Errors
/// [`EngineError`] if a shape does not fit, or is stated for an input that the model does not have.
pub fn with_shapes(graph: Graph, path: &Path, shapes: &[InputShape]) -> Result<Graph, EngineError> {
    let options = Options {
        shapes: shapes.to_vec(),
        ..Options::default()
    };
    with_stated(graph, path, &options)
}

/// The graph with the stated shapes, and with open first axes set to the batch.
pub(crate) fn with_stated(graph: Graph, path: &Path, options: &Options) -> Result<Graph, EngineError> {
    let mut shapes = Vec::with_capacity(graph.parameters.len());
    let mut all_bounds = Vec::with_capacity(graph.parameters.len());
    let mut used = vec![false; options.shapes.len()];
    for (index, &id) in graph.parameters.iter().enumerate() {
        let node = graph.node(id);
        let info = &node.outputs[0];
        let names = || info.names.iter().chain([&node.name]);
        let mut shape = info.shape.clone();
        let mut bounds: Vec<Bounds> = (0..shape.len())
            .map(|axis| graph.axis_bounds(index, axis))
            .collect();
        let wrong = |found: String| EngineError::Input {
            index,
            name: node.name.to_string(),
            expected: format!("{} {}", info.element_type, graph.input_shape_text(index)),
            found,
        };
        for (stated, used) in options.shapes.iter().zip(&mut used) {
            let meant = stated
                .name
                .as_ref()
                .is_none_or(|name| names().any(|n| **n == **name));
            if !meant {
                continue;
            }
            *used = true;
            if stated.shape.len() != shape.len() {
                return Err(wrong(format!("{} axes in the stated shape", stated.shape.len())));
            }
            shape.clone_from(&stated.shape);
            bounds.clone_from(&stated.bounds);
        }
        if let (Some(axis @ None), Some(batch)) = (shape.first_mut(), options.batch) {
            if !bounds[0].allow(batch) {
                return Err(wrong(format!("batch {batch}")));
            }
            *axis = Some(batch);
        }
        shapes.push(shape);
        all_bounds.push(bounds);
    }
    if let Some(at) = used.iter().position(|used| !used) {
        let names: Vec<&str> = graph.parameters.iter().map(|id| &*graph.node(*id).name).collect();
        return Err(EngineError::NoSuchInput {
            path: path.to_path_buf(),
            name: options.shapes[at].name.clone().unwrap_or_default(),
            names: names.join(", "),
        });
    }
    let same = graph
        .parameters
        .iter()
        .zip(&shapes)
        .all(|(id, s)| graph.node(*id).outputs[0].shape == *s);
    let mut shaped = if same {
        graph
    } else {
        graph.with_input_shapes(&shapes)?
    };
    shaped.bounds = all_bounds;
    Ok(shaped)
}

/// Whether an input of the graph has an open axis.
pub(crate) fn is_open(graph: &Graph) -> bool {
    let open = |id| graph.node(id).outputs[0].static_shape().is_none();
    graph.parameters.iter().any(|&id| open(id))
}

/// A network compiled per set of input shapes.
#[derive(Debug)]
pub(crate) struct Shaped {
    path: PathBuf,
    graph: Graph,
    options: Options,
    kept: Mutex<VecDeque<Slot>>,
}

/// A network for certain shapes; empty until it is compiled.
type Slot = (Vec<Vec<usize>>, Arc<Mutex<Option<Engine>>>);

impl Shaped {
    pub(crate) fn new(path: &Path, graph: Graph, options: &Options) -> Self {
        Self {
            path: path.to_path_buf(),
            graph,
            options: Options {
                shapes: Vec::new(),
                batch: None,
                reshape_batch: None,
                ..options.clone()
            },
            kept: Mutex::new(VecDeque::new()),
        }
    }

    /// The network for these shapes: compiled now, or before.
    fn engine(&self, shapes: &[&[usize]]) -> Result<Engine, EngineError> {
        self.check(shapes)?;
        let slot = self.slot(shapes);
        // Whoever needs the same shapes waits here; others go on.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*slot {
            return Ok(engine.clone());
        }
        let start = Instant::now();
        let fixed: Vec<PartialShape> = shapes
            .iter()
            .map(|s| s.iter().map(|&d| Some(d)).collect())
            .collect();
        let graph = self.graph.with_input_shapes(&fixed)?;
        let engine = Engine::from_graph(&self.path, graph, &self.options)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        tracing::info!(model = %self.path.display(), ?shapes, ms, "network compiled for new input shapes");
        *slot = Some(engine.clone());
        Ok(engine)
    }

    fn slot(&self, shapes: &[&[usize]]) -> Arc<Mutex<Option<Engine>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(s, _)| equal(s, shapes));
        let entry = match found.and_then(|at| kept.remove(at)) {
            Some(entry) => entry,
            None => (shapes.iter().map(|s| s.to_vec()).collect(), Arc::default()),
        };
        let slot = entry.1.clone();
        kept.push_front(entry);
        kept.truncate(MAX_KEPT);
        slot
    }

    fn check(&self, shapes: &[&[usize]]) -> Result<(), EngineError> {
        for index in 0..self.graph.parameters.len().max(shapes.len()) {
            let node = self.graph.parameters.get(index).map(|id| self.graph.node(*id));
            let info = node.and_then(|n| n.outputs.first());
            let fits = match (info, shapes.get(index)) {
                (Some(info), Some(shape)) => {
                    let fits = |(axis, (&length, said)): (usize, (&usize, &Option<usize>))| match said {
                        Some(fixed) => *fixed == length,
                        None => self.graph.axis_bounds(index, axis).allow(length),
                    };
                    info.shape.len() == shape.len() && shape.iter().zip(&info.shape).enumerate().all(fits)
                }
                _ => false,
            };
            if !fits {
                return Err(EngineError::Input {
                    index,
                    name: node.map(|n| n.name.to_string()).unwrap_or_default(),
                    expected: info.map_or("no such input".to_owned(), |info| {
                        format!("{} {}", info.element_type, self.graph.input_shape_text(index))
                    }),
                    found: shapes
                        .get(index)
                        .map_or("nothing".to_owned(), |s| format!("{s:?}")),
                });
            }
        }
        Ok(())
    }
}

fn equal(a: &[Vec<usize>], b: &[&[usize]]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.as_slice() == *b)
}

/// The sessions of one worker, one per set of shapes; the one that ran last comes first.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    kept: VecDeque<(Vec<Vec<usize>>, Session)>,
    /// Whether the last run came to an end.
    ran: bool,
}

impl Sessions {
    /// Runs the network for the shapes of the inputs.
    pub(crate) fn run(
        &mut self,
        shaped: &Shaped,
        inputs: &[(Input<'_>, &[usize])],
        profiled: bool,
    ) -> Result<(), EngineError> {
        self.ran = false;
        let shapes: Vec<&[usize]> = inputs.iter().map(|(_, shape)| *shape).collect();
        let found = self.kept.iter().position(|(s, _)| equal(s, &shapes));
        let entry = match found.and_then(|at| self.kept.remove(at)) {
            Some(entry) => entry,
            None => {
                let engine = shaped.engine(&shapes)?;
                let session = if profiled {
                    engine.profiled_session()
                } else {
                    engine.session()
                };
                (shapes.iter().map(|s| s.to_vec()).collect(), session)
            }
        };
        self.kept.push_front(entry);
        self.kept.truncate(MAX_KEPT);
        if let Some((_, session)) = self.kept.front_mut() {
            session.run_shaped(inputs)?;
        }
        self.ran = true;
        Ok(())
    }

    /// The session of the last run.
    pub(crate) fn last(&self) -> Option<&Session> {
        self.kept.front().filter(|_| self.ran).map(|(_, session)| session)
    }

    /// The session of the last run.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Session> {
        let ran = self.ran;
        self.kept.front_mut().filter(|_| ran).map(|(_, session)| session)
    }
}

#[cfg(test)]
mod tests;
