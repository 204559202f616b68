//! Reductions of f32 over strided runs, several results at a time.

use super::versions::versions;

/// Results at a time.
pub(crate) const LANES: usize = 32;

/// What is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    /// f32 sums: each run from zero, then the runs.
    Sum,
    Max,
    Min,
    /// In f64.
    Product,
    /// Sum of squares in f64.
    Squares,
}

impl Fold {
    /// The value of no element.
    pub fn start(self) -> f64 {
        match self {
            Fold::Sum | Fold::Squares => 0.0,
            Fold::Max => f64::NEG_INFINITY,
            Fold::Min => f64::INFINITY,
            Fold::Product => 1.0,
        }
    }
}

versions!(
    /// Folds one run of elements, `(count, step)`, into each of some results, `(lanes, step)`, at most [`LANES`]: lane
    /// `l` begins at `from[l * lanes.1]`.
    pub(crate) fn fold_run(
        fold: Fold, from: &[f32], lanes: (usize, usize), elements: (usize, usize), results: &mut [f64; LANES],
    ) = run
);

#[inline(always)]
fn run(
    fold: Fold,
    from: &[f32],
    lanes: (usize, usize),
    elements: (usize, usize),
    results: &mut [f64; LANES],
) {
    match fold {
        Fold::Sum => {
            let mut sums = [0.0_f32; LANES];
            each(from, lanes, elements, &mut sums, |s, x| s + x);
            for (result, sum) in results.iter_mut().zip(sums) {
                *result = f64::from(*result as f32 + sum);
            }
        }
        Fold::Max => each(from, lanes, elements, results, |m, x| {
            let x = f64::from(x);
            if x > m { x } else { m }
        }),
        Fold::Min => each(from, lanes, elements, results, |m, x| {
            let x = f64::from(x);
            if x < m { x } else { m }
        }),
        Fold::Product => each(from, lanes, elements, results, |p, x| p * f64::from(x)),
        Fold::Squares => each(from, lanes, elements, results, |s, x| {
            s + f64::from(x) * f64::from(x)
        }),
    }
}

#[inline(always)]
fn each<A: Copy>(
    from: &[f32],
    (lanes, lane_step): (usize, usize),
    (count, step): (usize, usize),
    kept: &mut [A; LANES],
    f: impl Fn(A, f32) -> A,
) {
    let mut sums = *kept;
    if lanes == LANES && lane_step == 1 {
        for k in 0..count {
            for (sum, &x) in sums.iter_mut().zip(&from[k * step..][..LANES]) {
                *sum = f(*sum, x);
            }
        }
    } else {
        for k in 0..count {
            for (lane, sum) in sums[..lanes].iter_mut().enumerate() {
                *sum = f(*sum, from[k * step + lane * lane_step]);
            }
        }
    }
    *kept = sums;
}
