//! Box average in integers: exact, rounded once.
//!
//! In units of 1/target of a source pixel, source pixel `s` covers `[s * target, (s + 1) * target)` and target
//! pixel `t` covers `[t * source, (t + 1) * source)`. Overlaps are whole numbers, and those of one target pixel
//! add up to `source`.

use super::{RowOrder, Rows};

/// The source pixels under one target pixel: `first`, then a weight each.
struct Span {
    first: usize,
    weights: Vec<u32>,
}

pub(super) struct Area {
    channels: usize,
    columns: Vec<Span>,
    rows: Vec<Span>,
    /// Weighted sum of the source rows under the target row: at most 255 * 16384, so 32 bits hold it.
    sums: Vec<u32>,
    total: u64,
}

impl Area {
    pub(super) fn new(source: (u32, u32), target: (u32, u32), channels: usize) -> Self {
        Self {
            channels,
            columns: spans(source.0, target.0),
            rows: spans(source.1, target.1),
            sums: vec![0; source.0 as usize * channels],
            total: u64::from(source.0) * u64::from(source.1),
        }
    }

    pub(super) fn row(&mut self, rows: &mut dyn Rows, y: usize, order: RowOrder, out: &mut [u8]) {
        self.sums.fill(0);
        let span = &self.rows[y];
        for (i, &weight) in span.weights.iter().enumerate() {
            for (sum, &sample) in self.sums.iter_mut().zip(rows.row(span.first + i)) {
                *sum += weight * u32::from(sample);
            }
        }
        let width = self.columns.len();
        for (x, span) in self.columns.iter().enumerate() {
            for c in 0..self.channels {
                let samples = self.sums[span.first * self.channels + c..]
                    .iter()
                    .step_by(self.channels);
                let sum: u64 = span
                    .weights
                    .iter()
                    .zip(samples)
                    .map(|(&w, &s)| u64::from(w) * u64::from(s))
                    .sum();
                let mean = ((sum + self.total / 2) / self.total) as u8;
                match order {
                    RowOrder::Interleaved => out[x * self.channels + c] = mean,
                    RowOrder::Planar => out[c * width + x] = mean,
                }
            }
        }
    }
}

fn spans(source: u32, target: u32) -> Vec<Span> {
    let (source, target) = (u64::from(source), u64::from(target));
    (0..target)
        .map(|t| {
            let (from, to) = (t * source, (t + 1) * source);
            let first = from / target;
            let end = to.div_ceil(target);
            let weights = (first..end)
                .map(|s| (to.min((s + 1) * target) - from.max(s * target)) as u32)
                .collect();
            Span {
                first: first as usize,
                weights,
            }
        })
        .collect()
}
