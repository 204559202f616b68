//! Small valid models: one operation each, plain and between FakeQuantizes, and a few whole networks.

use std::sync::{Arc, OnceLock};

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::ops::attributes::Attributes;
use flow_model::{ElementType, Op, Tensor, ir, ops};

/// A model as its two files.
pub struct Model {
    /// What it is.
    pub name: String,
    /// The `.xml`.
    pub xml: String,
    /// The `.bin`.
    pub bin: Vec<u8>,
}

/// An operation: type and operation set, attributes, inputs. An input is `type axes`, and is a constant where `=` and
/// values follow, repeated as often as needed.
type Case = (&'static str, &'static str, &'static [&'static str]);

const WINDOW: &str = "strides=1,1 dilations=1,1 pads_begin=1,1 pads_end=1,1 auto_pad=explicit";

const CASES: &[Case] = &[
    ("Convolution 1", WINDOW, &["f32 1,3,4,5", "f32 4,3,3,3=1 -2 3 0.5"]),
    ("Convolution 1", "strides=2,2 dilations=1,1 pads_begin=0,0 pads_end=0,0 auto_pad=same_upper", &["f32 2,8,4,5", "f32 16,8,1,1=1 -2 3 0.5"]),
    ("GroupConvolution 1", WINDOW, &["f32 1,4,4,5", "f32 4,1,1,3,3=1 -2 3 0.5"]),
    ("GroupConvolution 1", WINDOW, &["f32 1,4,4,5", "f32 2,3,2,3,3=1 -2 3 0.5"]),
    ("ConvolutionBackpropData 1", "strides=2,2 dilations=1,1 pads_begin=0,0 pads_end=0,0 auto_pad=explicit output_padding=0,0", &["f32 1,3,4,5", "f32 3,4,2,2=1 -2 3 0.5"]),
    ("GroupConvolutionBackpropData 1", "strides=2,2 dilations=1,1 pads_begin=0,0 pads_end=0,0 auto_pad=explicit output_padding=0,0", &["f32 1,4,4,5", "f32 2,2,3,2,2=1 -2 3 0.5"]),
    ("MatMul 1", "transpose_a=false transpose_b=true", &["f32 2,3,4", "f32 5,4=1 -2 3 0.5"]),
    ("MatMul 1", "transpose_a=false transpose_b=false", &["f32 2,3,4", "f32 2,4,3"]),
    ("MaxPool 8", "strides=2,2 dilations=1,1 pads_begin=1,1 pads_end=1,1 kernel=3,3 rounding_type=floor auto_pad=explicit index_element_type=i64 axis=0", &["f32 1,3,6,7"]),
    ("AvgPool 1", "strides=2,2 pads_begin=1,1 pads_end=1,1 kernel=3,3 exclude-pad=true rounding_type=ceil auto_pad=explicit", &["f32 1,3,6,7"]),
    ("Add 1", "auto_broadcast=numpy", &["f32 2,3,4", "f32 3,1=1 2 3"]),
    ("Multiply 1", "auto_broadcast=numpy", &["f32 2,3,4", "f32 2,3,4"]),
    ("Divide 1", "auto_broadcast=numpy m_pythondiv=true", &["i32 2,3", "i32 3=1 0 -3"]),
    ("Mod 1", "auto_broadcast=numpy", &["i32 2,3", "i32 3=1 2 -3"]),
    ("FloorMod 1", "auto_broadcast=numpy", &["i32 2,3", "i32 3=1 2 -3"]),
    ("Power 1", "auto_broadcast=numpy", &["i64 2,3", "i64 3=1 2 63"]),
    ("Subtract 1", "auto_broadcast=numpy", &["u8 2,3", "u8 3=1 2 255"]),
    ("Select 1", "auto_broadcast=numpy", &["boolean 2,3", "f32 3=1 2 3", "f32 2,1"]),
    ("ReLU 1", "", &["f32 1,3,4,5"]),
    ("PReLU 1", "", &["f32 1,3,4,5", "f32 3=0.1 -0.2 0.3"]),
    ("Clamp 1", "min=0 max=6", &["f32 1,3,4,5"]),
    ("Swish 4", "", &["f32 1,3,4,5"]),
    ("HSwish 4", "", &["f32 1,3,4,5"]),
    ("Gelu 7", "approximation_mode=ERF", &["f32 1,3,4"]),
    ("Elu 1", "alpha=1", &["f32 1,3,4"]),
    ("Abs 1", "", &["i32 5"]),
    ("Negative 1", "", &["i64 5"]),
    ("ReduceMean 1", "keep_dims=true", &["f32 1,3,4,5", "i64 2=2 3"]),
    ("ReduceSum 1", "keep_dims=false", &["i32 3,4", "i64 1=1"]),
    ("ReduceMax 1", "keep_dims=false", &["f32 3,4", "i64 1=0"]),
    ("ReduceProd 1", "keep_dims=false", &["i64 3,4", "i64 1=0"]),
    ("Reshape 1", "special_zero=true", &["f32 2,3,4", "i64 3=0 -1 2"]),
    ("Transpose 1", "", &["f32 2,3,4", "i64 3=2 0 1"]),
    ("Squeeze 1", "", &["f32 1,3,1", "i64 1=0"]),
    ("Unsqueeze 1", "", &["f32 3", "i64 2=0 2"]),
    ("Concat 1", "axis=1", &["f32 1,2,3,3", "f32 1,3,3,3", "f32 1,1,3,3=1 2"]),
    ("Split 1", "num_splits=2", &["f32 1,4,3,3", "i64 =1"]),
    ("VariadicSplit 1", "", &["f32 1,4,3,3", "i64 =1", "i64 2=1 -1"]),
    ("Slice 8", "", &["f32 4,5", "i64 2=0 4", "i64 2=4 0", "i64 2=2 -1", "i64 2=0 1"]),
    ("StridedSlice 1", "begin_mask=0,1 end_mask=1,0 new_axis_mask=0,0 shrink_axis_mask=0,0 ellipsis_mask=0,0", &["f32 4,5", "i64 2=1 0", "i64 2=0 4", "i64 2=1 2"]),
    ("Gather 8", "batch_dims=0", &["f32 4,5", "i64 2=1 -1", "i64 =0"]),
    ("GatherND 8", "batch_dims=0", &["f32 4,5", "i64 2,1=1 3"]),
    ("GatherElements 6", "axis=1", &["f32 2,3", "i64 2,2=0 2"]),
    ("ScatterUpdate 3", "", &["f32 4,5", "i64 2=1 3", "f32 2,5", "i64 =0"]),
    ("ScatterElementsUpdate 3", "", &["f32 4,5", "i64 1,5=1 3 0", "f32 1,5", "i64 =0"]),
    ("ScatterNDUpdate 3", "", &["f32 4,5", "i64 2,1=1 3", "f32 2,5"]),
    ("Interpolate 4", "mode=nearest shape_calculation_mode=sizes coordinate_transformation_mode=asymmetric nearest_mode=floor antialias=false pads_begin=0 pads_end=0 cube_coeff=-0.75", &["f32 1,2,3,4", "i64 2=6 8", "f32 2=2 2", "i64 2=2 3"]),
    ("Interpolate 4", "mode=linear_onnx shape_calculation_mode=scales coordinate_transformation_mode=half_pixel nearest_mode=floor antialias=false pads_begin=0 pads_end=0 cube_coeff=-0.75", &["f32 1,2,3,4", "i64 2=6 8", "f32 2=2 2", "i64 2=2 3"]),
    ("Interpolate 4", "mode=cubic shape_calculation_mode=sizes coordinate_transformation_mode=align_corners nearest_mode=floor antialias=true pads_begin=0,0,1,1 pads_end=0,0,1,1 cube_coeff=-0.75", &["f32 1,2,3,4", "i64 2=6 8", "f32 2=2 2", "i64 2=2 3"]),
    ("DepthToSpace 1", "mode=blocks_first block_size=2", &["f32 1,8,2,3"]),
    ("SpaceToDepth 1", "mode=blocks_first block_size=2", &["f32 1,2,4,6"]),
    ("ShuffleChannels 1", "axis=1 group=2", &["f32 1,4,2,3"]),
    ("BatchToSpace 2", "", &["f32 4,1,2,2", "i64 4=1 1 2 2", "i64 4=0", "i64 4=0"]),
    ("SpaceToBatch 2", "", &["f32 1,1,4,4", "i64 4=1 1 2 2", "i64 4=0", "i64 4=0"]),
    ("Roll 7", "", &["f32 3,4", "i64 1=1", "i64 1=1"]),
    ("ReverseSequence 1", "batch_axis=0 seq_axis=1", &["f32 2,4", "i64 2=1 3"]),
    ("Tile 1", "", &["f32 2,3", "i64 2=2 3"]),
    ("OneHot 1", "axis=-1", &["i64 3", "i64 =4", "f32 =1", "f32 =0"]),
    ("Range 4", "output_type=i64", &["i64 =0", "i64 =5", "i64 =2"]),
    ("Eye 9", "output_type=f32", &["i64 =3", "i64 =4", "i64 =1"]),
    ("SoftMax 8", "axis=1", &["f32 2,3,4"]),
    ("LogSoftmax 5", "axis=-1", &["f32 2,3"]),
    ("ShapeOf 3", "output_type=i64", &["f32 2,3,4"]),
    ("TopK 11", "axis=1 mode=max sort=value index_element_type=i32 stable=true", &["f32 2,5", "i64 =3"]),
    ("Pad 12", "pad_mode=constant", &["f32 2,3", "i64 2=1 -1", "i64 2=0 2", "f32 =7"]),
    ("Pad 12", "pad_mode=reflect", &["f32 3,3", "i64 2=1 1", "i64 2=1 2"]),
    ("Broadcast 3", "mode=bidirectional", &["f32 3,1", "i64 3=2 1 4"]),
    ("CumSum 3", "exclusive=false reverse=true", &["f32 2,3", "i64 =1"]),
    ("NonZero 3", "output_type=i64", &["f32 2,3"]),
    ("Unique 10", "sorted=true index_element_type=i64 count_element_type=i64", &["i32 6"]),
    ("NonMaxSuppression 9", "box_encoding=corner sort_result_descending=true output_type=i64", &["f32 1,4,4", "f32 1,2,4", "i64 =3", "f32 =0.5", "f32 =0.1"]),
    ("MVN 6", "normalize_variance=true eps=0.00001 eps_mode=inside_sqrt", &["f32 1,3,4,4", "i64 2=2 3"]),
    ("NormalizeL2 1", "eps=0.0001 eps_mode=add", &["f32 1,3,4,4", "i64 1=1"]),
    ("LRN 1", "alpha=0.0001 beta=0.75 bias=1 size=5", &["f32 1,6,3,3", "i64 1=1"]),
    ("BatchNormInference 5", "epsilon=0.001", &["f32 1,2,3,3", "f32 2=1 2", "f32 2=0 1", "f32 2=0 1", "f32 2=1 2"]),
    ("GroupNormalization 12", "num_groups=2 epsilon=0.00001", &["f32 1,4,3,3", "f32 4=1", "f32 4=0"]),
    ("PriorBox 8", "min_size=10 max_size=20 aspect_ratio=2 density= fixed_ratio= fixed_size= clip=false flip=true step=0 offset=0.5 variance=0.1 scale_all_sizes=true min_max_aspect_ratios_order=true", &["i64 2=3 3", "i64 2=30 30"]),
    ("PriorBoxClustered 1", "width=10 height=20 clip=false step=0 step_w=4 step_h=4 offset=0.5 variance=0.1", &["i64 2=3 3", "i64 2=30 30"]),
    ("DetectionOutput 8", "background_label_id=0 top_k=10 variance_encoded_in_target=false keep_top_k=5 code_type=caffe.PriorBoxParameter.CENTER_SIZE share_location=true nms_threshold=0.5 confidence_threshold=0.01 clip_after_nms=false clip_before_nms=false decrease_label_id=false normalized=true input_height=1 input_width=1 objectness_score=0", &["f32 1,16", "f32 1,8", "f32 1,2,16"]),
    ("ROIAlign 3", "pooled_h=2 pooled_w=2 sampling_ratio=2 spatial_scale=1 mode=avg", &["f32 1,2,4,4", "f32 1,4", "i64 1=0"]),
    ("ROIPooling 2", "pooled_h=2 pooled_w=2 spatial_scale=1 method=max", &["f32 1,2,4,4", "f32 1,5"]),
    ("PSROIPooling 1", "output_dim=2 group_size=2 spatial_scale=1 mode=average spatial_bins_x=1 spatial_bins_y=1", &["f32 1,8,4,4", "f32 1,5"]),
    ("RegionYolo 1", "anchors=1,2,3,4 axis=1 coords=4 classes=2 end_axis=3 num=2 do_softmax=true mask=", &["f32 1,14,2,2"]),
    ("ReorgYolo 2", "stride=2", &["f32 1,2,4,4"]),
    ("GridSample 9", "align_corners=true mode=bilinear padding_mode=zeros", &["f32 1,2,3,3", "f32 1,2,2,2"]),
    ("ExtractImagePatches 3", "sizes=2,2 strides=1,1 rates=1,1 auto_pad=valid", &["f32 1,1,4,4"]),
    ("ScaledDotProductAttention 13", "causal=false", &["f32 1,3,4", "f32 1,5,4", "f32 1,5,4"]),
    ("Einsum 7", "equation=ab,bc->ac", &["f32 2,3", "f32 3,4"]),
    ("LSTMCell 4", "hidden_size=2", &["f32 1,3", "f32 1,2", "f32 1,2", "f32 8,3=0.1 -0.2", "f32 8,2=0.1 -0.2", "f32 8=0"]),
    ("Convert 1", "destination_type=i8", &["f32 2,3"]),
    ("ConvertLike 1", "", &["f32 2,3", "i8 1=1"]),
    ("FakeQuantize 1", "levels=256 auto_broadcast=numpy", &["f32 1,3,4,4", "f32 1,3,1,1=-1 -2 0", "f32 1,3,1,1=1 2 3", "f32 =-1", "f32 =1"]),
    ("Bucketize 3", "output_type=i64 with_right_bound=true", &["f32 4", "f32 2=0 1"]),
    ("DFT 7", "", &["f32 2,4,2", "i64 1=1"]),
];

