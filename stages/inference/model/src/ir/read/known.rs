//! Which operations there are, so that an error can tell one that is misspelt from one that is not supported.

use crate::ops::attributes::Attributes;

/// The newest operation set.
const NEWEST: u32 = 16;

/// Longest name for which a similar one is looked for.
const MAX_NAME: usize = 64;

/// The operations of OpenVINO's operation sets and the set that brought each in its first form.
#[rustfmt::skip]
const STANDARD: &[(&str, u32)] = &[
    ("Abs", 1), ("Acos", 1), ("Acosh", 4), ("AdaptiveAvgPool", 8), ("AdaptiveMaxPool", 8), ("Add", 1), ("Asin", 1),
    ("Asinh", 4), ("Assign", 3), ("Atan", 1), ("Atanh", 4), ("AvgPool", 1), ("BatchNormInference", 1),
    ("BatchToSpace", 2), ("BinaryConvolution", 1), ("BitwiseAnd", 13), ("BitwiseLeftShift", 15), ("BitwiseNot", 13),
    ("BitwiseOr", 13), ("BitwiseRightShift", 15), ("BitwiseXor", 13), ("Broadcast", 1), ("Bucketize", 3),
    ("CTCGreedyDecoder", 1), ("CTCGreedyDecoderSeqLen", 6), ("CTCLoss", 4), ("Ceiling", 1), ("Clamp", 1),
    ("Col2Im", 15), ("Concat", 1), ("Const", 1), ("Convert", 1), ("ConvertLike", 1), ("ConvertPromoteTypes", 14),
    ("Convolution", 1), ("ConvolutionBackpropData", 1), ("Cos", 1), ("Cosh", 1), ("CumSum", 3), ("DFT", 7),
    ("DeformableConvolution", 1), ("DeformablePSROIPooling", 1), ("DepthToSpace", 1), ("DetectionOutput", 1),
    ("Divide", 1), ("Einsum", 7), ("Elu", 1), ("EmbeddingBagOffsets", 15), ("EmbeddingBagOffsetsSum", 3),
    ("EmbeddingBagPacked", 15), ("EmbeddingBagPackedSum", 3), ("EmbeddingSegmentsSum", 3), ("Equal", 1), ("Erf", 1),
    ("Exp", 1), ("ExperimentalDetectronDetectionOutput", 6), ("ExperimentalDetectronGenerateProposalsSingleImage", 6),
    ("ExperimentalDetectronPriorGridGenerator", 6), ("ExperimentalDetectronROIFeatureExtractor", 6),
    ("ExperimentalDetectronTopKROIs", 6), ("ExtractImagePatches", 3), ("Eye", 9), ("FakeConvert", 13),
    ("FakeQuantize", 1), ("Floor", 1), ("FloorMod", 1), ("GRN", 1), ("GRUCell", 3), ("GRUSequence", 5), ("Gather", 1),
    ("GatherElements", 6), ("GatherND", 5), ("GatherTree", 1), ("Gelu", 2), ("GenerateProposals", 9), ("Greater", 1),
    ("GreaterEqual", 1), ("GridSample", 9), ("GroupConvolution", 1), ("GroupConvolutionBackpropData", 1),
    ("GroupNormalization", 12), ("HSigmoid", 5), ("HSwish", 4), ("HardSigmoid", 1), ("I420toBGR", 8), ("I420toRGB", 8),
    ("IDFT", 7), ("IRDFT", 9), ("ISTFT", 16), ("Identity", 16), ("If", 8), ("Interpolate", 1), ("Inverse", 14),
    ("IsFinite", 10), ("IsInf", 10), ("IsNaN", 10), ("LRN", 1), ("LSTMCell", 1), ("LSTMSequence", 1), ("Less", 1),
    ("LessEqual", 1), ("Log", 1), ("LogSoftmax", 5), ("LogicalAnd", 1), ("LogicalNot", 1), ("LogicalOr", 1),
    ("LogicalXor", 1), ("Loop", 5), ("MVN", 1), ("MatMul", 1), ("MatrixNms", 8), ("MaxPool", 1), ("Maximum", 1),
    ("Minimum", 1), ("Mish", 4), ("Mod", 1), ("MulticlassNms", 8), ("Multinomial", 13), ("Multiply", 1),
    ("NMSRotated", 13), ("NV12toBGR", 8), ("NV12toRGB", 8), ("Negative", 1), ("NonMaxSuppression", 1), ("NonZero", 3),
    ("NormalizeL2", 1), ("NotEqual", 1), ("OneHot", 1), ("PReLU", 1), ("PSROIPooling", 1), ("Pad", 1),
    ("Parameter", 1), ("Power", 1), ("PriorBox", 1), ("PriorBoxClustered", 1), ("Proposal", 1), ("RDFT", 9),
    ("RMSNorm", 14), ("RNNCell", 1), ("RNNSequence", 5), ("ROIAlign", 3), ("ROIAlignRotated", 15), ("ROIPooling", 1),
    ("RandomUniform", 8), ("Range", 1), ("ReLU", 1), ("ReadValue", 3), ("ReduceL1", 4), ("ReduceL2", 4),
    ("ReduceLogicalAnd", 1), ("ReduceLogicalOr", 1), ("ReduceMax", 1), ("ReduceMean", 1), ("ReduceMin", 1),
    ("ReduceProd", 1), ("ReduceSum", 1), ("RegionYolo", 1), ("ReorgYolo", 1), ("Reshape", 1), ("Result", 1),
    ("Reverse", 1), ("ReverseSequence", 1), ("Roll", 7), ("Round", 5), ("STFT", 15), ("ScaledDotProductAttention", 13),
    ("ScatterElementsUpdate", 3), ("ScatterNDUpdate", 3), ("ScatterUpdate", 3), ("SearchSorted", 15),
    ("SegmentMax", 16), ("Select", 1), ("Selu", 1), ("ShapeOf", 1), ("ShuffleChannels", 1), ("Sigmoid", 1),
    ("Sign", 1), ("Sin", 1), ("Sinh", 1), ("Slice", 8), ("SliceScatter", 15), ("SoftMax", 1), ("SoftPlus", 4),
    ("SoftSign", 9), ("SpaceToBatch", 2), ("SpaceToDepth", 1), ("SparseFillEmptyRows", 16), ("Split", 1), ("Sqrt", 1),
    ("SquaredDifference", 1), ("Squeeze", 1), ("StridedSlice", 1), ("StringTensorPack", 15),
    ("StringTensorUnpack", 15), ("Subtract", 1), ("Swish", 4), ("Tan", 1), ("Tanh", 1), ("TensorIterator", 1),
    ("Tile", 1), ("TopK", 1), ("Transpose", 1), ("Unique", 10), ("Unsqueeze", 1), ("VariadicSplit", 1),
];

