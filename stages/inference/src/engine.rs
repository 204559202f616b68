//! Loading a network for a device, and running it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_cpu::{CompileOptions, Input, InputQuantize, Program, Request};
use flow_lpt::{Numerics, Report};
use flow_model::{ElementType, Graph, Op, Tensor, Value};

use crate::device::Device;
use crate::error::EngineError;
use crate::inspect::{LayerRow, rows};
use crate::profile::Profile;
use crate::reshape::with_batch;

/// How to load a network.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// Where a quantized network rounds.
    pub numerics: Numerics,
    /// Apply low precision transformations; without them a quantized network runs in f32.
    pub lpt: bool,
    /// Value for axes of inputs that the model leaves open; the batch, as a rule.
    pub batch: Option<usize>,
    /// Batch that the network is reshaped to, whatever the model says.
    pub reshape_batch: Option<usize>,
    /// Cap on the instruction set.
    pub isa: Option<flow_cpu::kernels::Isa>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            numerics: Numerics::Literal,
            lpt: true,
            batch: None,
            reshape_batch: None,
            isa: None,
        }
    }
}

/// An input or output of a network.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its name: the first tensor name the model gives, else the name of the layer.
    pub name: Arc<str>,
    /// Further names it answers to.
    pub aliases: Vec<Arc<str>>,
    /// Element type.
    pub element_type: ElementType,
    /// Axis lengths.
    pub shape: Vec<usize>,
    /// For an f32 input that the network quantizes first, per tensor to `u8`: how. It may be given as codes.
    pub quantization: Option<InputQuantize>,
}

impl Port {
    /// Whether the port answers to that name.
    pub fn is_named(&self, name: &str) -> bool {
        &*self.name == name || self.aliases.iter().any(|a| &**a == name)
    }

    /// Bytes of a dense value.
    pub fn bytes(&self) -> usize {
        let count: usize = self.shape.iter().product();
        self.element_type.byte_len(count).unwrap_or(usize::MAX)
    }
}

/// How long loading took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Reading and checking the model file.
    pub read: Duration,
    /// Low precision transformations.
    pub lpt: Duration,
    /// Compiling and packing weights.
    pub compile: Duration,
}

#[derive(Debug)]
enum Backend {
    Cpu(Program),
    Reference(Graph),
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    device: Device,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    backend: Backend,
    original: Graph,
    report: Option<Report>,
    timing: Timing,
}

