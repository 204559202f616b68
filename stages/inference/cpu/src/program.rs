//! Compiled networks and the requests that run them.

use std::sync::{Arc, Mutex, PoisonError};

use flow_model::op::Quantize;
use flow_model::{ElementType, Graph, NodeId, Op, Tensor};

use crate::bind::{Bound, bind};
use crate::copy::CopyPlan;
use crate::dense::Workspace;
use crate::error::{CompileError, RunError};
use crate::kernels::literal::Scratch;
use crate::kernels::versions::Simd;
use crate::kernels::{AlignedVec, Isa, KernelTable};
use crate::lower::{Action, element_bytes, lower, stored_bias};
use crate::memory::Arena;
use crate::placement::Placement;
use crate::profile::{Clock, StepTime};
use crate::recall::Memory;
use crate::record::{StepRecord, record};
use crate::run::{Machine, copy};
use crate::tail::{self, Origin, Tail};
use crate::team::Team;

/// How to compile.
#[derive(Debug, Clone, Default)]
pub struct CompileOptions<'a> {
    /// Do not use instructions beyond this set; `FLOW_MAX_ISA` caps it further.
    pub isa: Option<Isa>,
    /// The model before low precision transformations. With it, codes are rounded as the model's own f32
    /// arithmetic rounds them; without, a value that lies within its error of the middle between two codes
    /// may fall on the other one.
    pub rounding_of: Option<&'a Graph>,
}

/// An input or output of a network.
#[derive(Debug, Clone)]
pub struct Port {
    /// Name of the Parameter or Result.
    pub name: Arc<str>,
    /// Element type.
    pub element_type: ElementType,
    /// Axis lengths; 0 where a run decides: [`Request::output_shape`] tells.
    pub shape: Vec<usize>,
    /// For an input that the network quantizes first, per tensor to `u8` codes from 0: how. Such an input may
    /// be given as codes.
    pub quantization: Option<InputQuantize>,
}

impl Port {
    /// Bytes of a dense value.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * element_bytes(self.element_type)
    }
}

/// A FakeQuantize on an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputQuantize {
    /// Input low limit: code 0.
    pub low: f32,
    /// Input high limit: code `levels - 1`.
    pub high: f32,
    /// Number of levels.
    pub levels: u32,
}

/// An input of one run: dense, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Values of the input's element type, little endian.
    Values(&'a [u8]),
    /// `u8` codes, where the port states a quantization.
    Codes(&'a [u8]),
}

/// A compiled network: immutable, shared, cheap to clone.
#[derive(Debug, Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: &'static KernelTable,
    simd: Simd,
    bound: Bound,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Outputs of the steps, which are those of the network unless it has a tail.
    head_outputs: Vec<Port>,
    /// Tensor of each output of the steps.
    output_tensors: Vec<usize>,
    /// For each input that may be given as codes: the step that quantizes it, and how codes get to its output.
    code_inputs: Vec<Option<(usize, CopyPlan)>>,
    records: Vec<StepRecord>,
    /// What runs after the steps, where shapes depend on values.
    tail: Option<Tail>,
}

/// The graph with what depends on constants alone computed, quantized weights included; `None` if nothing does.
fn fold(graph: &Graph) -> Option<Graph> {
    let mut folded: Option<Graph> = None;
    for index in 0..graph.nodes.len() {
        let now = folded.as_ref().unwrap_or(graph);
        let node = &now.nodes[index];
        if node.inputs.is_empty() || node.outputs.len() != 1 || matches!(node.op, Op::Result) {
            continue;
        }
        let inputs = node.inputs.iter().map(|v| match &now.node(v.node).op {
            Op::Constant(tensor) => Some(tensor.clone()),
            _ => None,
        });
        let Some(inputs) = inputs.collect::<Option<Vec<Tensor>>>() else {
            continue;
        };
        // What does not evaluate here is reported when the network runs.
        let value = flow_model::ops::evaluate(&node.op, &inputs)
            .ok()
            .and_then(|mut v| v.pop());
        if let Some(tensor) = value {
            let node = &mut folded.get_or_insert_with(|| graph.clone()).nodes[index];
            node.op = Op::Constant(tensor);
            node.inputs.clear();
        }
    }
    folded
}

