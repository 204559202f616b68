//! The `infer` stage: a tensor in, the outputs of a network out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_cpu::Input;
use flow_frame::{DType, InputQuantization, Layout, Pool, TENSOR, TENSORS, Tensor, TensorSpec, Tensors};
use flow_model::ElementType;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::device::DeviceRequest;
use crate::engine::{Engine, Options, Port, Session};
use crate::error::EngineError;
use crate::shapes::InputShape;

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

/// The device of a configuration. Frames come one at a time, so a batch makes no sense here.
fn device(text: &str) -> Result<DeviceRequest, EngineError> {
    let request: DeviceRequest = text.parse()?;
    match request.batch {
        Some(batch) if batch > 1 => Err(EngineError::DeviceSyntax {
            request: request.text,
            message: "the stage runs one frame at a time; raise `replicas` for more frames at once".into(),
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
    let wants = spec(input).ok_or_else(|| unsupported(&path, input))?;
    let mut outputs = Vec::new();
    for port in engine.outputs() {
        let dtype = dtype(port.element_type).ok_or_else(|| unsupported(&path, port))?;
        outputs.push((port.name.clone(), dtype));
    }
    let outputs: Arc<[(Arc<str>, DType)]> = outputs.into();
    let build_spec = wants.clone();
    Ok(Prepared::<dyn Stage>::new(move |_| {
        let pools = outputs.iter().map(|_| Pool::new(8)).collect();
        Ok(Box::new(Infer {
            session: engine.session(),
            spec: build_spec.clone(),
            outputs: outputs.clone(),
            pools,
        }))
    })
    .wants(Arc::new(wants)))
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

/// One replica.
struct Infer {
    session: Session,
    spec: TensorSpec,
    outputs: Arc<[(Arc<str>, DType)]>,
    pools: Vec<Pool>,
}

impl Stage for Infer {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let tensor = packet.payload::<Tensor>().ok_or_else(|| {
            StageError::packet(
                Code("E0648"),
                "the packet holds no tensor; put `convert` before this stage",
            )
        })?;
        let codes =
            tensor.dtype == DType::U8 && self.spec.dtype != DType::U8 && self.spec.quantization.is_some();
        let same_shape = tensor.shape.len() == self.spec.shape.len()
            && tensor
                .shape
                .iter()
                .zip(&self.spec.shape)
                .all(|(a, b)| b.is_none_or(|b| *a == b));
        if !same_shape || (tensor.dtype != self.spec.dtype && !codes) {
            return Err(StageError::packet(
                Code("E0649"),
                format!(
                    "the network takes {}, found {}{:?}; set `size: model` in the stage before",
                    self.spec,
                    tensor.dtype.name(),
                    tensor.shape
                ),
            ));
        }
        let bytes = tensor.len() * tensor.dtype.bytes();
        let data = tensor.data.get(..bytes).unwrap_or_default();
        let input = if codes {
            Input::Codes(data)
        } else {
            Input::Values(data)
        };
        self.session
            .run_shaped(&[(input, &tensor.shape)])
            .map_err(|e| StageError::packet(e.code(), e.to_string()))?;
        let mut items = Vec::with_capacity(self.outputs.len());
        for (i, (name, dtype)) in self.outputs.iter().enumerate() {
            let value = self.session.output(i);
            let mut data = self.pools[i].take(value.len());
            data.copy_from_slice(value);
            let tensor = Tensor {
                dtype: *dtype,
                shape: self.session.output_shape(i).to_vec(),
                layout: Layout::Other,
                data,
            };
            items.push((name.clone(), tensor));
        }
        out.emit(packet.with_payload(Arc::new(Tensors { items })));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use flow::packet::{Header, PacketId};
    use flow::registry::ModelDecl;
    use flow_frame::Buffer;

    use super::*;

    const RELU: &str = r#"<net name="relu" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,3,2,2" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim></port></output></layer>
<layer id="1" name="relu" type="ReLU" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim></port></input>
<output><port id="1" precision="FP32" names="y"><dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim></port></output></layer>
<layer id="2" name="result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>"#;

    #[derive(Default)]
    struct Collected(Vec<Packet>);

    impl Emitter for Collected {
        fn emit(&mut self, packet: Packet) {
            self.0.push(packet);
        }
        fn drop_packet(&mut self, _: &Header, reason: &'static str) {
            panic!("dropped: {reason}");
        }
        fn fail(&mut self, _: &Header, error: StageError) {
            panic!("{error}");
        }
    }

    fn prepared(sha256: Option<String>, model: &str) -> Result<Prepared<dyn Stage>, PrepareError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("relu.xml"), RELU).unwrap();
        std::fs::write(folder.path().join("relu.bin"), []).unwrap();
        let decl = ModelDecl {
            path: folder.path().join("relu.xml"),
            sha256,
        };
        let models = BTreeMap::from([("relu".to_owned(), decl)]);
        let config: InferConfig = serde_json::from_value(serde_json::json!({ "model": model })).unwrap();
        let cx = PrepareContext {
            name: "infer",
            folder: folder.path(),
            models: &models,
            downstream: &[],
            streams: &[],
            replicas: 1,
            threads: 1,
            batch: None,
        };
        prepare(&config, &cx)
    }

    fn packet(shape: &[usize], values: &[f32]) -> Packet {
        let header = Header {
            id: PacketId {
                stream: "s".into(),
                epoch: 0,
                seq: 0,
            },
            captured: Instant::now(),
            pts: None,
        };
        let tensor = Tensor {
            dtype: DType::F32,
            shape: shape.to_vec(),
            layout: Layout::Nchw,
            data: Buffer::copy_of(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
        };
        Packet::new(header, Arc::new(tensor))
    }

    #[test]
    fn a_tensor_becomes_the_outputs_of_the_network() {
        let prepared = prepared(None, "relu").unwrap();
        let wanted = prepared.wants.as_ref().unwrap().to_string();
        assert_eq!(wanted, "f32[1,3,2,2] NCHW");
        let mut stage = (prepared.build)(0).unwrap();
        let mut out = Collected::default();
        let values: Vec<f32> = (0..12).map(|i| i as f32 - 6.0).collect();
        stage.process(packet(&[1, 3, 2, 2], &values), &mut out).unwrap();
        let tensors = out.0[0].payload::<Tensors>().unwrap();
        assert_eq!(&*tensors.items[0].0, "y");
        let expected: Vec<f32> = values.iter().map(|v| v.max(0.0)).collect();
        assert_eq!(tensors.items[0].1.f32s().unwrap(), expected);
    }

    #[test]
    fn a_tensor_of_another_shape_fails_alone() {
        let mut stage = (prepared(None, "relu").unwrap().build)(0).unwrap();
        let error = stage
            .process(packet(&[1, 3, 1, 1], &[0.0; 3]), &mut Collected::default())
            .unwrap_err();
        assert!(error.recoverable);
        assert_eq!(error.code.0, "E0649");
    }

    #[test]
    fn a_missing_model_and_a_wrong_checksum_are_told_at_the_key() {
        let missing = prepared(None, "rulu.xml").err().unwrap();
        assert_eq!(missing.key, "model");
        assert!(missing.help.unwrap().contains("relu"));
        let wrong = prepared(Some("00".into()), "relu").err().unwrap();
        assert_eq!((wrong.code.0, wrong.key.as_str()), ("E0644", "model"));
    }

    #[test]
    fn a_device_that_is_not_built_in_is_a_fault_of_the_configuration() {
        let config: InferConfig =
            serde_json::from_value(serde_json::json!({ "model": "m.xml", "device": "GPU" })).unwrap();
        assert_eq!(config.check()[0].key, "device");
    }

    #[test]
    fn devices_fall_back_in_a_list_but_take_no_batch() {
        let issues = |device: &str| {
            let config = serde_json::json!({ "model": "m.xml", "device": device });
            serde_json::from_value::<InferConfig>(config).unwrap().check()
        };
        assert!(issues("AUTO:GPU,CPU").is_empty());
        assert!(issues("BATCH:CPU(4)")[0].message.contains("`replicas`"));
    }
}
