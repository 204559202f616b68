//! Edges, and the order of layers that they ask for.

use std::collections::HashMap;

use super::source::REEXPORT;
use super::{Layer, Link, Port, Reader, Xml};
use crate::error::ModelError;
use crate::text::describe;

impl Reader<'_> {
    /// For each layer where each of its inputs comes from.
    pub(super) fn links(&self, net: Xml, layers: &[Layer]) -> Result<Vec<Vec<Link>>, ModelError> {
        let source = &self.source;
        let by_id: HashMap<u64, usize> = layers.iter().enumerate().map(|(i, l)| (l.id, i)).collect();
        let mut links: Vec<Vec<Option<Link>>> = layers.iter().map(|l| vec![None; l.inputs.len()]).collect();
        for edge in self
            .child(net, "edges")?
            .children()
            .filter(|c| c.has_tag_name("edge"))
        {
            let line = source.line(edge);
            let [from_layer, from_port, to_layer, to_port] =
                ["from-layer", "from-port", "to-layer", "to-port"].map(|n| source.number(edge, n));
            let (from_layer, from_port, to_layer, to_port) = (from_layer?, from_port?, to_layer?, to_port?);
            let place = format!("edge from {from_layer}:{from_port} to {to_layer}:{to_port}");
            let find = |id: u64| {
                by_id
                    .get(&id)
                    .copied()
                    .ok_or_else(|| source.error(line, &place, format!("there is no layer {id}"), REEXPORT))
            };
            let (from, to) = (find(from_layer)?, find(to_layer)?);
            let port = |ports: &[Port], id: u64, layer: &Layer, side: &str| {
                ports.iter().position(|p| p.id == id).ok_or_else(|| {
                    let message = format!("{} has no {side} port {id}", layer.place());
                    source.error(line, &place, message, REEXPORT)
                })
            };
            let output = port(&layers[from].outputs, from_port, &layers[from], "output")?;
            let input = port(&layers[to].inputs, to_port, &layers[to], "input")?;
            if links[to][input].replace((from, output)).is_some() {
                let message = format!("input port {to_port} of {} has two edges", layers[to].place());
                return Err(source.error(line, &place, message, REEXPORT));
            }
            let (given, taken) = (&layers[from].outputs[output], &layers[to].inputs[input]);
            if given.info.element_type != taken.info.element_type || given.info.shape != taken.info.shape {
                let message = format!(
                    "the output is {}, the input it feeds is {}",
                    describe(&given.info),
                    describe(&taken.info)
                );
                return Err(source.error(line, &place, message, REEXPORT));
            }
        }
        links
            .into_iter()
            .zip(layers)
            .map(|(inputs, layer)| {
                inputs
                    .into_iter()
                    .zip(&layer.inputs)
                    .map(|(link, port)| {
                        link.ok_or_else(|| {
                            let message = format!("input port {} has no edge", port.id);
                            source.error(layer.line, layer.place(), message, REEXPORT)
                        })
                    })
                    .collect()
            })
            .collect()
    }

    /// Layers in an order in which inputs come first, as close to the file's as may be.
    pub(super) fn order(&self, layers: &[Layer], links: &[Vec<Link>]) -> Result<Vec<usize>, ModelError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; layers.len()];
        let mut order = Vec::with_capacity(layers.len());
        for root in 0..layers.len() {
            if marks[root] != Mark::New {
                continue;
            }
            // Depth first with an own stack: (layer, next input to visit).
            let mut stack = vec![(root, 0)];
            marks[root] = Mark::Open;
            while let Some((layer, next)) = stack.pop() {
                let Some(&(from, _)) = links[layer].get(next) else {
                    marks[layer] = Mark::Done;
                    order.push(layer);
                    continue;
                };
                stack.push((layer, next + 1));
                match marks[from] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[from] = Mark::Open;
                        stack.push((from, 0));
                    }
                    Mark::Open => {
                        return Err(self.source.error(
                            layers[from].line,
                            layers[from].place(),
                            format!("it feeds itself through {}", layers[layer].place()),
                            REEXPORT,
                        ));
                    }
                }
            }
        }
        Ok(order)
    }
}
