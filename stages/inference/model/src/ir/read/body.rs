//! If, Loop and TensorIterator: port maps, back edges and bodies.

use std::sync::Arc;

use roxmltree::Node as Xml;

use super::{Layer, Network, Place, Port, REEXPORT, Reader};
use crate::body::{BodyInput, BodyOutput, Branch, If, Iteration, IterationKind, MAX_DEPTH, Slicing};
use crate::error::ModelError;
use crate::op::Op;
use crate::ops::attributes::Attributes;

/// A row of a port map.
struct Mapping {
    line: u32,
    /// Index among the ports of the layer; `None` for a port with a purpose of its own.
    port: Option<usize>,
    /// Index among the Parameters or Results of the body.
    inner: usize,
    slicing: Option<Slicing>,
    purpose: Option<String>,
}

impl Reader<'_> {
    /// The operation of a layer that has bodies; `None` if operations in them are not known.
    pub(super) fn with_bodies(&mut self, layer: &Layer, place: Place) -> Result<Option<Op>, ModelError> {
        if place.depth >= MAX_DEPTH {
            return Err(self.wrong(
                layer,
                layer.line,
                format!("bodies are nested deeper than {MAX_DEPTH}"),
            ));
        }
        let within = format!("{}{}/", place.within, layer.name);
        let inner = Place {
            depth: place.depth + 1,
            within: &within,
        };
        if layer.kind == "If" {
            let then_body = self.branch(layer, "then", inner)?;
            let else_body = self.branch(layer, "else", inner)?;
            return Ok(then_body
                .zip(else_body)
                .map(|(then_body, else_body)| Op::If(Arc::new(If { then_body, else_body }))));
        }
        let iteration = self.iteration(layer, inner)?;
        Ok(iteration.map(|iteration| Op::Iteration(Arc::new(iteration))))
    }

    fn wrong(&self, layer: &Layer, line: u32, message: String) -> ModelError {
        self.source.error(line, layer.place(), message, REEXPORT)
    }

    fn part<'x, 'i>(&self, layer: &Layer<'x, 'i>, name: &str) -> Result<Xml<'x, 'i>, ModelError> {
        let found = layer.element.children().find(|c| c.has_tag_name(name));
        found.ok_or_else(|| self.wrong(layer, layer.line, format!("element <{name}> is missing")))
    }

    fn branch(&mut self, layer: &Layer, which: &str, place: Place) -> Result<Option<Branch>, ModelError> {
        let body = self.part(layer, &format!("{which}_body"))?;
        let Some(network) = self.network(body, place)? else {
            return Ok(None);
        };
        let map = self.part(layer, &format!("{which}_port_map"))?;
        let mut inputs = vec![None; network.parameters.len()];
        for row in self.rows(layer, map, "input", &layer.inputs, &network.parameters)? {
            self.put(layer, row.line, &mut inputs[row.inner], row.port)?;
        }
        let mut outputs = vec![None; layer.outputs.len()];
        for row in self.rows(layer, map, "output", &layer.outputs, &network.results)? {
            if let Some(port) = row.port {
                self.put(layer, row.line, &mut outputs[port], Some(row.inner))?;
            }
        }
        Ok(Some(Branch {
            inputs: self.all(layer, inputs, "Parameter of its body")?,
            outputs: self.all(layer, outputs, "output")?,
            graph: network.graph,
        }))
    }

    fn put(
        &self,
        layer: &Layer,
        line: u32,
        place: &mut Option<usize>,
        value: Option<usize>,
    ) -> Result<(), ModelError> {
        if place.is_some() {
            return Err(self.wrong(layer, line, "a port is mapped twice".to_owned()));
        }
        *place = value;
        Ok(())
    }

    fn all<T>(&self, layer: &Layer, list: Vec<Option<T>>, what: &str) -> Result<Vec<T>, ModelError> {
        let found = list.iter().position(Option::is_none);
        if let Some(index) = found {
            return Err(self.wrong(layer, layer.line, format!("{what} {index} is mapped to nothing")));
        }
        Ok(list.into_iter().flatten().collect())
    }

    fn iteration(&mut self, layer: &Layer, place: Place) -> Result<Option<Iteration>, ModelError> {
        let kind = match layer.kind {
            "Loop" => IterationKind::Loop,
            _ => IterationKind::TensorIterator,
        };
        if kind == IterationKind::Loop && layer.inputs.len() < 2 {
            let message = format!(
                "expected trip count and condition as inputs, found {} inputs",
                layer.inputs.len()
            );
            return Err(self.wrong(layer, layer.line, message));
        }
        let Some(network) = self.network(self.part(layer, "body")?, place)? else {
            return Ok(None);
        };
        let map = self.part(layer, "port_map")?;
        let merged = self.back_edges(layer, &network)?;
        let mut inputs: Vec<Option<BodyInput>> = vec![None; network.parameters.len()];
        for row in self.rows(layer, map, "input", &layer.inputs, &network.parameters)? {
            let fed = match (row.port, row.purpose.as_deref(), row.slicing) {
                (_, Some("current_iteration"), _) => BodyInput::CurrentIteration,
                (Some(input), _, Some(slicing)) => BodyInput::Sliced { input, slicing },
                (Some(input), _, None) => match merged[row.inner] {
                    Some(result) => BodyInput::Merged { input, result },
                    None => BodyInput::Invariant { input },
                },
                (None, ..) => {
                    let message = "an input of the port map names no port and has no purpose".to_owned();
                    return Err(self.wrong(layer, row.line, message));
                }
            };
            if inputs[row.inner].replace(fed).is_some() {
                return Err(self.wrong(layer, row.line, "a Parameter of its body is fed twice".to_owned()));
            }
        }
        for (parameter, merged) in merged.iter().enumerate() {
            if merged.is_some() && !matches!(inputs[parameter], Some(BodyInput::Merged { .. })) {
                let message = format!(
                    "a back edge leads to Parameter {parameter} of its body, which is no merged input"
                );
                return Err(self.wrong(layer, layer.line, message));
            }
        }
        let mut outputs: Vec<Option<BodyOutput>> = vec![None; layer.outputs.len()];
        let mut condition = None;
        for row in self.rows(layer, map, "output", &layer.outputs, &network.results)? {
            match (row.port, row.purpose.as_deref()) {
                (_, Some("execution_condition")) => condition = Some(row.inner),
                (Some(port), _) => {
                    let output = BodyOutput {
                        result: row.inner,
                        concatenated: row.slicing,
                    };
                    if outputs[port].replace(output).is_some() {
                        return Err(self.wrong(layer, row.line, "an output is mapped twice".to_owned()));
                    }
                }
                (None, _) => {
                    let message = "an output of the port map names no port and has no purpose".to_owned();
                    return Err(self.wrong(layer, row.line, message));
                }
            }
        }
        Ok(Some(Iteration {
            kind,
            inputs: self.all(layer, inputs, "Parameter of its body")?,
            outputs: self.all(layer, outputs, "output")?,
            graph: network.graph,
            condition,
        }))
    }

    /// For each Parameter of a body the Result that feeds it after an iteration.
    fn back_edges(&self, layer: &Layer, network: &Network) -> Result<Vec<Option<usize>>, ModelError> {
        let mut merged = vec![None; network.parameters.len()];
        let edges = layer.element.children().filter(|c| c.has_tag_name("back_edges"));
        for edge in edges
            .flat_map(|e| e.children())
            .filter(|c| c.has_tag_name("edge"))
        {
            let line = self.source.line(edge);
            let result = self.inner(layer, edge, "from-layer", &network.results, "Result")?;
            let parameter = self.inner(layer, edge, "to-layer", &network.parameters, "Parameter")?;
            self.put(layer, line, &mut merged[parameter], Some(result))?;
        }
        Ok(merged)
    }

    /// The index of the Parameter or Result of a body that an attribute names by its layer id.
    fn inner(
        &self,
        layer: &Layer,
        row: Xml,
        attribute: &str,
        ids: &[u64],
        what: &str,
    ) -> Result<usize, ModelError> {
        let id = self.source.number(row, attribute)?;
        ids.iter().position(|&known| known == id).ok_or_else(|| {
            let message = format!("`{attribute}` is {id}, which is no {what} layer of its body");
            self.wrong(layer, self.source.line(row), message)
        })
    }

    fn rows(
        &self,
        layer: &Layer,
        map: Xml,
        side: &str,
        ports: &[Port],
        ids: &[u64],
    ) -> Result<Vec<Mapping>, ModelError> {
        let what = if side == "input" { "Parameter" } else { "Result" };
        let mut rows = Vec::new();
        for row in map.children().filter(|c| c.has_tag_name(side)) {
            let line = self.source.line(row);
            let purpose = row
                .attribute("purpose")
                .map(str::to_owned)
                .filter(|p| !p.is_empty());
            let port = match (self.source.required(row, "external_port_id")?.trim(), &purpose) {
                ("-1", Some(_)) => None,
                (text, _) => {
                    let id: Option<u64> = text.parse().ok();
                    let found = id.and_then(|id| ports.iter().position(|p| p.id == id));
                    Some(found.ok_or_else(|| {
                        let message = format!("`external_port_id` is {text}, which is no {side} port of it");
                        self.wrong(layer, line, message)
                    })?)
                }
            };
            rows.push(Mapping {
                line,
                port,
                inner: self.inner(layer, row, "internal_layer_id", ids, what)?,
                slicing: self.slicing(layer, row, line)?,
                purpose,
            });
        }
        Ok(rows)
    }

    /// Along which axis a value is cut or joined; `None` where it is taken whole.
    fn slicing(&self, layer: &Layer, row: Xml, line: u32) -> Result<Option<Slicing>, ModelError> {
        let attributes = Attributes {
            kind: layer.kind,
            opset: 0,
            pairs: row.attributes().map(|a| (a.name(), a.value())).collect(),
            inputs: 0,
        };
        // IR of 2020 writes axis -1 for "none", without the other attributes.
        if attributes.get("axis").is_none()
            || (attributes.get("axis") == Some("-1") && attributes.get("stride").is_none())
        {
            return Ok(None);
        }
        let number = |name: &str, default: Option<i64>| {
            let found = attributes.int(name, default);
            found.map_err(|error| self.wrong(layer, line, error.0))
        };
        let slicing = Slicing {
            axis: number("axis", None)?,
            start: number("start", Some(0))?,
            end: number("end", Some(-1))?,
            stride: number("stride", Some(1))?,
        };
        let part = number("part_size", Some(slicing.stride.saturating_abs()))?;
        if slicing.stride == 0 || slicing.stride == i64::MIN || part != slicing.stride.abs() {
            let message = format!(
                "expected parts as long as their distance, found `part_size` {part} and `stride` {}",
                slicing.stride
            );
            return Err(self.wrong(layer, line, message));
        }
        Ok(Some(slicing))
    }
}
