//! Every command of the command line: what it prints where, and with which exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Stdio};

use flow_model::{ElementType, Tensor, npy};
use flow_tests::command::{Finished, Flowrun};
use flow_tests::network;
use serde_json::Value as Json;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[track_caller]
fn flowrun(folder: &Path, arguments: &[&str]) -> Finished {
    Flowrun::new(FLOWRUN, folder, arguments).run()
}

/// Runs a command that must succeed without a word on stderr.
#[track_caller]
fn quietly(folder: &Path, arguments: &[&str]) -> Finished {
    let finished = flowrun(folder, arguments).expect(0);
    assert_eq!(finished.stderr, "", "{arguments:?}");
    finished
}

#[test]
fn help_of_every_command_says_what_it_is_for() {
    for (command, words) in [
        (
            "",
            &[
                "run",
                "check",
                "plan",
                "graph",
                "stages",
                "schema",
                "explain",
                "doctor",
                "model",
                "Exit codes",
            ][..],
        ),
        (
            "run",
            &[
                "--set",
                "--duration",
                "--summary",
                "--record",
                "--replay",
                "`-` reads it from stdin",
                "Ctrl-C",
            ],
        ),
        ("check", &["--set", "--json"]),
        ("plan", &["CPUs", "--json", "--topology"]),
        ("graph", &["dot", "mermaid", "svg"]),
        ("stages", &["KIND", "--json"]),
        ("schema", &["--markdown", "JSON Schema"]),
        ("explain", &["E0107"]),
        ("doctor", &["--json"]),
        ("model", &["inspect", "lpt", "run", "benchmark"]),
        (
            "model inspect",
            &[
                "--device",
                "--numerics",
                "--no-lpt",
                "--json",
                "--format",
                "html",
                "--profile",
                "--output",
            ],
        ),
        ("model lpt", &["--output", "--dot"]),
        ("model run", &["--input", "--output-dir", ".npy"]),
        ("model benchmark", &["--mode", "--seconds", "--threads", "--json"]),
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let help = quietly(root(), &arguments).stdout;
        for word in words {
            assert!(
                help.contains(word),
                "`flowrun {command} --help` lacks `{word}`:\n{help}"
            );
        }
    }
    assert!(quietly(root(), &["--version"]).stdout.starts_with("flowrun "));
}

