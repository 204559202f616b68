//! Normalization of groups of values: MVN and NormalizeL2.

use super::{Dense, DenseCall};
use crate::kernels::sums::{Normalization, divide_by_norm, normalize};
use crate::kernels::versions::Simd;
use crate::nest::row_major;
use crate::run::Fault;

/// What is done with a group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// By mean and variance.
    Mvn(Normalization),
    /// By the norm: epsilon, and whether it is added or a lower bound.
    Norm(f64, bool),
}

impl Rule {
    /// Normalizes a group in place.
    pub fn apply(&self, simd: Simd, group: &mut [f32]) {
        match self {
            Self::Mvn(how) => normalize(simd, group, how),
            Self::Norm(eps, add) => divide_by_norm(simd, group, *eps, *add),
        }
    }
}

/// Normalization of a dense value: elements that differ in their index along some axes alone are one group.
#[derive(Debug)]
pub(crate) struct Normalize {
    rule: Rule,
    /// Where groups begin.
    starts: Vec<usize>,
    /// Where the elements of one lie from there; empty where they lie together.
    steps: Vec<usize>,
    /// Elements of a group.
    length: usize,
}

impl Normalize {
    /// Groups along `axes`, ascending.
    pub fn new(rule: Rule, shape: &[usize], axes: &[usize]) -> Self {
        let strides = row_major(shape);
        let offsets = |grouped: bool| {
            let mut at = vec![0];
            for axis in (0..shape.len()).filter(|axis| axes.contains(axis) == grouped) {
                let (count, step) = (shape[axis], strides[axis]);
                at = at
                    .iter()
                    .flat_map(|&start| (0..count).map(move |i| start + i * step))
                    .collect();
            }
            at
        };
        let mut steps = offsets(true);
        let length = steps.len();
        if steps.iter().copied().eq(0..length) {
            steps.clear();
        }
        Self {
            rule,
            starts: offsets(false),
            steps,
            length,
        }
    }
}

impl Dense for Normalize {
    fn kernel(&self) -> String {
        match self.rule {
            Rule::Mvn(_) => "mvn_f32".into(),
            Rule::Norm(..) => "normalize_l2_f32".into(),
        }
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([from, _], to, workspace) = call.floats()?;
        for &start in &self.starts {
            if self.steps.is_empty() {
                let group = &mut to[start..start + self.length];
                group.copy_from_slice(&from[start..start + self.length]);
                self.rule.apply(simd, group);
                continue;
            }
            let group = workspace.floats(self.length);
            for (value, step) in group.iter_mut().zip(&self.steps) {
                *value = from[start + step];
            }
            self.rule.apply(simd, group);
            for (value, step) in group.iter().zip(&self.steps) {
                to[start + step] = *value;
            }
        }
        Ok(())
    }
}
