//! One network compiled for each length of a batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use flow::config::plan::BatchSpec;
use flow::error::Code;

use crate::engine::{Engine, Options, Port};
use crate::error::EngineError;

/// The network in every length that batches come in, shared by all replicas.
pub(super) struct Networks {
    /// As the model was loaded: with its own batch, or 1.
    base: Engine,
    /// Lengths and their networks. Whoever needs a new length compiles it while the others wait.
    compiled: Mutex<BTreeMap<usize, Engine>>,
    options: Options,
    spec: Option<BatchSpec>,
    /// The only length of a model that states one other than 1.
    fixed: Option<usize>,
}

/// Why a network runs no batches, as a code and what to say.
pub(super) type Refusal = (Code, String);

impl Networks {
    /// Compiles every length in `sizes`; others when a batch of that length comes.
    ///
    /// # Errors
    /// `E0655` where the outputs do not follow the batch, `E0656` where the model states a batch that does not go with
    /// `spec`; what the engine says where it cannot compile a length.
    pub(super) fn new(base: Engine, options: Options, spec: Option<BatchSpec>) -> Result<Self, Refusal> {
        let stated = base.inputs().first().and_then(|port| port.shape.first().copied());
        let fixed = stated.filter(|n| *n > 1 && spec.is_some());
        let networks = Self {
            base,
            compiled: Mutex::default(),
            options,
            spec,
            fixed,
        };
        let Some(spec) = &networks.spec else {
            return Ok(networks);
        };
        if let Some(fixed) = fixed
            && (spec.max > fixed || spec.sizes.iter().any(|size| *size != fixed))
        {
            let message = format!(
                "the model runs {fixed} at a time, but the batch is max {} with sizes {:?}; say `batch: {{max: {fixed}}}`",
                spec.max, spec.sizes
            );
            return Err((Code("E0656"), message));
        }
        let eager: Vec<usize> = match fixed {
            Some(fixed) => vec![fixed],
            // The longest at least: whether batches go at all is said before anything runs.
            None if spec.sizes.is_empty() => vec![spec.max],
            None => spec.sizes.clone(),
        };
        for length in eager {
            let engine = networks.engine(length).map_err(|e| (e.code(), e.to_string()))?;
            for port in engine.outputs() {
                if port.shape.first().is_none_or(|n| *n != 0 && n % length != 0) {
                    let message = format!(
                        "the output \"{}\" is {:?} for a batch of {length}: it cannot be told which part belongs to \
                         which packet; remove `batch`",
                        port.name, port.shape
                    );
                    return Err((Code("E0655"), message));
                }
            }
        }
        Ok(networks)
    }

    /// The length that so many tensors run at.
    pub(super) fn length(&self, tensors: usize) -> usize {
        let padded = |spec: &BatchSpec| spec.padded(tensors);
        self.fixed.or_else(|| self.spec.as_ref().map(padded)).unwrap_or(1)
    }

    /// The longest length.
    pub(super) fn longest(&self) -> usize {
        let max = self.spec.as_ref().map_or(1, |spec| spec.max);
        self.fixed.unwrap_or(max)
    }

    /// The network for that length.
    pub(super) fn engine(&self, length: usize) -> Result<Engine, EngineError> {
        if length == 1 && self.fixed.is_none() || self.fixed == Some(length) || self.spec.is_none() {
            return Ok(self.base.clone());
        }
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = compiled.get(&length) {
            return Ok(engine.clone());
        }
        let options = Options {
            shapes: Vec::new(),
            batch: None,
            reshape_batch: Some(length),
            ..self.options.clone()
        };
        let engine = Engine::from_graph(self.base.path(), self.base.original().clone(), &options)?;
        let ms = engine.timing().compile.as_secs_f64() * 1e3;
        tracing::info!(model = %self.base.path().display(), length, ms, "network compiled for a batch");
        compiled.insert(length, engine.clone());
        Ok(engine)
    }

    /// The input of the network, for one tensor.
    pub(super) fn input(&self) -> Option<Port> {
        let [input] = self.base.inputs() else {
            return None;
        };
        let mut input = input.clone();
        if self.fixed.is_some() {
            if let Some(axis) = input.shape.first_mut() {
                *axis = 1;
            }
            if let Some(axis) = input.partial_shape.first_mut() {
                *axis = Some(1);
            }
        }
        Some(input)
    }

    pub(super) fn base(&self) -> &Engine {
        &self.base
    }
}

/// Shared by the replicas.
pub(super) type SharedNetworks = Arc<Networks>;
