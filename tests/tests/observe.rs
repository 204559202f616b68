//! Looking at a run: HTTP, metrics, trace, tap, top and why-slow.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use flow_tests::command::{Flowrun, Running, json};
use flow_tests::network;
use serde_json::Value;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

const ENDLESS: &str = r#"
version: 1
name: dock
models: {net: {path: detector.xml}}
sources:
  east: {type: synthetic, size: [64, 48]}
stages:
  input: {type: letterbox, inputs: [east], size: model}
  net_out: {type: infer, inputs: [input], model: net, replicas: 2}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0}
  draw: {type: overlay, inputs: [boxes]}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: boxes.jsonl}
  drawn: {type: "null", inputs: [draw]}
"#;

fn folder(pipeline: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    network::detector(folder.path());
    folder
}

/// Starts a pipeline that is served, and gives its address.
fn served(folder: &Path, more: &[&str]) -> (Running, String) {
    let fixed = ["run", "pipeline.yaml", "--http", "0", "-v"];
    let mut running = Flowrun::new(FLOWRUN, folder, fixed.iter().chain(more)).start();
    let said = running.until_line("watch it at http://");
    let address = said
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    (running, address)
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn get(address: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head,
        body: bytes[end + 4..].to_vec(),
    }
}

/// Asks until the answer is as wanted; a pipeline gets there, however slow the machine.
fn until(address: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..600 {
        let answer = get(address, path);
        if wanted(&answer) {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!(
        "{path} never answered as wanted; last: {}",
        get(address, path).head
    );
}

type Samples = BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>;

/// Reads Prometheus text as its specification says, and refuses what that does not allow.
fn prometheus(text: &str) -> Samples {
    let name_ok = |name: &str| {
        let mut chars = name.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || "_:".contains(c))
            && chars.all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
    };
    assert!(text.ends_with('\n'));
    let mut samples = Samples::new();
    let mut types = BTreeMap::new();
    let mut family = "";
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                ["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind),
                "{line}"
            );
            assert!(types.insert(name, kind).is_none(), "a second TYPE of {name}");
            assert!(!samples.contains_key(name), "TYPE behind samples: {name}");
            family = name;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(name_ok(rest.split(' ').next().unwrap()), "{line}");
            continue;
        }
        assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(seen.insert(series.to_owned()), "twice: {series}");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        assert!(name_ok(name), "{line}");
        assert_eq!(name, family, "samples of a family stand together");
        if types[name] == "counter" {
            assert!(name.ends_with("_total") && value >= 0.0, "{line}");
        }
        let mut parsed = BTreeMap::new();
        let mut rest = labels;
        while !rest.is_empty() {
            let (key, tail) = rest.split_once("=\"").unwrap();
            assert!(name_ok(key) && !key.contains(':'), "{line}");
            let mut value = String::new();
            let mut chars = tail.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().unwrap().1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("\\{c} in {line}"),
                    },
                    (_, c) => value.push(c),
                }
            };
            assert!(parsed.insert(key.to_owned(), value).is_none(), "{line}");
            rest = tail[end + 1..].strip_prefix(',').unwrap_or(&tail[end + 1..]);
        }
        samples.entry(name.to_owned()).or_default().push((parsed, value));
    }
    samples
}

