//! Operations with attributes and values that no network has: an error or a result, never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod golden_cases;

use flow_model::ops::attributes::Attributes;
use flow_model::{ElementType, Graph, Op, Tensor, ir, ops};
use golden_cases::{arrays, cases};

/// Numbers without a pattern (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const WORDS: &[&str] = &[
    "0",
    "-1",
    "1",
    "2",
    "3",
    "17",
    "2147483647",
    "-2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "0.5",
    "-0.5",
    "1e30",
    "inf",
    "nan",
    "",
    "true",
    "false",
    "0,0",
    "1,2,3,4,5,6,7",
    "none",
];

const FLOATS: &[f64] = &[
    0.0,
    -1.0,
    1.0,
    2.0,
    0.5,
    -0.5,
    7.0,
    -1e4,
    3e38,
    -3e38,
    1e-40,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

const INTEGERS: &[i128] = &[0, -1, 1, 2, 3, 7, -8];

/// The tensor with some of its values, or all, replaced.
fn spoil(tensor: &Tensor, random: &mut Random) -> Tensor {
    let all = random.below(3) == 0;
    let element_type = tensor.element_type();
    if element_type.is_float() {
        let mut values = tensor.to_f64();
        for v in &mut values {
            if all || random.below(4) == 0 {
                *v = random.pick(FLOATS);
            }
        }
        return Tensor::from_f64(element_type, tensor.shape(), &values).unwrap();
    }
    let (low, high) = element_type.range().unwrap_or((0, 1));
    let integers: Vec<i128> = INTEGERS.iter().copied().chain([low, high]).collect();
    let mut values = tensor.to_i128();
    for v in &mut values {
        if element_type != ElementType::Boolean && (all || random.below(4) == 0) {
            *v = random.pick(&integers);
        }
    }
    Tensor::from_i128(element_type, tensor.shape(), &values).unwrap()
}

/// The graph with one attribute of one operation replaced, if the operation takes it.
fn spoil_attribute(graph: &Graph, random: &mut Random) -> Option<Graph> {
    let mut graph = graph.clone();
    let standard: Vec<usize> = (0..graph.nodes.len())
        .filter(|&i| matches!(&graph.nodes[i].op, Op::Standard(o) if !o.attributes().is_empty()))
        .collect();
    if standard.is_empty() {
        return None;
    }
    let node = &mut graph.nodes[random.pick(&standard)];
    let Op::Standard(operation) = &node.op else {
        return None;
    };
    let mut pairs = operation.attributes();
    let changed = random.below(pairs.len());
    pairs[changed].1 = random.pick(WORDS).to_owned();
    let attributes = Attributes {
        kind: operation.type_name(),
        opset: operation.opset(),
        pairs: pairs
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect(),
        inputs: node.inputs.len(),
    };
    node.op = ops::parse(&attributes).ok()??;
    graph.infer_shapes().ok()?;
    Some(graph)
}

/// Whether evaluation makes no large tensor: what is tested here is no matter of size.
fn is_small(graph: &Graph) -> bool {
    graph.nodes.iter().flat_map(|n| &n.outputs).all(|o| {
        let mut lengths = o.shape.iter().flatten();
        lengths
            .try_fold(1usize, |n, &l| n.checked_mul(l))
            .is_some_and(|n| n < 1 << 16)
    })
}

#[test]
fn no_attribute_and_no_value_makes_an_operation_panic() {
    let (mut taken, mut evaluated) = (0, 0);
    for path in cases() {
        // Numbers of its own for each case, so that a new one changes nothing for the others.
        let name = path.file_stem().unwrap().as_encoded_bytes();
        let mut random = Random(name.iter().fold(1, |seed, &byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        }));
        let graph = ir::read(&path).unwrap();
        let mut inputs = arrays(&path.with_extension("npy"));
        inputs.truncate(graph.parameters.len());
        for round in 0..150 {
            let changed = if round % 2 == 0 {
                spoil_attribute(&graph, &mut random)
            } else {
                None
            };
            taken += usize::from(changed.is_some());
            let graph = changed.as_ref().unwrap_or(&graph);
            let spoiled: Vec<Tensor> = inputs.iter().map(|t| spoil(t, &mut random)).collect();
            let values = if random.below(3) == 0 { &inputs } else { &spoiled };
            if is_small(graph) {
                // Each result for itself: an error of one operation hides no other.
                for result in &graph.results {
                    let wanted = graph.node(*result).inputs[0];
                    evaluated +=
                        usize::from(flow_model::evaluate::evaluate_values(graph, values, &[wanted]).is_ok());
                }
            }
        }
    }
    // The test is none if everything is refused at once.
    assert!(
        taken > 300 && evaluated > 20_000,
        "{taken} graphs, {evaluated} results"
    );
}
