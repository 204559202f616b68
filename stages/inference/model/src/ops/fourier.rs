//! DFT, IDFT, RDFT and IRDFT: discrete Fourier transforms along axes.

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// DFT-7, IDFT-7, RDFT-9, IRDFT-9: inputs data, axes, optional lengths of the signals along them (-1: as they are; data
/// are cut or get zeros behind). Complex numbers are pairs along a last axis that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fourier {
    Dft,
    Idft,
    /// Of real numbers; the last of the axes keeps `length / 2 + 1` entries.
    Rdft,
    /// To real numbers.
    Irdft,
}

/// Longest signal: each is transformed in quadratic time.
const MAX_LENGTH: usize = 1 << 14;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(Op::standard(match a.kind {
        "DFT" => Fourier::Dft,
        "IDFT" => Fourier::Idft,
        "RDFT" => Fourier::Rdft,
        "IRDFT" => Fourier::Irdft,
        _ => return Ok(None),
    })))
}

impl Fourier {
    /// Rank without the axis of pairs.
    fn rank(self, rank: usize) -> Result<usize, OpError> {
        let rank = rank.checked_sub(usize::from(self != Self::Rdft));
        match rank {
            Some(rank) if rank > 0 => Ok(rank),
            _ => bail!("expected at least one axis that is not that of pairs"),
        }
    }

    /// The axes, and the lengths wanted along them.
    fn plan(
        self,
        axes: &[i64],
        lengths: Option<&[i64]>,
        rank: usize,
    ) -> Result<Vec<(usize, Option<usize>)>, OpError> {
        let axes = support::axes(axes, rank)?;
        let Some(lengths) = lengths else {
            return Ok(axes.into_iter().map(|a| (a, None)).collect());
        };
        if lengths.len() != axes.len() {
            bail!("expected {} lengths, found {}", axes.len(), lengths.len());
        }
        let length = |&l: &i64| match usize::try_from(l) {
            Ok(length) if (1..=MAX_LENGTH).contains(&length) => Ok(Some(length)),
            Err(_) if l == -1 => Ok(None),
            _ => bail!("a signal of length {l}: expected -1 or 1 to {MAX_LENGTH}"),
        };
        let lengths: Result<Vec<_>, OpError> = lengths.iter().map(length).collect();
        Ok(axes.into_iter().zip(lengths?).collect())
    }
}

/// Complex numbers `(re, im)` of some shape.
struct Signal {
    shape: Vec<usize>,
    values: Vec<(f64, f64)>,
}

impl Signal {
    /// Replaces each line along an axis.
    fn lines(&mut self, axis: usize, length: usize, f: impl Fn(&[(f64, f64)]) -> Vec<(f64, f64)>) {
        let inner = support::product(&self.shape[axis + 1..]);
        let outer = support::product(&self.shape[..axis]);
        let before = self.shape[axis];
        let mut next = vec![(0.0, 0.0); outer * length * inner];
        for o in 0..outer {
            for i in 0..inner {
                let line: Vec<_> = (0..before)
                    .map(|j| self.values[(o * before + j) * inner + i])
                    .collect();
                for (j, value) in f(&line).into_iter().enumerate() {
                    next[(o * length + j) * inner + i] = value;
                }
            }
        }
        self.shape[axis] = length;
        self.values = next;
    }

    /// Cuts an axis or appends zeros.
    fn resize(&mut self, axis: usize, length: usize) {
        self.lines(axis, length, |line| {
            let mut line = line.to_vec();
            line.resize(length, (0.0, 0.0));
            line
        });
    }

    fn transform(&mut self, axis: usize, inverse: bool) {
        let n = self.shape[axis];
        let sign = if inverse { 1.0 } else { -1.0 };
        let scale = if inverse { 1.0 / n as f64 } else { 1.0 };
        let roots: Vec<(f64, f64)> = (0..n)
            .map(|k| (sign * TAU * k as f64 / n as f64).sin_cos())
            .map(|(sin, cos)| (cos, sin))
            .collect();
        self.lines(axis, n, |line| {
            let term = |k: usize| {
                let (re, im) = line.iter().enumerate().fold((0.0, 0.0), |(re, im), (j, v)| {
                    let (c, s) = roots[j * k % n];
                    (re + v.0 * c - v.1 * s, im + v.0 * s + v.1 * c)
                });
                (re * scale, im * scale)
            };
            (0..n).map(term).collect()
        });
    }
}

