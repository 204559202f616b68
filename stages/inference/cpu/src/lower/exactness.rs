//! Which real values are those of the model to the last bit.

use flow_model::op::Op;
use flow_model::{NodeId, Value};

use super::Lowering;
use super::chain::{is_code, stored_table};
use crate::literal::Known;

impl Lowering<'_> {
    /// Whether a real value is that of the model to the last bit, or why it is not. Integer sums that are scaled in
    /// one step differ from a chain of f32 additions in the last bits; everything else is computed operation by
    /// operation as the model says.
    pub(super) fn exact(&self, value: Value) -> Known<()> {
        if !self.is_literal() {
            return Ok(());
        }
        let known = self.exactness.get_or_init(|| {
            let mut known: Vec<Known<()>> = Vec::with_capacity(self.graph.nodes.len());
            for (id, node) in self.graph.iter() {
                let own = match &node.op {
                    Op::Dequantize(_) => self.exact_dequantization(id),
                    Op::Quantize(_) | Op::Lookup(_) => Ok(()),
                    _ => node
                        .inputs
                        .iter()
                        .try_for_each(|v| known[v.node.index()].clone())
                        .and_then(|()| self.exact_constants(id)),
                };
                known.push(own);
            }
            known
        });
        known[value.node.index()].clone()
    }

    /// The constants that an operation reads are those of the model.
    fn exact_constants(&self, id: NodeId) -> Known<()> {
        let node = self.graph.node(id);
        for (port, input) in node.inputs.iter().enumerate() {
            let Op::Constant(now) = &self.graph.node(input.node).op else {
                continue;
            };
            let before = self
                .model
                .as_ref()
                .and_then(|m| m.constant_of(self.graph, node, port));
            if before.is_some_and(|before| before.bytes() != now.bytes()) {
                return Err(format!(
                    "a constant of \"{}\" is not that of the model",
                    node.name
                ));
            }
        }
        Ok(())
    }

    fn exact_dequantization(&self, id: NodeId) -> Known<()> {
        let node = self.graph.node(id);
        let Some(&codes) = node.inputs.first() else {
            return Ok(());
        };
        let source = self.graph.node(codes.node);
        if matches!(source.op, Op::Constant(_)) {
            return Ok(());
        }
        if !is_code(self.element_type(codes)) {
            return Err(format!(
                "integer sums of \"{}\" are scaled in one step",
                source.name
            ));
        }
        self.literal_values(id).map(|_| ())
    }

    /// The table of a function of codes that is quantized, computed as the model computes it; `None` where the table
    /// stands for no FakeQuantize.
    pub(super) fn literal_table(&self, id: NodeId) -> Known<Option<Box<[u8; 256]>>> {
        let node = self.graph.node(id);
        let (Some(model), Op::Lookup(lookup)) = (&self.model, &node.op) else {
            return Ok(None);
        };
        let Some(table) = model.table(&node.name)? else {
            return Ok(None);
        };
        let stored = stored_table(lookup, self.element_type(node.inputs[0]));
        rounded_otherwise(&stored, Box::new(table)).map(Some)
    }
}

/// Codes that the model's own arithmetic may put farther away than one level: where Floor, Ceiling or Sign meet a value that is a
/// whole number exactly and not to the last bit.
const FAR: usize = 8;

/// The table of the model's own arithmetic, which rounds some values otherwise than `stored`; an error where it is about
/// other codes. Codes that do not occur are 0 in `stored`.
fn rounded_otherwise(stored: &[u8; 256], literal: Box<[u8; 256]>) -> Result<Box<[u8; 256]>, String> {
    let pairs = stored.iter().zip(literal.iter());
    let far = pairs.filter(|(a, b)| **a != 0 && a.abs_diff(**b) > 1).count();
    let occurring = stored.iter().filter(|code| **code != 0).count();
    if far > FAR.min(occurring / 4) {
        return Err("its codes mean other levels than those of the model".to_owned());
    }
    Ok(literal)
}
