//! From a graph to an IR v11.

mod body;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::export;
use crate::error::ModelError;
use crate::graph::{Graph, Node, OutputInfo};
use crate::op::{AutoPad, ConvAttrs, MvnAttrs, MvnAxes, Op, PoolAttrs, UnaryKind};
use crate::ops;
use crate::ops::attributes::word_of;
use crate::tensor::Tensor;
use crate::text::escape;

/// Writes a graph as IR v11: layers to `path`, constants to the file of the same name that ends in `.bin`.
/// Each file appears only when it is whole, the `.xml` last.
///
/// Integer operations are written as standard ones.
///
/// # Errors
/// If a file cannot be written, or an operation has no standard form.
pub fn write(graph: &Graph, path: impl AsRef<Path>) -> Result<(), ModelError> {
    let path = path.as_ref();
    let (xml, bin) = to_bytes(graph)?;
    for (path, bytes) in [
        (path.with_extension("bin"), bin),
        (path.to_path_buf(), xml.into_bytes()),
    ] {
        crate::file::replace(&path, |file| file.write_all(&bytes)).map_err(|source| ModelError::Io {
            path: path.clone(),
            action: "cannot write the model",
            help: "Check that the folder exists and can be written".to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// The `.xml` and the `.bin` of a graph.
///
/// # Errors
/// If an operation has no standard form.
pub fn to_bytes(graph: &Graph) -> Result<(String, Vec<u8>), ModelError> {
    let graph = export::standard(graph)?;
    let mut weights = Weights::default();
    let (layers, edges) = network(&graph, &mut weights)?;
    let xml = format!(
        "<?xml version=\"1.0\"?>\n<net name=\"{}\" version=\"11\">\n\t<layers>\n{layers}\t</layers>\n\
         \t<edges>\n{edges}\t</edges>\n\t<rt_info />\n</net>\n",
        escape(&graph.name)
    );
    Ok((xml, weights.bytes))
}

/// The layers and edges of a graph.
fn network(graph: &Graph, weights: &mut Weights) -> Result<(String, String), ModelError> {
    let mut layers = String::new();
    let mut edges = String::new();
    for (id, node) in graph.iter() {
        layer(&mut layers, id.0, node, graph, weights)?;
        for (port, value) in node.inputs.iter().enumerate() {
            let from = graph.node(value.node).inputs.len() as u32 + value.port;
            // Writing to a string cannot fail.
            let _ = writeln!(
                edges,
                "\t\t<edge from-layer=\"{}\" from-port=\"{from}\" to-layer=\"{}\" to-port=\"{port}\" />",
                value.node.0, id.0
            );
        }
    }
    Ok((layers, edges))
}

/// The constants, equal ones stored once.
#[derive(Default)]
struct Weights {
    bytes: Vec<u8>,
    places: HashMap<Vec<u8>, usize>,
}

impl Weights {
    fn place(&mut self, bytes: &[u8]) -> usize {
        if let Some(&at) = self.places.get(bytes) {
            return at;
        }
        // Aligned for whoever maps the file.
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.places.insert(bytes.to_vec(), at);
        at
    }
}

fn port(text: &mut String, id: usize, info: &OutputInfo, names: bool) {
    let _ = write!(
        text,
        "\t\t\t\t<port id=\"{id}\" precision=\"{}\"",
        info.element_type.precision()
    );
    if names && !info.names.is_empty() {
        let names: Vec<String> = info.names.iter().map(|n| n.replace(',', "\\,")).collect();
        let _ = write!(text, " names=\"{}\"", escape(&names.join(",")));
    }
    text.push_str(">\n");
    for dim in &info.shape {
        let _ = match dim {
            Some(length) => writeln!(text, "\t\t\t\t\t<dim>{length}</dim>"),
            None => writeln!(text, "\t\t\t\t\t<dim>-1</dim>"),
        };
    }
    text.push_str("\t\t\t\t</port>\n");
}

fn layer(
    text: &mut String,
    id: u32,
    node: &Node,
    graph: &Graph,
    weights: &mut Weights,
) -> Result<(), ModelError> {
    let (opset, mut attributes) = attributes(node, weights)?;
    if let Some(input) = graph.parameters.iter().position(|p| p.0 == id) {
        let shape = graph.input_shape_text(input);
        attributes.retain(|(name, _)| *name != "shape");
        attributes.insert(0, ("shape", shape.trim_matches(['[', ']']).to_owned()));
    }
    let _ = writeln!(
        text,
        "\t\t<layer id=\"{id}\" name=\"{}\" type=\"{}\" version=\"opset{opset}\">",
        escape(&node.name),
        node.op.type_name()
    );
    if !attributes.is_empty() {
        text.push_str("\t\t\t<data");
        for (name, value) in &attributes {
            let _ = write!(text, " {name}=\"{}\"", escape(value));
        }
        text.push_str(" />\n");
    }
    body::port_maps(text, node);
    if !node.inputs.is_empty() {
        text.push_str("\t\t\t<input>\n");
        for (index, value) in node.inputs.iter().enumerate() {
            port(text, index, graph.info(*value), false);
        }
        text.push_str("\t\t\t</input>\n");
    }
    if !matches!(node.op, Op::Result) {
        text.push_str("\t\t\t<output>\n");
        for (index, info) in node.outputs.iter().enumerate() {
            port(text, node.inputs.len() + index, info, true);
        }
        text.push_str("\t\t\t</output>\n");
    }
    for (tag, graph) in body::of(&node.op) {
        let (layers, edges) = network(graph, weights)?;
        let _ = write!(
            text,
            "\t\t\t<{tag}>\n\t<layers>\n{layers}\t</layers>\n\t<edges>\n{edges}\t</edges>\n\t<rt_info />\n\t\t\t</{tag}>\n"
        );
    }
    text.push_str("\t\t</layer>\n");
    Ok(())
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn mask(bits: &[bool]) -> String {
    list(&bits.iter().map(|&b| u8::from(b)).collect::<Vec<_>>())
}

type Attributes = Vec<(&'static str, String)>;

fn auto_pad(auto: AutoPad) -> String {
    word_of(&ops::AUTO_PAD, &auto)
}

fn convolution(a: &ConvAttrs) -> Attributes {
    vec![
        ("strides", list(&a.strides)),
        ("dilations", list(&a.dilations)),
        ("pads_begin", list(&a.pads_begin)),
        ("pads_end", list(&a.pads_end)),
        ("auto_pad", auto_pad(a.auto_pad)),
    ]
}

fn pooling(a: &PoolAttrs) -> Attributes {
    vec![
        ("strides", list(&a.strides)),
        ("pads_begin", list(&a.pads_begin)),
        ("pads_end", list(&a.pads_end)),
        ("kernel", list(&a.kernel)),
        ("rounding_type", if a.ceil { "ceil" } else { "floor" }.to_owned()),
        ("auto_pad", auto_pad(a.auto_pad)),
    ]
}

fn constant(tensor: &Tensor, weights: &mut Weights) -> Attributes {
    vec![
        ("element_type", tensor.element_type().name().to_owned()),
        ("shape", list(tensor.shape())),
        ("offset", weights.place(tensor.bytes()).to_string()),
        ("size", tensor.bytes().len().to_string()),
    ]
}

/// Operation set and attributes of a layer.
fn attributes(node: &Node, weights: &mut Weights) -> Result<(u32, Attributes), ModelError> {
    let numpy = || vec![("auto_broadcast", "numpy".to_owned())];
    Ok(match &node.op {
        Op::Parameter => {
            let element_type = node.outputs[0].element_type.name().to_owned();
            (1, vec![("element_type", element_type)])
        }
        Op::Constant(tensor) => (1, constant(tensor, weights)),
        Op::Result | Op::PRelu | Op::Transpose | Op::Squeeze | Op::Unsqueeze | Op::VariadicSplit => {
            (1, Vec::new())
        }
        Op::Slice => (8, Vec::new()),
        Op::Convert(to) => (1, vec![("destination_type", to.name().to_owned())]),
        Op::Binary(crate::op::BinaryKind::Divide) => (
            1,
            vec![
                ("auto_broadcast", "numpy".to_owned()),
                ("m_pythondiv", "true".to_owned()),
            ],
        ),
        Op::Binary(crate::op::BinaryKind::DivideTruncating) => (
            1,
            vec![
                ("auto_broadcast", "numpy".to_owned()),
                ("m_pythondiv", "false".to_owned()),
            ],
        ),
        Op::Binary(_) | Op::Select => (1, numpy()),
        Op::Unary(kind) => unary(*kind)?,
        Op::Clamp { min, max } => (1, vec![("min", min.to_string()), ("max", max.to_string())]),
        Op::Convolution(a) | Op::GroupConvolution(a) => (1, convolution(a)),
        Op::ConvolutionBackpropData(d) | Op::GroupConvolutionBackpropData(d) => {
            let mut attributes = convolution(&d.conv);
            attributes.push(("output_padding", list(&d.output_padding)));
            (1, attributes)
        }
        Op::MatMul {
            transpose_a,
            transpose_b,
        } => {
            let flags = [("transpose_a", transpose_a), ("transpose_b", transpose_b)];
            (1, flags.map(|(n, f)| (n, f.to_string())).to_vec())
        }
        Op::MaxPool(a) => {
            let mut attributes = pooling(a);
            attributes.push(("dilations", list(&a.dilations)));
            attributes.push(("index_element_type", "i64".to_owned()));
            attributes.push(("axis", "0".to_owned()));
            (8, attributes)
        }
        Op::AvgPool { pool, exclude_pad } => {
            let mut attributes = pooling(pool);
            attributes.push(("exclude-pad", exclude_pad.to_string()));
            (1, attributes)
        }
        Op::Reduce { kind, keep_dims } => {
            let opset = if matches!(kind, crate::op::ReduceKind::L1 | crate::op::ReduceKind::L2) {
                4
            } else {
                1
            };
            (opset, vec![("keep_dims", keep_dims.to_string())])
        }
        Op::Reshape { special_zero } => (1, vec![("special_zero", special_zero.to_string())]),
        Op::Concat { axis } => (1, vec![("axis", axis.to_string())]),
        Op::Mvn(a) => mvn(a),
        Op::NormalizeL2 { eps, eps_mode } => (
            1,
            vec![
                ("eps", eps.to_string()),
                ("eps_mode", word_of(&ops::L2_EPS_MODES, eps_mode)),
            ],
        ),
        Op::Softmax { axis } => (8, vec![("axis", axis.to_string())]),
        Op::Split { num_splits } => (1, vec![("num_splits", num_splits.to_string())]),
        Op::StridedSlice(a) => (
            1,
            vec![
                ("begin_mask", mask(&a.begin_mask)),
                ("end_mask", mask(&a.end_mask)),
                ("new_axis_mask", mask(&a.new_axis_mask)),
                ("shrink_axis_mask", mask(&a.shrink_axis_mask)),
                ("ellipsis_mask", mask(&a.ellipsis_mask)),
            ],
        ),
        Op::Gather { batch_dims } => (8, vec![("batch_dims", batch_dims.to_string())]),
        Op::GatherNd { batch_dims } => (8, vec![("batch_dims", batch_dims.to_string())]),
        Op::Interpolate(a) => (
            a.version,
            vec![
                ("mode", word_of(&ops::INTERPOLATE_MODES, &a.mode)),
                (
                    "shape_calculation_mode",
                    if a.by_scales { "scales" } else { "sizes" }.to_owned(),
                ),
                (
                    "coordinate_transformation_mode",
                    word_of(&ops::COORDINATES, &a.coordinates),
                ),
                ("nearest_mode", word_of(&ops::NEAREST, &a.nearest)),
                ("antialias", a.antialias.to_string()),
                ("pads_begin", list(&a.pads_begin)),
                ("pads_end", list(&a.pads_end)),
                ("cube_coeff", a.cube_coeff.to_string()),
            ],
        ),
        Op::ShapeOf(to) => (3, vec![("output_type", to.name().to_owned())]),
        Op::TopK(a) => {
            let mut attributes = vec![
                ("axis", a.axis.to_string()),
                ("mode", if a.max { "max" } else { "min" }.to_owned()),
                ("sort", word_of(&ops::SORTS, &a.sort)),
                ("index_element_type", a.index_type.name().to_owned()),
            ];
            if a.stable {
                attributes.push(("stable", "true".to_owned()));
            }
            (if a.stable { 11 } else { 3 }, attributes)
        }
        Op::Pad(mode) => (12, vec![("pad_mode", word_of(&ops::PAD_MODES, mode))]),
        Op::Broadcast => (3, vec![("mode", "numpy".to_owned())]),
        Op::BroadcastBidirectional => (3, vec![("mode", "bidirectional".to_owned())]),
        Op::FakeQuantize { levels } => (
            1,
            vec![
                ("levels", levels.to_string()),
                ("auto_broadcast", "numpy".to_owned()),
            ],
        ),
        Op::If(_) => (8, Vec::new()),
        Op::Iteration(iteration) => (
            match iteration.kind {
                crate::body::IterationKind::Loop => 5,
                crate::body::IterationKind::TensorIterator => 1,
            },
            Vec::new(),
        ),
        Op::Standard(operation) => (operation.opset(), operation.attributes()),
        Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::QuantizedConvolution(_)
        | Op::QuantizedDeconvolution(_)
        | Op::QuantizedMatMul(_)
        | Op::QuantizedBatchMatMul(_)
        | Op::Lookup(_) => {
            return Err(ModelError::Write(format!(
                "layer \"{}\" has no standard form",
                node.name
            )));
        }
    })
}

fn mvn(a: &MvnAttrs) -> (u32, Attributes) {
    let mut attributes = vec![
        ("normalize_variance", a.normalize_variance.to_string()),
        ("eps", a.eps.to_string()),
    ];
    if a.axes == MvnAxes::Input {
        attributes.push(("eps_mode", word_of(&ops::MVN_EPS_MODES, &a.eps_outside)));
        return (6, attributes);
    }
    let across = a.axes == MvnAxes::AllButBatch;
    attributes.push(("across_channels", across.to_string()));
    if let MvnAxes::List(axes) = &a.axes {
        attributes.push(("reduction_axes", list(axes)));
    }
    // MVN-1 came with the second operation set.
    (2, attributes)
}

fn unary(kind: UnaryKind) -> Result<(u32, Attributes), ModelError> {
    Ok(match kind {
        UnaryKind::Asinh
        | UnaryKind::Acosh
        | UnaryKind::Atanh
        | UnaryKind::HSwish
        | UnaryKind::Mish
        | UnaryKind::SoftPlus => (4, Vec::new()),
        UnaryKind::HSigmoid => (5, Vec::new()),
        UnaryKind::SoftSign => (9, Vec::new()),
        UnaryKind::Round { half_to_even } => (5, vec![("mode", word_of(&ops::ROUND_MODES, &half_to_even))]),
        UnaryKind::Swish { beta: 1.0 } => (4, Vec::new()),
        UnaryKind::Swish { beta } => {
            return Err(ModelError::Write(format!(
                "Swish with beta {beta} is not supported; only 1 is"
            )));
        }
        UnaryKind::Elu { alpha } => (1, vec![("alpha", alpha.to_string())]),
        UnaryKind::Gelu { tanh } => (
            7,
            vec![("approximation_mode", if tanh { "TANH" } else { "ERF" }.to_owned())],
        ),
        _ => (1, Vec::new()),
    })
}
