//! How boxes are read off the outputs of a network: `--detect`, or the pipeline of `--preprocess`.

use std::collections::BTreeMap;
use std::path::Path;

use flow::registry::PrepareContext;
use flow_postprocess::Labels;
use flow_postprocess::detect::DetectConfig;

use super::keys::{Keys, configured};
use crate::cli::Quantize;
use crate::failure::Failure;

/// The keys of a `detect` stage, and the names of its classes.
pub fn read(args: &Quantize) -> Result<(DetectConfig, Labels), Failure> {
    let (argument, option) = match (&args.detect, &args.samples.preprocess) {
        (Some(text), _) => (text, "--detect"),
        (None, Some(text)) => (text, "--preprocess"),
        (None, None) => return Err(missing(args)),
    };
    let fault = |what: String| Failure::usage(format!("{option} {argument}: {what}"));
    let (config, folder) = match Keys::read(option, argument, &args.model)? {
        Keys::Mapping(_) if option == "--preprocess" => return Err(missing(args)),
        Keys::Mapping(keys) => (
            configured(keys, &["detect"], "detect").map_err(fault)?,
            Path::new("").to_path_buf(),
        ),
        Keys::Pipeline(around) => (
            around.detect(&args.model).map_err(fault)?,
            around.folder().to_path_buf(),
        ),
    };
    let config = config
        .downcast_ref::<DetectConfig>()
        .cloned()
        .ok_or_else(|| fault("expected a stage of type `detect`".to_owned()))?;
    let context = PrepareContext {
        name: "detect",
        folder: &folder,
        models: &BTreeMap::new(),
        downstream: &[],
        streams: &[],
        replicas: 1,
        threads: 1,
        batch: None,
    };
    let labels = Labels::load(config.labels.as_ref(), &context).map_err(|e| fault(e.message))?;
    Ok((config, labels))
}

fn missing(args: &Quantize) -> Failure {
    Failure::usage(format!(
        "--metric {}: nothing says how boxes are read off the outputs. Name a pipeline that runs the model as --preprocess, or \
         give the keys of a `detect` stage, as in --detect '{{format: fastestdet, threshold: 0.5}}'",
        args.metric
    ))
}