/// The number of a standard operation set: 8 of `opset8`.
pub(super) fn opset(version: &str) -> Option<u32> {
    let number = version.strip_prefix("opset")?.parse().ok()?;
    (1..=NEWEST).contains(&number).then_some(number)
}

/// The name as operation sets spell it: case does not matter in files.
pub(super) fn standard_name(kind: &str) -> &str {
    let exact = STANDARD.binary_search_by(|(name, _)| (*name).cmp(kind)).is_ok();
    if exact || kind.len() > MAX_NAME {
        return kind;
    }
    let found = STANDARD.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
    found.map_or(kind, |(name, _)| name)
}

/// Whether there is a reader for the operation in that set.
fn is_read(kind: &str, opset: u32) -> bool {
    if matches!(kind, "Const" | "If" | "Loop" | "TensorIterator") {
        return true;
    }
    let attributes = Attributes {
        kind,
        opset,
        pairs: Vec::new(),
        inputs: 0,
    };
    // An error is about the attributes, which are not there: the operation itself is known.
    !matches!(crate::ops::parse(&attributes), Ok(None))
}

/// Why a layer of that type and version is not known, and what helps.
pub(super) fn why(kind: &str, version: &str) -> String {
    let kind = standard_name(kind);
    let Some(opset) = opset(version) else {
        return match version.strip_prefix("opset") {
            Some(_) => format!("there are operation sets opset1 to opset{NEWEST}"),
            None => "operations of extensions are not supported, standard ones of opset1 to opset16 are"
                .to_owned(),
        };
    };
    if matches!(kind, "Assign" | "ReadValue") {
        return "networks with a state are not supported; export the model so that the state is an input and an output"
            .to_owned();
    }
    let sets: Vec<u32> = (1..=NEWEST).filter(|&set| is_read(kind, set)).collect();
    if let (Some(first), Some(last)) = (sets.first(), sets.last()) {
        return format!("it is known in opset{first} to opset{last}, not in opset{opset}");
    }
    if let Some((_, first)) = STANDARD.iter().find(|(name, _)| *name == kind) {
        return format!("a standard operation since opset{first} that is not supported");
    }
    match similar(kind) {
        Some(name) => format!("there is no such operation; did you mean {name}?"),
        None => "there is no such operation".to_owned(),
    }
}

/// The operation that is read and whose name is most like `kind`.
fn similar(kind: &str) -> Option<&'static str> {
    if kind.len() > MAX_NAME {
        return None;
    }
    let lower = kind.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase());
    let known = STANDARD
        .iter()
        .filter(|(name, _)| (1..=NEWEST).any(|set| is_read(name, set)));
    let nearest = known.min_by_key(|(name, _)| distance(name))?;
    (distance(nearest.0) <= 1 + kind.len() / 4).then_some(nearest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_name_once() {
        assert!(STANDARD.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn an_unknown_operation_is_told_from_a_misspelt_one() {
        assert!(why("Convolutoin", "opset1").ends_with("did you mean Convolution?"));
        assert_eq!(why("Frobnicate", "opset1"), "there is no such operation");
        assert!(why("Add", "opset99").contains("opset1 to opset16"));
        assert!(why("Add", "extension").contains("extensions"));
        assert!(why("ReadValue", "opset6").contains("state"));
        assert_eq!(
            why("CTCLoss", "opset4"),
            "a standard operation since opset4 that is not supported"
        );
        assert_eq!(standard_name("softmax"), "SoftMax");
    }
}
