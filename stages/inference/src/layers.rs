//! Where the time of a network goes, step by step.

use std::time::{Duration, Instant};

use flow_cpu::Input;
use flow_model::ElementType;
use serde::{Deserialize, Serialize};

use crate::benchmark::arbitrary_inputs;
use crate::engine::Engine;
use crate::error::EngineError;

/// Times of the steps, beside what the machine reached in the same run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerTimes {
    /// Instruction set of the kernels.
    pub isa: String,
    /// Most multiply-accumulates of 8 bits on registers, in 10^9 per second.
    pub peak_u8: f64,
    /// The same of f32.
    pub peak_f32: f64,
    /// Runs that the times are the mean of.
    pub runs: usize,
    /// Time of a run, in microseconds.
    pub total_us: f64,
    /// Steps, in the order they run.
    pub layers: Vec<LayerTime>,
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerTime {
    /// Name of the operation whose work it is.
    pub name: String,
    /// Kernel.
    pub kernel: String,
    /// Mean time, in microseconds.
    pub us: f64,
    /// 10^9 multiply-accumulates per second; none for a step without.
    pub gmacs: Option<f64>,
    /// The same in percent of the peak of its precision.
    pub percent_of_peak: Option<f64>,
    /// Bytes of inputs, weights and outputs.
    pub bytes: u64,
}

/// Runs the network on arbitrary input for a while, and takes the time of each step; `None` where it does not run on the
/// CPU, or not in one shape.
///
/// # Errors
/// [`EngineError`] where a run fails.
pub fn layer_times(engine: &Engine, duration: Duration) -> Result<Option<LayerTimes>, EngineError> {
    let Some(program) = engine.program() else {
        return Ok(None);
    };
    let before = program.peak();
    let inputs = arbitrary_inputs(engine);
    let slices: Vec<Input<'_>> = inputs.iter().map(|b| Input::Values(b)).collect();
    let mut session = engine.profiled_session();
    (0..3).try_for_each(|_| session.run(&slices))?;
    session.clear_profile();
    let (start, mut runs) = (Instant::now(), 0);
    while runs == 0 || start.elapsed() < duration {
        session.run(&slices)?;
        runs += 1;
    }
    let after = program.peak();
    let [peak_u8, peak_f32] = [0, 1].map(|i: usize| before[i].max(after[i]) / 1e9);
    let times = session.profile().map(crate::Profile::mean).unwrap_or_default();
    let layers: Vec<LayerTime> = program
        .steps()
        .iter()
        .zip(&times)
        .map(|(step, time)| {
            let seconds = time.real.as_secs_f64();
            let gmacs = (step.macs > 0 && seconds > 0.0).then(|| step.macs as f64 / seconds / 1e9);
            let peak = match step.precision {
                ElementType::U8 | ElementType::I8 => peak_u8,
                _ => peak_f32,
            };
            LayerTime {
                name: step.name.to_string(),
                kernel: step.kernel.clone(),
                us: seconds * 1e6,
                gmacs,
                percent_of_peak: gmacs.map(|g| 100.0 * g / peak),
                bytes: step.bytes,
            }
        })
        .collect();
    Ok(Some(LayerTimes {
        isa: program.isa().name().to_owned(),
        peak_u8,
        peak_f32,
        runs,
        total_us: layers.iter().map(|l| l.us).sum(),
        layers,
    }))
}
