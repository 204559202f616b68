//! What became of every operation of the model, and why where it is not integer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use flow_model::tensor::ElementType;

/// What became of the operations of a model, in the order of the model. Constants are left out.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One entry per operation.
    pub layers: Vec<LayerReport>,
}

impl Report {
    /// The entry of the operation with that name.
    pub fn layer(&self, name: &str) -> Option<&LayerReport> {
        self.layers.iter().find(|l| &*l.name == name)
    }

    /// How many operations of that type there are, and how many of them run on 8-bit codes.
    pub fn count(&self, kind: &str) -> Count {
        let of_kind = self.layers.iter().filter(|l| l.kind == kind);
        of_kind.fold(Count::default(), |count, layer| Count {
            total: count.total + 1,
            integer: count.integer + usize::from(layer.is_integer()),
            removed: count.removed + usize::from(layer.fate == Fate::Removed),
        })
    }

    /// The operations that stay in floating point.
    pub fn float_layers(&self) -> impl Iterator<Item = &LayerReport> {
        self.layers.iter().filter(|l| l.reason.is_some())
    }
}

/// Operations of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All of them.
    pub total: usize,
    /// Those that run on 8-bit codes.
    pub integer: usize,
    /// Those that are gone, since they changed nothing or no output depends on them.
    pub removed: usize,
}

/// What became of one operation.
#[derive(Debug, Clone)]
pub struct LayerReport {
    /// Name of the layer in the model file.
    pub name: Arc<str>,
    /// Its line in the model file; 0 if the model is not from a file.
    pub line: u32,
    /// Type of the operation in the model.
    pub kind: &'static str,
    /// Element type the operation works on: `u8` or `i8` for one that runs on codes.
    pub precision: ElementType,
    /// Where the operation is now.
    pub fate: Fate,
    /// Why it stays in floating point; `None` where it does not.
    pub reason: Option<Reason>,
}

impl LayerReport {
    /// Whether the operation runs on 8-bit codes, alone or as part of another.
    pub fn is_integer(&self) -> bool {
        matches!(self.precision, ElementType::U8 | ElementType::I8) && self.reason.is_none()
    }
}

/// Where an operation of the model is in the rewritten graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A node of the same name does its work.
    Kept,
    /// It is part of the node of that name.
    FusedInto(Arc<str>),
    /// It changes nothing, or no output depends on it.
    Removed,
}

/// Why an operation stays in floating point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable short code.
    pub code: ReasonCode,
    /// What was found, with names and numbers.
    pub message: String,
    /// What to change so that it becomes integer, or why nothing need be changed.
    pub remedy: String,
}

impl Reason {
    /// A reason with the code's own remedy.
    pub(crate) fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            remedy: code.remedy().to_owned(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $remedy:literal;)*) => {
        /// Stable codes of [`Reason`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ReasonCode { $($(#[$doc])* $name,)* }

        impl ReasonCode {
            /// The code as it is printed.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What helps, in general.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

reason_codes! {
    /// The data input is not quantized.
    DataNotQuantized = "data-not-quantized",
        "quantize the model with a FakeQuantize in front of this input";
    /// The weights are not constant codes with scales.
    WeightsNotQuantized = "weights-not-quantized",
        "quantize the weights (FakeQuantize on a constant, or 8-bit constant with scale)";
    /// The weights' scales or zero points vary inside an output channel.
    WeightsGranularity = "weights-granularity",
        "use one scale and zero point per tensor or per output channel";
    /// A zero point of the weights lies between two codes.
    WeightsZeroPoint = "weights-zero-point",
        "choose weight limits whose zero is one of the levels";
    /// The zero point of the data lies between two codes or outside them where padding needs it.
    DataZeroPoint = "data-zero-point",
        "choose activation limits whose zero is one of the levels";
    /// The data's scale or zero point varies over channels that one sum mixes.
    DataGranularity = "data-granularity",
        "quantize this activation per tensor";
    /// An operation between the FakeQuantize and this one leaves the levels.
    DataOffGrid = "data-off-grid",
        "add a FakeQuantize behind that operation";
    /// FakeQuantize limits that are computed, not constant.
    DynamicLimits = "dynamic-limits",
        "export the model with constant FakeQuantize limits";
    /// FakeQuantize limits that vary over more than one axis.
    LimitsGranularity = "limits-granularity",
        "use limits per tensor or along one axis";
    /// More levels than an 8-bit code has.
    TooManyLevels = "too-many-levels",
        "quantize with at most 256 levels";
    /// FakeQuantize limits that are not finite, or an interval without width.
    DegenerateLimits = "degenerate-limits",
        "calibrate again with data that reach this layer";
    /// A sum could leave 32 bits.
    Accumulator = "accumulator-overflow",
        "split the layer along its input channels, or quantize its weights to fewer levels";
    /// A product of scales is zero or infinite in f32.
    ScaleRange = "scale-range",
        "calibrate again: scales this far from 1 point at a dead or exploding channel";
    /// A shape or padding is not known before the first input.
    DynamicShape = "dynamic-shape",
        "fix the input shape of the model";
    /// The operation mixes or reorders values along the axis over which scales vary.
    AxisNotKept = "axis-not-kept",
        "quantize this activation per tensor";
    /// The operation does not keep the order of values (a negative scale under a maximum).
    NotMonotonic = "not-monotonic",
        "use limits with low < high";
    /// The constant that the operation brings in is not one of the levels.
    ValueNotRepresentable = "value-not-representable",
        "choose limits that contain this value as a level";
    /// The inputs do not share one quantization.
    DifferentQuantization = "different-quantization",
        "give these inputs one shared FakeQuantize (unified scales)";
    /// The result is not quantized again, so it is needed in f32.
    ResultNotQuantized = "result-not-quantized",
        "add a FakeQuantize behind this operation";
    /// The codes of a FakeQuantize are of use to nobody.
    NoIntegerConsumer = "no-integer-consumer",
        "nothing is lost: the values are rounded in f32; quantize the operations behind it to have them in INT8";
    /// The operation runs a body as often as its inputs say.
    InBody = "in-body",
        "make the condition or the trip count constant, so that the body becomes part of the network";
    /// There is no integer form of the operation.
    NoIntegerForm = "no-integer-form",
        "nothing to change in the model: operations of this type are always computed in floating point";
    /// The options keep the operation in floating point.
    ByOption = "by-option",
        "remove it from the options to run it on codes";
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What passes note about the operations they touch, by name of the operation.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    fates: HashMap<Arc<str>, Fate>,
    reasons: HashMap<Arc<str>, Reason>,
    /// What the model's own arithmetic does at ties between FakeQuantizes.
    pub(crate) tables: crate::literal_tables::Tables,
}

impl Notes {
    /// Notes where the operation went.
    pub(crate) fn moved(&mut self, name: &Arc<str>, fate: Fate) {
        self.fates.insert(name.clone(), fate);
    }

    /// Notes why the operation is not integer. The first reason stands: it is the cause of later ones.
    pub(crate) fn stays_float(&mut self, name: &Arc<str>, reason: Reason) {
        self.reasons.entry(name.clone()).or_insert(reason);
    }

    /// Where the operation went, if a pass moved it.
    pub(crate) fn fate(&self, name: &str) -> Option<&Fate> {
        self.fates.get(name)
    }

    /// Why the operation is not integer, if a pass said so.
    pub(crate) fn reason(&self, name: &str) -> Option<&Reason> {
        self.reasons.get(name)
    }
}
