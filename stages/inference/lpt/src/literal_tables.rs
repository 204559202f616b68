//! The code that the model's own f32 arithmetic gives to each code where one FakeQuantize follows another.
//!
//! Codes mean real values; in f32 the same values are rounded, and where such a value lies next to the middle between two
//! levels of the second FakeQuantize, the rounding decides. `docs/numerics.md` has the formulas.

use std::collections::HashMap;
use std::sync::Arc;

use flow_model::fusing::{Quantization, quantizations};
use flow_model::graph::{Graph, Node, NodeId, Value};
use flow_model::op::Op;
use flow_model::ops::fake_quantize::{Formula, level_by};
use flow_model::tensor::{ElementType, Tensor};

use crate::constants;
use crate::propagate::moves_values;

/// The level of each level of the FakeQuantize before, by the name of the FakeQuantize that gives it.
pub(crate) type Tables = HashMap<Arc<str>, Box<[u8; 256]>>;

/// A value as a function of the levels of a FakeQuantize.
type Function = (NodeId, Arc<[f32; 256]>);

/// The tables of a graph that has its FakeQuantizes still, for those with one interval.
pub(crate) fn tables(graph: &Graph) -> Tables {
    let quantizations = quantizations(graph);
    let mut known: HashMap<Value, Function> = HashMap::new();
    let mut tables = Tables::new();
    for (id, node) in graph.iter() {
        let Some(quantization) = quantizations.get(id.index()).and_then(Option::as_ref) else {
            if let Some(function) = follow(graph, node, &known) {
                for port in 0..node.outputs.len() as u32 {
                    known.insert(Value { node: id, port }, function.clone());
                }
            }
            continue;
        };
        let Some([low, high, output_low, output_high]) = interval(graph, quantization) else {
            continue;
        };
        let levels = quantization.levels();
        if let Some((_, values)) = known.get(&quantization.source()) {
            let level = |x: f32| level_by(quantization.formula(), x, low, high, levels) as u8;
            tables.insert(node.name.clone(), Box::new(values.map(level)));
        }
        let scale = (output_high - output_low) / (levels - 1) as f32;
        let value = |level: usize| (level as f32).mul_add(scale, output_low);
        known.insert(Value::of(id), (id, Arc::new(std::array::from_fn(value))));
    }
    tables
}

/// The limits of a FakeQuantize with at most 256 levels and one interval.
fn interval(graph: &Graph, quantization: &Quantization) -> Option<[f32; 4]> {
    let limits = quantization.limits(|v| constants::tensor(graph, v)).ok()?;
    let one = |t: &Tensor| (t.len() == 1).then(|| t.to_f32()[0]);
    let [a, b, c, d] = &limits;
    let limits = [one(a)?, one(b)?, one(c)?, one(d)?];
    let usable = (2..=256).contains(&quantization.levels())
        && limits.iter().all(|v| v.is_finite())
        && limits[0] != limits[1]
        && quantization.formula() != Formula::Specified;
    usable.then_some(limits)
}

/// What an operation makes of values that are functions of the levels of one FakeQuantize.
fn follow(graph: &Graph, node: &Node, known: &HashMap<Value, Function>) -> Option<Function> {
    if moves_values(&node.op) {
        // Pad brings in a value of its own.
        return match node.op {
            Op::Pad(_) => None,
            _ => known.get(node.inputs.first()?).cloned(),
        };
    }
    match &node.op {
        Op::Unary(_) | Op::Clamp { .. } | Op::PRelu | Op::Binary(_) => {}
        Op::Standard(operation) if operation.maps_values() => {}
        _ => return None,
    }
    let mut root = None;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        if let Some((id, values)) = known.get(input) {
            if *root.get_or_insert(*id) != *id || graph.info(*input).shape != node.outputs.first()?.shape {
                return None;
            }
            inputs.push(Tensor::from_slice(&[values.len()], &values[..]).ok()?);
            continue;
        }
        let constant = constants::tensor(graph, *input)?;
        if constant.len() != 1 || constant.element_type() != ElementType::F32 {
            return None;
        }
        inputs.push(match node.op {
            Op::Standard(_) => constant,
            _ => constant.reshaped(&[1]).ok()?,
        });
    }
    let outputs = flow_model::ops::evaluate(&node.op, &inputs).ok()?;
    let values: [f32; 256] = outputs.first()?.to_f32().try_into().ok()?;
    Some((root?, Arc::new(values)))
}

#[cfg(test)]
mod tests {
    use flow_model::op::UnaryKind;

    use super::*;
    use crate::testing::Builder;

    #[test]
    fn the_rounding_of_a_value_decides_at_a_tie() {
        // The level that means 0 lies next to it in f32; 0 is the middle between two levels behind the Relu.
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 4]);
        let x = b.fake_quantize("first", x, -0.711_062, 0.705_506_86);
        let x = b.node("relu", Op::Unary(UnaryKind::Relu), &[x]);
        let x = b.fake_quantize("second", x, -0.639_229_3, 0.639_229_3);
        b.result(x);
        let tables = tables(&b.graph);
        let table = &tables["second"];
        assert!(!tables.contains_key("first"));
        let (scale, low) = ((0.705_506_86_f32 + 0.711_062) / 255.0, -0.711_062_f32);
        let (scale_in, last) = (255.0 / (0.639_229_3_f32 * 2.0), 255.0);
        for (level, &found) in table.iter().enumerate() {
            let value = (level as f32).mul_add(scale, low).max(0.0);
            let expected = (value * scale_in + 0.639_229_3 * scale_in)
                .round_ties_even()
                .clamp(0.0, last);
            assert_eq!(f32::from(found), expected, "level {level}");
        }
    }
}
