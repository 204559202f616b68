//! Options of quantization from the command line.

use flow_model::Graph;
use flow_quantize::{BiasCorrection, OverflowFix, Preset, WeightRange, WeightStorage};

use super::preprocess::Preprocess;
use super::samples::Samples;
use crate::cli::{BiasName, OverflowName, PresetName, Quantize, StorageName, WeightRangeName};

/// The number of threads that an option states, or all that there are.
pub fn threads(stated: Option<usize>) -> usize {
    stated.unwrap_or(flow_quantize::Options::default().threads)
}

/// The options that the arguments state.
pub fn options(
    args: &Quantize,
    graph: &Graph,
    samples: &Samples,
    preprocess: &Preprocess,
) -> flow_quantize::Options {
    // Samples of a picture are 256 values already: nothing is lost where these are the levels.
    let input = graph.parameters.first().map(|&id| &graph.node(id).outputs[0]);
    let float = input.is_some_and(|info| info.element_type.is_float());
    let known = samples.pictures && graph.parameters.len() == 1 && float;
    flow_quantize::Options {
        preset: match args.preset {
            PresetName::Performance => Preset::Performance,
            PresetName::Mixed => Preset::Mixed,
        },
        estimator: args.estimator,
        weight_range: match args.weights {
            WeightRangeName::Extreme => WeightRange::Extreme,
            WeightRangeName::Mse => WeightRange::Mse,
        },
        adaround: args.adaround,
        bias: match args.bias {
            BiasName::None => BiasCorrection::None,
            BiasName::Fast => BiasCorrection::Fast,
            BiasName::Full => BiasCorrection::Full,
        },
        overflow_fix: match args.overflow_fix {
            OverflowName::None => OverflowFix::None,
            OverflowName::First => OverflowFix::First,
            OverflowName::All => OverflowFix::All,
        },
        ignore: args.ignore.clone(),
        quantize_tail: args.quantize_tail,
        inputs: vec![preprocess.levels().filter(|_| known)],
        storage: match args.store {
            StorageName::I8 => WeightStorage::I8,
            StorageName::F32 => WeightStorage::F32,
        },
        threads: threads(args.samples.threads),
    }
}
