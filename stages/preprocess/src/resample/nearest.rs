//! Nearest neighbour, equal to OpenCV's `INTER_NEAREST`.

use super::{RowOrder, Rows};

pub(super) struct Nearest {
    channels: usize,
    /// First sample of the source pixel of each target column.
    columns: Vec<usize>,
    /// Source row of each target row.
    rows: Vec<usize>,
    copies: bool,
}

impl Nearest {
    pub(super) fn new(source: (u32, u32), target: (u32, u32), channels: usize) -> Self {
        Self {
            channels,
            columns: places(source.0, target.0)
                .into_iter()
                .map(|x| x * channels)
                .collect(),
            rows: places(source.1, target.1),
            copies: source == target,
        }
    }

    pub(super) fn row(&self, rows: &mut dyn Rows, y: usize, order: RowOrder, out: &mut [u8]) {
        let source = rows.row(self.rows[y]);
        match (self.channels, order) {
            (1, _) | (_, RowOrder::Interleaved) if self.copies => {
                out.copy_from_slice(&source[..out.len()]);
            }
            (1, _) => {
                for (o, &x) in out.iter_mut().zip(&self.columns) {
                    *o = source[x];
                }
            }
            (_, RowOrder::Interleaved) => {
                for (o, &x) in out.chunks_exact_mut(3).zip(&self.columns) {
                    o.copy_from_slice(&source[x..x + 3]);
                }
            }
            (_, RowOrder::Planar) => {
                for (c, plane) in out.chunks_exact_mut(self.columns.len()).enumerate() {
                    for (o, &x) in plane.iter_mut().zip(&self.columns) {
                        *o = source[x + c];
                    }
                }
            }
        }
    }
}

/// `min(floor(i * (1 / (target / source))), source - 1)`, in f64 and in this order of operations: OpenCV's
/// `resizeNN`.
fn places(source: u32, target: u32) -> Vec<usize> {
    let inverse = 1.0 / (f64::from(target) / f64::from(source));
    (0..target)
        .map(|i| ((f64::from(i) * inverse).floor() as usize).min(source as usize - 1))
        .collect()
}
