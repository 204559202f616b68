//! Operations that put every element at another place, axis by axis.

mod batch_space;
mod roll;
mod shuffle_channels;
mod space_to_depth;

use super::{Family, support};
use crate::error::OpError;
use crate::tensor::Tensor;

/// How the operations here are read.
pub(super) const FAMILIES: &[Family] = &[
    batch_space::parse,
    roll::parse,
    shuffle_channels::parse,
    space_to_depth::parse,
];

/// For each axis of an output, how far each of its indices lies from the beginning of the data. An element comes
/// from the sum over its indices.
struct Places(Vec<Vec<usize>>);

impl Places {
    /// Every element where it is.
    fn same(shape: &[usize]) -> Self {
        let strides = support::strides(shape);
        let axis = |(&length, stride): (&usize, isize)| (0..length).map(|i| i * stride as usize).collect();
        Self(shape.iter().zip(strides).map(axis).collect())
    }

    /// The elements of `data` at these places.
    fn take(&self, data: &Tensor) -> Result<Tensor, OpError> {
        let shape: Vec<usize> = self.0.iter().map(Vec::len).collect();
        let mut offsets = vec![0];
        for axis in &self.0 {
            offsets = offsets
                .iter()
                .flat_map(|&base| axis.iter().map(move |&step| base + step))
                .collect();
        }
        support::take(data, &shape, &offsets)
    }
}
