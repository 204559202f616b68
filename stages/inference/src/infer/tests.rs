//! One packet, and several.

use std::collections::BTreeMap;
use std::time::Instant;

use flow::config::plan::BatchSpec;
use flow::error::StageError;
use flow::packet::{Header, Packet, PacketId};
use flow::registry::ModelDecl;
use flow::stage::Emitter;
use flow_frame::{Buffer, Tensor, Tensors};

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
    prepared_with(sha256, model, RELU, None)
}

fn prepared_with(
    sha256: Option<String>,
    model: &str,
    network: &str,
    batch: Option<&BatchSpec>,
) -> Result<Prepared<dyn Stage>, PrepareError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("relu.xml"), network).unwrap();
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
        batch,
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
    assert!(issues("BATCH:CPU(4)")[0].message.contains("`batch: {max: N}`"));
}

fn batch(max: usize, sizes: &[usize]) -> BatchSpec {
    BatchSpec {
        max,
        max_wait: std::time::Duration::from_millis(1),
        per_stream_max: max,
        sizes: sizes.to_vec(),
    }
}

/// Values that differ from packet to packet.
fn values(n: usize) -> Vec<f32> {
    (0..12).map(|i| (i * (n + 1)) as f32 - 20.0).collect()
}

#[test]
fn each_packet_of_a_batch_gets_the_outputs_of_its_own_tensor() {
    for (sizes, count) in [(&[][..], 3), (&[2, 4], 3), (&[4], 1), (&[1, 4], 1), (&[], 4)] {
        let spec = batch(4, sizes);
        let prepared = prepared_with(None, "relu", RELU, Some(&spec)).unwrap();
        assert!(prepared.batches);
        let mut stage = (prepared.build)(0).unwrap();
        let packets: Vec<Packet> = (0..count).map(|n| packet(&[1, 3, 2, 2], &values(n))).collect();
        // The same memory serves the next batch.
        for _ in 0..2 {
            let mut out = Collected::default();
            stage.process_batch(&packets, &mut out).unwrap();
            assert_eq!(out.0.len(), count);
            for (n, packet) in out.0.iter().enumerate() {
                let (_, tensor) = &packet.payload::<Tensors>().unwrap().items[0];
                let expected: Vec<f32> = values(n).iter().map(|v| v.max(0.0)).collect();
                assert_eq!(
                    (tensor.f32s().unwrap(), &tensor.shape[..]),
                    (&expected[..], &[1, 3, 2, 2][..])
                );
            }
        }
    }
}

#[test]
fn a_model_that_states_a_batch_runs_that_one() {
    let network = RELU
        .replace("1,3,2,2", "4,3,2,2")
        .replace("<dim>1</dim>", "<dim>4</dim>");
    let spec = batch(4, &[]);
    let prepared = prepared_with(None, "relu", &network, Some(&spec)).unwrap();
    assert_eq!(prepared.wants.as_ref().unwrap().to_string(), "f32[1,3,2,2] NCHW");
    let mut stage = (prepared.build)(0).unwrap();
    let mut out = Collected::default();
    let packets = [
        packet(&[1, 3, 2, 2], &values(0)),
        packet(&[1, 3, 2, 2], &values(1)),
    ];
    stage.process_batch(&packets, &mut out).unwrap();
    stage.process(packets[1].clone(), &mut out).unwrap();
    let last = out.0[2].payload::<Tensors>().unwrap().items[0].1.f32s().unwrap();
    assert_eq!(
        last,
        out.0[1].payload::<Tensors>().unwrap().items[0].1.f32s().unwrap()
    );

    let error = prepared_with(None, "relu", &network, Some(&batch(8, &[])))
        .err()
        .unwrap();
    assert_eq!((error.code.0, error.key.as_str()), ("E0656", "batch"));
}

#[test]
fn a_tensor_that_does_not_fit_fails_its_batch_and_then_alone() {
    let spec = batch(4, &[]);
    let mut stage = (prepared_with(None, "relu", RELU, Some(&spec)).unwrap().build)(0).unwrap();
    let packets = [
        packet(&[1, 3, 2, 2], &values(0)),
        packet(&[1, 3, 1, 1], &[0.0; 3]),
    ];
    let error = stage
        .process_batch(&packets, &mut Collected::default())
        .unwrap_err();
    assert!(error.recoverable && error.code.0 == "E0649");
}
