//! OpenVINO's average pooling of codes.

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{Op, Quantize};

use super::Sweep;
use super::coded::Coded;
use crate::dequantization::at;
use crate::intervals::{has_codes, keeps_codes};
use crate::options::Numerics;
use crate::report::Reason;

impl Sweep<'_> {
    /// In OpenVINO's numerics, an average that an integer convolution or matrix product reads without a FakeQuantize
    /// between is rounded to the codes it is taken of. In literal numerics it stays what it is, and so do those
    /// that read it.
    pub(super) fn average(&mut self, id: NodeId, node: &Node) -> Result<bool, Reason> {
        let Some(coded) = self.coded(node.inputs[0]).cloned() else {
            return Ok(false);
        };
        let Some(d) = coded.affine().filter(|d| d.axis.is_none()).cloned() else {
            return Ok(false);
        };
        if self.options.numerics != Numerics::OpenVino || !self.feeds_sums(id) {
            return Ok(false);
        }
        let average = Value::of(self.keep(id));
        let (low, high) = coded.range;
        let value = |code: i32| (code as f32 - at(&d.zero_point, 0)) * at(&d.scale, 0);
        let codes = self.new.push(Node {
            name: format!("{}/quantize", node.name).into(),
            line: 0,
            op: Op::Quantize(Quantize {
                input_low: vec![value(low)],
                input_high: vec![value(high)],
                axis: None,
                levels: low.abs_diff(high) + 1,
                low,
                high,
                element_type: coded.element_type,
            }),
            inputs: vec![average],
            outputs: vec![OutputInfo {
                element_type: coded.element_type,
                shape: node.outputs[0].shape.clone(),
                names: Vec::new(),
            }],
        });
        self.plain.remove(&Value::of(id));
        let codes = Value::of(codes);
        self.coded.insert(Value::of(id), Coded { codes, ..coded });
        Ok(true)
    }

    /// Whether an operation that sums products of codes reads the value, perhaps through operations that keep codes.
    fn feeds_sums(&self, id: NodeId) -> bool {
        let mut reached = vec![false; self.old.nodes.len()];
        reached[id.index()] = true;
        for (user, node) in self.old.iter().skip(id.index() + 1) {
            let Some(data) = node.inputs.first().filter(|v| reached[v.node.index()]) else {
                continue;
            };
            let sums = matches!(
                node.op,
                Op::Convolution(_)
                    | Op::GroupConvolution(_)
                    | Op::ConvolutionBackpropData(_)
                    | Op::GroupConvolutionBackpropData(_)
                    | Op::MatMul { .. }
            );
            if sums && node.inputs.get(1).is_some_and(|&w| has_codes(self.old, w)) {
                return true;
            }
            reached[user.index()] = reached[data.node.index()] && keeps_codes(&node.op);
        }
        false
    }
}
