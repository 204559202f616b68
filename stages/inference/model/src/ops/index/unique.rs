//! Unique: each value, or slice, once.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// Unique-10: inputs data and an optional axis, without which the data are flat. Outputs: the unique values or
/// slices, where each occurs first, which of them each value or slice of the data is, how often each occurs.
#[derive(Debug, Clone)]
struct Unique {
    /// In ascending order rather than that of first occurrence.
    sorted: bool,
    index_type: ElementType,
    count_type: ElementType,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Unique" {
        return Ok(None);
    }
    Ok(Some(Op::standard(Unique {
        sorted: a.flag("sorted", Some(true))?,
        index_type: a.element_type("index_element_type", Some(ElementType::I64))?,
        count_type: a.element_type("count_element_type", Some(ElementType::I64))?,
    })))
}

impl Operation for Unique {
    fn type_name(&self) -> &'static str {
        "Unique"
    }

    fn opset(&self) -> u32 {
        10
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sorted", self.sorted.to_string()),
            ("index_element_type", self.index_type.to_string()),
            ("count_element_type", self.count_type.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        let (unique, count) = match inputs.get(1) {
            None => (vec![None], data.count()),
            Some(axis) => match support::scalar(axis, "the axis")? {
                None => (vec![None; data.shape.len()], None),
                Some(axis) => {
                    let axis = support::axis(axis, data.shape.len())?;
                    let mut shape = data.shape.to_vec();
                    shape[axis] = None;
                    (shape, data.shape[axis])
                }
            },
        };
        Ok(vec![
            support::output(data.element_type, unique),
            support::output(self.index_type, vec![None]),
            support::output(self.index_type, vec![count]),
            support::output(self.count_type, vec![None]),
        ])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, axis) = match inputs.get(1) {
            None => (inputs[0].reshaped(&[inputs[0].len()])?, 0),
            Some(axis) => {
                let axis = support::only(&axis.to_i64(), "the axis")?;
                (inputs[0].clone(), support::axis(axis, inputs[0].shape().len())?)
            }
        };
        let mut shape = data.shape().to_vec();
        let count = shape[axis];
        let inner = support::product(&shape[axis + 1..]);
        let outer = support::product(&shape[..axis]);
        // The elements of one slice, in order.
        let slice =
            |i: usize| (0..outer).flat_map(move |o| (0..inner).map(move |e| (o * count + i) * inner + e));
        // Both zeros are one value.
        let values: Vec<f64> = data.to_f64().into_iter().map(|v| v + 0.0).collect();
        let order_of = |a: usize, b: usize| {
            let pairs = slice(a).zip(slice(b));
            let mut orders = pairs.map(|(a, b)| values[a].total_cmp(&values[b]));
            orders.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut sorted: Vec<usize> = (0..count).collect();
        // Stable, so that the first of equal slices leads its group.
        sorted.sort_by(|&a, &b| order_of(a, b));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for i in sorted {
            match groups.last_mut() {
                Some(group) if order_of(group[0], i).is_eq() => group.push(i),
                _ => groups.push(vec![i]),
            }
        }
        if !self.sorted {
            groups.sort_unstable_by_key(|group| group[0]);
        }
        let mut inverse = vec![0i128; count];
        for (g, group) in groups.iter().enumerate() {
            group.iter().for_each(|&i| inverse[i] = g as i128);
        }
        shape[axis] = groups.len();
        let mut offsets = Vec::with_capacity(support::product(&shape));
        for o in 0..outer {
            for group in &groups {
                let start = (o * count + group[0]) * inner;
                offsets.extend(start..start + inner);
            }
        }
        let firsts: Vec<i128> = groups.iter().map(|g| g[0] as i128).collect();
        let counts: Vec<i128> = groups.iter().map(|g| g.len() as i128).collect();
        Ok(vec![
            support::take(&data, &shape, &offsets)?,
            Tensor::from_i128(self.index_type, &[groups.len()], &firsts)?,
            Tensor::from_i128(self.index_type, &[count], &inverse)?,
            Tensor::from_i128(self.count_type, &[groups.len()], &counts)?,
        ])
    }
}