/// Compiles a graph, preferably one that low precision transformations have rewritten.
///
/// # Errors
/// [`CompileError`] where a shape is open, a type cannot be stored or the activations do not fit in memory.
pub fn compile(graph: &Graph, options: &CompileOptions<'_>) -> Result<Program, CompileError> {
    let folded = fold(graph);
    let graph = folded.as_ref().unwrap_or(graph);
    let restored = options
        .rounding_of
        .and_then(|original| crate::constants::restore(graph, original));
    let graph = restored.as_ref().unwrap_or(graph);
    let on_codes = options.rounding_of.and_then(|_| crate::levels::take_apart(graph));
    let graph = on_codes.as_ref().unwrap_or(graph);
    let table = KernelTable::select(options.isa)?;
    let cap = [options.isa, Isa::cap_from_env()?].into_iter().flatten().min();
    let simd = Simd::new(Isa::detect(cap));
    for (_, node) in graph.iter() {
        let activation = !matches!(node.op, Op::Constant(_));
        if let Some(output) = node
            .outputs
            .iter()
            .find(|o| activation && o.element_type.bits() < 8)
        {
            return Err(CompileError::ElementType {
                layer: node.name.to_string(),
                line: node.line,
                element_type: output.element_type.name(),
            });
        }
    }
    let network = graph;
    let cut = tail::cut(network);
    let graph = cut.as_ref().map_or(network, |cut| &cut.head);
    let mut draft = lower(graph, options.rounding_of, table)?;
    let input_steps = draft.input_quantize.clone();
    let output_tensors = draft.outputs.clone();
    let bound = bind(&mut draft, graph)?;
    let mut inputs: Vec<Port> = graph.parameters.iter().map(|&id| port(graph, id)).collect();
    let mut code_inputs = Vec::new();
    for (port, step) in inputs.iter_mut().zip(input_steps) {
        let step = step.and_then(|at| match &bound.steps[at].draft.action {
            Action::Quantize(q, _) => Some((at, input_quantize(q)?)),
            _ => None,
        });
        port.quantization = step.map(|(_, q)| q);
        code_inputs.push(step.map(|(at, _)| {
            let output = &bound.tensors[bound.steps[at].draft.outputs[0]];
            let plan = CopyPlan::relayout(&Placement::plain(&port.shape), &output.placement);
            (at, plan)
        }));
    }
    let mut records: Vec<StepRecord> = bound
        .steps
        .iter()
        .map(|step| record(graph, &bound, step, table))
        .collect();
    for record in &records {
        if let Some(why) = &record.unguarded {
            tracing::debug!(step = %record.name, kernel = record.kernel, why, "codes next to ties may be others than the model's");
        }
    }
    let head_outputs = graph.results.iter().map(|&id| port(graph, id)).collect();
    let outputs = network.results.iter().map(|&id| port(network, id)).collect();
    let tail = cut.map(|cut| cut.tail);
    records.extend(tail.iter().flat_map(Tail::records));
    Ok(Program {
        inner: Arc::new(Inner {
            table,
            simd,
            bound,
            inputs,
            outputs,
            head_outputs,
            output_tensors,
            code_inputs,
            records,
            tail,
        }),
    })
}

fn port(graph: &Graph, id: NodeId) -> Port {
    let node = graph.node(id);
    let info = match node.outputs.first() {
        Some(info) => info.clone(),
        None => graph.info(node.inputs[0]).clone(),
    };
    Port {
        name: node.name.clone(),
        element_type: info.element_type,
        shape: tail::closed(&info),
        quantization: None,
    }
}

/// The quantization, if codes from 0 to `levels - 1` are what is stored.
fn input_quantize(q: &Quantize) -> Option<InputQuantize> {
    let (&[low], &[high]) = (q.input_low.as_slice(), q.input_high.as_slice()) else {
        return None;
    };
    let base = q.low as f32 + stored_bias(q.element_type);
    (base == 0.0 && low < high && (2..=256).contains(&q.levels)).then_some(InputQuantize {
        low,
        high,
        levels: q.levels,
    })
}

impl Program {
    /// Inputs in Parameter order.
    pub fn inputs(&self) -> &[Port] {
        &self.inner.inputs
    }

    /// Outputs in Result order.
    pub fn outputs(&self) -> &[Port] {
        &self.inner.outputs
    }

    /// What each step is, in order of execution.
    pub fn steps(&self) -> &[StepRecord] {
        &self.inner.records
    }

    /// Instruction set of the integer kernels.
    pub fn isa(&self) -> Isa {
        self.inner.table.isa()
    }

    /// The most multiply-accumulates per second that its instruction set reaches on registers of this machine, of 8 bits
    /// and of f32. Takes some milliseconds.
    pub fn peak(&self) -> [f64; 2] {
        self.inner.table.peak()
    }

