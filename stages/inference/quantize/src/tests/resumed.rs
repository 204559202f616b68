//! Calibrations that were interrupted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flow_model::{Graph, ir};

use crate::testing::{Net, samples};
use crate::{
    BiasCorrection, Checkpoint, Estimator, Options, Progress, QuantizeError, Silent, prepare, quantize,
    quantize_on,
};

const SHAPE: [usize; 4] = [1, 3, 6, 6];
/// More than two blocks.
const SAMPLES: usize = 150;

fn network() -> Graph {
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let a = net.conv("a", x, 4);
    let a = net.relu("a/relu", a);
    let d = net.depthwise("d", a);
    let c = net.conv("c", d, 4);
    prepare(&net.result(&[c])).unwrap()
}

#[derive(Default)]
struct Memory {
    parts: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Checkpoint for Memory {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        self.parts.lock().unwrap().get(name).cloned()
    }

    fn save(&self, name: &str, bytes: Vec<u8>) -> Result<(), QuantizeError> {
        self.parts.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }
}

/// Stops after so many steps, and counts how often it is asked whether to: once per sample that is run.
struct Patience {
    left: AtomicUsize,
    asked: AtomicUsize,
}

impl Patience {
    fn of(steps: usize) -> Self {
        Self {
            left: AtomicUsize::new(steps),
            asked: AtomicUsize::new(0),
        }
    }
}

impl Progress for Patience {
    fn phase(&self, _: &str, _: usize) {}
    fn step(&self) {}
    fn stopped(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let less = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_err()
    }
}

#[test]
fn an_interrupted_calibration_goes_on_and_comes_to_the_same() {
    let (graph, data) = (network(), samples(&SHAPE, SAMPLES));
    for (estimator, bias) in [
        (Estimator::LeastError(2.0), BiasCorrection::Fast),
        (Estimator::Mean, BiasCorrection::Full),
        (Estimator::Quantile(0.01), BiasCorrection::Fast),
    ] {
        let options = Options {
            estimator,
            bias,
            threads: 2,
            ..Options::default()
        };
        let whole = ir::to_bytes(&quantize(&graph, &data, &options, &Silent).unwrap().graph).unwrap();
        let memory = Memory::default();
        let mut interrupted = 0;
        let resumed = loop {
            let patience = Patience::of(100);
            match quantize_on(&graph, &data, &options, &patience, &memory) {
                Ok(quantized) => break quantized,
                Err(QuantizeError::Stopped) => interrupted += 1,
                Err(e) => panic!("{e}"),
            }
            assert!(interrupted < 10, "it gets no further: {estimator:?}");
        };
        assert!(interrupted >= 2, "{interrupted} with {estimator:?}");
        assert!(ir::to_bytes(&resumed.graph).unwrap() == whole, "{estimator:?}");
        // What is known need not be looked at again.
        let patience = Patience::of(usize::MAX);
        quantize_on(&graph, &data, &options, &patience, &memory).unwrap();
        let means = if bias == BiasCorrection::Full { 48 } else { 0 };
        assert_eq!(patience.asked.into_inner(), means, "{estimator:?}");
    }
}

#[test]
fn what_was_kept_and_makes_no_sense_is_left_alone() {
    let (graph, data) = (network(), samples(&SHAPE, 3));
    let options = Options::default();
    let memory = Memory::default();
    quantize_on(&graph, &data, &options, &Silent, &memory).unwrap();
    let whole = quantize(&graph, &data, &options, &Silent).unwrap();
    for bytes in memory.parts.lock().unwrap().values_mut() {
        bytes.truncate(bytes.len() / 2);
    }
    let again = quantize_on(&graph, &data, &options, &Silent, &memory).unwrap();
    assert!(ir::to_bytes(&again.graph).unwrap() == ir::to_bytes(&whole.graph).unwrap());
}
