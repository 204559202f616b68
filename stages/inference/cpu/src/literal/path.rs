//! What happens between an operation of the model and a FakeQuantize behind it.

use flow_model::Value;
use flow_model::op::{BinaryKind, Op, UnaryKind};

use super::{Known, Model, Part, Quantizer, known};
use crate::kernels::literal::{Levels, Operation};
use crate::lower::Site;

/// The operations between a root and a FakeQuantize, and the FakeQuantize.
pub(crate) struct Path {
    pub operations: Vec<Operation>,
    pub levels: Levels,
    /// The value whose codes are added or subtracted on the way.
    pub residual: Option<Value>,
}

/// A walk along a path.
struct Walk {
    /// The value it starts at.
    root: Value,
    site: Site,
    residual: Option<Value>,
}

impl Model<'_> {
    /// What happens between the value `root` and the FakeQuantize `last`.
    pub fn path(&self, root: Value, last: Quantizer, site: Site) -> Known<Path> {
        let levels = self.levels(last, site)?;
        let source = known(self.quantizations[last.node.index()].as_ref(), || {
            format!("\"{}\" is no FakeQuantize", self.graph.node(last.node).name)
        })?
        .source();
        let mut walk = Walk {
            root,
            site,
            residual: None,
        };
        let operations = self.walk(&mut walk, source, last.part)?;
        Ok(Path {
            operations,
            levels,
            residual: walk.residual,
        })
    }

    /// The operations from the root to a value; the Concat of `part` is on the way.
    fn walk(&self, walk: &mut Walk, value: Value, part: Option<Part>) -> Known<Vec<Operation>> {
        let _search = self.search()?;
        if value == walk.root {
            return Ok(Vec::new());
        }
        let node = self.graph.node(value.node);
        let refused = |what: &str| Err(format!("\"{}\" ({}) {what}", node.name, node.op.type_name()));
        if let Some(part) = part.filter(|part| part.concat == value.node) {
            let branch = self.input(part.concat, part.input);
            let branch = known(branch, || format!("\"{}\" lacks an input", node.name))?;
            return self.walk(walk, branch, None);
        }
        let site = walk.site;
        let (x, operation) = match (&node.op, node.inputs.as_slice()) {
            (Op::Unary(UnaryKind::Relu), &[x]) => (x, Operation::Relu),
            (Op::Clamp { min, max }, &[x]) => (x, Operation::Clamp(*min, *max)),
            (Op::FakeQuantize { .. }, _) => {
                let inner = Quantizer {
                    node: value.node,
                    part,
                };
                let levels = self.levels(inner, site)?;
                let Some(quantization) = &self.quantizations[value.node.index()] else {
                    return refused("quantizes constants");
                };
                (quantization.source(), Operation::Round(levels))
            }
            (Op::Binary(kind), &[a, b]) => {
                let (x, other, first) = match (self.constant(a), self.constant(b)) {
                    (_, Some(c)) => (a, c, true),
                    (Some(c), None) => (b, c, false),
                    (None, None) => return self.with_residual(walk, (*kind, a, b), part),
                };
                let c = self
                    .per_channel(&other, site, part)
                    .map_err(|why| format!("\"{}\": {why}", node.name))?;
                let operation = match (kind, first) {
                    (BinaryKind::Add, _) => Operation::Add(c),
                    (BinaryKind::Subtract, true) => Operation::Subtract(c),
                    (BinaryKind::Subtract, false) => Operation::SubtractFrom(c),
                    (BinaryKind::Multiply, _) => Operation::Multiply(c),
                    (BinaryKind::Divide, true) => Operation::Divide(c),
                    _ => return refused("with a constant stands before the rounding"),
                };
                (x, operation)
            }
            _ => return refused("stands before the rounding"),
        };
        let mut operations = self.walk(walk, x, part)?;
        operations.push(operation);
        Ok(operations)
    }

    /// An operation on what comes from the root and on other codes.
    fn with_residual(
        &self,
        walk: &mut Walk,
        (kind, a, b): (BinaryKind, Value, Value),
        part: Option<Part>,
    ) -> Known<Vec<Operation>> {
        let (mut operations, other, first) = match self.walk(walk, a, part) {
            Ok(operations) => (operations, b, true),
            Err(_) => (self.walk(walk, b, part)?, a, false),
        };
        let table = self.values(other)?.along(walk.site.axis)?;
        operations.push(match (kind, first) {
            (BinaryKind::Add, _) => Operation::AddOperand(table),
            (BinaryKind::Subtract, true) => Operation::SubtractOperand(table),
            _ => return Err(format!("{kind:?} of two tensors stands before the rounding")),
        });
        match walk.residual.replace(other) {
            Some(_) => Err("several tensors of codes are added before the rounding".to_owned()),
            None => Ok(operations),
        }
    }
}
