//! The `infer` stage: a tensor in, the outputs of a network out.

mod networks;
mod run;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::error::{Code, PrepareError};
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Stage;
use flow_frame::{DType, InputQuantization, Layout, TENSOR, TENSORS, TensorSpec};
use flow_model::ElementType;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::device::DeviceRequest;
use crate::engine::{Engine, Options, Port};
use crate::error::EngineError;
use crate::shapes::InputShape;
use networks::Networks;
use run::Infer;

/// Runs a network on each tensor. Replicas share one compiled network.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InferConfig {
    /// Name of a model of the `models` section, or path of the .xml file of an OpenVINO IR.
    pub model: String,
    /// Device: `CPU`, or `REF` for the reference evaluator. `AUTO`, `MULTI` and `HETERO` over a list, such as
    /// `AUTO:GPU,CPU`, fall back to what is there.
    #[serde(default = "cpu")]
    pub device: String,
    /// Where a quantized network rounds: `literal` at every FakeQuantize, `openvino` as OpenVINO's CPU plugin.
    #[serde(default)]
    pub numerics: NumericsConfig,
    /// Apply low precision transformations; `false` runs a quantized network in f32.
    #[serde(default = "yes")]
    pub lpt: bool,
    /// Shape of the input, where the model leaves axes open: `[1, 3, 320, 320]`. Without it the batch is 1, and
    /// the network is compiled anew whenever a tensor of a new size comes; the last few sizes are kept.
    #[serde(default)]
    pub shape: Option<Vec<usize>>,
}

fn cpu() -> String {
    "CPU".into()
}
fn yes() -> bool {
    true
}

/// Where a quantized network rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NumericsConfig {
    /// At every FakeQuantize.
    #[default]
    Literal,
    /// As OpenVINO's CPU plugin.
    Openvino,
}

impl From<NumericsConfig> for flow_lpt::Numerics {
    fn from(value: NumericsConfig) -> Self {
        match value {
            NumericsConfig::Literal => Self::Literal,
            NumericsConfig::Openvino => Self::OpenVino,
        }
    }
}

impl Config for InferConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        match device(&self.device) {
            Ok(_) => Vec::new(),
            Err(e) => vec![ConfigIssue {
                code: e.code(),
                key: "device".into(),
                message: e.to_string(),
                help: Some("set `device: CPU`".into()),
            }],
        }
    }
}

/// The device of a configuration. Batches are put together before the stage, not on the device.
fn device(text: &str) -> Result<DeviceRequest, EngineError> {
    let request: DeviceRequest = text.parse()?;
    match request.batch {
        Some(batch) if batch > 1 => Err(EngineError::DeviceSyntax {
            request: request.text,
            message: "batches of a stage are put together before it; say `batch: {max: N}` instead".into(),
        }),
        _ => Ok(request),
    }
}

/// Registers the kind.
pub fn register(registry: &mut Registry) {
    registry.stage::<InferConfig>(
        KindInfo {
            name: "infer",
            summary: "Runs a network: OpenVINO IR, INT8 or f32",
            ports: flow::ports::Ports {
                takes: &[TENSOR],
                gives: &[TENSORS],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &InferConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let failed = |key: &str, e: &EngineError| PrepareError::new(e.code(), key, e.to_string());
    let request = device(&config.device).map_err(|e| failed("device", &e))?;
    for note in &request.notes {
        tracing::warn!(stage = cx.name, "{note}");
    }
    let (path, sha256) = match cx.models.get(&config.model) {
        Some(model) => (cx.resolve(&model.path), model.sha256.as_deref()),
        None => (cx.resolve(Path::new(&config.model)), None),
    };
    if let Some(expected) = sha256 {
        check_sha256(&path, expected).map_err(|e| failed("model", &e))?;
    }
    let options = Options {
        device: request.device,
        numerics: config.numerics.into(),
        lpt: config.lpt,
        shapes: config
            .shape
            .iter()
            .map(|shape| InputShape::fixed(shape))
            .collect(),
        batch: Some(1),
        threads: cx.threads,
        ..Options::default()
    };
    let engine = Engine::load(&path, &options).map_err(|e| {
        let error = failed("model", &e);
        if path.exists() || cx.models.is_empty() {
            error
        } else {
            let names: Vec<&str> = cx.models.keys().map(String::as_str).collect();
            error.help(format!("the models section names: {}", names.join(", ")))
        }
    })?;
    let timing = engine.timing();
    tracing::info!(
        stage = cx.name,
        model = %path.display(),
        read_ms = timing.read.as_secs_f64() * 1e3,
        lpt_ms = timing.lpt.as_secs_f64() * 1e3,
        compile_ms = timing.compile.as_secs_f64() * 1e3,
        "network ready"
    );
    let [input] = engine.inputs() else {
        return Err(PrepareError::new(
            Code("E0646"),
            "model",
            format!(
                "{}: the network has {} inputs, expected one",
                path.display(),
                engine.inputs().len()
            ),
        ));
    };
    let unfit = unsupported(&path, input);
    let networks = Networks::new(engine, options, cx.batch.cloned())
        .map_err(|(code, message)| PrepareError::new(code, "batch", message))?;
    let wants = networks.input().as_ref().and_then(spec).ok_or(unfit)?;
    let mut outputs = Vec::new();
    for port in networks.base().outputs() {
        let dtype = dtype(port.element_type).ok_or_else(|| unsupported(&path, port))?;
        outputs.push((port.name.clone(), dtype));
    }
    let outputs: Arc<[(Arc<str>, DType)]> = outputs.into();
    let (networks, build_spec) = (Arc::new(networks), wants.clone());
    let part = Prepared::<dyn Stage>::new(move |_| {
        Ok(Box::new(Infer::new(
            networks.clone(),
            build_spec.clone(),
            outputs.clone(),
        )))
    });
    Ok(part.batching().wants(Arc::new(wants)))
}

fn unsupported(path: &Path, port: &Port) -> PrepareError {
    PrepareError::new(
        Code("E0647"),
        "model",
        format!(
            "{}: \"{}\" is of type {}, expected one of f32, u8, i8, i32, i64",
            path.display(),
            port.name,
            port.element_type
        ),
    )
}

fn check_sha256(path: &Path, expected: &str) -> Result<(), EngineError> {
    use sha2::Digest;
    let bytes = std::fs::read(path).map_err(|source| EngineError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let digest = sha2::Sha256::digest(&bytes);
    let found: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(EngineError::Checksum {
            path: PathBuf::from(path),
            expected: expected.to_owned(),
            found,
        })
    }
}

fn dtype(element_type: ElementType) -> Option<DType> {
    match element_type {
        ElementType::U8 => Some(DType::U8),
        ElementType::I8 => Some(DType::I8),
        ElementType::I32 => Some(DType::I32),
        ElementType::I64 => Some(DType::I64),
        ElementType::F32 => Some(DType::F32),
        _ => None,
    }
}

/// What the network takes. The layout is told from where the 1, 3 or 4 channels are.
fn spec(port: &Port) -> Option<TensorSpec> {
    let layout = match port.shape.as_slice() {
        [_, 1 | 3 | 4, _, _] => Layout::Nchw,
        [_, _, _, 1 | 3 | 4] => Layout::Nhwc,
        [_, _, _, _] => Layout::Nchw,
        _ => Layout::Other,
    };
    Some(TensorSpec {
        dtype: dtype(port.element_type)?,
        shape: port.partial_shape.clone(),
        layout,
        color: None,
        quantization: port.quantization.map(|q| InputQuantization {
            low: q.low,
            high: q.high,
            levels: q.levels,
        }),
    })
}