    /// Bytes of activations that each request owns.
    pub fn arena_bytes(&self) -> usize {
        self.inner.bound.arena_bytes
    }

    /// A request: the memory to run the network in, for one thread at a time.
    pub fn request(&self) -> Request {
        let mut arena = Arena::new(self.inner.bound.arena_bytes);
        let mut machine = Machine {
            bound: &self.inner.bound,
            table: self.inner.table,
            arena: &mut arena,
            simd: self.inner.simd,
            scratch: &[],
            team: None,
            workspace: &mut Workspace::default(),
            memory: &mut Memory::default(),
            inputs: &[],
        };
        for &t in &self.inner.bound.fill_once {
            machine.fill(t);
        }
        Request {
            program: self.clone(),
            arena,
            scratch: vec![Mutex::default()],
            team: None,
            workspace: Workspace::default(),
            memory: Memory::default(),
            aligned: vec![None; self.inner.inputs.len()],
            times: Vec::new(),
            tail_outputs: Vec::new(),
        }
    }
}

/// The memory of one run at a time. Several requests of one program run in parallel, each on its own thread.
#[derive(Debug)]
pub struct Request {
    program: Program,
    arena: Arena,
    /// One for each thread.
    scratch: Vec<Mutex<Scratch>>,
    team: Option<Team>,
    workspace: Workspace,
    memory: Memory,
    /// Copies of inputs whose memory is not aligned for their type.
    aligned: Vec<Option<AlignedVec<u8>>>,
    times: Vec<StepTime>,
    tail_outputs: Vec<Tensor>,
}

impl Request {
    /// The network.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// From now on `threads` threads, the calling one among them, share the work of each large step; `start` is called
    /// on each new one with its number, 1 and up, to pin it. The outputs are the same. A part of a step is taken by
    /// whoever is free, so that a thread that the system keeps from running delays little.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn share(
        &mut self,
        threads: usize,
        start: impl Fn(usize) + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        self.team = match threads {
            0 | 1 => None,
            _ => Some(Team::new(threads, start)?),
        };
        self.scratch.resize_with(threads.max(1), Mutex::default);
        Ok(())
    }

    /// Runs the network; outputs stay readable until the next run.
    ///
    /// # Errors
    /// [`RunError`] where the inputs are not those of the network, or an operation left to the reference
    /// evaluator fails.
    pub fn run(&mut self, inputs: &[Input<'_>]) -> Result<(), RunError> {
        self.run_steps(inputs, |_| ())
    }

    /// Runs the network and takes the time of each step, in the order of [`Program::steps`].
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_profiled(&mut self, inputs: &[Input<'_>]) -> Result<&[StepTime], RunError> {
        let mut times = std::mem::take(&mut self.times);
        times.clear();
        let mut clock = Clock::start();
        let done = self.run_steps(inputs, |_| times.push(clock.lap()));
        self.times = times;
        done?;
        Ok(&self.times)
    }

    fn run_steps(&mut self, inputs: &[Input<'_>], mut after: impl FnMut(usize)) -> Result<(), RunError> {
        let inner = &*self.program.inner;
        if inputs.len() != inner.inputs.len() {
            return Err(RunError::InputCount {
                expected: inner.inputs.len(),
                found: inputs.len(),
            });
        }
        for (index, (input, port)) in inputs.iter().zip(&inner.inputs).enumerate() {
            self.aligned[index] = checked(index, input, port, self.aligned[index].take())?;
        }
        // More inputs than this are legal but rare: they cost an allocation.
        let mut few = [&[][..]; 8];
        let mut many = Vec::new();
        let slices: &mut [&[u8]] = match few.get_mut(..inputs.len()) {
            Some(few) => few,
            None => {
                many.resize(inputs.len(), &[][..]);
                &mut many
            }
        };
        for ((slice, input), aligned) in slices.iter_mut().zip(inputs).zip(&self.aligned) {
            *slice = match (input, aligned) {
                (_, Some(copy)) => copy,
                (Input::Values(bytes), None) => bytes,
                (Input::Codes(_), None) => &[],
            };
        }
        let mut machine = Machine {
            bound: &inner.bound,
            table: inner.table,
            arena: &mut self.arena,
            simd: inner.simd,
            scratch: &self.scratch,
            team: self.team.as_mut(),
            workspace: &mut self.workspace,
            memory: &mut self.memory,
            inputs: slices,
        };
        for (at, step) in inner.bound.steps.iter().enumerate() {
            let codes =
                inner
                    .code_inputs
                    .iter()
                    .zip(inputs)
                    .find_map(|(entry, input)| match (entry, input) {
                        (Some((step, plan)), Input::Codes(codes)) if *step == at => Some((plan, *codes)),
                        _ => None,
                    });
            let done = match codes {
                Some((plan, codes)) => machine.store(step, plan, codes),
                None => machine.run(step),
            };
            done.map_err(|fault| fault.at(&inner.records[at].name))?;
            after(at);
        }
        if let Some(tail) = &inner.tail {
            // All of the tail counts as its first operation.
            self.tail_outputs = tail.run(|index| {
                let port = &inner.head_outputs[index];
                (port.element_type, port.shape.as_slice(), self.head_output(index))
            })?;
            (inner.bound.steps.len()..inner.records.len()).for_each(after);
        }
        Ok(())
    }

    /// Vectors of 16 codes that were computed with the model's rounding so far, and how many
    /// evaluations in f32 there were of values close to a tie.
    pub fn rounding_counts(&self) -> [u64; 2] {
        self.scratch.iter().fold([0, 0], |[all, again], scratch| {
            let [a, b] = scratch.lock().unwrap_or_else(PoisonError::into_inner).counts;
            [all + a, again + b]
        })
    }

    /// Output `index` of the last run, dense and row-major; empty if there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        match self.origin(index) {
            Origin::Head(index) => self.head_output(index),
            Origin::Tail(index) => self.tail_outputs.get(index).map_or(&[], Tensor::bytes),
        }
    }

    /// Shape of output `index` of the last run; empty if there is no such output.
    pub fn output_shape(&self, index: usize) -> &[usize] {
        let inner = &*self.program.inner;
        match self.origin(index) {
            Origin::Head(index) => inner.head_outputs.get(index).map_or(&[], |port| &port.shape),
            Origin::Tail(index) => self.tail_outputs.get(index).map_or(&[], Tensor::shape),
        }
    }

    fn origin(&self, index: usize) -> Origin {
        match &self.program.inner.tail {
            // The head has more outputs than the network, so that an index too large must not go on to it.
            Some(tail) => tail
                .origins
                .get(index)
                .copied()
                .unwrap_or(Origin::Tail(usize::MAX)),
            None => Origin::Head(index),
        }
    }

    fn head_output(&self, index: usize) -> &[u8] {
        let inner = &*self.program.inner;
        let (Some(port), Some(&t)) = (inner.head_outputs.get(index), inner.output_tensors.get(index)) else {
            return &[];
        };
        match &inner.bound.tensors[t].source {
            crate::bind::Source::Arena(range) => {
                let bytes = self.arena.read(range.clone());
                &bytes[..port.bytes().min(bytes.len())]
            }
            _ => &[],
        }
    }
}

