//! Running a network over samples, on all threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flow_cpu::{CompileOptions, Input, Program, Request, compile};
use flow_model::op::Op;
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Tensor, Value};

use crate::data::{Dataset, checked};
use crate::error::QuantizeError;

/// Hears how far the work is.
pub trait Progress: Sync {
    /// A phase begins that has that many steps.
    fn phase(&self, name: &str, steps: usize);
    /// One step of the phase is done.
    fn step(&self);
    /// Whether to stop.
    fn stopped(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &str, _: usize) {}
    fn step(&self) {}
}

/// Passes on whether to stop, and hears nothing of phases: for work that is a part of another phase.
pub(crate) struct Unheard<'a>(pub &'a dyn Progress);

impl Progress for Unheard<'_> {
    fn phase(&self, _: &str, _: usize) {}
    fn step(&self) {}
    fn stopped(&self) -> bool {
        self.0.stopped()
    }
}

/// Passes on steps and whether to stop: for a part of a phase that has begun.
pub(crate) struct Steps<'a>(pub &'a dyn Progress);

impl Progress for Steps<'_> {
    fn phase(&self, _: &str, _: usize) {}
    fn step(&self) {
        self.0.step();
    }
    fn stopped(&self) -> bool {
        self.0.stopped()
    }
}

/// Samples per thread that may be finished and wait for an earlier one.
const AHEAD: usize = 16;

/// A compiled network and where it runs.
pub(crate) struct Runner<'a> {
    graph: Graph,
    program: Program,
    threads: usize,
    progress: &'a dyn Progress,
}

/// What a run gives.
pub(crate) struct Outputs<'a> {
    request: &'a Request,
    /// Type of each output.
    types: &'a [ElementType],
    spent: Duration,
}

impl Outputs<'_> {
    /// How long the run took.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }

    /// Output `index` as f32, whatever its type; integers beyond 2^24 are rounded.
    pub(crate) fn values(&self, index: usize) -> Vec<f32> {
        let bytes = self.request.output(index);
        let of = self.types[index];
        if of == ElementType::F32 {
            let value = |c: &[u8]| f32::from_le_bytes([c[0], c[1], c[2], c[3]]);
            return bytes.chunks_exact(4).map(value).collect();
        }
        let count = bytes.len() * 8 / of.bits().max(1);
        Tensor::new(of, vec![count], bytes.to_vec()).map_or_else(|_| Vec::new(), |t| t.to_f32())
    }

    /// Every output as f32.
    pub(crate) fn all(&self) -> Vec<Vec<f32>> {
        (0..self.types.len()).map(|i| self.values(i)).collect()
    }

    /// Calls `take` with output `index` as f32, which it sees in place where type and memory allow.
    pub(crate) fn with<R>(&self, index: usize, take: impl FnOnce(&[f32]) -> R) -> R {
        // Alignment of a dense f32 output is the arena's.
        match bytemuck::try_cast_slice(self.request.output(index)) {
            Ok(values) if self.types[index] == ElementType::F32 => take(values),
            _ => take(&self.values(index)),
        }
    }
}

impl<'a> Runner<'a> {
    /// Compiles a network as it is: in f32, its FakeQuantize operations included.
    pub(crate) fn new(
        graph: Graph,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        let program = compile(&graph, &CompileOptions::default())?;
        Ok(Self {
            graph,
            program,
            threads: threads.max(1),
            progress,
        })
    }

    /// Compiles a quantized network to integer operations.
    pub(crate) fn lowered(
        graph: &Graph,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        Self::integer(graph, Some(graph), threads, progress)
    }

    /// As [`Runner::lowered`], but a value that lies between two levels may fall to the other one than the network as it is
    /// written has it. That is faster, and enough to put layers in an order.
    pub(crate) fn about(
        graph: &Graph,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        Self::integer(graph, None, threads, progress)
    }

    fn integer(
        graph: &Graph,
        rounding_of: Option<&Graph>,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        let lowered = flow_lpt::transform(graph, &flow_lpt::Options::default())?;
        let options = CompileOptions {
            isa: None,
            rounding_of,
        };
        let program = compile(&lowered.graph, &options)?;
        Ok(Self {
            graph: lowered.graph,
            program,
            threads: threads.max(1),
            progress,
        })
    }

    /// Runs every sample. `work` is called on some thread, with what that thread keeps; `each` then in order of the
    /// samples. What the threads kept comes back.
    pub(crate) fn for_each<S: Send + Default, R: Send>(
        &self,
        data: &dyn Dataset,
        phase: &str,
        work: impl Fn(&mut S, usize, &Outputs<'_>) -> Result<R, QuantizeError> + Sync,
        mut each: impl FnMut(usize, R) -> Result<(), QuantizeError>,
    ) -> Result<Vec<S>, QuantizeError> {
        self.progress.phase(phase, data.len());
        let types: Vec<ElementType> = self
            .graph
            .results
            .iter()
            .map(|&id| output_type(&self.graph, id))
            .collect();
        let types = &types;
        let threads = self.threads.min(data.len().max(1));
        let mut workers: Vec<(Request, S)> = (0..threads)
            .map(|_| (self.program.request(), S::default()))
            .collect();
        let mut start = 0;
        while start < data.len() {
            let end = data.len().min(start + threads * AHEAD);
            let done: Mutex<Vec<Option<R>>> = Mutex::new((start..end).map(|_| None).collect());
            let next = AtomicUsize::new(start);
            let turn = |(request, kept): &mut (Request, S)| -> Result<(), QuantizeError> {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end {
                        return Ok(());
                    }
                    let result = match self.one(request, data, index) {
                        Ok(spent) => work(
                            kept,
                            index,
                            &Outputs {
                                request,
                                types,
                                spent,
                            },
                        ),
                        Err(e) => Err(e),
                    };
                    match result {
                        Ok(value) => {
                            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            done[index - start] = Some(value);
                        }
                        Err(e) => {
                            next.store(end, Ordering::Relaxed);
                            return Err(e);
                        }
                    }
                    self.progress.step();
                }
            };
            if let [worker] = &mut workers[..] {
                turn(worker)?;
            } else {
                let turn = &turn;
                let results: Vec<Result<(), QuantizeError>> = std::thread::scope(|scope| {
                    let handles: Vec<_> = workers.iter_mut().map(|w| scope.spawn(move || turn(w))).collect();
                    handles
                        .into_iter()
                        .map(|h| h.join().unwrap_or_else(|panic| Err(panicked(&*panic))))
                        .collect()
                });
                results.into_iter().collect::<Result<(), _>>()?;
            }
            let done = done
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for (at, value) in done.into_iter().enumerate() {
                if let Some(value) = value {
                    each(start + at, value)?;
                }
            }
            start = end;
        }
        Ok(workers.into_iter().map(|(_, kept)| kept).collect())
    }

