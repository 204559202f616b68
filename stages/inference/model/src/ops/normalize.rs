//! Normalization of values by statistics of groups of them.

mod batch_norm;
mod group_norm;
pub(crate) mod l2;
pub(crate) mod mvn;
mod response;

use super::Family;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;

/// How the operations here are read.
pub(super) const FAMILIES: &[Family] = &[
    batch_norm::parse,
    group_norm::parse,
    l2::parse,
    mvn::parse,
    response::parse,
];

/// A tensor's elements in groups: those that differ in their index along `axes` alone are in one.
pub(super) struct Groups {
    /// Where each group begins.
    starts: Vec<usize>,
    /// How far its elements lie from there, in row-major order.
    steps: Vec<usize>,
}

impl Groups {
    pub(super) fn new(shape: &[usize], axes: &[usize]) -> Self {
        let strides = support::strides(shape);
        let pick = |grouped: bool| -> (Vec<usize>, Vec<isize>) {
            (0..shape.len())
                .filter(|i| axes.contains(i) == grouped)
                .map(|i| (shape[i], strides[i]))
                .unzip()
        };
        let (between, within) = (pick(false), pick(true));
        Self {
            starts: support::offsets(&between.0, &between.1, 0),
            steps: support::offsets(&within.0, &within.1, 0),
        }
    }

    /// Calls `normalize` with the elements of each group, which it changes.
    pub(super) fn each(&self, values: &mut [f32], mut normalize: impl FnMut(&mut [f32])) {
        let mut group = vec![0.0; self.steps.len()];
        for &start in &self.starts {
            for (value, &step) in group.iter_mut().zip(&self.steps) {
                *value = values[start + step];
            }
            normalize(&mut group);
            for (&value, &step) in group.iter().zip(&self.steps) {
                values[start + step] = value;
            }
        }
    }
}

/// The output: type and shape of the first input, which must hold floats.
fn same_as_data(data: &Input) -> Result<Vec<OutputInfo>, OpError> {
    if !data.element_type.is_float() {
        bail!("expected a floating point input, found {}", data.element_type);
    }
    Ok(vec![support::output(data.element_type, data.shape.to_vec())])
}

/// Checks that an input holds a list of axes, where it is known.
fn check_axes(axes: &Input, rank: usize) -> Result<(), OpError> {
    if axes.element_type.is_float() || axes.shape.len() > 1 {
        bail!(
            "expected a list of axes, found {} {}",
            axes.element_type,
            support::show(axes.shape)
        );
    }
    if let Some(list) = axes.integers() {
        support::axes(&list, rank)?;
    }
    Ok(())
}
