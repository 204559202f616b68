//! The kinds of all stage crates as the pipeline language sees them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use flow::config::{Options, check, parse};
use flow::registry::{Registry, Role};
use serde_json::Value as Json;

fn registry() -> Registry {
    let mut registry = Registry::new();
    flow_decode::register(&mut registry);
    flow_preprocess::register(&mut registry);
    flow_inference::register(&mut registry);
    flow_postprocess::register(&mut registry);
    flow_output::register(&mut registry);
    registry
}

#[test]
fn no_kind_has_a_key_that_components_have_anyway() {
    for kind in registry().kinds() {
        let common: &[&str] = match kind.role {
            Role::Source => &["type", "threads", "pin"],
            _ => &[
                "type", "inputs", "replicas", "threads", "pin", "on_error", "restart", "route", "order",
                "required",
            ],
        };
        for key in kind.schema.as_value()["properties"]
            .as_object()
            .into_iter()
            .flat_map(|p| p.keys())
        {
            assert!(
                !common.contains(&key.as_str()),
                "{} has a key `{key}`",
                kind.info.name
            );
        }
    }
}

#[test]
fn every_kind_and_key_is_described_and_unknown_keys_are_refused() {
    for kind in registry().kinds() {
        let schema = kind.schema.as_value();
        let name = kind.info.name;
        assert!(!kind.info.summary.is_empty(), "{name}");
        assert!(schema["description"].is_string(), "{name} is not described");
        assert_eq!(
            schema["additionalProperties"],
            Json::Bool(false),
            "{name} lacks deny_unknown_fields"
        );
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let described = property["description"].is_string() || property["$ref"].is_string();
            assert!(described, "{name}.{key} is not described");
        }
    }
}

#[test]
fn the_schema_of_all_kinds_holds_together() {
    fn visit(schema: &Json, root: &Json) {
        match schema {
            Json::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Json::as_str) {
                    assert!(
                        root.pointer(reference.trim_start_matches('#')).is_some(),
                        "{reference}"
                    );
                }
                object.values().for_each(|v| visit(v, root));
            }
            Json::Array(items) => items.iter().for_each(|v| visit(v, root)),
            _ => {}
        }
    }
    let schema = flow::schema::pipeline(&registry());
    visit(&schema, &schema);
}

#[test]
fn a_pipeline_of_real_kinds_passes() {
    let text = r#"
version: 1
models:
  face: {path: "${MODEL}"}
sources:
  clip: {type: file, path: "${INPUT}", live: true}
stages:
  decode: {type: decode, inputs: [clip], replicas: per_stream}
  prep: {type: letterbox, inputs: [{from: decode, queue: {overflow: latest}}], size: [320, 240], replicas: 2}
  net: {type: infer, model: face, inputs: [prep]}
  faces: {type: detect, format: decoded_boxes, inputs: [net]}
  draw: {type: overlay, inputs: [faces]}
sinks:
  events: {type: jsonl, path: "${OUT:-out}/events.jsonl", inputs: [faces]}
  view: {type: video, path: "${OUT:-out}/view.avi", inputs: [draw], required: false}
"#;
    let options = Options {
        set: &[],
        environment: &|name| (name != "OUT").then(|| format!("{name}.file")),
        ..Options::default()
    };
    let document = parse("faces.yaml", text.as_bytes(), &options).unwrap_or_else(|e| panic!("{e}"));
    let checked = check(&document, &registry()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checked.warnings.to_string(), "");
    let names: Vec<&str> = checked.pipeline.components.iter().map(|c| &*c.name).collect();
    assert_eq!(
        names,
        ["clip", "decode", "prep", "net", "faces", "draw", "events", "view"]
    );
}
