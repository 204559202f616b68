//! `benchmark_app`: what it prints and the reports it writes, on the demo's detector.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_model::{Tensor, npy};
use flow_tests::command::{Finished, Flowrun, json};
use flow_tests::{media, network};

const BENCHMARK_APP: &str = env!("CARGO_BIN_EXE_benchmark-app-under-test");

fn detector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo/detector-int8.xml")
}

#[track_caller]
fn run(folder: &Path, model: &Path, flags: &str) -> Finished {
    let model = model.to_str().unwrap();
    let arguments = ["-m", model].into_iter().chain(flags.split_whitespace());
    let finished = Flowrun::new(BENCHMARK_APP, folder, arguments).run().expect(0);
    assert_eq!(finished.stderr, "", "{flags}");
    finished
}

/// The columns of a report of counters, without its header.
fn rows(csv: &str) -> Vec<Vec<&str>> {
    csv.lines().skip(1).map(|l| l.split(';').collect()).collect()
}

#[test]
fn the_average_report_shows_all_but_the_heads_in_int8() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "-d CPU -niter 1 -api sync -report_type average_counters -report_folder reports";
    let said = run(folder.path(), &detector(), flags).stdout;
    for step in 1..=11 {
        assert!(said.contains(&format!("[Step {step}/11]")), "{said}");
    }
    for words in [
        "Count:            1 iterations",
        "Duration:",
        "Median:",
        "Throughput:",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let csv = std::fs::read_to_string(
        folder
            .path()
            .join("reports/benchmark_average_counters_report.csv"),
    )
    .unwrap();
    assert!(csv.starts_with("layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)\n"));
    assert!(csv.ends_with("\n\n"), "a blank line ends the table");
    let mut executed = 0;
    let mut sum = 0.0;
    for row in rows(&csv) {
        match row.as_slice() {
            [name, "EXECUTED", kind, exec, real, _] => {
                executed += 1;
                // The scores are not quantized.
                let head = matches!(*kind, "Softmax" | "Sigmoid") || *name == "detections";
                assert_eq!(exec.ends_with("_I8"), !head, "{row:?}");
                sum += real.parse::<f64>().unwrap();
            }
            [_, "NOT_RUN", "Parameter" | "Result", exec, ..] => assert!(exec.starts_with("unknown_")),
            [_, "NOT_RUN", _, exec, real, cpu] => {
                assert_eq!([*exec, *real, *cpu], ["undef", "0.000", "0.000"], "{row:?}");
            }
            ["Total", "", "", "", real, _] => {
                let total: f64 = real.parse().unwrap();
                assert!((total - sum).abs() <= 0.001 * executed as f64, "{total} {sum}");
            }
            [""] => {}
            _ => panic!("{row:?}"),
        }
    }
    assert!(executed > 10, "{executed}");
    let fused = "stem/relu;NOT_RUN;Relu;undef;0.000;0.000";
    assert!(csv.contains(fused), "{csv}");
    let report = std::fs::read_to_string(folder.path().join("reports/benchmark_report.csv")).unwrap();
    for line in [
        "Command line parameters",
        "-niter;1",
        "Configuration setup",
        "API;sync",
        "Execution results",
        "total number of iterations;1",
    ] {
        assert!(report.lines().any(|l| l == line), "{line}:\n{report}");
    }
}

