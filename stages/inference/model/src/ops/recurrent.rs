//! Recurrent networks: LSTMCell, GRUCell, RNNCell, and sequences of their steps.

use std::ops::RangeInclusive;

use super::attributes::{Attributes, word_of};
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Kind of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Gates forget, input, cell, output.
    Lstm,
    /// Gates update, reset, hidden; the reset gate is applied to the state after its product with the recurrent
    /// weights where `linear_before_reset`, whose bias is then a fourth.
    Gru { linear_before_reset: bool },
    /// One gate.
    Rnn,
}

/// The way through a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Reverse,
    Both,
}

/// Names of directions.
const DIRECTIONS: &[(&str, Direction)] = &[
    ("forward", Direction::Forward),
    ("reverse", Direction::Reverse),
    ("bidirectional", Direction::Both),
];

/// Functions of gates; only these are known without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Sigmoid,
    Tanh,
    Relu,
}

/// Names of functions.
const FUNCTIONS: &[(&str, Function)] = &[
    ("sigmoid", Function::Sigmoid),
    ("tanh", Function::Tanh),
    ("relu", Function::Relu),
];

impl Function {
    fn of(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Relu => x.max(0.0),
        }
    }
}

/// LSTMCell-4, GRUCell-3, RNNCell-0: inputs X `[N, I]`, H `[N, S]`, for LSTM C `[N, S]`, W `[G * S, I]`,
/// R `[G * S, S]`, B `[G * S]`. LSTMSequence-5, GRUSequence-5, RNNSequence-5 have a time axis in X `[N, T, I]`, an axis of
/// directions in all others, and the lengths of the sequences `[N]` before W; outputs Y `[N, D, T, S]` and the last
/// states `[N, D, S]`.
#[derive(Debug, Clone)]
struct Recurrent {
    kind: Kind,
    /// `None`: a single step.
    sequence: Option<Direction>,
    hidden_size: usize,
    functions: Vec<Function>,
    /// Sums that go into functions are clipped to `-clip..=clip` where it is above zero.
    clip: f32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let linear = || a.flag("linear_before_reset", Some(false));
    let (kind, is_sequence) = match a.kind {
        // LSTMCell-1 orders gates in another way.
        "LSTMCell" if a.opset >= 4 => (Kind::Lstm, false),
        "LSTMSequence" if a.opset >= 5 => (Kind::Lstm, true),
        "GRUCell" | "GRUSequence" => {
            let linear_before_reset = linear()?;
            (Kind::Gru { linear_before_reset }, a.kind == "GRUSequence")
        }
        "RNNCell" | "RNNSequence" => (Kind::Rnn, a.kind == "RNNSequence"),
        _ => return Ok(None),
    };
    let hidden_size = a.size("hidden_size", None)?;
    if hidden_size == 0 {
        bail!("attribute `hidden_size`: expected at least 1, found 0");
    }
    let defaults: &[&str] = match kind {
        Kind::Lstm => &["sigmoid", "tanh", "tanh"],
        Kind::Gru { .. } => &["sigmoid", "tanh"],
        Kind::Rnn => &["tanh"],
    };
    let named = a.get("activations").filter(|t| !t.is_empty());
    let names = named.map_or_else(|| defaults.to_vec(), |t| t.split(',').map(str::trim).collect());
    let function = |name: &&str| {
        FUNCTIONS
            .iter()
            .find(|f| f.0.eq_ignore_ascii_case(name))
            .map(|f| f.1)
    };
    let functions: Vec<Function> = names.iter().filter_map(function).collect();
    if functions.len() != names.len() || functions.len() != defaults.len() {
        bail!(
            "attribute `activations`: expected {} of sigmoid, tanh and relu, found {names:?}",
            defaults.len()
        );
    }
    let clip = a.float("clip", Some(0.0))?;
    if clip < 0.0 {
        bail!("attribute `clip`: expected a number that is not negative, found {clip}");
    }
    let sequence = match is_sequence {
        true => Some(a.word("direction", DIRECTIONS, Some(Direction::Forward))?),
        false => None,
    };
    Ok(Some(Op::standard(Recurrent {
        kind,
        sequence,
        hidden_size,
        functions,
        clip,
    })))
}

impl Recurrent {
    fn gates(&self) -> usize {
        match self.kind {
            Kind::Lstm => 4,
            Kind::Gru { .. } => 3,
            Kind::Rnn => 1,
        }
    }

    /// Rows of the bias, in units of the hidden size.
    fn biases(&self) -> usize {
        match self.kind {
            Kind::Gru {
                linear_before_reset: true,
            } => 4,
            _ => self.gates(),
        }
    }

