//! Element-wise operations on codes that start a chain: additions and requantizations.

use flow_model::op::{BinaryKind, Op};
use flow_model::{NodeId, Value};

use super::chain::{self, Abilities, Affine, Chain, PerChannel, Site, bias_of, is_code};
use super::heavy::{Heavy, finish};
use super::{Action, Form, Lowering};

impl Lowering<'_> {
    /// A sum of two dequantized values.
    pub(super) fn addition(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let &[a, b] = node.inputs.as_slice() else {
            return None;
        };
        let site = self.pixel_site(Value::of(id))?;
        let (data, first) = self.dequantized(a, site)?;
        let (codes, mut second) = self.dequantized(b, site)?;
        if self.shape(data) != self.shape(codes) || self.shape(data) != self.shape(Value::of(id)) {
            return None;
        }
        if matches!(node.op, Op::Binary(BinaryKind::Subtract)) {
            let minus = PerChannel::one(-1.0);
            second.scale = second.scale.zip(&minus, |a, b| a * b);
            second.offset = second.offset.zip(&minus, |a, b| a * b);
        }
        let mut start = Chain::start(Value::of(id));
        start.first = first;
        start.residual = Some(chain::Residual {
            codes,
            affine: second,
        });
        self.affine(id, data, site, start)
    }

    /// A dequantization and what follows it, if that is anything.
    pub(super) fn requantization(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let site = self.pixel_site(Value::of(id))?;
        let (data, first) = self.dequantized(Value::of(id), site)?;
        let mut start = Chain::start(Value::of(id));
        start.first = first;
        let (heavy, chain) = self.affine(id, data, site, start)?;
        (!chain.members.is_empty()).then_some((heavy, chain))
    }

    fn affine(&self, root: NodeId, data: Value, site: Site, start: Chain) -> Option<(Heavy, Chain)> {
        let chain = self.extend(site, Abilities::CODES, start)?;
        let guard = self.literal_codes(root, &chain, site);
        if self.is_literal() && !matches!(guard, Ok(Some(_))) {
            // In f32, operation by operation, the model's bits come by themselves.
            return None;
        }
        let (epilogue, guard) = finish(site.channels, &chain, guard)?;
        let heavy = Heavy {
            form: if site.axis == 1 && site.rank > 2 {
                Form::Image
            } else {
                Form::Plain
            },
            ..Heavy::new(Action::AffineU8(Box::new(epilogue)), data).guarded(guard)
        };
        Some((heavy, chain))
    }

    /// Channels of an element-wise operation: axis 1 of images, else the last axis. Values of rank 3 are images where
    /// a convolution wants them.
    fn pixel_site(&self, output: Value) -> Option<Site> {
        let shape = self.shape(output);
        let axis = match shape.len() {
            4 => 1,
            3 if self.wants_image[output.node.index()] => 1,
            rank => rank.checked_sub(1)?,
        };
        (!shape.contains(&0)).then(|| Site {
            rank: shape.len(),
            axis,
            channels: shape[axis],
        })
    }

    /// Codes behind a dequantization, and what stored codes mean.
    fn dequantized(&self, value: Value, site: Site) -> Option<(Value, Affine)> {
        let node = self.graph.node(value.node);
        let Op::Dequantize(d) = &node.op else {
            return None;
        };
        let codes = *node.inputs.first()?;
        let element_type = self.element_type(codes);
        if !is_code(element_type) || matches!(self.graph.node(codes.node).op, Op::Constant(_)) {
            return None;
        }
        Some((codes, chain::dequantization(d, bias_of(element_type), site)?))
    }
}