/// A network ready to run: immutable, shared, cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl Engine {
    /// Reads, transforms and compiles a model.
    ///
    /// # Errors
    /// [`EngineError`] of the step that fails.
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let start = Instant::now();
        let graph = flow_model::ir::read(path)?;
        Self::build(path, graph, options, start.elapsed())
    }

    /// Transforms and compiles a graph; `path` names it in errors.
    ///
    /// # Errors
    /// [`EngineError`] of the step that fails.
    pub fn from_graph(path: impl AsRef<Path>, graph: Graph, options: &Options) -> Result<Self, EngineError> {
        Self::build(path.as_ref(), graph, options, Duration::ZERO)
    }

    fn build(path: &Path, graph: Graph, options: &Options, read: Duration) -> Result<Self, EngineError> {
        let start = Instant::now();
        let graph = match options.reshape_batch {
            Some(batch) => with_batch(&graph, batch, path)?,
            None => graph,
        };
        let mut original = fixed_shapes(graph, path, options.batch)?;
        if options.device == Device::Cpu {
            // Bodies that run a known number of times are operations like any other.
            original = flow_model::unroll::inline_bodies(&original)?;
        }
        let mut timing = Timing {
            read: read + start.elapsed(),
            ..Timing::default()
        };
        let start = Instant::now();
        let (graph, report) = if options.lpt {
            let lowered = flow_lpt::transform(
                &original,
                &flow_lpt::Options {
                    numerics: options.numerics,
                    ..flow_lpt::Options::default()
                },
            )?;
            (lowered.graph, Some(lowered.report))
        } else {
            (original.clone(), None)
        };
        timing.lpt = start.elapsed();
        let mut inputs: Vec<Port> = original
            .parameters
            .iter()
            .map(|&id| port(&original, Value::of(id)))
            .collect();
        let outputs = original
            .results
            .iter()
            .map(|&id| {
                let mut port = port(&original, original.node(id).inputs[0]);
                port.aliases.push(original.node(id).name.clone());
                port
            })
            .collect();
        let start = Instant::now();
        let backend = match options.device {
            Device::Cpu => {
                let options = CompileOptions {
                    isa: options.isa,
                    rounding_of: (options.lpt && options.numerics == Numerics::Literal).then_some(&original),
                };
                let program = flow_cpu::compile(&graph, &options).map_err(|source| EngineError::Compile {
                    path: path.to_path_buf(),
                    source,
                })?;
                for (port, compiled) in inputs.iter_mut().zip(program.inputs()) {
                    port.quantization = compiled.quantization;
                }
                Backend::Cpu(program)
            }
            Device::Reference => Backend::Reference(graph),
        };
        timing.compile = start.elapsed();
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_path_buf(),
                device: options.device,
                inputs,
                outputs,
                backend,
                original,
                report,
                timing,
            }),
        })
    }

    /// The model file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Where the network runs.
    pub fn device(&self) -> Device {
        self.inner.device
    }

    /// Inputs in Parameter order.
    pub fn inputs(&self) -> &[Port] {
        &self.inner.inputs
    }

    /// Outputs in Result order.
    pub fn outputs(&self) -> &[Port] {
        &self.inner.outputs
    }

    /// How long loading took.
    pub fn timing(&self) -> Timing {
        self.inner.timing
    }

    /// What the low precision transformations did, where they ran.
    pub fn report(&self) -> Option<&Report> {
        self.inner.report.as_ref()
    }

    /// The compiled network, on the CPU.
    pub fn program(&self) -> Option<&Program> {
        match &self.inner.backend {
            Backend::Cpu(program) => Some(program),
            Backend::Reference(_) => None,
        }
    }

    /// One row per operation of the model: precision, kernel, where it was fused, why it is not INT8.
    pub fn inspect(&self) -> Vec<LayerRow> {
        rows(&self.inner.original, self.inner.report.as_ref(), self.program())
    }

    /// What one worker needs to run the network.
    pub fn session(&self) -> Session {
        Session {
            engine: self.clone(),
            request: self.program().map(Program::request),
            outputs: Vec::new(),
            profile: None,
        }
    }

    /// As [`session`](Self::session), and takes the time of each step of each run.
    pub fn profiled_session(&self) -> Session {
        Session {
            profile: Some(Profile::default()),
            ..self.session()
        }
    }

    /// The model as it was read, in the shapes it runs in.
    pub fn original(&self) -> &Graph {
        &self.inner.original
    }

    /// Runs the network once in a session of its own.
    ///
    /// # Errors
    /// [`EngineError`] where the inputs do not fit or the run fails.
    pub fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        for (index, port) in self.inputs().iter().enumerate() {
            let given = inputs.get(index);
            let fits =
                given.is_some_and(|t| t.element_type() == port.element_type && t.shape() == port.shape);
            if !fits {
                return Err(EngineError::Input {
                    index,
                    name: port.name.to_string(),
                    expected: format!("{} {:?}", port.element_type, port.shape),
                    found: given.map_or("nothing".into(), |t| {
                        format!("{} {:?}", t.element_type(), t.shape())
                    }),
                });
            }
        }
        let mut session = self.session();
        let slices: Vec<Input<'_>> = inputs.iter().map(|t| Input::Values(t.bytes())).collect();
        session.run(&slices)?;
        self.outputs()
            .iter()
            .enumerate()
            .map(|(i, port)| tensor(port, session.output(i)))
            .collect()
    }
}

