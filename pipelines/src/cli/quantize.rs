//! Arguments of `flowrun model quantize` and `flowrun model compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use flow_inference::InputShape;

/// What samples a command takes, and how.
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Samples: a folder of pictures, clips or .npy files, a pattern such as `shots/*.jpg`, a picture or a
    /// clip. May be repeated. A model with several inputs takes folders `DIR/NAME/` with a .npy per sample and input, in
    /// order.
    #[arg(long, value_name = "PATH", required = true)]
    pub data: Vec<String>,
    /// Take another sample of each stretch of the data than its first one; the same seed takes the same.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Shape of an input, where the model leaves axes open: `[1,3,224,224]`, or `NAME[1,3,224,224]` where there are
    /// several inputs.
    #[arg(long, value_name = "SHAPE", value_parser = super::input_shape)]
    pub shape: Vec<InputShape>,
    /// How a picture becomes the input: a YAML file with the keys of a `resize` or `letterbox` stage (and `type`), such a
    /// mapping itself (`{type: letterbox, mean: 127, scale: 128}`), or a pipeline file that runs the model. Without it pictures
    /// are stretched to the input and their values taken as they are, from 0 to 255.
    #[arg(long, value_name = "FILE.yaml")]
    pub preprocess: Option<String>,
    /// Threads to run on; the CPUs this process may use by default.
    #[arg(long, value_parser = at_least_one)]
    pub threads: Option<usize>,
}

/// Arguments of `model quantize`.
#[derive(Debug, Args)]
pub struct Quantize {
    /// The model in floating point: OpenVINO IR (.xml with its .bin beside it).
    pub model: PathBuf,
    #[command(flatten)]
    pub samples: SampleArgs,
    /// Write the quantized model to this .xml and the .bin beside it, each when it is whole. They are written too where
    /// --max-drop does not hold, which exit code 4 tells.
    #[arg(short, long, value_name = "FILE.xml")]
    pub output: PathBuf,
    /// Intervals of activations: around zero, or with a zero point where something is negative.
    #[arg(long, value_enum, default_value_t = PresetName::Performance)]
    pub preset: PresetName,
    /// Samples to calibrate on, spread evenly over the data; each frame of a clip is one.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = at_least_one)]
    pub subset: usize,
    /// Leave layers in floating point: a name, a type of operation, or a regular expression for whole names. May be
    /// repeated.
    #[arg(long, value_name = "LAYER|TYPE|REGEX")]
    pub ignore: Vec<String>,
    /// How ranges of activations are found: least-error[:POWER], mse, mean, extreme, median, mean-no-outliers[:SHARE] or
    /// quantile[:SHARE].
    #[arg(long, value_name = "NAME", default_value = "least-error", value_parser = estimator)]
    pub estimator: flow_quantize::Estimator,
    /// How biases are corrected.
    #[arg(long, value_enum, default_value_t = BiasName::Fast)]
    pub bias: BiasName,
    /// How ranges of weights are found.
    #[arg(long, value_enum, default_value_t = WeightRangeName::Extreme)]
    pub weights: WeightRangeName,
    /// Round each weight up or down by what that does to the output of its layer on the samples, in place of to the nearest
    /// code. Takes a multiple of the time.
    #[arg(long)]
    pub adaround: bool,
    /// Make channels of a value alike before it is quantized, by factors that the weights behind it take back: from 0, as
    /// these weights would have it, to 1, as the values would. 0.5 where no number is given; it needs a `=` before it.
    #[arg(long, value_name = "ALPHA", num_args = 0..=1, require_equals = true, default_missing_value = "0.5", value_parser = alpha)]
    pub equalize: Option<f32>,
    /// Weights that use half of their range, for machines whose 8-bit sums saturate. flowrun's never do.
    #[arg(long, value_enum, default_value_t = OverflowName::None)]
    pub overflow_fix: OverflowName,
    /// Quantize what stands behind the last weights as well, as NNCF does.
    #[arg(long)]
    pub quantize_tail: bool,
    /// Store weights as i8 codes with scales, or as rounded f32 values.
    #[arg(long, value_enum, default_value_t = StorageName::I8)]
    pub store: StorageName,
    /// Take layers back to floating point until the score on samples that calibration does not see is at most this much
    /// below that of the f32 model.
    #[arg(long, value_name = "DROP", allow_negative_numbers = true)]
    pub max_drop: Option<f64>,
    /// Try both presets with several estimators, with and without correction of biases, and keep what scores best by
    /// --metric on half of the samples held out.
    #[arg(long)]
    pub search: bool,
    /// What the score is, for --max-drop and --search: `nmse` (1 less the mean square error against f32), `agreement` (share of output
    /// values near those of f32), `top1` (share of samples whose best class is that of f32, or with --truth the true one),
    /// `map` (mean average precision of boxes against those of f32, or with --truth the true ones, over IoU 0.5 to 0.95) or
    /// `map50` (the same at IoU 0.5); or a command that prints a number, higher is better, for the model at $MODEL.
    #[arg(long, value_name = "METRIC", default_value = "nmse")]
    pub metric: String,
    /// What is true, for `top1` a text file with a line `PICTURE CLASS` each, for `map` JSON lines as sink `jsonl` writes them
    /// (`origin` names the picture, `seq` the frame of a clip) or COCO's annotations.
    #[arg(long, value_name = "FILE", requires = "metric")]
    pub truth: Option<PathBuf>,
    /// How boxes are read off the outputs, for `map`: the keys of a `detect` stage as --preprocess takes those of `resize`.
    /// Without it, the pipeline of --preprocess says so.
    #[arg(long, value_name = "FILE.yaml", requires = "metric")]
    pub detect: Option<String>,
    /// Samples the score is measured on, none of them used to calibrate.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = at_least_one)]
    pub held_out: usize,
    /// Write a page with layers, accuracy and what was decided.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Print what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `model compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The first model, usually in f32: OpenVINO IR.
    pub first: PathBuf,
    /// The second, usually made from it.
    pub second: PathBuf,
    #[command(flatten)]
    pub samples: SampleArgs,
    /// Samples to compare on, spread evenly over the data.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub subset: usize,
    /// Write a page with a plot of the layers.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(e) => Err(format!("{e}; expected a whole number from 1")),
    }
}

fn alpha(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(alpha) if (0.0..=1.0).contains(&alpha) => Ok(alpha),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn estimator(text: &str) -> Result<flow_quantize::Estimator, String> {
    flow_quantize::Estimator::from_name(text)
}

/// Intervals of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PresetName {
    /// Around zero.
    Performance,
    /// With a zero point where something is negative.
    Mixed,
}

/// Correction of biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BiasName {
    /// None.
    None,
    /// Each operation by itself.
    Fast,
    /// One operation after another, on what the corrected ones give.
    Full,
}

/// Ranges of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightRangeName {
    /// The greatest magnitude of each output channel.
    Extreme,
    /// The least mean square error.
    Mse,
}

/// Weights with half of their range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverflowName {
    /// None.
    None,
    /// Those behind the inputs.
    First,
    /// All.
    All,
}

/// Storage of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StorageName {
    /// i8 codes, a Convert and a Multiply.
    I8,
    /// f32 values and a FakeQuantize.
    F32,
}
