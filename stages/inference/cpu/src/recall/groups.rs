//! Values that are normalized together.

use crate::dense::Rule;
use crate::kernels::softmax::softmax_run;
use crate::kernels::versions::Simd;
use crate::nest::row_major;

/// The elements of a value in groups: those of one differ in their index along some axes alone.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Distance and length of these axes.
    axes: Vec<(usize, usize)>,
    /// Where the elements of a group lie from its first one.
    steps: Vec<usize>,
}

impl Groups {
    /// Along some axes, ascending.
    pub fn new(shape: &[usize], axes: &[usize]) -> Self {
        let strides = row_major(shape);
        let mut steps = vec![0];
        for &axis in axes {
            let (length, stride) = (shape[axis], strides[axis]);
            steps = steps
                .iter()
                .flat_map(|&first: &usize| (0..length).map(move |i| first + i * stride))
                .collect();
        }
        Self {
            axes: axes.iter().map(|&a| (strides[a], shape[a])).collect(),
            steps,
        }
    }

    /// The first element of the group of an element.
    pub fn first(&self, at: usize) -> usize {
        let back = |&(stride, length): &(usize, usize)| at / stride % length * stride;
        at - self.axes.iter().map(back).sum::<usize>()
    }

    /// The elements of the group that begins at `first`.
    pub fn members(&self, first: usize) -> impl Iterator<Item = usize> {
        self.steps.iter().map(move |step| first + step)
    }
}

/// What becomes of a group.
#[derive(Debug)]
pub(crate) enum Grouped {
    /// It is divided by its deviation or its norm.
    Normalized(Rule),
    /// Softmax, summed on lanes or in order.
    Softmax { in_order: bool },
}

impl Grouped {
    /// Computes a group in place; `given` has room for as many values.
    pub fn apply(&self, simd: Simd, group: &mut [f32], given: &mut [f32]) {
        match self {
            Self::Normalized(rule) => rule.apply(simd, group),
            Self::Softmax { in_order } => {
                given.copy_from_slice(group);
                softmax_run(simd, group, given, *in_order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_from_each_of_its_elements() {
        let groups = Groups::new(&[2, 3, 2, 2], &[1, 3]);
        let members: Vec<usize> = groups.members(14).collect();
        assert_eq!(members, [14, 15, 18, 19, 22, 23]);
        assert!(members.iter().all(|&at| groups.first(at) == 14));
    }
}