#[test]
fn a_served_run_tells_how_it_goes() {
    let folder = folder(ENDLESS);
    let (running, address) = served(folder.path(), &["--summary", "summary.json"]);
    let address = address.as_str();
    until(address, "/ready", |a| a.status == 200);
    let graph = until(address, "/graph", |a| {
        a.json()["ledger"]["out"].as_u64().unwrap() > 20
    })
    .json();
    let names: Vec<&str> = graph["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 7, "{names:?}");
    let infer = graph["stages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "net_out")
        .unwrap();
    assert_eq!(
        (infer["replicas"].as_u64(), infer["kind"].as_str()),
        (Some(2), Some("infer"))
    );
    assert!(infer["busy_seconds"].as_f64().unwrap() > 0.0);
    let edge = graph["edges"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["name"] == "east -> input")
        .unwrap();
    assert_eq!(
        (edge["capacity"].as_u64(), edge["overflow"].as_str()),
        (Some(4), Some("block"))
    );
    assert_eq!(graph["previews"], serde_json::json!(["draw"]));

    let metrics = get(address, "/metrics");
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    let metrics = prometheus(&metrics.text());
    let given = &metrics["flowrun_packets_in_total"][0];
    assert_eq!(given.0["stream"], "east");
    assert!(given.1 > 20.0);
    assert_eq!(metrics["flowrun_stage_busy_seconds_total"].len(), 7);
    assert_eq!(metrics["flowrun_edge_waiting"].len(), 6);

    assert_eq!(get(address, "/health").json()["status"], "ok");
    let picture = until(address, "/preview?stage=draw", |a| a.status == 200);
    assert!(picture.head.contains("image/jpeg") && picture.body.starts_with(&[0xFF, 0xD8, 0xFF]));
    assert_eq!(get(address, "/preview?stage=input").status, 404);
    let page = get(address, "/").text();
    assert!(
        page.contains("<script>") && !page.contains("http://") && !page.contains("https://"),
        "self-contained"
    );
    let missing = get(address, "/nothing");
    assert!(missing.status == 404 && missing.text().contains("/metrics"));

    let top = Flowrun::new(FLOWRUN, folder.path(), ["top", address, "--once"])
        .run()
        .expect(0)
        .stdout;
    assert!(top.contains("dock  running") && top.contains("net_out"), "{top}");
    let why = Flowrun::new(FLOWRUN, folder.path(), ["why-slow", address])
        .run()
        .expect(0)
        .stdout;
    assert!(why.contains("try: ") && why.contains("queue wait"), "{why}");

    stop(&running);
    running.wait().expect(0);
    assert_eq!(
        json(folder.path().join("summary.json"))["ledger"]["balanced"],
        true
    );
    let gone = Flowrun::new(FLOWRUN, folder.path(), ["top", address, "--once"])
        .run()
        .expect(4)
        .stderr;
    assert!(gone.contains("--http"), "{gone}");
}

fn stop(running: &Running) {
    let id = libc::pid_t::try_from(running.id()).unwrap();
    // SAFETY: the process is a child that has not been waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
}

#[test]
fn a_port_that_is_taken_is_found_out_before_anything_runs() {
    let folder = folder(ENDLESS);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = Flowrun::new(FLOWRUN, folder.path(), ["run", "pipeline.yaml", "--http", &port])
        .run()
        .expect(2)
        .stderr;
    assert!(said.contains("another address or port"), "{said}");
    assert!(!folder.path().join("boxes.jsonl").exists());
}

/// Packets of a stage whose lines hold no detection at a threshold of 1, and all at 0.
const CHANGING: &str = r#"
version: 1
models: {net: {path: detector.xml}}
sources:
  east: {type: synthetic, size: [64, 48]}
  west: {type: synthetic, size: [64, 48]}
stages:
  input: {type: letterbox, inputs: [east, west], size: model}
  net_out: {type: infer, inputs: [input], model: net, replicas: 2}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0, threshold: 0.9}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: boxes.jsonl}
"#;

