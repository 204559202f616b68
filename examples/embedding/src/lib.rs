//! flowrun inside a program: the inference engine alone ([`classify`]), and a whole pipeline
//! ([`run_pipeline`]).
#![deny(missing_docs)]

use std::path::Path;

use flow::config;
use flow::runtime::{self, RunOptions, RunReport};
use flow_frame::{ColorOrder, Layout, Pool};
use flow_inference::{Engine, Input, Options, Port};
use flow_model::{ElementType, Tensor};
use flow_postprocess::classify::rank;
use flow_preprocess::{Filter, FrameToTensor, Normalization, SampleMap, Target};

/// Any error; its text says what to do.
pub type Error = Box<dyn std::error::Error>;

/// Runs a picture through a network that takes one RGB image, and gives the `top` best (index, score) of its
/// first output. Samples become `(sample - mean) / scale` first; a network with a `u8` input takes them rounded.
///
/// # Errors
/// If the model or the picture cannot be read, or the network's input is no image.
pub fn classify(
    model: &Path,
    picture: &Path,
    mean: f32,
    scale: f32,
    top: usize,
) -> Result<Vec<(usize, f32)>, Error> {
    let options = Options {
        batch: Some(1),
        ..Options::default()
    };
    // Read, transformed to INT8 and compiled once. Clones share it; each thread runs a session of its own.
    let engine = Engine::load(model, &options)?;
    let mut session = engine.session();

    let bytes = std::fs::read(picture).map_err(|e| format!("{}: {e}", picture.display()))?;
    let codec = flow_decode::picture_codec(&bytes)
        .ok_or_else(|| format!("{}: expected JPEG, PNG, BMP or PNM", picture.display()))?;
    let pool = Pool::new(2);
    let frame = flow_decode::decode_picture(codec, &bytes, &pool)?;

    let normalization = Normalization {
        mean: [mean; 3],
        scale: [scale; 3],
    };
    let [input] = engine.inputs() else {
        return Err(format!(
            "expected a network with one input, found {}",
            engine.inputs().len()
        )
        .into());
    };
    let target = image(input, normalization)?;
    let mut transform = FrameToTensor::stretching(target, Filter::Bilinear, pool);
    let (tensor, _geometry) = transform.run(&frame)?;

    session.run(&[Input::Values(&tensor.data)])?;

    let output = engine.outputs().first().ok_or("the network has no output")?;
    let scores = Tensor::new(
        output.element_type,
        session.output_shape(0).to_vec(),
        session.output(0),
    )?;
    Ok(rank(&scores.to_f32(), top))
}

/// The tensor that an image input takes: `[1, 3, height, width]` or `[1, height, width, 3]`.
fn image(input: &Port, normalization: Normalization) -> Result<Target, Error> {
    let (layout, height, width) = match input.shape[..] {
        [1, 3, height, width] => (Layout::Nchw, height, width),
        [1, height, width, 3] => (Layout::Nhwc, height, width),
        ref other => {
            return Err(format!("input {}: expected one RGB image, found {other:?}", input.name).into());
        }
    };
    let map = match input.element_type {
        ElementType::F32 => SampleMap::float(normalization),
        ElementType::U8 => SampleMap::rounded(normalization),
        other => return Err(format!("input {}: expected f32 or u8, found {other}", input.name).into()),
    };
    Ok(Target {
        size: (u32::try_from(width)?, u32::try_from(height)?),
        color: ColorOrder::Rgb,
        layout,
        map,
        quantization: None,
    })
}

/// Runs a pipeline file's text to its end, with every kind that the `flowrun` command knows. Relative paths
/// count from the working directory.
///
/// # Errors
/// What is wrong with the text, with line, column and advice; or why the pipeline could not start. A pipeline
/// that starts and fails gives a report with an exit code above 0.
pub fn run_pipeline(yaml: &str) -> Result<RunReport, Error> {
    let registry = flowrun::registry();
    let document = config::parse("pipeline.yaml", yaml.as_bytes(), &config::Options::default())?;
    let checked = config::check(&document, &registry)?;
    let prepared = config::prepare(&checked.pipeline, &registry)?;
    Ok(runtime::run(prepared, &RunOptions::default())?)
}