fn tensor(text: &str) -> (ElementType, Vec<usize>, Option<Tensor>) {
    let (kind, values) = match text.split_once('=') {
        Some((kind, values)) => (kind, Some(values)),
        None => (text, None),
    };
    let (element_type, axes) = kind.split_once(' ').unwrap_or((kind, ""));
    let element_type = ElementType::from_name(element_type).expect("an element type");
    let shape: Vec<usize> = axes.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let constant = values.map(|values| {
        let list: Vec<f64> = values.split(' ').filter_map(|v| v.parse().ok()).collect();
        let count: usize = shape.iter().product();
        let all: Vec<f64> = (0..count).map(|i| list[i % list.len()]).collect();
        Tensor::from_f64(element_type, &shape, &all).expect("a constant")
    });
    (element_type, shape, constant)
}

struct Builder(Graph);

impl Builder {
    fn push(&mut self, name: &str, op: Op, inputs: Vec<Value>, outputs: Vec<OutputInfo>) -> Value {
        Value::of(self.0.push(Node {
            name: Arc::from(name),
            line: 0,
            op,
            inputs,
            outputs,
        }))
    }

    fn quantized(&mut self, name: &str, value: Value, levels: u32, limit: f32) -> Value {
        let mut inputs = vec![value];
        for (at, v) in [-limit, limit, -limit, limit].into_iter().enumerate() {
            let constant = Op::Constant(Tensor::scalar(v));
            inputs.push(self.push(&format!("{name}/limit{at}"), constant, vec![], vec![]));
        }
        self.push(name, Op::FakeQuantize { levels }, inputs, vec![])
    }
}