impl Operation for Fourier {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Dft => "DFT",
            Self::Idft => "IDFT",
            Self::Rdft => "RDFT",
            Self::Irdft => "IRDFT",
        }
    }

    fn opset(&self) -> u32 {
        match self {
            Self::Dft | Self::Idft => 7,
            Self::Rdft | Self::Irdft => 9,
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::floats(data, "the data")?;
        let rank = self.rank(data.shape.len())?;
        if *self != Self::Rdft {
            support::same_dim(data.shape[rank], Some(2), "the axis of pairs")?;
        }
        let lengths = inputs.get(2).map(Input::integers);
        let known = lengths.is_none_or(|l| l.is_some());
        let mut shape = data.shape[..rank].to_vec();
        match inputs[1].integers() {
            Some(axes) if known => {
                let lengths = inputs.get(2).and_then(Input::integers);
                let plan = self.plan(&axes, lengths.as_deref(), rank)?;
                for (i, &(axis, wanted)) in plan.iter().enumerate() {
                    let last = i + 1 == plan.len();
                    let length = wanted.or(shape[axis]);
                    shape[axis] = match self {
                        Self::Rdft if last => length.map(|l| l / 2 + 1),
                        Self::Irdft if last => {
                            wanted.or(shape[axis].map(|l| l.saturating_sub(1).saturating_mul(2)))
                        }
                        _ => length,
                    };
                    if shape[axis].is_some_and(|l| l > MAX_LENGTH) || length == Some(0) {
                        bail!("axis {axis}: signals of 1 to {MAX_LENGTH} are supported");
                    }
                }
            }
            _ => shape.fill(None),
        }
        if *self != Self::Irdft {
            shape.push(Some(2));
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let shape = support::fixed(&outputs[0])?;
        let rank = self.rank(data.shape().len())?;
        let lengths = inputs.get(2).map(Tensor::to_i64);
        let plan = self.plan(&inputs[1].to_i64(), lengths.as_deref(), rank)?;
        let numbers = data.to_f64();
        let mut signal = Signal {
            shape: data.shape()[..rank].to_vec(),
            values: match self {
                Self::Rdft => numbers.into_iter().map(|v| (v, 0.0)).collect(),
                _ => numbers.chunks_exact(2).map(|v| (v[0], v[1])).collect(),
            },
        };
        let inverse = matches!(self, Self::Idft | Self::Irdft);
        // To real numbers: the halved axis last, when the others are back.
        let others = plan.len() - usize::from(*self == Self::Irdft && !plan.is_empty());
        for &(axis, wanted) in &plan[..others] {
            if let Some(length) = wanted {
                signal.resize(axis, length);
            }
            signal.transform(axis, inverse);
        }
        match (self, plan.last()) {
            (Self::Irdft, Some(&(axis, _))) => {
                // The half that is left out is the conjugate of the other, read backwards.
                let length = shape[axis];
                signal.resize(axis, length / 2 + 1);
                signal.lines(axis, length, |line| {
                    let at = |j: usize| match line.get(j) {
                        Some(&value) => value,
                        None => (line[length - j].0, -line[length - j].1),
                    };
                    (0..length).map(at).collect()
                });
                signal.transform(axis, true);
            }
            (Self::Rdft, Some(&(axis, _))) => signal.resize(axis, shape[axis]),
            _ => {}
        }
        let values: Vec<f64> = match self {
            Self::Irdft => signal.values.iter().map(|v| v.0).collect(),
            _ => signal.values.iter().flat_map(|v| [v.0, v.1]).collect(),
        };
        Ok(vec![Tensor::from_f64(data.element_type(), &shape, &values)?])
    }
}
