//! Interpolate-1, whose axes are an attribute.

use std::ops::RangeInclusive;

use super::attributes::{Attributes, word_of};
use super::interpolate;
use super::support::Input;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{CoordinateMode, InterpolateAttrs, InterpolateMode, NearestMode, Op};
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// Interpolate-1: inputs data and the lengths of the interpolated axes.
#[derive(Debug, Clone)]
struct Interpolate1 {
    axes: Vec<i64>,
    mode: InterpolateMode,
    align_corners: bool,
    antialias: bool,
    /// Padding of each axis, or one number for all.
    pads_begin: Vec<usize>,
    pads_end: Vec<usize>,
}

/// Names of modes.
const MODES: &[(&str, InterpolateMode)] = &[
    ("nearest", InterpolateMode::Nearest),
    ("linear", InterpolateMode::Linear),
    ("cubic", InterpolateMode::Cubic),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Interpolate" || a.opset >= 4 {
        return Ok(None);
    }
    Ok(Some(Op::standard(Interpolate1 {
        axes: a.list("axes", None)?,
        mode: a.word("mode", MODES, None)?,
        align_corners: a.flag("align_corners", Some(true))?,
        antialias: a.flag("antialias", Some(false))?,
        pads_begin: a.list("pads_begin", Some(&[]))?,
        pads_end: a.list("pads_end", Some(&[]))?,
    })))
}

impl Interpolate1 {
    /// The same operation in the terms of later versions.
    fn later(&self, rank: usize) -> InterpolateAttrs {
        let pads = |list: &[usize]| match list {
            [one] => vec![*one; rank],
            list => list.to_vec(),
        };
        InterpolateAttrs {
            mode: self.mode,
            by_scales: false,
            coordinates: match self.align_corners {
                true => CoordinateMode::AlignCorners,
                false => CoordinateMode::Asymmetric,
            },
            nearest: NearestMode::Simple,
            antialias: self.antialias,
            cube_coeff: -0.75,
            pads_begin: pads(&self.pads_begin),
            pads_end: pads(&self.pads_end),
            version: 11,
        }
    }

    fn axes(&self) -> Result<Tensor, OpError> {
        Ok(Tensor::from_slice(&[self.axes.len()], &self.axes)?)
    }
}

impl Operation for Interpolate1 {
    fn type_name(&self) -> &'static str {
        "Interpolate"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let list = |l: &[usize]| l.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        vec![
            (
                "axes",
                self.axes
                    .iter()
                    .map(i64::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            ("mode", word_of(MODES, &self.mode)),
            ("align_corners", self.align_corners.to_string()),
            ("antialias", self.antialias.to_string()),
            ("pads_begin", list(&self.pads_begin)),
            ("pads_end", list(&self.pads_end)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        if inputs[1].element_type.is_float() {
            bail!("expected lengths, found {}", inputs[1].element_type);
        }
        let axes = self.axes()?;
        let axes = Input {
            element_type: ElementType::I64,
            shape: &[Some(self.axes.len())],
            value: Some(&axes),
        };
        let attrs = self.later(inputs[0].shape.len());
        interpolate::infer(&attrs, &[inputs[0], inputs[1], axes])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let tensors = [inputs[0].clone(), inputs[1].clone(), self.axes()?];
        interpolate::evaluate(&self.later(inputs[0].shape().len()), &tensors, outputs)
    }
}