#[test]
fn a_run_is_changed_by_whoever_has_the_token() {
    let folder = folder(CHANGING);
    let token = "a token of the test";
    let arguments = ["run", "pipeline.yaml", "--http", "0", "--summary", "summary.json"];
    let mut running = Flowrun::new(FLOWRUN, folder.path(), arguments)
        .env("FLOWRUN_HTTP_TOKEN", token)
        .start();
    let said = running.until_line("watch it at http://");
    let address = said
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let address = address.as_str();
    until(address, "/ready", |a| a.status == 200);
    let control = |token: &str, arguments: &[&str]| {
        let fixed = ["control", "--url", address];
        let command = Flowrun::new(FLOWRUN, folder.path(), fixed.iter().chain(arguments));
        command.env("FLOWRUN_HTTP_TOKEN", token).run()
    };
    assert!(
        control("another token here", &["status"])
            .expect(4)
            .stderr
            .contains("401")
    );
    assert_eq!(get(address, "/control").status, 401);

    let answered = |stage: &str, asked: u64| {
        for _ in 0..600 {
            let state = control(token, &["status"]).expect(0).json();
            if state[stage]["asked"] == asked && state[stage]["pending"] == 0 {
                return state[stage].clone();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("`{stage}` never answered");
    };
    let changed = control(token, &["set", "stages.boxes.threshold=0.1"])
        .expect(0)
        .json();
    assert_eq!(changed["changed"], serde_json::json!(["stages.boxes.threshold"]));
    assert_eq!(answered("boxes", 1)["refused"], Value::Null);
    control(token, &["restart", "net_out"]).expect(0);
    assert_eq!(answered("net_out", 1)["refused"], Value::Null);

    let refused = |arguments: &[&str], words: &[&str]| {
        let said = control(token, arguments).expect(4).stderr;
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{arguments:?}: {said}"
        );
    };
    refused(
        &["set", "stages.boxes.treshold=0.1"],
        &["400", "did you mean `threshold`?"],
    );
    refused(
        &["set", "stages.net_out.replicas=3"],
        &["409", "needs a new run", "stages.net_out.replicas"],
    );
    refused(&["restart", "nobody"], &["404", "net_out"]);
    let text = CHANGING.replace("threshold: 0.9", "threshold: 0.2");
    std::fs::write(
        folder.path().join("pipeline.yaml"),
        text.replace("path: boxes.jsonl", "path: other.jsonl"),
    )
    .unwrap();
    refused(&["reload"], &["409", "sinks.lines.path"]);
    std::fs::write(folder.path().join("pipeline.yaml"), text).unwrap();
    control(token, &["reload"]).expect(0);

    let source = |on: bool| {
        for _ in 0..600 {
            let state = control(token, &["status"]).expect(0).json();
            if state["west"]["on"] == on && state["west"]["pending"] == false {
                return state["west"].clone();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("`west` never answered");
    };
    let epochs = || {
        let text = std::fs::read_to_string(folder.path().join("boxes.jsonl")).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        let lines = whole.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        let west = lines.filter(|l| l["stream"] == "west");
        west.map(|l| l["epoch"].as_u64().unwrap())
            .collect::<BTreeSet<_>>()
    };
    control(token, &["pause", "west"]).expect(0);
    source(false);
    let given = |name: &str| {
        get(address, "/graph").json()["streams"][name]["in"]
            .as_u64()
            .unwrap()
    };
    let (east, west) = (given("east"), given("west"));
    until(address, "/graph", |a| {
        a.json()["streams"]["east"]["in"].as_u64().unwrap() > east + 10
    });
    assert_eq!(given("west"), west, "a source that is paused gives nothing");
    assert_eq!(epochs(), BTreeSet::from([0]));
    control(token, &["start", "west"]).expect(0);
    source(true);
    until(address, "/graph", |a| {
        a.json()["streams"]["west"]["in"].as_u64().unwrap() > west + 10
    });
    let changed = control(token, &["set", "sources.west.seed=9"]).expect(0).json();
    assert_eq!(changed["replacing"], serde_json::json!(["west"]));
    assert_eq!(source(true)["refused"], Value::Null);
    let west = given("west");
    until(address, "/graph", |a| {
        a.json()["streams"]["west"]["in"].as_u64().unwrap() > west + 10
    });
    assert_eq!(epochs(), BTreeSet::from([0, 1, 2]), "each opening is an epoch");
    refused(&["pause", "nobody"], &["404", "east, west"]);

    control(token, &["end", "west"]).expect(0);
    let west = || {
        get(address, "/graph").json()["streams"]["west"]["in"]
            .as_u64()
            .unwrap()
    };
    let mut before = west();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = west();
        if now == before {
            break;
        }
        before = now;
    }
    let east = get(address, "/graph").json()["streams"]["east"]["in"]
        .as_u64()
        .unwrap();
    until(address, "/graph", |a| {
        a.json()["streams"]["east"]["in"].as_u64().unwrap() > east + 10
    });
    control(token, &["stop"]).expect(0);
    running.wait().expect(0);
    let summary = json(folder.path().join("summary.json"));
    flow_tests::command::assert_balanced(&summary);
    assert_eq!(
        summary["ledger"]["out"], summary["ledger"]["in"],
        "nothing is lost to a change"
    );
    assert_eq!(summary["stages"]["boxes"]["restarts"], 0);
}

#[test]
fn a_run_without_a_token_takes_no_changes() {
    let folder = folder(ENDLESS);
    let (running, address) = served(folder.path(), &[]);
    let refused = get(&address, "/control/stop");
    assert!(refused.status == 403 && refused.text().contains("FLOWRUN_HTTP_TOKEN"));
    stop(&running);
    running.wait().expect(0);
}

const SHORT: &str = r#"
version: 1
models: {net: {path: detector.xml}}
sources:
  east: {type: synthetic, size: [64, 48], count: 30}
stages:
  input: {type: letterbox, inputs: [east], size: model}
  net_out: {type: infer, inputs: [input], model: net}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: boxes.jsonl}
"#;

#[test]
fn a_trace_holds_every_call_and_follows_packets() {
    let folder = folder(SHORT);
    Flowrun::new(
        FLOWRUN,
        folder.path(),
        ["run", "pipeline.yaml", "--trace", "trace.json"],
    )
    .run()
    .expect(0);
    let trace = json(folder.path().join("trace.json"));
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |phase: &str, name: &str| {
        events
            .iter()
            .filter(|e| e["ph"] == phase && e["name"] == name)
            .count()
    };
    assert_eq!(count("X", "next"), 30);
    assert_eq!(count("X", "process"), 4 * 30);
    assert_eq!(count("s", "packet"), 30, "one beginning for each packet");
    assert_eq!(count("t", "packet"), 4 * 30);
    assert_eq!(count("M", "thread_name"), 5);
    assert!(
        events
            .iter()
            .filter(|e| e["ph"] == "X")
            .all(|e| e["dur"].as_f64().unwrap() >= 0.0)
    );
    assert_eq!(trace["otherData"]["slices_beyond_limit"], 0);
}

#[test]
fn a_tap_prints_what_passes_an_edge() {
    let folder = folder(SHORT);
    let tap = |edge: &str, more: &[&str]| {
        let fixed = ["tap", "pipeline.yaml", edge];
        Flowrun::new(FLOWRUN, folder.path(), fixed.iter().chain(more)).run()
    };
    let lines = tap("input->net_out", &[]).expect(0).stdout;
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 30);
    assert!(
        lines
            .iter()
            .zip(0_u64..)
            .all(|(l, seq)| l["seq"] == seq && l["stream"] == "east" && l["type"] == "tensor")
    );
    assert_eq!(
        tap("net_out->boxes", &["--count", "3"])
            .expect(0)
            .stdout
            .lines()
            .count(),
        3
    );
    let said = tap("input->boxes", &[]).expect(2).stderr;
    assert!(said.contains("`input->net_out`"), "{said}");
    assert!(tap("input", &[]).expect(2).stderr.contains("FROM->TO"));
}

#[test]
fn the_bottleneck_of_a_summary_is_named() {
    let folder = folder(SHORT);
    Flowrun::new(
        FLOWRUN,
        folder.path(),
        ["run", "pipeline.yaml", "--summary", "summary.json"],
    )
    .run()
    .expect(0);
    let said = Flowrun::new(FLOWRUN, folder.path(), ["why-slow", "summary.json", "--json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(said["stages"].as_array().unwrap().len(), 5);
    assert!(!said["advice"].as_array().unwrap().is_empty());
    std::fs::write(folder.path().join("other.json"), "{}").unwrap();
    let said = Flowrun::new(FLOWRUN, folder.path(), ["why-slow", "other.json"])
        .run()
        .expect(2)
        .stderr;
    assert!(said.contains("--summary"), "{said}");
}