/// The pipelines that the repository ships.
fn shipped() -> Vec<String> {
    let mut found: Vec<_> = std::fs::read_dir(root().join("pipelines"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .map(|p| p.to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert!(found.len() >= 5, "{found:?}");
    found
}

fn with_variables(arguments: &[&str]) -> Finished {
    let command = Flowrun::new(FLOWRUN, root(), arguments);
    let command = command.env("INPUT", "clip.mp4").env("MODEL", "net.xml");
    command.run()
}

#[test]
fn shipped_pipelines_pass_the_check_and_are_drawn_in_every_form() {
    for file in shipped() {
        let checked = with_variables(&["check", &file]).expect(0);
        assert!(checked.stdout.contains("ok"), "{}", checked.stdout);
        assert_eq!(checked.stderr, "", "{file} has warnings");
        let findings = with_variables(&["check", &file, "--json"]).expect(0).json();
        assert_eq!(findings, serde_json::json!([]), "{file}");
        for (format, begin, end) in [
            ("dot", "digraph", "}\n"),
            ("mermaid", "flowchart", "\n"),
            ("svg", "<svg", "</svg>\n"),
        ] {
            let drawn = with_variables(&["graph", &file, "--format", format])
                .expect(0)
                .stdout;
            assert!(
                drawn.starts_with(begin) && drawn.ends_with(end),
                "{format}: {drawn}"
            );
            assert!(drawn.contains("decode"), "{format}: {drawn}");
        }
        let plan = with_variables(&["plan", &file, "--json"]);
        assert!(plan.expect(0).json().is_object() || file.is_empty());
    }
}

#[test]
fn a_plan_is_drawn_onto_this_machine_and_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nsources:\n  in: {type: synthetic}\nstages:\n  half: {type: resize, inputs: [in], size: [320, 180], \
                replicas: 3, threads: 3, pin: {smt: avoid}}\nsinks:\n  out: {type: null, inputs: [half]}\n";
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    let machine = root().join("framework/tests/machines/epyc-8-ccx.xml");
    let there = quietly(
        folder.path(),
        &["plan", "p.yaml", "--topology", machine.to_str().unwrap()],
    )
    .stdout;
    for words in [
        "half#2           stage   resize         8-10",
        "machine: 32 cores, 64 CPUs",
        "package 0, node numa0\n  L3 16 MiB\n    core   CPU 0   half#0",
        "    free: 12-15,44-47\n",
    ] {
        assert!(there.contains(words), "no `{words}` in\n{there}");
    }
    // Not that many CPUs here, or enough: then the drawing is of this machine.
    let here = flowrun(
        folder.path(),
        &[
            "plan",
            "p.yaml",
            "--set",
            "stages.half.pin={}",
            "--set",
            "stages.half.threads=1",
            "--set",
            "stages.half.replicas=1",
        ],
    )
    .expect(0)
    .stdout;
    assert!(
        here.contains("machine: ") && here.contains(" half\n") || here.contains(" half "),
        "{here}"
    );
    let wrong = flowrun(folder.path(), &["plan", "p.yaml", "--topology", "p.yaml"]).expect(2);
    assert!(wrong.stderr.contains("lstopo machine.xml"), "{}", wrong.stderr);
}

/// Whether `value` satisfies `schema`, for the keywords of JSON Schema that decide it here.
fn fits(value: &Json, schema: &Json, root: &Json) -> bool {
    let Json::Object(rules) = schema else {
        return schema != &Json::Bool(false);
    };
    let all = |key: &str, test: &dyn Fn(&Json) -> bool| {
        rules
            .get(key)
            .and_then(Json::as_array)
            .is_none_or(|list| list.iter().all(test))
    };
    let any = |key: &str| {
        rules
            .get(key)
            .and_then(Json::as_array)
            .is_none_or(|list| list.iter().any(|s| fits(value, s, root)))
    };
    if let Some(reference) = rules.get("$ref").and_then(Json::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).expect(reference);
        if !fits(value, target, root) {
            return false;
        }
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    let typed = match rules.get("type") {
        Some(Json::String(name)) => is(name),
        Some(Json::Array(names)) => names.iter().any(|n| is(n.as_str().unwrap())),
        _ => true,
    };
    let constant = rules.get("const").is_none_or(|c| c == value);
    let listed = rules
        .get("enum")
        .and_then(Json::as_array)
        .is_none_or(|list| list.contains(value));
    let members = value.as_object().is_none_or(|object| {
        let known = rules.get("properties").and_then(Json::as_object);
        let required = all("required", &|key| object.contains_key(key.as_str().unwrap()));
        required
            && object
                .iter()
                .all(|(key, member)| match known.and_then(|k| k.get(key)) {
                    Some(schema) => fits(member, schema, root),
                    None => rules
                        .get("additionalProperties")
                        .is_none_or(|schema| fits(member, schema, root)),
                })
    });
    let items = value.as_array().is_none_or(|list| {
        rules
            .get("items")
            .is_none_or(|schema| list.iter().all(|item| fits(item, schema, root)))
    });
    let one = rules
        .get("oneOf")
        .and_then(Json::as_array)
        .is_none_or(|list| list.iter().filter(|s| fits(value, s, root)).count() == 1);
    typed
        && constant
        && listed
        && members
        && items
        && one
        && any("anyOf")
        && all("allOf", &|s| fits(value, s, root))
        && match rules.get("if") {
            Some(condition) if fits(value, condition, root) => {
                rules.get("then").is_none_or(|s| fits(value, s, root))
            }
            Some(_) => rules.get("else").is_none_or(|s| fits(value, s, root)),
            None => true,
        }
}

#[test]
fn the_schema_takes_every_shipped_pipeline_and_refuses_a_misspelt_one() {
    let schema = quietly(root(), &["schema"]).json();
    for file in shipped() {
        let text = std::fs::read_to_string(&file).unwrap();
        let pipeline: Json = serde_yaml::from_str(&text).unwrap();
        assert!(fits(&pipeline, &schema, &schema), "{file}");
        for (path, key) in [
            ("/sources", "pace"),
            ("/stages", "threads"),
            ("/sinks", "required"),
        ] {
            let mut wrong = pipeline.clone();
            let section = wrong.pointer_mut(path).unwrap().as_object_mut().unwrap();
            let component = section.values_mut().next().unwrap().as_object_mut().unwrap();
            component.insert(format!("{key}x"), Json::from(1));
            assert!(!fits(&wrong, &schema, &schema), "{file} with `{key}x`");
        }
        let mut wrong = pipeline.clone();
        wrong["version"] = Json::from(2);
        assert!(!fits(&wrong, &schema, &schema), "{file} of version 2");
    }
    let reference = quietly(root(), &["schema", "--markdown"]).stdout;
    assert!(reference.starts_with('#') && reference.contains("letterbox"));
}

#[test]
fn every_code_and_every_kind_is_explained() {
    let list = quietly(root(), &["explain"]).stdout;
    let codes: Vec<&str> = list
        .lines()
        .map(|l| l.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(codes.len(), flow::codes::all().count());
    // In one process each it would take long; the first, the last and some between stand for all.
    for code in codes.iter().step_by(20).chain(codes.last()) {
        let text = quietly(root(), &["explain", code]).stdout;
        assert!(text.starts_with(&format!("{code}: ")), "{text}");
        assert_eq!(quietly(root(), &["explain", &code.to_lowercase()]).stdout, text);
    }
    let kinds = quietly(root(), &["stages", "--json"]).json();
    let list = quietly(root(), &["stages"]).stdout;
    for kind in kinds.as_array().unwrap() {
        let name = kind["kind"].as_str().unwrap();
        assert!(list.contains(&format!("  {name} ")), "{list}");
        let text = quietly(root(), &["stages", name]).stdout;
        assert!(text.contains(kind["summary"].as_str().unwrap()), "{text}");
        for key in kind["schema"]["properties"]
            .as_object()
            .into_iter()
            .flat_map(|p| p.keys())
        {
            assert!(text.contains(key.as_str()), "`stages {name}` lacks `{key}`");
        }
    }
}

#[test]
fn doctor_names_what_it_finds() {
    let findings = quietly(root(), &["doctor", "--json"]).json();
    let names: Vec<&str> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["name"].as_str().unwrap())
        .collect();
    for name in [
        "processor",
        "instruction sets",
        "allowed CPUs",
        "CPU quota",
        "open files",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(quietly(root(), &["doctor"]).stdout.contains("processor"));
}

/// The tensor that the tiny networks take.
fn picture() -> Tensor {
    let shape = [1, 3, network::INPUT.0, network::INPUT.1];
    let samples: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|i| (i * 7 % 256) as f32)
        .collect();
    Tensor::from_slice(&shape, &samples).unwrap()
}

#[test]
fn a_model_is_inspected_and_its_layers_are_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    network::classifier(path);
    let rows = quietly(path, &["model", "inspect", "classifier.xml", "--json"]).json();
    let rows = rows.as_array().unwrap();
    let convolutions: Vec<&Json> = rows.iter().filter(|r| r["type"] == "Convolution").collect();
    assert_eq!(convolutions.len(), 2);
    for row in convolutions {
        assert_eq!(row["precision"], "U8", "{row}");
        assert!(row["kernel"].is_string(), "{row}");
    }
    for row in rows.iter().filter(|r| r["precision"] == "FP32") {
        assert!(row["reason"].is_string(), "no reason why {row} is not INT8");
    }
    let table = quietly(path, &["model", "inspect", "classifier.xml"]).stdout;
    assert!(
        table.contains("conv1") && table.contains("operations: "),
        "{table}"
    );
    let float = quietly(
        path,
        &["model", "inspect", "classifier.xml", "--no-lpt", "--json"],
    )
    .json();
    assert!(float.as_array().unwrap().iter().all(|r| r["precision"] != "U8"));
}

#[test]
fn a_model_is_drawn_for_graphviz_and_for_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    network::classifier(path);
    let dot = quietly(path, &["model", "inspect", "classifier.xml", "--format", "dot"]).stdout;
    assert!(
        dot.starts_with("digraph \"classifier.xml\"") && dot.contains(" -> "),
        "{dot}"
    );
    let to_file = [
        "model",
        "inspect",
        "classifier.xml",
        "--format",
        "html",
        "--profile",
        "-o",
        "page.html",
    ];
    assert_eq!(quietly(path, &to_file).stdout, "");
    let page = std::fs::read_to_string(path.join("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for words in [
        "classifier.xml",
        "conv1/fq",
        "no-integer-form",
        "Multiply-adds",
        " ms</text>",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for outside in ["<link", "src=\"", "@import", "url("] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    let timed = quietly(
        path,
        &["model", "inspect", "classifier.xml", "--json", "--profile"],
    )
    .json();
    let conv = timed
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "conv1")
        .unwrap();
    assert!(conv["ms"].as_f64().unwrap() > 0.0, "{conv}");
}

#[test]
fn a_model_gives_the_same_on_every_device_and_after_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    network::detector(path);
    npy::write(path.join("picture.npy"), &picture()).unwrap();
    quietly(path, &["model", "lpt", "detector.xml", "--output", "lowered.xml"]);
    for (model, device, output) in [
        ("detector.xml", "REF", "reference"),
        ("detector.xml", "CPU", "cpu"),
        ("lowered.xml", "REF", "lowered"),
    ] {
        let arguments = [
            "model",
            "run",
            model,
            "--device",
            device,
            "--input",
            "picture.npy",
            "--output-dir",
            output,
        ];
        quietly(path, &arguments);
        for (file, columns) in [("0.npy", 2), ("1.npy", 4)] {
            let found = npy::read(path.join(output).join(file)).unwrap();
            assert_eq!(found.element_type(), ElementType::F32);
            assert_eq!(found.shape(), [1, 192, columns]);
            let expected = npy::read(path.join("reference").join(file)).unwrap();
            // One code of the last quantized layer, through the head, moves a result by less than this.
            for (a, b) in found.to_f64().iter().zip(expected.to_f64()) {
                assert!((a - b).abs() < 0.02, "{output}/{file}: {a} for {b}");
            }
        }
    }
    let named = [
        "model",
        "run",
        "detector.xml",
        "--input",
        "data=picture.npy",
        "--output-dir",
        "named",
    ];
    quietly(path, &named);
    let bytes = |folder: &str| std::fs::read(path.join(folder).join("0.npy")).unwrap();
    assert!(bytes("named") == bytes("cpu"));
    let text = quietly(path, &["model", "lpt", "detector.xml"]).stdout;
    assert!(text.contains("QuantizedConvolution"), "{text}");
    assert!(
        quietly(path, &["model", "lpt", "detector.xml", "--dot"])
            .stdout
            .starts_with("digraph")
    );
}

