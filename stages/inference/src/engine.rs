//! Loading a network for a device, and running it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_cpu::{Clock, CompileOptions, Input, InputQuantize, Program, Request, StepTime};
use flow_lpt::{Numerics, Report};
use flow_model::{ElementType, Graph, NodeId, Op, OutputInfo, PartialShape, Tensor, Value};

use crate::device::Device;
use crate::error::EngineError;
use crate::profile::Profile;
use crate::reshape::with_batch;
use crate::shapes::{InputShape, Sessions, Shaped, is_open, with_stated};

/// How to load a network.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// Where a quantized network rounds.
    pub numerics: Numerics,
    /// Apply low precision transformations; without them a quantized network runs in f32.
    pub lpt: bool,
    /// Shapes of inputs that take the place of those in the model file.
    pub shapes: Vec<InputShape>,
    /// Length of the first axis of inputs where that is open.
    pub batch: Option<usize>,
    /// Batch that the network is reshaped to, whatever the model says.
    pub reshape_batch: Option<usize>,
    /// Cap on the instruction set.
    pub isa: Option<flow_cpu::kernels::Isa>,
    /// Threads that share the work of a request on the CPU, the one that runs it among them; 0 counts as 1.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            numerics: Numerics::Literal,
            lpt: true,
            shapes: Vec::new(),
            batch: None,
            reshape_batch: None,
            isa: None,
            threads: 1,
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
    /// Axis lengths; 0 where an axis is open.
    pub shape: Vec<usize>,
    /// Axis lengths, `None` where an axis is open: what a run gives or makes, see [`Session::output_shape`].
    pub partial_shape: PartialShape,
    /// For an f32 input that the network quantizes first, per tensor to `u8`: how. It may be given as codes.
    pub quantization: Option<InputQuantize>,
}

impl Port {
    /// Whether the port answers to that name.
    pub fn is_named(&self, name: &str) -> bool {
        &*self.name == name || self.aliases.iter().any(|a| &**a == name)
    }

    /// Type and shape.
    pub(crate) fn info(&self) -> OutputInfo {
        OutputInfo {
            element_type: self.element_type,
            shape: self.partial_shape.clone(),
            names: Vec::new(),
        }
    }