#[test]
fn requests_on_streams_are_counted_and_reported_each() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "-nstreams 2 -nireq 3 -niter 4 -report_type detailed_counters -pcsort simple_sort \
                 -json_stats -dump_config config.json -exec_graph_path graph.xml -pin YES";
    let said = run(folder.path(), &detector(), flags).stdout;
    assert!(said.contains("aligned by request number from 4 to 6"), "{said}");
    assert!(said.contains("Count:            6 iterations"), "{said}");
    assert!(
        said.contains("3 inference requests using 2 streams for CPU"),
        "{said}"
    );
    let detailed = json(folder.path().join("benchmark_detailed_counters_report.json"));
    assert_eq!(detailed["detailed_performance"].as_array().unwrap().len(), 3);
    let sorted = json(folder.path().join("benchmark_sorted_report.json"));
    let times: Vec<f64> = sorted["avg_performance"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["real_time"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(times.len() > 10 && times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let report = json(folder.path().join("benchmark_report.json"));
    assert_eq!(
        report["configuration_setup"]["number of parallel infer requests"],
        "3"
    );
    assert_eq!(report["execution_results"]["total number of iterations"], "6");
    let config = json(folder.path().join("config.json"));
    assert_eq!(config["CPU"]["NUM_STREAMS"], "2");
    let graph = std::fs::read_to_string(folder.path().join("graph.xml")).unwrap();
    for attribute in [
        "execOrder=",
        "execTimeMcs=",
        "originalLayersNames=\"stem,stem/add,stem/relu,stem/relu/fq_output_0\"",
        "primitiveType=",
        "runtimePrecision=\"u8\"",
    ] {
        assert!(graph.contains(attribute), "{attribute}");
    }
    // What was written is read again.
    let said = run(folder.path(), &detector(), "-niter 2 -load_config config.json").stdout;
    assert!(said.contains("3 inference requests using 2 streams"), "{said}");
}

#[test]
fn pictures_arrays_and_other_types_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let model = network::classifier(folder.path());
    std::fs::write(folder.path().join("picture.ppm"), media::ppm(40, 30)).unwrap();
    let said = run(folder.path(), &model, "-niter 2 -api sync -i picture.ppm").stdout;
    assert!(
        said.contains("Prepare image picture.ppm") && said.contains(": u8 / [N,C,H,W] /"),
        "{said}"
    );
    let values = Tensor::from_slice(&[1, 3, 24, 32], &[1.0f32; 3 * 24 * 32]).unwrap();
    npy::write(folder.path().join("data.npy"), &values).unwrap();
    let said = run(
        folder.path(),
        &model,
        "-niter 2 -api sync -ip f32 -op f16 -i data:data.npy",
    )
    .stdout;
    assert!(
        said.contains(": f32 / [N,C,H,W] /") && said.contains(": f16 / [...] /"),
        "{said}"
    );
    let said = run(
        folder.path(),
        &model,
        "-niter 1 -api sync -mean_values [1,2,3] -scale_values [2]",
    )
    .stdout;
    assert!(said.contains("Throughput"), "{said}");
}

#[test]
fn shapes_and_batches_reshape_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let model = network::classifier(folder.path());
    for flags in ["-b 4", "-shape [4,3,24,32]", "-d BATCH:CPU(4)"] {
        let said = run(folder.path(), &model, &format!("-niter 2 -api sync {flags}")).stdout;
        assert!(
            said.contains("Model batch size: 4") && said.contains("[4,3,24,32]"),
            "{flags}: {said}"
        );
    }
    let several = "-niter 4 -nireq 1 -hint latency -api async -shape [1,3,?,32] -data_shape [1,3,24,32][1,3,48,32] -pcseq";
    let said = run(folder.path(), &model, several).stdout;
    assert!(
        said.contains("Latency for each data shape group:") && said.contains("2. data: [1, 3, 48, 32]"),
        "{said}"
    );
}

#[test]
fn what_is_not_honoured_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "-niter 1 -api sync -d AUTO:GPU,CPU -cdir cache -infer_precision f32 -hint latency";
    let said = run(folder.path(), &detector(), flags).stdout;
    for words in [
        "GPU is not there; CPU runs the network",
        "-cdir is not honoured",
        "-infer_precision f32: all layers run in f32",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let compiled = run(folder.path(), &detector(), "-niter 0").stdout;
    assert!(
        compiled.contains("[Step 10/11] Measuring performance (skipped)"),
        "{compiled}"
    );
    let paced = run(folder.path(), &detector(), "-niter 4 -api sync -max_irate 100").stdout;
    assert!(paced.contains("Count:            4 iterations"), "{paced}");
}

#[test]
fn the_reference_evaluator_is_named_and_its_graph_written() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "-d REF -niter 1 -api sync -exec_graph_path graph.xml";
    let said = run(folder.path(), &detector(), flags).stdout;
    assert!(said.contains("Execution Devices:['REF']"), "{said}");
    assert!(said.contains("EXECUTION_DEVICES: REF"), "{said}");
    let graph = std::fs::read_to_string(folder.path().join("graph.xml")).unwrap();
    assert!(
        graph.contains("name=\"stem\" type=\"QuantizedConvolution\""),
        "{graph}"
    );
    assert!(graph.contains("primitiveType=\"ref_any_"), "{graph}");
}