#[test]
fn a_benchmark_prints_the_figures_that_scripts_read() {
    let folder = tempfile::tempdir().unwrap();
    network::classifier(folder.path());
    for mode in ["throughput", "latency"] {
        let arguments = [
            "model",
            "benchmark",
            "classifier.xml",
            "--mode",
            mode,
            "--seconds",
            "0.1",
            "--json",
        ];
        let figures = flowrun(folder.path(), &arguments).expect(0).json();
        for pointer in [
            "/fps",
            "/latency_ms/median",
            "/latency_ms/p99",
            "/compile_ms",
            "/streams",
            "/threads",
        ] {
            let figure = figures.pointer(pointer).and_then(Json::as_f64);
            assert!(figure.is_some_and(|f| f > 0.0), "{pointer} in {figures}");
        }
    }
}

#[test]
fn faults_are_printed_as_json_where_a_script_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), "version: 1\nsinks: {}\n").unwrap();
    let finished = flowrun(folder.path(), &["check", "p.yaml", "--json"]).expect(2);
    let findings = finished.json();
    assert_eq!(findings[0]["code"], "E0219", "{findings}");
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_pipeline_is_read_from_stdin() {
    let text = "version: 1\nsources:\n  scene: {type: synthetic, count: 3}\nsinks:\n  done: {type: null, inputs: [scene]}\n";
    let folder = tempfile::tempdir().unwrap();
    let command = Flowrun::new(FLOWRUN, folder.path(), ["run", "-"]);
    let finished = command.input(text.as_bytes().to_vec()).run().expect(0);
    assert_eq!(finished.stdout, "", "the report belongs to stderr");
    assert!(finished.stderr.contains("3 in = 3 out"), "{}", finished.stderr);
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    for arguments in [&["schema"][..], &["explain"], &["stages", "--json"]] {
        let mut child = Command::new(FLOWRUN)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}: {:?}", output.status);
    }
}