    fn one(
        &self,
        request: &mut Request,
        data: &dyn Dataset,
        index: usize,
    ) -> Result<Duration, QuantizeError> {
        if self.progress.stopped() {
            return Err(QuantizeError::Stopped);
        }
        let inputs = checked(&self.graph, data, index)?;
        let values: Vec<Input<'_>> = inputs.iter().map(|t| Input::Values(t.bytes())).collect();
        let start = Instant::now();
        request.run(&values).map_err(|source| QuantizeError::Run {
            index,
            name: data.name(index),
            source,
        })?;
        Ok(start.elapsed())
    }
}

/// What `work` gives for each number below `count`, in order.
pub(crate) fn in_parallel<R: Send>(count: usize, threads: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let threads = threads.clamp(1, count.max(1));
    if threads == 1 {
        return (0..count).map(work).collect();
    }
    let work = &work;
    std::thread::scope(|scope| {
        let share = |t: usize| count * t / threads..count * (t + 1) / threads;
        let handles: Vec<_> = (0..threads)
            .map(|t| scope.spawn(move || share(t).map(work).collect::<Vec<R>>()))
            .collect();
        let mut all = Vec::with_capacity(count);
        for handle in handles {
            match handle.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// The type of what a Result gives.
pub(crate) fn output_type(graph: &Graph, result: NodeId) -> ElementType {
    graph.info(graph.node(result).inputs[0]).element_type
}

/// The error of a thread that panicked.
fn panicked(panic: &(dyn std::any::Any + Send)) -> QuantizeError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    QuantizeError::Panicked(text.unwrap_or("it gave no message").to_owned())
}

/// The network with Results for other values in place of its own.
pub(crate) fn watching(graph: &Graph, values: &[Value]) -> Graph {
    let values: Vec<_> = values.iter().map(|&v| (v, false)).collect();
    watching_pixels(graph, &values)
}

/// The same, those values that are marked with their channels last: as [`made_in_pixels`] values lie in memory.
pub(crate) fn watching_pixels(graph: &Graph, values: &[(Value, bool)]) -> Graph {
    let mut watching = graph.clone();
    watching.results.clear();
    for (index, &(value, channels_last)) in values.iter().enumerate() {
        let watched = match channels_last {
            true => channels_moved_last(&mut watching, value).unwrap_or(value),
            false => value,
        };
        let outputs = vec![watching.info(watched).clone()];
        let id = watching.push(Node {
            name: format!("watch {index}").as_str().into(),
            line: 0,
            op: Op::Result,
            inputs: vec![watched],
            outputs,
        });
        watching.results.push(id);
    }
    flow_model::passes::eliminate_dead(&watching)
}

/// Appends a Transpose that moves axis 1 to the end; none where there is nothing to move.
pub(crate) fn channels_moved_last(graph: &mut Graph, value: Value) -> Option<Value> {
    let info = graph.info(value).clone();
    let shape = info.static_shape().filter(|shape| shape.len() > 2)?;
    let order: Vec<i64> = (0..1).chain(2..shape.len() as i64).chain(1..2).collect();
    let moved: Vec<usize> = order.iter().map(|&a| shape[a as usize]).collect();
    let order = Tensor::from_slice(&[order.len()], &order).ok()?;
    let mut push = |name: &str, op, inputs, output| {
        graph.push(Node {
            name: format!("{name} {}", value.node.index()).as_str().into(),
            line: 0,
            op,
            inputs,
            outputs: vec![output],
        })
    };
    let ordered = OutputInfo::fixed(ElementType::I64, &[shape.len()]);
    let order = push("order", Op::Constant(order), Vec::new(), ordered);
    let moved = OutputInfo::fixed(info.element_type, &moved);
    let id = push(
        "channels last",
        Op::Transpose,
        vec![value, Value::of(order)],
        moved,
    );
    Some(Value::of(id))
}

/// For each node whether it gives an image that the engine keeps pixel by pixel, each with all its channels: looking at it in that
/// order is a plain copy.
pub(crate) fn made_in_pixels(graph: &Graph) -> Vec<bool> {
    let mut made = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter() {
        let before = node.inputs.iter().any(|v| made[v.node.index()]);
        made[id.index()] = match node.op {
            Op::Convolution(_)
            | Op::GroupConvolution(_)
            | Op::ConvolutionBackpropData(_)
            | Op::GroupConvolutionBackpropData(_) => graph.info(Value::of(id)).shape.len() == 4,
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Clamp { .. }
            | Op::PRelu
            | Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::Concat { .. } => before,
            _ => false,
        };
    }
    made
}
