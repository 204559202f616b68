//! Einsum: sums of products over named axes.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Einsum-7: each input's axes have letters; axes of one letter run together, and those that the output lacks are
/// summed. `...` stands for axes without letters, which broadcast. Without `->` the output has the letters that occur
/// once, in alphabetical order.
#[derive(Debug, Clone)]
struct Einsum {
    equation: String,
    inputs: Vec<Vec<Label>>,
    /// `None`: implied.
    output: Option<Vec<Label>>,
}

/// What stands for one axis, or for all axes without a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Rest,
    Letter(char),
    /// An axis that `...` stands for, counted from the last.
    Unnamed(usize),
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Einsum" {
        return Ok(None);
    }
    let Some(equation) = a.get("equation") else {
        bail!("attribute `equation` is missing");
    };
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let inputs: Option<Vec<_>> = left.split(',').map(labels).collect();
    let output = right.map(labels);
    let (Some(inputs), false) = (inputs, output == Some(None)) else {
        bail!("attribute `equation`: expected letters and `...`, found \"{equation}\"");
    };
    if inputs.len() != a.inputs {
        bail!(
            "attribute `equation` has {} terms, the layer {} inputs",
            inputs.len(),
            a.inputs
        );
    }
    Ok(Some(Op::standard(Einsum {
        equation: text.clone(),
        inputs,
        output: output.flatten(),
    })))
}

/// The labels of one term; `None` if it is not one.
fn labels(term: &str) -> Option<Vec<Label>> {
    let mut labels = Vec::new();
    let mut rest = term;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("...") {
            if labels.contains(&Label::Rest) {
                return None;
            }
            labels.push(Label::Rest);
            rest = behind;
        } else if c.is_ascii_alphabetic() {
            labels.push(Label::Letter(c));
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(labels)
}

/// The axes of a tensor of some rank, `...` spelt out.
fn spell(labels: &[Label], rank: usize) -> Result<Vec<Label>, OpError> {
    let has_rest = labels.contains(&Label::Rest);
    let named = labels.len() - usize::from(has_rest);
    let Some(unnamed) = rank.checked_sub(named).filter(|&n| n == 0 || has_rest) else {
        bail!("a term names {named} axes, its input has {rank}");
    };
    Ok(labels
        .iter()
        .flat_map(|&label| match label {
            Label::Rest => (0..unnamed).rev().map(Label::Unnamed).collect(),
            other => vec![other],
        })
        .collect())
}

/// Which axes run: the output's, then those that are summed; with their lengths.
struct Axes {
    inputs: Vec<Vec<Label>>,
    output: Vec<(Label, Dim)>,
    summed: Vec<(Label, Dim)>,
}

impl Einsum {
    fn axes(&self, shapes: &[&[Dim]]) -> Result<Axes, OpError> {
        let mut inputs = Vec::new();
        let mut found: Vec<(Label, Dim, usize)> = Vec::new();
        for (labels, shape) in self.inputs.iter().zip(shapes) {
            let labels = spell(labels, shape.len())?;
            for (&label, &dim) in labels.iter().zip(*shape) {
                match found.iter_mut().find(|f| f.0 == label) {
                    None => found.push((label, dim, 1)),
                    Some((_, known, count)) => {
                        *count += 1;
                        *known = match (label, *known, dim) {
                            (_, Some(1), d) | (_, d, Some(1)) => d,
                            (_, a, b) => support::same_dim(a, b, &format!("axes {label:?}"))?,
                        };
                    }
                }
            }
            inputs.push(labels);
        }
        let unnamed = found.iter().filter(|f| matches!(f.0, Label::Unnamed(_))).count();
        let output = match &self.output {
            Some(labels) if labels.contains(&Label::Rest) => spell(labels, labels.len() - 1 + unnamed)?,
            Some(labels) => labels.clone(),
            None => {
                let mut letters: Vec<Label> = found
                    .iter()
                    .filter(|f| matches!(f.0, Label::Letter(_)) && f.2 == 1)
                    .map(|f| f.0)
                    .collect();
                letters.sort_unstable();
                (0..unnamed).rev().map(Label::Unnamed).chain(letters).collect()
            }
        };
        let of = |label: &Label| found.iter().find(|f| f.0 == *label).map(|f| (f.0, f.1));
        let known: Option<Vec<_>> = output.iter().map(of).collect();
        let Some(known) = known else {
            bail!("the output names an axis that no input has");
        };
        for (i, label) in output.iter().enumerate() {
            if output[..i].contains(label) {
                bail!("the output names an axis twice");
            }
        }
        let summed = found.iter().filter(|f| !output.contains(&f.0));
        Ok(Axes {
            inputs,
            summed: summed.map(|f| (f.0, f.1)).collect(),
            output: known,
        })
    }
}

impl Operation for Einsum {
    fn type_name(&self) -> &'static str {
        "Einsum"
    }

    fn opset(&self) -> u32 {
        7
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("equation", self.equation.clone())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        self.inputs.len()..=self.inputs.len()
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        for input in &inputs[1..] {
            support::same_type(&inputs[0], input)?;
        }
        let shapes: Vec<&[Dim]> = inputs.iter().map(|i| i.shape).collect();
        let shape = self.axes(&shapes)?.output.iter().map(|a| a.1).collect();
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shapes = support::shapes(inputs);
        let axes = self.axes(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        // Where each input's elements lie, per element of the output and per term of its sum.
        let places = |run: &[(Label, Dim)], input: usize| -> Vec<usize> {
            let lengths: Vec<usize> = run.iter().filter_map(|a| a.1).collect();
            let shape = inputs[input].shape();
            let strides = support::strides(shape);
            let step = |label: &Label| -> isize {
                let of_axis = axes.inputs[input].iter().enumerate().filter(|(_, l)| *l == label);
                // An axis of length 1 broadcasts; one that is named twice is a diagonal.
                of_axis
                    .map(|(i, _)| if shape[i] == 1 { 0 } else { strides[i] })
                    .sum()
            };
            let steps: Vec<isize> = run.iter().map(|a| step(&a.0)).collect();
            support::offsets(&lengths, &steps, 0)
        };
        let count = axes
            .summed
            .iter()
            .map(|a| a.1.unwrap_or(0))
            .try_fold(1usize, usize::checked_mul);
        if count.is_none_or(|n| n > super::MAX_ELEMENTS) {
            bail!("the sums have more than {} terms", super::MAX_ELEMENTS);
        }
        let values: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
        let starts: Vec<Vec<usize>> = (0..inputs.len()).map(|i| places(&axes.output, i)).collect();
        let terms: Vec<Vec<usize>> = (0..inputs.len()).map(|i| places(&axes.summed, i)).collect();
        let sums: Vec<f64> = (0..starts[0].len())
            .map(|at| {
                let product = |term: usize| -> f64 {
                    let factor = |i: usize| values[i][starts[i][at] + terms[i][term]];
                    (0..inputs.len()).map(factor).product()
                };
                (0..terms[0].len()).map(product).sum()
            })
            .collect();
        let shape = support::fixed(&outputs[0])?;
        Ok(vec![Tensor::from_f64(inputs[0].element_type(), &shape, &sums)?])
    }
}
