//! From XML to a checked graph.

mod body;
mod broadcast;
mod edges;
mod finite;
mod known;
mod parameter;
mod source;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use roxmltree::{Document, Node as Xml, ParsingOptions};

pub use parameter::axis;
use source::{REEXPORT, Source};

use super::Weights;
use crate::error::{ModelError, UnknownOperation};
use crate::graph::{Graph, Node, NodeId, OutputInfo, PartialShape, Value};
use crate::op::Op;
use crate::ops::attributes::Attributes;
use crate::shapes::MAX_RANK;
use crate::storage::SharedBytes;
use crate::tensor::{ElementType, Tensor, element_count};

/// How often the bytes of the weights may be used on the average; transformations make copies of constants.
const MAX_SHARING: usize = 16;
/// Unknown operations for which the cause is looked for.
const MAX_EXPLAINED: usize = 1000;
/// Bytes of constants for which that does not matter.
const SMALL_CONSTANTS: usize = 64 << 20;
/// Most XML nodes of a file: bounds memory at a few GiB.
const MAX_XML_NODES: u32 = 20_000_000;

/// Reads the graph of an IR.
pub(super) fn graph(path: &Path, text: &str, weights: Weights) -> Result<Graph, ModelError> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_XML_NODES,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        let at = error.pos();
        ModelError::Xml {
            path: path.to_path_buf(),
            line: at.row,
            column: at.col,
            message: error.to_string(),
        }
    })?;
    Reader {
        source: Source::new(path, text),
        weights,
        blob: None,
        constant_bytes: 0,
        unknown: Vec::new(),
    }
    .read(document.root_element())
}

/// A port: its number and what the file says of it.
struct Port {
    id: u64,
    info: OutputInfo,
}

/// A `layer` element.
struct Layer<'x, 'i> {
    element: Xml<'x, 'i>,
    id: u64,
    name: &'x str,
    kind: &'x str,
    version: &'x str,
    line: u32,
    attributes: Vec<(&'x str, &'x str)>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Layer<'_, '_> {
    fn place(&self) -> String {
        format!("layer \"{}\" ({})", self.name, self.kind)
    }
}

/// Where an input port comes from: layer and output, both by index.
type Link = (usize, usize);

struct Reader<'a> {
    source: Source<'a>,
    weights: Weights,
    blob: Option<SharedBytes>,
    /// Bytes of all constants so far.
    constant_bytes: usize,
    /// Operations that are not known, in all bodies.
    unknown: Vec<UnknownOperation>,
}

/// A `net` or body element as a graph.
struct Network {
    graph: Graph,
    /// Ids of the Parameter and Result layers, in the order of those of the graph.
    parameters: Vec<u64>,
    results: Vec<u64>,
}

/// Where a network is: how deep in bodies, and of which layers.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    depth: usize,
    within: &'a str,
}