/// Checks an input; gives a copy where its memory is not aligned for its type.
fn checked(
    index: usize,
    input: &Input<'_>,
    port: &Port,
    spare: Option<AlignedVec<u8>>,
) -> Result<Option<AlignedVec<u8>>, RunError> {
    let (bytes, expected) = match input {
        Input::Values(bytes) => (*bytes, port.bytes()),
        Input::Codes(_) if port.quantization.is_none() => {
            return Err(RunError::NoCodes {
                index,
                name: port.name.to_string(),
            });
        }
        Input::Codes(bytes) => (*bytes, port.shape.iter().product()),
    };
    if bytes.len() != expected {
        return Err(RunError::InputLength {
            index,
            name: port.name.to_string(),
            expected,
            found: bytes.len(),
        });
    }
    let width = element_bytes(port.element_type);
    if matches!(input, Input::Codes(_)) || (bytes.as_ptr() as usize).is_multiple_of(width) {
        return Ok(None);
    }
    let mut copy = spare.unwrap_or_else(|| AlignedVec::zeroed(bytes.len()));
    copy.copy_from_slice(bytes);
    Ok(Some(copy))
}

impl Machine<'_> {
    /// Puts codes where the quantization of an input would have put its own.
    fn store(
        &mut self,
        step: &crate::bind::Step,
        plan: &CopyPlan,
        codes: &[u8],
    ) -> Result<(), crate::run::Fault> {
        for &t in &step.fills {
            self.fill(t);
        }
        let tensor = &self.bound.tensors[step.draft.outputs[0]];
        if let crate::bind::Source::Arena(range) = &tensor.source {
            copy(plan, self.arena.write(range.clone()), codes, ElementType::U8)?;
        }
        Ok(())
    }
}
