//! Padded data whose zero point lies between two codes.
//!
//! Padding stands for the value 0, which no code means then. The sums are taken with the nearest code as zero point
//! and padding; what is left of the zero point meets the weights of those taps alone that lie inside the data,
//! which is a constant per output pixel.

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{BinaryKind, ConvAttrs, Op};
use flow_model::tensor::{ElementType, Tensor};

use super::Sweep;
use super::sums::Codes;
use crate::dequantization::at;

/// Fewest terms of a sum for which one more addition in f32 per output pays.
const MIN_TERMS: usize = 32;

/// Most elements of the constant.
const MAX_ELEMENTS: usize = 1 << 22;

impl Sweep<'_> {
    /// For a convolution without groups the constant `[1, OC, spatial..]` that is added to its dequantized sums:
    /// `-rest * scale[oc] * (sum of the weights of the taps inside)`. `None` where it is too large, not known, or
    /// does not pay.
    pub(super) fn border(
        &self,
        node: &Node,
        conv: &ConvAttrs,
        codes: &Codes,
        scale: &[f32],
        rest: f64,
    ) -> Option<Tensor> {
        let shape = codes.tensor.shape();
        let (&channels, kernel) = (shape.first()?, shape.get(2..)?);
        let mut output = node.outputs[0].shape.clone();
        *output.first_mut()? = Some(1);
        let output: Vec<usize> = output.into_iter().collect::<Option<_>>()?;
        let count = output.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let terms: usize = shape[1..].iter().product();
        if count > MAX_ELEMENTS || terms < MIN_TERMS {
            return None;
        }
        // One channel of ones, and for each output channel the sum of its weights per tap.
        let input: Vec<usize> = self.old.info(node.inputs[0]).static_shape()?;
        let ones: Vec<usize> = [1, 1]
            .into_iter()
            .chain(input.get(2..)?.iter().copied())
            .collect();
        let taps: usize = kernel.iter().product();
        let mut weights = vec![0i64; channels.checked_mul(taps)?];
        for (i, &byte) in codes.tensor.bytes().iter().enumerate() {
            let channel = i / terms;
            let zero_point = at(&codes.zero_point, channel);
            weights[channel * taps + i % taps] += i64::from(byte as i8) - i64::from(zero_point);
        }
        let weights: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
        let kernel: Vec<usize> = [channels, 1].into_iter().chain(kernel.iter().copied()).collect();
        let inputs = [
            Tensor::from_slice(&ones, &vec![1f32; ones.iter().product()]).ok()?,
            Tensor::from_slice(&kernel, &weights).ok()?,
        ];
        // Sums of integers below 2^24: exact in f32.
        let sums = flow_model::ops::evaluate(&Op::Convolution(conv.clone()), &inputs).ok()?;
        let sums = sums.first()?.to_f32();
        let plane: usize = output.get(2..)?.iter().product();
        let values: Vec<f32> = sums
            .iter()
            .enumerate()
            .map(|(i, &sum)| (-rest * f64::from(at(scale, i / plane.max(1))) * f64::from(sum)) as f32)
            .collect();
        Tensor::from_slice(&output, &values).ok()
    }

    /// Adds a constant to the value that stands for a node.
    pub(super) fn add_border(&mut self, id: NodeId, node: &Node, border: Tensor) {
        let sums = self.plain(Value::of(id));
        let constant = Value::of(self.new.push(Node {
            name: format!("{}/border/values", node.name).into(),
            line: 0,
            outputs: vec![OutputInfo::fixed(ElementType::F32, border.shape())],
            op: Op::Constant(border),
            inputs: Vec::new(),
        }));
        let sum = self.new.push(Node {
            name: format!("{}/border", node.name).into(),
            line: 0,
            op: Op::Binary(BinaryKind::Add),
            inputs: vec![sums, constant],
            outputs: node.outputs.clone(),
        });
        self.plain.insert(Value::of(id), Value::of(sum));
    }
}
