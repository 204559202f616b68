//! The example does what it says.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use flow_model::{Op, ir};

#[test]
fn the_demo_network_is_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantizing"));
    let output = folder.path().join("int8.xml");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../pipelines/demo/detector-fp32.xml"
        ))
        .arg(&output);
    for n in 0..4u32 {
        let picture = folder.path().join(format!("{n}.ppm"));
        let mut bytes = b"P6 40 24 255\n".to_vec();
        bytes
            .extend((0..40 * 24u32).flat_map(|i| [(i * (n + 3)) as u8, (i / 40 * 10) as u8, (n * 60) as u8]));
        std::fs::write(&picture, bytes).unwrap();
        command.arg(picture);
    }
    let done = command.output().unwrap();
    let (said, wrong) = (
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8(done.stderr).unwrap(),
    );
    assert!(
        done.status.success() && said.contains("weights in 8 bits"),
        "{said}{wrong}"
    );
    let graph = ir::read(&output).unwrap();
    assert!(
        graph
            .nodes
            .iter()
            .any(|n| matches!(n.op, Op::FakeQuantize { .. }))
    );
}