    /// Bytes of a dense value; 0 where an axis is open.
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
    /// Input shapes are open: compiled per set of them.
    Shaped(Shaped),
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
    options: Options,
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
        let mut original = with_stated(graph, path, options)?;
        if let Some(wide) = flow_model::half::in_f32(&original) {
            original = wide;
        }
        let shaped = is_open(&original).then(|| Shaped::new(path, original.clone(), options));
        if options.device == Device::Cpu {
            // Bodies that run a known number of times are operations like any other.
            original = flow_model::unroll::inline_bodies(&original)?;
        }
        let mut timing = Timing {
            read: read + start.elapsed(),
            ..Timing::default()
        };
        let start = Instant::now();
        let (graph, report) = lower(&original, options)?;
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
        let backend = match (shaped, options.device) {
            (Some(shaped), _) => Backend::Shaped(shaped),
            (None, Device::Cpu) => {
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
            (None, Device::Reference) => Backend::Reference(graph),
        };
        timing.compile = start.elapsed();
        if matches!(backend, Backend::Cpu(_)) {
            // Kernels have weights of their own: those of the file are read again only by who asks for the model.
            let constants = original.iter().filter_map(|(_, node)| match &node.op {
                Op::Constant(tensor) => Some(tensor),
                _ => None,
            });
            constants.for_each(Tensor::give_back);
        }
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
                options: options.clone(),
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

    /// The compiled network, on the CPU; none where input shapes are open, which have a network each.
    pub fn program(&self) -> Option<&Program> {
        match &self.inner.backend {
            Backend::Cpu(program) => Some(program),
            Backend::Reference(_) | Backend::Shaped(_) => None,
        }
    }

    /// The graph that the reference evaluator runs, where it does.
    pub(crate) fn evaluated(&self) -> Option<&Graph> {
        match &self.inner.backend {
            Backend::Reference(graph) => Some(graph),
            Backend::Cpu(_) | Backend::Shaped(_) => None,
        }
    }

    /// What one worker needs to run the network.
    pub fn session(&self) -> Session {
        Session {
            engine: self.clone(),
            request: self.program().map(|program| self.request(program)),
            outputs: Vec::new(),
            profile: None,
            sessions: Sessions::default(),
        }
    }

    fn request(&self, program: &Program) -> Request {
        let mut request = program.request();
        let threads = self.inner.options.threads;
        if threads > 1
            && let Err(e) = request.share(threads, |_| ())
        {
            tracing::warn!(threads, error = %e, "the system gives no threads: requests run on one");
        }
        request
    }

    /// As [`session`](Self::session), and takes the time of each step of each run.
    pub fn profiled_session(&self) -> Session {
        Session {
            profile: Some(Profile::default()),
            ..self.session()
        }
    }

    /// Threads that share the work of a request.
    pub fn threads(&self) -> usize {
        match self.inner.backend {
            Backend::Reference(_) => 1,
            _ => self.inner.options.threads.max(1),
        }
    }

    /// The model as it was read, in the shapes it runs in.
    pub fn original(&self) -> &Graph {
        &self.inner.original
    }

    /// The graph that runs: after low precision transformations, where they are on. Made anew by each call, for
    /// a compiled network does not need it.
    ///
    /// # Errors
    /// Those of the transformations.
    pub fn lowered(&self) -> Result<Graph, EngineError> {
        Ok(lower(&self.inner.original, &self.inner.options)?.0)
    }

    /// Runs the network once in a session of its own.
    ///
    /// # Errors
    /// [`EngineError`] where the inputs do not fit or the run fails.
    pub fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        for (index, port) in self.inputs().iter().enumerate() {
            let given = inputs.get(index);
            if given.is_none_or(|t| t.element_type() != port.element_type) {
                let text = flow_model::text::describe;
                return Err(EngineError::Input {
                    index,
                    name: port.name.to_string(),
                    expected: text(&port.info()),
                    found: given.map_or("nothing".into(), |t| {
                        text(&OutputInfo::fixed(t.element_type(), t.shape()))
                    }),
                });
            }
        }
        let mut session = self.session();
        let slices: Vec<(Input<'_>, &[usize])> = inputs
            .iter()
            .map(|t| (Input::Values(t.bytes()), t.shape()))
            .collect();
        session.run_shaped(&slices)?;
        self.outputs()
            .iter()
            .enumerate()
            .map(|(i, port)| tensor(port, session.output_shape(i), session.output(i)))
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
    /// Where input shapes are open.
    sessions: Sessions,
}

impl Session {
    /// The network.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The CPU request, on the CPU.
    pub fn request(&mut self) -> Option<&mut Request> {
        match &self.engine.inner.backend {
            Backend::Shaped(_) => self.sessions.last_mut()?.request(),
            _ => self.request.as_mut(),
        }
    }

    /// Runs the network on inputs of the given shapes; outputs stay readable until the next run. Where the model
    /// leaves axes open, the network is compiled when a set of shapes comes for the first time, and the last few
    /// are kept.
    ///
    /// # Errors
    /// [`EngineError`] where the shapes or the inputs do not fit, the network cannot be compiled for them, or the
    /// run fails.
    pub fn run_shaped(&mut self, inputs: &[(Input<'_>, &[usize])]) -> Result<(), EngineError> {
        let engine = self.engine.clone();
        if let Backend::Shaped(shaped) = &engine.inner.backend {
            return self.sessions.run(shaped, inputs, self.profile.is_some());
        }
        for (index, port) in engine.inputs().iter().enumerate() {
            let shape = inputs.get(index).map(|(_, shape)| *shape);
            if shape != Some(&port.shape) {
                return Err(EngineError::Input {
                    index,
                    name: port.name.to_string(),
                    expected: format!("{} {:?}", port.element_type, port.shape),
                    found: shape.map_or("nothing".into(), |s| format!("{} {s:?}", port.element_type)),
                });
            }
        }
        // More inputs than this are legal but rare: they cost an allocation.
        let mut few = [Input::Values(&[]); 8];
        match few.get_mut(..inputs.len()) {
            Some(few) => {
                few.iter_mut().zip(inputs).for_each(|(to, (from, _))| *to = *from);
                self.run(few)
            }
            None => self.run(&inputs.iter().map(|(input, _)| *input).collect::<Vec<_>>()),
        }
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
        let graph = match &self.engine.inner.backend {
            Backend::Reference(graph) => graph,
            Backend::Shaped(_) => {
                return Err(EngineError::OpenShape {
                    path: self.engine.path().to_path_buf(),
                    name: self
                        .engine
                        .inputs()
                        .iter()
                        .map(|p| &*p.name)
                        .collect::<Vec<_>>()
                        .join(", "),
                    shape: self
                        .engine
                        .inputs()
                        .iter()
                        .map(|p| p.info())
                        .map(|i| flow_model::text::describe(&i))
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }
            Backend::Cpu(_) => return Ok(()),
        };
        let mut tensors = Vec::with_capacity(inputs.len());
        for (input, port) in inputs.iter().zip(self.engine.inputs()) {
            let (Input::Values(bytes) | Input::Codes(bytes)) = input;
            tensors.push(tensor(port, &port.shape, bytes)?);
        }
        self.outputs = match &mut self.profile {
            None => flow_model::evaluate(graph, &tensors)?,
            Some(profile) => {
                let mut times = vec![StepTime::default(); graph.nodes.len()];
                let mut clock = Clock::start();
                let after = &mut |id: NodeId| times[id.index()] += clock.lap();
                let outputs = flow_model::evaluate::evaluate_observed(graph, &tensors, after)?;
                profile.add(&times);
                outputs
            }
        };
        Ok(())
    }

    /// Times of the steps so far, where the session takes them.
    pub fn profile(&self) -> Option<&Profile> {
        match self.sessions.last() {
            Some(session) => session.profile(),
            None => self.profile.as_ref(),
        }
    }

    /// Forgets the times so far.
    pub fn clear_profile(&mut self) {
        if let Some(session) = self.sessions.last_mut() {
            session.clear_profile();
        }
        if let Some(profile) = &mut self.profile {
            *profile = Profile::default();
        }
    }

    /// Output `index` of the last run, dense and row-major; empty if there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        match (&self.request, self.sessions.last()) {
            (Some(request), _) => request.output(index),
            (None, Some(session)) => session.output(index),
            (None, None) => self.outputs.get(index).map_or(&[], Tensor::bytes),
        }
    }

    /// Shape of output `index` of the last run; empty if there is no such output.
    pub fn output_shape(&self, index: usize) -> &[usize] {
        match (&self.request, self.sessions.last()) {
            (Some(request), _) => request.output_shape(index),
            (None, Some(session)) => session.output_shape(index),
            (None, None) => self.outputs.get(index).map_or(&[], Tensor::shape),
        }
    }
}

/// The graph to compile, and what the transformations did to it.
fn lower(original: &Graph, options: &Options) -> Result<(Graph, Option<Report>), EngineError> {
    if !options.lpt {
        return Ok((original.clone(), None));
    }
    let options = flow_lpt::Options {
        numerics: options.numerics,
        ..flow_lpt::Options::default()
    };
    let lowered = flow_lpt::transform(original, &options)?;
    Ok((lowered.graph, Some(lowered.report)))
}

fn tensor(port: &Port, shape: &[usize], bytes: &[u8]) -> Result<Tensor, EngineError> {
    Tensor::new(port.element_type, shape.to_vec(), bytes).map_err(|e| EngineError::Input {
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
        shape: info.shape.iter().map(|d| d.unwrap_or(0)).collect(),
        partial_shape: info.shape.clone(),
        quantization: None,
    }
}

/// Whether the operation does something at run time.
pub(crate) fn is_work(op: &Op) -> bool {
    !matches!(op, Op::Parameter | Op::Constant(_) | Op::Result)
}
