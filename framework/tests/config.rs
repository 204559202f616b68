//! Pipeline files through parse, check and prepare.

#[path = "support/registry.rs"]
mod registry;

use std::time::Duration;

use flow::config::plan::{BackoffSpec, DeadLetterSpec, Lossy, OnError, Order, Overflow, Replicas, Route};
use flow::config::{Checked, Options, check, parse, prepare};
use flow::diagnostics::Diagnostics;

fn checked(text: &str) -> Result<Checked, Diagnostics> {
    let environment = |name: &str| (name == "CLIP").then(|| "clip.mp4".to_owned());
    let options = Options {
        set: &[],
        environment: &environment,
        ..Options::default()
    };
    check(
        &parse("pipeline.yaml", text.as_bytes(), &options)?,
        &registry::registry(),
    )
}

fn codes(text: &str) -> Vec<&'static str> {
    let diagnostics = match checked(text) {
        Ok(checked) => checked.warnings,
        Err(diagnostics) => diagnostics,
    };
    diagnostics.iter().map(|d| d.code.0).collect()
}

const COMPLETE: &str = r#"
version: 1
name: dock
runtime:
  drain_timeout: 5s
  strict_pins: true
  reserve: {cores: [0, 8-9]}
  max_loss: 0.5%
defaults:
  queue: {capacity: 2}
  on_error: {action: dead_letter, path: dead.jsonl, max_bytes: 1MiB}
  restart: {max: 3}
models:
  person: {path: person.xml}
sources:
  east: {type: camera, url: "rtsp://east", reconnect: {initial: 1s, max: 30s}}
  west: {type: file, path: "${CLIP}", loop: {times: 10}, pace: realtime}
stages:
  decode: {type: decode, inputs: [east, west], replicas: per_stream, pin: {cpuset: ecores}}
  prep:
    type: resize
    inputs: [{from: decode, queue: {overflow: latest}}]
    size: [320, 320]
    replicas: 2
    order: none
    pin: {cores: [1, 6]}
  detect:
    type: infer
    model: person
    inputs: [prep]
    replicas: 2
    threads: 2
    device: {kind: gpu, index: 1}
    by_class: {person: 30%}
    on_error: {action: retry, max: 2, then: drop}
    pin: {node: numa0, cores: [2-5], smt: avoid, exclusive: true}
  track: {type: track, inputs: [detect], route: by_stream, replicas: 2}
sinks:
  events: {type: jsonl, inputs: [track], path: events.jsonl}
  copy:
    type: null
    inputs: [{from: track, queue: {capacity: 8, lossy: all}}]
    required: false
"#;

#[test]
fn a_complete_file_becomes_a_plan() {
    let Checked { pipeline, warnings } = checked(COMPLETE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.to_string(), "");
    assert_eq!(pipeline.name, "dock");
    assert_eq!(pipeline.runtime.drain_timeout, Duration::from_secs(5));
    assert_eq!(pipeline.runtime.reserve, [0, 8, 9]);
    assert_eq!(pipeline.runtime.max_loss, 0.005);
    let names: Vec<&str> = pipeline.components.iter().map(|c| &*c.name).collect();
    assert_eq!(
        names,
        [
            "east", "west", "decode", "prep", "detect", "track", "events", "copy"
        ]
    );
    let get = |name: &str| pipeline.component(name).unwrap().1;
    assert!(get("east").live && !get("west").live);
    let west = get("west").config.downcast_ref::<registry::FileConfig>().unwrap();
    assert_eq!(west.path.to_str(), Some("clip.mp4"));
    assert_eq!(get("decode").replica_count(), 2);
    let prep = get("prep");
    assert_eq!(prep.inputs[0].queue.capacity, 2);
    assert_eq!(prep.inputs[0].queue.overflow, Overflow::Latest);
    assert_eq!((prep.order, prep.replicas), (Order::None, Replicas::Count(2)));
    assert_eq!(prep.pin.as_ref().unwrap().cores.as_deref(), Some(&[1, 6][..]));
    assert_eq!(prep.restart.max, 3);
    assert!(
        matches!(prep.on_error.letters(), Some(DeadLetterSpec { path: Some(p), max_bytes: 1_048_576, .. })
            if p.ends_with("dead.jsonl"))
    );
    let detect = get("detect");
    assert_eq!(
        detect.on_error,
        OnError::Retry {
            max: 2,
            backoff: BackoffSpec::default(),
            then: Box::new(OnError::Drop)
        }
    );
    assert_eq!(detect.model.as_deref(), Some("person"));
    assert_eq!(detect.streams.len(), 2);
    assert_eq!(get("track").route, Route::ByStream);
    let copy = &get("copy").inputs[0].queue;
    assert_eq!(
        (copy.overflow, copy.lossy, copy.capacity),
        (Overflow::DropOldest, Lossy::All, 8)
    );
    assert!(!get("copy").required);
}

#[test]
fn all_errors_come_out_at_once() {
    let found = codes(
        r#"
version: 1
sources:
  clip: {type: file, path: "${NOWHERE}", pase: realtime}
stages:
  decode: {type: decod, inputs: [clip]}
  prep: {type: resize, inputs: [decode], size: [0, 320], replicas: 0}
  prep: {type: resize, inputs: [decode]}
sinks:
  out: {type: jsonl, inputs: [prepp], path: 5}
"#,
    );
    assert_eq!(
        found,
        [
            "E0010", "E0107", "E0201", "E0106", "E0106", "E0005", "E0203", "E0102"
        ]
    );
}

