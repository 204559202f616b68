//! Errors of quantization.

/// Why a network could not be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The network is quantized already.
    #[error(
        "layer \"{layer}\" is a FakeQuantize: the network is quantized already. Expected a network in floating point; \
         quantize the one that this was made from"
    )]
    AlreadyQuantized {
        /// Its first FakeQuantize.
        layer: String,
    },
    /// An input has an axis of open length.
    #[error(
        "input \"{input}\" is {shape}: calibration needs fixed shapes. State one, as in --shape \"{input}{example}\""
    )]
    OpenShape {
        /// Name of the input.
        input: String,
        /// Its shape.
        shape: String,
        /// A shape that would do.
        example: String,
    },
    /// Nothing can be quantized.
    #[error("nothing to quantize: {0}")]
    Nothing(String),
    /// Two networks cannot be compared.
    #[error("the networks cannot be compared: {0}. Compare a network with one that was made from it")]
    Different(String),
    /// There are too few samples.
    #[error("{found} usable {}, but calibration needs at least {needed}. {help}", if *found == 1 { "sample" } else { "samples" })]
    TooFewSamples {
        /// Samples that can be used.
        found: usize,
        /// Least number.
        needed: usize,
        /// What to do.
        help: String,
    },
    /// A sample does not fit, or cannot be read.
    #[error("sample {index} ({name}): {message}")]
    Sample {
        /// Its place in the data, from 0.
        index: usize,
        /// What it is called.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A value in the network is not finite.
    #[error(
        "sample {index} ({name}): layer \"{layer}\" gives {found} values that are not finite. Check the preprocessing \
         (mean, scale, colour order) and that the network computes finite values on this sample, or leave the layer \
         out with --ignore"
    )]
    NotFinite {
        /// Place of the sample in the data, from 0.
        index: usize,
        /// What the sample is called.
        name: String,
        /// The layer.
        layer: String,
        /// How many values.
        found: usize,
    },
    /// A weight is not finite.
    #[error(
        "the weights of layer \"{layer}\" hold values that are not finite. Repair the network, or leave the layer out with --ignore"
    )]
    WeightNotFinite {
        /// The layer.
        layer: String,
    },
    /// What is to be left out does not exist.
    #[error("--ignore {0}: no layer has that name or type, or matches that pattern")]
    UnknownIgnored(String),
    /// A pattern of layers is none.
    #[error("--ignore {pattern}: {message}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        message: String,
    },
    /// The metric cannot be computed.
    #[error("metric {metric}: {message}")]
    Metric {
        /// Its name.
        metric: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// What is known so far cannot be kept.
    #[error("cannot keep the calibration so far in {path}: {message}")]
    Kept {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
    /// The caller stopped it.
    #[error("stopped")]
    Stopped,
    /// A thread that ran samples panicked.
    #[error(
        "a thread that ran samples panicked: {0}. This is a defect of the program; please report it with the model"
    )]
    Panicked(String),
    /// The graph that came out does not fit together.
    #[error(transparent)]
    Model(#[from] flow_model::ModelError),
    /// The network cannot be compiled.
    #[error(transparent)]
    Compile(#[from] flow_cpu::CompileError),
    /// Low precision transformations failed.
    #[error(transparent)]
    Lpt(#[from] flow_lpt::LptError),
    /// The network failed on a sample.
    #[error("sample {index} ({name}): {source}")]
    Run {
        /// Place of the sample in the data, from 0.
        index: usize,
        /// What the sample is called.
        name: String,
        /// Why.
        #[source]
        source: flow_cpu::RunError,
    },
}

impl QuantizeError {
    /// The same of a sample that stands `by` places later.
    pub(crate) fn later_by(mut self, by: usize) -> Self {
        if let Self::Sample { index, .. } | Self::NotFinite { index, .. } | Self::Run { index, .. } =
            &mut self
        {
            *index += by;
        }
        self
    }
}