/// The model of one case; `None` if the operation is not there.
fn model(case: &Case, quantize: bool) -> Option<Model> {
    let (kind, opset) = case.0.split_once(' ')?;
    let attributes = Attributes {
        kind,
        opset: opset.parse().ok()?,
        pairs: case.1.split(' ').filter_map(|pair| pair.split_once('=')).collect(),
        inputs: case.2.len(),
    };
    let op = ops::parse(&attributes).ok()??;
    let mut b = Builder(Graph {
        name: kind.to_owned(),
        ..Graph::default()
    });
    let mut inputs = Vec::new();
    for (index, text) in case.2.iter().enumerate() {
        let (element_type, shape, constant) = tensor(text);
        let name = format!("in{index}");
        let is_weights = index == 1 && constant.as_ref().is_some_and(|c| c.len() > 8);
        let is_parameter = constant.is_none();
        let value = match constant {
            Some(tensor) => b.push(&name, Op::Constant(tensor), vec![], vec![]),
            None => {
                let info = OutputInfo::fixed(element_type, &shape);
                let value = b.push(&name, Op::Parameter, vec![], vec![info]);
                b.0.parameters.push(value.node);
                value
            }
        };
        let quantize = quantize && element_type == ElementType::F32;
        inputs.push(match quantize {
            true if is_weights => b.quantized(&format!("{name}/fq"), value, 255, 4.0),
            true if is_parameter => b.quantized(&format!("{name}/fq"), value, 256, 3.0),
            _ => value,
        });
    }
    let mut value = b.push("op", op, inputs, vec![]);
    b.0.infer_shapes().ok()?;
    let ports = b.0.node(value.node).outputs.len() as u32;
    if quantize && b.0.info(value).element_type == ElementType::F32 {
        value = b.quantized("out/fq", value, 256, 20.0);
    }
    let results = std::iter::once(value).chain((1..ports).map(|port| Value {
        node: NodeId(b.0.nodes.iter().position(|n| &*n.name == "op").unwrap_or(0) as u32),
        port,
    }));
    for (index, value) in results.collect::<Vec<_>>().into_iter().enumerate() {
        let result = b.push(&format!("result{index}"), Op::Result, vec![value], vec![]);
        b.0.results.push(result.node);
    }
    b.0.infer_shapes().ok()?;
    let (xml, bin) = ir::to_bytes(&b.0).ok()?;
    Some(Model {
        name: format!("{kind}{}", if quantize { " quantized" } else { "" }),
        xml,
        bin,
    })
}

/// Loops and branches, from `seeds`.
const BODIES: [(&str, &str); 3] = [
    ("TensorIterator", include_str!("../seeds/iterator.xml")),
    ("Loop", include_str!("../seeds/loop.xml")),
    ("If", include_str!("../seeds/if.xml")),
];

/// All models.
pub fn models() -> &'static [Model] {
    static MODELS: OnceLock<Vec<Model>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let mut all: Vec<Model> = CASES
            .iter()
            .flat_map(|case| [model(case, false), model(case, true)])
            .flatten()
            .collect();
        all.extend(BODIES.iter().map(|(name, xml)| Model {
            name: (*name).to_owned(),
            xml: (*xml).to_owned(),
            bin: {
                // -1, true, 1.0, 30.0, 0, 1: what their constants lie at.
                let mut bin = (-1i64).to_le_bytes().to_vec();
                bin.extend([1; 8]);
                bin.extend(1f32.to_le_bytes());
                bin.extend(30f32.to_le_bytes());
                bin.extend(0i64.to_le_bytes());
                bin.extend(1i64.to_le_bytes());
                bin
            },
        }));
        all
    })
}