    /// Number of states: hidden, and the cell of LSTM.
    fn states(&self) -> usize {
        1 + usize::from(self.kind == Kind::Lstm)
    }

    fn directions(&self) -> usize {
        1 + usize::from(self.sequence == Some(Direction::Both))
    }

    /// One step: `sums` of the input with its weights and the bias, products with the recurrent weights.
    fn step(&self, step: &Weights, x: &[f64], states: &mut [Vec<f64>]) {
        let s = self.hidden_size;
        let clip = f64::from(self.clip);
        let clipped = |v: f64| if clip > 0.0 { v.clamp(-clip, clip) } else { v };
        let dot = |row: &[f64], v: &[f64]| row.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
        let input = |row: usize| dot(&step.w[row * x.len()..][..x.len()], x) + step.b[row];
        let recurrent = |row: usize, h: &[f64]| dot(&step.r[row * s..][..s], h);
        let h = states[0].clone();
        let gate = |gate: usize, unit: usize| {
            let row = gate * s + unit;
            clipped(input(row) + recurrent(row, &h))
        };
        let f = |i: usize, v: f64| self.functions[i].of(v);
        match self.kind {
            Kind::Rnn => {
                states[0] = (0..s).map(|u| f(0, gate(0, u))).collect();
            }
            Kind::Lstm => {
                let unit = |(u, &cell): (usize, &f64)| {
                    let [forget, input, output] = [0, 1, 3].map(|g| f(0, gate(g, u)));
                    let cell = forget * cell + input * f(1, gate(2, u));
                    (output * f(2, cell), cell)
                };
                (states[0], states[1]) = states[1].iter().enumerate().map(unit).unzip();
            }
            Kind::Gru { linear_before_reset } => {
                let [update, reset] = [0, 1].map(|g| (0..s).map(|u| f(0, gate(g, u))).collect::<Vec<_>>());
                let kept: Vec<f64> = reset.iter().zip(&h).map(|(r, h)| r * h).collect();
                let unit = |(u, &h_u): (usize, &f64)| {
                    let row = 2 * s + u;
                    let inner = if linear_before_reset {
                        input(row) + reset[u] * (recurrent(row, &h) + step.b[3 * s + u])
                    } else {
                        input(row) + recurrent(row, &kept)
                    };
                    (1.0 - update[u]) * f(1, clipped(inner)) + update[u] * h_u
                };
                states[0] = h.iter().enumerate().map(unit).collect();
            }
        }
    }
}

/// Weights of one direction.
struct Weights<'a> {
    w: &'a [f64],
    r: &'a [f64],
    b: &'a [f64],
}

