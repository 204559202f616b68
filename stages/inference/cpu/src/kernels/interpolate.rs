//! Weighted sums along one axis.

use super::versions::versions;

/// Inputs and weights of each output index.
#[derive(Debug)]
pub(crate) struct Taps {
    /// End of each index's entries.
    ends: Vec<usize>,
    entries: Vec<(usize, f64)>,
}

impl Taps {
    /// From one list per output index.
    pub fn new(lists: &[Vec<(usize, f64)>]) -> Self {
        let mut ends = Vec::with_capacity(lists.len());
        let mut entries = Vec::new();
        for list in lists {
            entries.extend_from_slice(list);
            ends.push(entries.len());
        }
        Self { ends, entries }
    }

    /// Number of output indices.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    fn of(&self, index: usize) -> &[(usize, f64)] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.entries[start..self.ends[index]]
    }
}

/// A value as `[outer, length, inner]`, `length` being that of the axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    pub outer: usize,
    pub length: usize,
    pub inner: usize,
}

versions!(
    /// Blends two neighbours in f32: for the axis of the first pass the second product is rounded and the first added to
    /// it in one step, for the others the other way round.
    pub(crate) fn blend_pass(to: &mut [f32], from: &[f32], pass: &Pass, taps: &Taps, first: bool) = blend
);

#[inline(always)]
fn blend(to: &mut [f32], from: &[f32], pass: &Pass, taps: &Taps, first: bool) {
    let mut at = 0;
    for outer in 0..pass.outer {
        for index in 0..taps.len() {
            let row = |k: usize| &from[(outer * pass.length + k) * pass.inner..][..pass.inner];
            let to = &mut to[at..at + pass.inner];
            at += pass.inner;
            let &[(a, wa), (b, wb)] = taps.of(index) else {
                // One neighbour, as it is; none gives 0.
                to.fill(0.0);
                for &(k, weight) in taps.of(index) {
                    let pairs = to.iter_mut().zip(row(k));
                    pairs.for_each(|(to, x)| *to += x * weight as f32);
                }
                continue;
            };
            let (wa, wb) = (wa as f32, wb as f32);
            let pairs = to.iter_mut().zip(row(a).iter().zip(row(b)));
            if first {
                pairs.for_each(|(to, (a, b))| *to = a.mul_add(wa, b * wb));
            } else {
                pairs.for_each(|(to, (a, b))| *to = b.mul_add(wb, a * wa));
            }
        }
    }
}

versions!(
    /// Weighted sums in f64, in the order of the taps.
    pub(crate) fn weigh_pass(to: &mut [f64], from: &[f64], pass: &Pass, taps: &Taps) = weigh
);

#[inline(always)]
fn weigh(to: &mut [f64], from: &[f64], pass: &Pass, taps: &Taps) {
    let mut at = 0;
    for outer in 0..pass.outer {
        for index in 0..taps.len() {
            let to = &mut to[at..at + pass.inner];
            at += pass.inner;
            to.fill(0.0);
            for &(k, weight) in taps.of(index) {
                let row = &from[(outer * pass.length + k) * pass.inner..][..pass.inner];
                for (to, &x) in to.iter_mut().zip(row) {
                    *to += x * weight;
                }
            }
        }
    }
}