#[test]
fn overrides_reach_the_plan_and_show_where_they_came_from() {
    let with = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        let options = Options {
            set: &set,
            environment: &|_| Some("x".into()),
            ..Options::default()
        };
        let document = parse("pipeline.yaml", COMPLETE.as_bytes(), &options)?;
        check(&document, &registry::registry())
    };
    let plan = with(&[
        "stages.prep.inputs[0].queue.capacity=9",
        "runtime.drain_timeout=1m",
    ])
    .unwrap();
    let (_, prep) = plan.pipeline.component("prep").unwrap();
    assert_eq!(prep.inputs[0].queue.capacity, 9);
    assert_eq!(plan.pipeline.runtime.drain_timeout, Duration::from_secs(60));
    let error = with(&["stages.detect.threshold=high"]).unwrap_err().to_string();
    assert!(error.contains("--> --set:1:25"), "{error}");
    assert!(error.contains("stages.detect.threshold=high"), "{error}");
}

#[test]
fn a_missing_model_is_reported_once_and_at_its_path() {
    let checked = checked(COMPLETE).unwrap();
    let error = prepare(&checked.pipeline, &registry::registry())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("error[E0301]"), "{error}");
    assert!(error.contains("pipeline.yaml:14:18"), "{error}");
}

#[test]
fn pass_through_kinds_give_what_they_take() {
    let file = |sink: &str| {
        format!(
            "version: 1\nsources: {{c: {{type: file, path: x}}}}\nstages:\n  p: {{type: pass, inputs: [c]}}\nsinks: {{s: {{type: {sink}, inputs: [p]}}}}\n"
        )
    };
    assert_eq!(codes(&file("null")), [""; 0]);
    assert_eq!(codes(&file("jsonl, path: x")), ["E0210"]);
}

const CUT: &str = "version: 1
sources:
  a: {type: file, path: a.mp4}
  b: {type: file, path: b.mp4}
stages:
  decode: {type: decode, inputs: [a]}
  more: {type: decode, inputs: [b]}
  cut: {type: cut, inputs: [decode], sides: 4}
  cut_all: {type: cut, inputs: [more], sides: 2}
sinks:
  grid: {type: grid, inputs: [cut], sides: 2}
";

#[test]
fn details_of_ports_are_compared_along_edges() {
    let text = format!("{CUT}  all: {{type: grid, inputs: [cut_all], sides: 2}}\n");
    let checked = checked(&text).unwrap_or_else(|e| panic!("{e}"));
    let error = prepare(&checked.pipeline, &registry::registry())
        .err()
        .unwrap()
        .to_string();
    let expected = "\
error[E0213]: mismatch on edge cut -> grid: cut gives squares of 4; grid wants squares of 2
  --> pipeline.yaml:11:31
11 |   grid: {type: grid, inputs: [cut], sides: 2}
   |                               ^^^
   = help: set `sides: 2` on the producer
   = help: run `flowrun explain E0213`
";
    assert_eq!(error, expected);
}

#[test]
fn errors_of_prepare_point_at_their_keys() {
    let text = format!("{CUT}  all: {{type: grid, inputs: [cut_all, cut], sides: 2}}\n")
        .replace("sides: 4", "sides: 2");
    let checked = checked(&text).unwrap_or_else(|e| panic!("{e}"));
    let error = prepare(&checked.pipeline, &registry::registry()).err().unwrap();
    let found: Vec<_> = error
        .iter()
        .map(|d| (d.code.0, d.span.line, d.span.column))
        .collect();
    assert_eq!(found, [("E0360", 12, 52)], "{error}");
    assert!(
        error.to_string().contains("`sinks.all.sides`: takes one stream"),
        "{error}"
    );
}

#[test]
fn files_are_read_from_disk_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dock.yaml");
    let code = |path: &std::path::Path| match flow::config::load(path, &Options::default()) {
        Ok(_) => "",
        Err(e) => e.iter().next().unwrap().code.0,
    };
    assert_eq!(code(&path), "E0001");
    assert_eq!(code(folder.path()), "E0001");
    std::fs::write(&path, vec![b'#'; flow::config::MAX_FILE_BYTES + 1]).unwrap();
    assert_eq!(code(&path), "E0003");
    std::fs::write(&path, CUT).unwrap();
    assert_eq!(code(&path), "");
}

#[test]
fn diagnostics_are_json_for_programs() {
    let error = checked("version: 1\nsources: {c: {type: fil}}\n").unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    let unknown = json
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["code"] == "E0201")
        .unwrap();
    assert_eq!(unknown["severity"], "error");
    assert_eq!(
        (&unknown["file"], &unknown["line"], &unknown["column"]),
        (&"pipeline.yaml".into(), &2.into(), &21.into())
    );
    assert_eq!(unknown["source"], "sources: {c: {type: fil}}");
    assert_eq!(unknown["label"], "did you mean `file`?");
}

#[test]
fn colour_is_only_added() {
    let error = checked("version: 2\n").unwrap_err();
    let coloured = error.render(true);
    assert!(coloured.contains("\u{1b}[1;31merror[E0101]"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, error.to_string());
}