impl Reader<'_> {
    fn read(mut self, net: Xml) -> Result<Graph, ModelError> {
        self.check_header(net)?;
        match self.network(net, Place::default())? {
            Some(network) if self.unknown.is_empty() => Ok(network.graph),
            _ => Err(ModelError::Unsupported {
                path: self.source.path.to_path_buf(),
                operations: self.unknown,
            }),
        }
    }

    /// The graph of a `net` or body element; `None` if it has operations that are not known.
    fn network(&mut self, net: Xml, place: Place) -> Result<Option<Network>, ModelError> {
        let layers = self.layers(net)?;
        let links = self.links(net, &layers)?;
        let Some(operations) = self.operations(&layers, place)? else {
            return Ok(None);
        };
        let order = self.order(&layers, &links)?;

        let mut ids = vec![NodeId(0); layers.len()];
        let mut graph = Graph {
            name: net.attribute("name").unwrap_or_default().to_owned(),
            ..Graph::default()
        };
        let mut operations: Vec<Option<Op>> = operations.into_iter().map(Some).collect();
        for index in order {
            let layer = &layers[index];
            let inputs = links[index]
                .iter()
                .map(|&(from, port)| Value {
                    node: ids[from],
                    port: port as u32,
                })
                .collect();
            let Some(op) = operations[index].take() else {
                continue;
            };
            let inputs = broadcast::aligned(&mut graph, &attributes(layer), (layer.name, layer.line), inputs)
                .map_err(|error| self.source.error(layer.line, layer.place(), error.0, REEXPORT))?;
            ids[index] = graph.push(Node {
                name: Arc::from(layer.name),
                line: layer.line,
                op,
                inputs,
                outputs: layer.outputs.iter().map(|p| p.info.clone()).collect(),
            });
        }
        let (mut parameters, mut results) = (Vec::new(), Vec::new());
        for (index, layer) in layers.iter().enumerate() {
            match layer.kind {
                "Parameter" => {
                    graph.bounds.push(self.bounds(layer)?);
                    graph.parameters.push(ids[index]);
                    parameters.push(layer.id);
                }
                "Result" => {
                    graph.results.push(ids[index]);
                    results.push(layer.id);
                }
                _ => {}
            }
        }
        if graph.results.is_empty() {
            let line = self.source.line(net);
            let message = "expected at least one Result layer, found none";
            return Err(self.source.error(line, "<layers>", message, REEXPORT));
        }
        graph.check_shapes().map_err(|error| match error {
            ModelError::Layer {
                layer,
                kind,
                line,
                source,
            } => {
                let place = format!("layer \"{layer}\" ({kind})");
                self.source.error(line, place, source.0, REEXPORT)
            }
            other => other,
        })?;
        for node in &graph.nodes {
            finite::check_quantization(&graph, node).map_err(|error| {
                let place = format!("layer \"{}\" ({})", node.name, node.op.type_name());
                self.source.error(node.line, place, error.0, REEXPORT)
            })?;
        }
        Ok(Some(Network {
            graph,
            parameters,
            results,
        }))
    }

    fn check_header(&self, net: Xml) -> Result<(), ModelError> {
        let source = &self.source;
        if net.tag_name().name() != "net" {
            return Err(source.error(
                source.line(net),
                format!("<{}>", net.tag_name().name()),
                "expected <net> as the outermost element",
                "Give the .xml file of an OpenVINO IR",
            ));
        }
        match source.number(net, "version")? {
            10 | 11 => Ok(()),
            version => Err(source.error(
                source.line(net),
                "<net>",
                format!("expected IR version 10 or 11, found {version}"),
                "Convert the model again with OpenVINO 2022.1 or later",
            )),
        }
    }

    /// The child element of that name.
    fn child<'x, 'i>(&self, net: Xml<'x, 'i>, name: &str) -> Result<Xml<'x, 'i>, ModelError> {
        net.children().find(|c| c.has_tag_name(name)).ok_or_else(|| {
            self.source.error(
                self.source.line(net),
                "<net>",
                format!("element <{name}> is missing"),
                REEXPORT,
            )
        })
    }

    fn layers<'x, 'i>(&self, net: Xml<'x, 'i>) -> Result<Vec<Layer<'x, 'i>>, ModelError> {
        let source = &self.source;
        let mut seen = HashSet::new();
        let mut layers = Vec::new();
        for node in self
            .child(net, "layers")?
            .children()
            .filter(|c| c.has_tag_name("layer"))
        {
            let data = node.children().find(|c| c.has_tag_name("data"));
            let mut layer = Layer {
                element: node,
                id: source.number(node, "id")?,
                name: source.required(node, "name")?,
                kind: source.required(node, "type")?,
                version: node.attribute("version").unwrap_or("opset1"),
                line: source.line(node),
                attributes: data
                    .iter()
                    .flat_map(|d| d.attributes())
                    .map(|a| (a.name(), a.value()))
                    .collect(),
                inputs: Vec::new(),
                outputs: Vec::new(),
            };
            if !seen.insert(layer.id) {
                return Err(source.error(
                    layer.line,
                    layer.place(),
                    format!("id {} is used by another layer too", layer.id),
                    REEXPORT,
                ));
            }
            layer.inputs = self.ports(node, "input", &layer)?;
            layer.outputs = self.ports(node, "output", &layer)?;
            layers.push(layer);
        }
        Ok(layers)
    }

    fn ports(&self, node: Xml, side: &str, layer: &Layer) -> Result<Vec<Port>, ModelError> {
        let source = &self.source;
        let mut ports: Vec<Port> = Vec::new();
        let mut seen = HashSet::new();
        let elements = node
            .children()
            .filter(|c| c.has_tag_name(side))
            .flat_map(|c| c.children().filter(|p| p.has_tag_name("port")));
        for element in elements {
            let line = source.line(element);
            let id = source.number(element, "id")?;
            let place = || format!("{}, {side} port {id}", layer.place());
            if !seen.insert(id) {
                return Err(source.error(line, place(), "the port is there twice", REEXPORT));
            }
            let precision = element.attribute("precision").unwrap_or("FP32");
            let element_type = ElementType::from_precision(precision).ok_or_else(|| {
                source.error(
                    line,
                    place(),
                    format!("precision \"{precision}\" is not supported"),
                    "Known are FP64, FP32, FP16, BF16, I64..I4, U64..U4, BIN and BOOL",
                )
            })?;
            let mut shape = PartialShape::new();
            for dim in element.children().filter(|c| c.has_tag_name("dim")) {
                let text = dim.text().unwrap_or_default().trim();
                shape.push(match text.parse::<i64>() {
                    Ok(-1) => None,
                    Ok(length) if length >= 0 => Some(length as usize),
                    _ => {
                        return Err(source.error(
                            source.line(dim),
                            place(),
                            format!("expected an axis length or -1, found \"{text}\""),
                            REEXPORT,
                        ));
                    }
                });
            }
            self.check_size(&shape, line, &place)?;
            let names = element.attribute("names").map(split_names);
            ports.push(Port {
                id,
                info: OutputInfo {
                    element_type,
                    shape,
                    names: names.unwrap_or_default(),
                },
            });
        }
        Ok(ports)
    }

    /// Fails if the fixed axes alone have more elements than can be addressed.
    fn check_size(
        &self,
        shape: &PartialShape,
        line: u32,
        place: &dyn Fn() -> String,
    ) -> Result<(), ModelError> {
        let fixed: Vec<usize> = shape.iter().flatten().copied().collect();
        if shape.len() > MAX_RANK {
            let message = format!("expected at most {MAX_RANK} axes, found {}", shape.len());
            return Err(self.source.error(line, place(), message, REEXPORT));
        }
        match element_count(&fixed).and_then(|n| n.checked_mul(64)) {
            Some(_) => Ok(()),
            None => Err(self.source.error(
                line,
                place(),
                format!("shape {fixed:?} has more elements than memory can hold"),
                REEXPORT,
            )),
        }
    }

    /// The operation of each layer; unknown ones are reported together, and make it `None`.
    fn operations(&mut self, layers: &[Layer], place: Place) -> Result<Option<Vec<Op>>, ModelError> {
        let mut operations = Vec::with_capacity(layers.len());
        let mut complete = true;
        for layer in layers {
            if layer.kind == "Const" {
                operations.push(Op::Constant(self.constant(layer)?));
                continue;
            }
            if matches!(layer.kind, "If" | "Loop" | "TensorIterator") && known::opset(layer.version).is_some()
            {
                match self.with_bodies(layer, place)? {
                    Some(op) => operations.push(op),
                    None => complete = false,
                }
                continue;
            }
            let opset = known::opset(layer.version);
            let attributes = attributes(layer);
            // An operation of an extension is not the standard one of the same name.
            let op = match opset {
                Some(_) => crate::ops::parse(&attributes)
                    .map_err(|error| self.source.error(layer.line, layer.place(), error.0, REEXPORT))?,
                None => None,
            };
            match op {
                Some(op) => operations.push(op),
                None => {
                    complete = false;
                    self.unknown.push(UnknownOperation {
                        layer: format!("{}{}", place.within, layer.name),
                        kind: layer.kind.to_owned(),
                        opset: layer.version.to_owned(),
                        line: layer.line,
                        why: match self.unknown.len() {
                            0..MAX_EXPLAINED => known::why(layer.kind, layer.version),
                            _ => "not known".to_owned(),
                        },
                    });
                }
            }
        }
        Ok(complete.then_some(operations))
    }

    fn constant(&mut self, layer: &Layer) -> Result<Tensor, ModelError> {
        let source = &self.source;
        let wrong = |message: String| source.error(layer.line, layer.place(), message, REEXPORT);
        let attributes = Attributes {
            kind: layer.kind,
            opset: 1,
            pairs: layer.attributes.clone(),
            inputs: 0,
        };
        let element_type = attributes
            .element_type("element_type", None)
            .map_err(|e| wrong(e.0))?;
        let shape: Vec<usize> = attributes.list("shape", None).map_err(|e| wrong(e.0))?;
        let start = attributes.size("offset", None).map_err(|e| wrong(e.0))?;
        let len = attributes.size("size", None).map_err(|e| wrong(e.0))?;
        let expected = element_count(&shape).and_then(|n| element_type.byte_len(n));
        // OpenVINO reserves a byte for a constant without elements.
        if expected != Some(len) && expected != Some(0) {
            return Err(wrong(format!(
                "attribute `size` is {len}, but shape {shape:?} of {element_type} needs {} bytes",
                expected.map_or("too many".to_owned(), |n| n.to_string())
            )));
        }
        if expected == Some(0) {
            return Tensor::new(element_type, shape, Vec::new()).map_err(|e| wrong(e.to_string()));
        }
        let blob = match &self.blob {
            Some(blob) => blob,
            None => self.blob.insert(self.weights.open(source.path)?),
        };
        let available = blob.bytes().len();
        self.constant_bytes = self.constant_bytes.saturating_add(len);
        let most = available.saturating_mul(MAX_SHARING).max(SMALL_CONSTANTS);
        if self.constant_bytes > most {
            return Err(source.error(
                layer.line,
                layer.place(),
                format!(
                    "the constants up to here have {} bytes in all, the weights have {available}: the same bytes \
                     are used more than {MAX_SHARING} times over",
                    self.constant_bytes
                ),
                REEXPORT,
            ));
        }
        Tensor::shared(element_type, shape, Arc::clone(blob), start, len).map_err(|_| ModelError::Weights {
            path: match &self.weights {
                Weights::File(path) => path.clone(),
                Weights::Memory(_) => source.path.to_path_buf(),
            },
            place: format!("{} at {}:{}", layer.place(), source.path.display(), layer.line),
            message: format!(
                "expected {len} bytes from byte {start}, but the weights have {available} bytes"
            ),
            help: "The file is cut off or belongs to another model; copy both files again".to_owned(),
        })
    }
}

/// The attributes of a layer.
fn attributes<'x>(layer: &Layer<'x, '_>) -> Attributes<'x> {
    Attributes {
        kind: known::standard_name(layer.kind),
        opset: known::opset(layer.version).unwrap_or(0),
        pairs: layer.attributes.clone(),
        inputs: layer.inputs.len(),
    }
}

/// Tensor names are separated by commas; a comma of a name is written `\,`.
fn split_names(text: &str) -> Vec<Arc<str>> {
    let mut names = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, characters.peek()) {
            ('\\', Some(',')) => {
                characters.next();
                if let Some(name) = names.last_mut() {
                    name.push(',');
                }
            }
            (',', _) => names.push(String::new()),
            _ => {
                if let Some(name) = names.last_mut() {
                    name.push(c);
                }
            }
        }
    }
    names.retain(|n| !n.is_empty());
    names.into_iter().map(Arc::from).collect()
}
