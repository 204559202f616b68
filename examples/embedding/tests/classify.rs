//! A picture through a network that fits on a page: the mean of each colour channel is the score of a class.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use embedding::{classify, run_pipeline};

const MODEL: &str = r#"<net name="means" version="11">
  <layers>
    <layer id="0" name="image" type="Parameter" version="opset1">
      <data shape="1,3,2,2" element_type="f32"/>
      <output><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim></port></output>
    </layer>
    <layer id="1" name="axes" type="Const" version="opset1">
      <data element_type="i64" shape="2" offset="0" size="16"/>
      <output><port id="0" precision="I64"><dim>2</dim></port></output>
    </layer>
    <layer id="2" name="mean" type="ReduceMean" version="opset1">
      <data keep_dims="false"/>
      <input>
        <port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>2</dim><dim>2</dim></port>
        <port id="1" precision="I64"><dim>2</dim></port>
      </input>
      <output><port id="2" precision="FP32"><dim>1</dim><dim>3</dim></port></output>
    </layer>
    <layer id="3" name="scores" type="Result" version="opset1">
      <input><port id="0" precision="FP32"><dim>1</dim><dim>3</dim></port></input>
    </layer>
  </layers>
  <edges>
    <edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
    <edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
    <edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
  </edges>
</net>"#;

fn model(folder: &Path) -> PathBuf {
    let path = folder.join("means.xml");
    std::fs::write(&path, MODEL).unwrap();
    let axes: Vec<u8> = [2i64, 3].iter().flat_map(|a| a.to_le_bytes()).collect();
    std::fs::write(path.with_extension("bin"), axes).unwrap();
    path
}

/// A 4x4 picture of one colour.
fn picture(folder: &Path, color: [u8; 3]) -> PathBuf {
    let path = folder.join("picture.ppm");
    let mut bytes = b"P6 4 4 255\n".to_vec();
    bytes.extend(color.repeat(16));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn classes_come_best_first_after_normalisation() {
    let folder = tempfile::tempdir().unwrap();
    let (model, picture) = (model(folder.path()), picture(folder.path(), [30, 250, 90]));
    let best = classify(&model, &picture, 10.0, 2.0, 2).unwrap();
    assert_eq!(best, [(1, 120.0), (2, 40.0)]);
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path());
    let error = classify(&model, &model, 0.0, 1.0, 5).unwrap_err().to_string();
    assert!(error.contains("means.xml: expected JPEG"), "{error}");
}

#[test]
fn a_pipeline_runs_from_text() {
    let yaml = "
version: 1
name: embedded
sources: {scene: {type: synthetic, size: [64, 48], count: 5}}
sinks: {count: {type: stats, inputs: [scene]}}
";
    let report = run_pipeline(yaml).unwrap();
    assert_eq!((report.exit_code(), report.ledger.out), (0, 5));
    let error = run_pipeline(&yaml.replace("stats", "stat"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pipeline.yaml") && error.contains("E0201"),
        "{error}"
    );
}
