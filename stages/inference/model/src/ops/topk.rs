//! TopK.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{Op, TopKAttrs, TopKSort};
use crate::tensor::{ElementType, Tensor};

/// Orders of the result.
pub(crate) const SORTS: [(&str, TopKSort); 3] = [
    ("none", TopKSort::None),
    ("value", TopKSort::Value),
    ("index", TopKSort::Index),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "TopK" {
        return Ok(None);
    }
    Ok(Some(Op::TopK(TopKAttrs {
        axis: a.int("axis", None)?,
        max: a.word("mode", &[("max", true), ("min", false)], None)?,
        sort: a.word("sort", &SORTS, None)?,
        index_type: a.element_type("index_element_type", Some(ElementType::I32))?,
        stable: a.flag("stable", Some(false))?,
    })))
}

/// Types and shapes of the values and of the indices.
pub(crate) fn infer(attrs: &TopKAttrs, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let axis = support::axis(attrs.axis, data.shape.len())?;
    let mut shape = data.shape.to_vec();
    shape[axis] = match support::scalar(&inputs[1], "k")? {
        None => None,
        Some(k) => match (usize::try_from(k), data.shape[axis]) {
            (Ok(k), Some(length)) if k > length => bail!("k is {k}, the axis has {length} elements"),
            (Ok(k), _) => Some(k),
            (Err(_), _) => bail!("k is {k}: expected 0 or more"),
        },
    };
    Ok(vec![
        support::output(data.element_type, shape.clone()),
        support::output(attrs.index_type, shape),
    ])
}

/// Evaluates the operation. Of equal values the one of lower index comes first, stable or not.
pub(crate) fn evaluate(
    attrs: &TopKAttrs,
    inputs: &[Tensor],
    outputs: &[OutputInfo],
) -> Result<Vec<Tensor>, OpError> {
    let data = &inputs[0];
    let shape = support::fixed(&outputs[0])?;
    let axis = support::axis(attrs.axis, shape.len())?;
    let (length, k) = (data.shape()[axis], shape[axis]);
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let values = data.to_f64();
    let count = outer * k * inner;
    let (mut offsets, mut indices) = (vec![0; count], vec![0i128; count]);
    let mut order = Vec::new();
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * length + j) * inner + i;
            let by_value = |&a: &usize, &b: &usize| {
                let (x, y) = (values[at(a)], values[at(b)]);
                if attrs.max {
                    y.total_cmp(&x)
                } else {
                    x.total_cmp(&y)
                }
            };
            let first = |a: &usize, b: &usize| by_value(a, b).then(a.cmp(b));
            order.clear();
            match k {
                1 => order.extend((0..length).min_by(by_value)),
                _ => {
                    order.extend(0..length);
                    if k < length {
                        order.select_nth_unstable_by(k, first);
                        order.truncate(k);
                    }
                    order.sort_unstable_by(first);
                }
            }
            if attrs.sort == TopKSort::Index {
                order.sort_unstable();
            }
            for (rank, &j) in order.iter().enumerate() {
                let to = (o * k + rank) * inner + i;
                offsets[to] = at(j);
                indices[to] = j as i128;
            }
        }
    }
    Ok(vec![
        support::take(data, &shape, &offsets)?,
        Tensor::from_i128(attrs.index_type, &shape, &indices)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(max: bool, sort: TopKSort) -> (Vec<f32>, Vec<i64>) {
        let x = Tensor::from_slice(&[1, 5], &[1f32, 3.0, 2.0, 3.0, 0.0]).unwrap();
        let attrs = TopKAttrs {
            axis: -1,
            max,
            sort,
            index_type: ElementType::I32,
            stable: true,
        };
        let y = crate::ops::evaluate(&Op::TopK(attrs), &[x, Tensor::scalar(3i64)]).unwrap();
        (y[0].to_f32(), y[1].to_i64())
    }

    #[test]
    fn largest_and_smallest() {
        assert_eq!(run(true, TopKSort::Value), (vec![3.0, 3.0, 2.0], vec![1, 3, 2]));
        assert_eq!(run(true, TopKSort::Index), (vec![3.0, 2.0, 3.0], vec![1, 2, 3]));
        assert_eq!(run(false, TopKSort::Value), (vec![0.0, 1.0, 2.0], vec![4, 0, 2]));
    }

    #[test]
    fn of_equal_values_the_first_are_taken_however_many() {
        let values: Vec<f32> = (0..200).map(|i| (i * 7 % 5) as f32).collect();
        let x = Tensor::from_slice(&[200], &values).unwrap();
        let mut sorted: Vec<i64> = (0..200).collect();
        sorted.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]));
        for k in [0, 1, 2, 41, 199, 200] {
            let attrs = TopKAttrs {
                axis: 0,
                max: true,
                sort: TopKSort::Value,
                index_type: ElementType::I64,
                stable: true,
            };
            let y = crate::ops::evaluate(&Op::TopK(attrs), &[x.clone(), Tensor::scalar(k as i64)]).unwrap();
            assert_eq!(y[1].to_i64(), sorted[..k], "{k}");
        }
    }
}