/// A worker's part of an engine: the memory of one run at a time.
#[derive(Debug)]
pub struct Session {
    engine: Engine,
    request: Option<Request>,
    outputs: Vec<Tensor>,
    profile: Option<Profile>,
}

impl Session {
    /// The network.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The CPU request, on the CPU.
    pub fn request(&mut self) -> Option<&mut Request> {
        self.request.as_mut()
    }

    /// Runs the network; outputs stay readable until the next run.
    ///
    /// # Errors
    /// [`EngineError`] where the inputs do not fit or the run fails.
    pub fn run(&mut self, inputs: &[Input<'_>]) -> Result<(), EngineError> {
        if let Some(request) = &mut self.request {
            match &mut self.profile {
                Some(profile) => profile.add(request.run_profiled(inputs)?),
                None => request.run(inputs)?,
            }
            return Ok(());
        }
        let Backend::Reference(graph) = &self.engine.inner.backend else {
            return Ok(());
        };
        let mut tensors = Vec::with_capacity(inputs.len());
        for (input, port) in inputs.iter().zip(self.engine.inputs()) {
            let (Input::Values(bytes) | Input::Codes(bytes)) = input;
            tensors.push(tensor(port, bytes)?);
        }
        self.outputs = flow_model::evaluate(graph, &tensors)?;
        Ok(())
    }

    /// Times of the steps so far, where the session takes them.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Output `index` of the last run, dense and row-major; empty if there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        match &self.request {
            Some(request) => request.output(index),
            None => self.outputs.get(index).map_or(&[], Tensor::bytes),
        }
    }
}

fn tensor(port: &Port, bytes: &[u8]) -> Result<Tensor, EngineError> {
    Tensor::new(port.element_type, port.shape.clone(), bytes).map_err(|e| EngineError::Input {
        index: 0,
        name: port.name.to_string(),
        expected: format!("{} {:?}", port.element_type, port.shape),
        found: e.to_string(),
    })
}

fn port(graph: &Graph, value: Value) -> Port {
    let info = graph.info(value);
    let layer = &graph.node(value.node).name;
    let mut names = info.names.iter().chain([layer]).cloned();
    Port {
        name: names.next().unwrap_or_else(|| layer.clone()),
        aliases: names.collect(),
        element_type: info.element_type,
        shape: info.static_shape().unwrap_or_default(),
        quantization: None,
    }
}

/// The graph with open axes of its inputs set to `batch`, if there are any.
fn fixed_shapes(graph: Graph, path: &Path, batch: Option<usize>) -> Result<Graph, EngineError> {
    let open = graph
        .parameters
        .iter()
        .any(|&id| graph.node(id).outputs[0].static_shape().is_none());
    if !open {
        return Ok(graph);
    }
    let mut shapes: Vec<flow_model::PartialShape> = Vec::new();
    for &id in &graph.parameters {
        let info = &graph.node(id).outputs[0];
        let open_axes = info.shape.iter().filter(|d| d.is_none()).count();
        match batch {
            Some(batch) if open_axes <= 1 => {
                shapes.push(info.shape.iter().map(|d| Some(d.unwrap_or(batch))).collect());
            }
            _ => {
                let dims: Vec<String> = info
                    .shape
                    .iter()
                    .map(|d| d.map_or("?".into(), |d| d.to_string()))
                    .collect();
                return Err(EngineError::OpenShape {
                    path: path.to_path_buf(),
                    name: graph.node(id).name.to_string(),
                    shape: format!("[{}]", dims.join(",")),
                });
            }
        }
    }
    Ok(graph.with_input_shapes(&shapes)?)
}

/// Whether the operation does something at run time.
pub(crate) fn is_work(op: &Op) -> bool {
    !matches!(op, Op::Parameter | Op::Constant(_) | Op::Result)
}
