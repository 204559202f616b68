//! Constants that low precision transformations have brought into another form.

use flow_model::{ElementType, Graph, Op, Tensor};

use crate::literal::Model;

/// The graph with the model's own constants where an operation in f32 reads the same but for last bits: weights that
/// went through codes and back. `None` if there are none.
pub(crate) fn restore(graph: &Graph, original: &Graph) -> Option<Graph> {
    let model = Model::new(original, graph);
    let users = graph.users();
    let mut restored: Option<Graph> = None;
    for (_, node) in graph.iter() {
        for (port, input) in node.inputs.iter().enumerate() {
            let Op::Constant(now) = &graph.node(input.node).op else {
                continue;
            };
            let Some(before) = model.constant_of(graph, node, port) else {
                continue;
            };
            if users[input.node.index()].len() == 1
                && now.bytes() != before.bytes()
                && almost_equal(now, &before)
            {
                let graph = restored.get_or_insert_with(|| graph.clone());
                graph.nodes[input.node.index()].op = Op::Constant(before);
            }
        }
    }
    restored
}

fn almost_equal(a: &Tensor, b: &Tensor) -> bool {
    if a.element_type() != ElementType::F32 || a.shape() != b.shape() {
        return false;
    }
    let (a, b) = (a.to_f32(), b.to_f32());
    let largest = b.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}