impl Operation for Recurrent {
    fn type_name(&self) -> &'static str {
        match (self.kind, self.sequence.is_some()) {
            (Kind::Lstm, false) => "LSTMCell",
            (Kind::Lstm, true) => "LSTMSequence",
            (Kind::Gru { .. }, false) => "GRUCell",
            (Kind::Gru { .. }, true) => "GRUSequence",
            (Kind::Rnn, false) => "RNNCell",
            (Kind::Rnn, true) => "RNNSequence",
        }
    }

    fn opset(&self) -> u32 {
        match (self.kind, self.sequence.is_some()) {
            (_, true) => 5,
            (Kind::Lstm, false) => 4,
            (Kind::Gru { .. }, false) => 3,
            // RNNCell-0 is in opset1 as well.
            (Kind::Rnn, false) => 1,
        }
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let names: Vec<String> = self.functions.iter().map(|f| word_of(FUNCTIONS, f)).collect();
        let mut attributes = vec![
            ("hidden_size", self.hidden_size.to_string()),
            ("activations", names.join(", ")),
            ("activations_alpha", String::new()),
            ("activations_beta", String::new()),
            ("clip", self.clip.to_string()),
        ];
        if let Some(direction) = self.sequence {
            attributes.push(("direction", word_of(DIRECTIONS, &direction)));
        }
        if let Kind::Gru { linear_before_reset } = self.kind {
            attributes.push(("linear_before_reset", linear_before_reset.to_string()));
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        let count = 4 + self.states() + usize::from(self.sequence.is_some());
        count..=count
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let x = &inputs[0];
        support::floats(x, "the data")?;
        let (states, rest) = inputs[1..].split_at(self.states());
        let (directions, s) = (self.directions(), self.hidden_size);
        // All but X with their axis of directions, which single steps do not have.
        let expect = |input: &Input, wanted: &[Dim], what: &str| -> Result<Dim, OpError> {
            let mut wanted = wanted.to_vec();
            if self.sequence.is_some() {
                // The state has it behind the batch.
                wanted.insert(usize::from(what == "a state"), Some(directions));
            }
            support::same_type(x, input)?;
            let fits = |(a, b): (&Dim, &Dim)| a.is_none() || b.is_none() || a == b;
            if input.shape.len() != wanted.len() || !input.shape.iter().zip(&wanted).all(fits) {
                bail!(
                    "{what}: expected {}, found {}",
                    support::show(&wanted),
                    support::show(input.shape)
                );
            }
            Ok(input.shape[0])
        };
        let (mut batch, time, size) = match (x.shape, &self.sequence) {
            ([batch, size], None) => (*batch, None, *size),
            ([batch, time, size], Some(_)) => (*batch, *time, *size),
            _ => bail!("the data: found {}", support::show(x.shape)),
        };
        for state in states {
            let found = expect(state, &[batch, Some(s)], "a state")?;
            batch = support::same_dim(batch, found, "batches")?;
        }
        let rest = if self.sequence.is_some() {
            support::integers(&rest[0], "the lengths")?;
            let [length] = support::dims(&rest[0], "the lengths")?;
            batch = support::same_dim(batch, length, "batches")?;
            &rest[1..]
        } else {
            rest
        };
        let rows = |n: usize| {
            n.checked_mul(s)
                .map_or_else(|| bail!("{s} units are too many"), Ok)
        };
        let gates = Some(rows(self.gates())?);
        expect(&rest[0], &[gates, size], "the weights")?;
        expect(&rest[1], &[gates, Some(s)], "the recurrent weights")?;
        expect(&rest[2], &[Some(rows(self.biases())?)], "the bias")?;
        let state = || match self.sequence {
            Some(_) => support::output(x.element_type, vec![batch, Some(directions), Some(s)]),
            None => support::output(x.element_type, vec![batch, Some(s)]),
        };
        let mut outputs = Vec::new();
        if self.sequence.is_some() {
            let shape = vec![batch, Some(directions), time, Some(s)];
            outputs.push(support::output(x.element_type, shape));
        }
        outputs.extend((0..self.states()).map(|_| state()));
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let element_type = inputs[0].element_type();
        let s = self.hidden_size;
        let (data, states_in) = inputs.split_at(1);
        let (states_in, rest) = states_in.split_at(self.states());
        let x = data[0].to_f64();
        let batch = data[0].shape()[0];
        let (time, size) = match data[0].shape() {
            [_, time, size] => (*time, *size),
            shape => (1, shape[1]),
        };
        let (lengths, rest) = match self.sequence {
            Some(_) => (rest[0].to_i64(), &rest[1..]),
            None => (vec![1; batch], rest),
        };
        let [w, r, b] = [0, 1, 2].map(|i| rest[i].to_f64());
        let states_in: Vec<Vec<f64>> = states_in.iter().map(Tensor::to_f64).collect();
        let directions = self.directions();
        let mut y = vec![0.0; batch * directions * time * s];
        let mut last: Vec<Vec<f64>> = states_in.clone();
        for d in 0..directions {
            let part =
                |all: &'_ [f64]| -> (usize, usize) { (d * (all.len() / directions), all.len() / directions) };
            let slice = |all| {
                let (at, len) = part(all);
                &all[at..at + len]
            };
            let weights = Weights {
                w: slice(&w),
                r: slice(&r),
                b: slice(&b),
            };
            let backwards = self.sequence == Some(Direction::Reverse) || d == 1;
            for n in 0..batch {
                let length = usize::try_from(lengths[n]).ok().filter(|&l| l <= time);
                let Some(length) = length else {
                    bail!("a sequence of length {}: expected 0 to {time}", lengths[n]);
                };
                let at = (n * directions + d) * s;
                let mut states: Vec<Vec<f64>> =
                    states_in.iter().map(|all| all[at..at + s].to_vec()).collect();
                for step in 0..length {
                    let t = if backwards { length - 1 - step } else { step };
                    self.step(&weights, &x[(n * time + t) * size..][..size], &mut states);
                    y[((n * directions + d) * time + t) * s..][..s].copy_from_slice(&states[0]);
                }
                for (all, state) in last.iter_mut().zip(&states) {
                    all[at..at + s].copy_from_slice(state);
                }
            }
        }
        let mut values = Vec::new();
        if self.sequence.is_some() {
            values.push(y);
        }
        values.extend(last);
        let tensor = |(values, info): (Vec<f64>, &OutputInfo)| {
            let shape = support::fixed(info)?;
            Ok(Tensor::from_f64(element_type, &shape, &values)?)
        };
        values.into_iter().zip(outputs).map(tensor).collect()
    }
}
