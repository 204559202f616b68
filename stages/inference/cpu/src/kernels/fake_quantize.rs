//! FakeQuantize of f32: each value becomes that of the level it falls on, rounded as `docs/numerics.md` says.

use super::versions::versions;

/// Constants of one set of limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    /// At or below it lies level 0.
    pub least: f32,
    /// Above it lies the last level.
    pub most: f32,
    /// From values to levels.
    pub scale: f32,
    pub shift: f32,
    /// From levels to values.
    pub output_scale: f32,
    pub output_low: f32,
}

impl Interval {
    /// From the limits `[input low, input high, output low, output high]`; `fused`: as behind a sum of products.
    pub fn new([low, high, output_low, output_high]: [f32; 4], last: f32, fused: bool) -> Self {
        let scale = last / (high - low);
        Self {
            least: low.min(high),
            most: low.max(high),
            scale,
            shift: if fused {
                -low * last / (high - low)
            } else {
                -low * scale
            },
            output_scale: (output_high - output_low) / last,
            output_low,
        }
    }
}

/// Intervals in the order of memory, constant by constant.
#[derive(Debug, Default)]
pub(crate) struct Intervals {
    least: Vec<f32>,
    most: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    output_scale: Vec<f32>,
    output_low: Vec<f32>,
}

impl FromIterator<Interval> for Intervals {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut all = Self::default();
        for interval in intervals {
            all.least.push(interval.least);
            all.most.push(interval.most);
            all.scale.push(interval.scale);
            all.shift.push(interval.shift);
            all.output_scale.push(interval.output_scale);
            all.output_low.push(interval.output_low);
        }
        all
    }
}

impl Intervals {
    /// One of them.
    pub fn at(&self, i: usize) -> Interval {
        Interval {
            least: self.least[i],
            most: self.most[i],
            scale: self.scale[i],
            shift: self.shift[i],
            output_scale: self.output_scale[i],
            output_low: self.output_low[i],
        }
    }
}

/// How values are put on levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    /// Index of the last level.
    pub last: f32,
    /// `x * scale + shift` is rounded once.
    pub fused: bool,
}

#[inline(always)]
fn quantize<const FUSED: bool>(x: f32, to: Interval, last: f32) -> f32 {
    let level = if FUSED {
        x.mul_add(to.scale, to.shift)
    } else {
        x * to.scale + to.shift
    };
    // NaN goes through.
    let level = level.round_ties_even();
    let level = if level < 0.0 { 0.0 } else { level };
    let level = if level > last { last } else { level };
    let level = if x > to.most { last } else { level };
    let level = if x <= to.least { 0.0 } else { level };
    level.mul_add(to.output_scale, to.output_low)
}

#[inline(always)]
fn with_one(to: &mut [f32], from: &[f32], interval: Interval, grid: Grid) {
    let last = grid.last;
    if grid.fused {
        let pairs = to.iter_mut().zip(from);
        pairs.for_each(|(to, &x)| *to = quantize::<true>(x, interval, last));
    } else {
        let pairs = to.iter_mut().zip(from);
        pairs.for_each(|(to, &x)| *to = quantize::<false>(x, interval, last));
    }
}

#[inline(always)]
fn each<const FUSED: bool>(to: &mut [f32], from: &[f32], all: &Intervals, first: usize, last: f32) {
    let n = to.len();
    let from = &from[..n];
    let (least, most) = (&all.least[first..first + n], &all.most[first..first + n]);
    let (scale, shift) = (&all.scale[first..first + n], &all.shift[first..first + n]);
    let output_scale = &all.output_scale[first..first + n];
    let output_low = &all.output_low[first..first + n];
    for i in 0..n {
        let interval = Interval {
            least: least[i],
            most: most[i],
            scale: scale[i],
            shift: shift[i],
            output_scale: output_scale[i],
            output_low: output_low[i],
        };
        to[i] = quantize::<FUSED>(from[i], interval, last);
    }
}

#[inline(always)]
fn with_each(to: &mut [f32], from: &[f32], all: &Intervals, first: usize, grid: Grid) {
    if grid.fused {
        each::<true>(to, from, all, first, grid.last);
    } else {
        each::<false>(to, from, all, first, grid.last);
    }
}

versions! {
    /// A run of values with one interval.
    pub(crate) fn quantize_run(to: &mut [f32], from: &[f32], interval: Interval, grid: Grid) = with_one
}

versions! {
    /// A run of values with an interval each, from `first` on.
    pub(crate) fn quantize_each(to: &mut [f32], from: &[f32], all: &Intervals, first: usize, grid: Grid) = with_each
}
