//! Schema and parser take the same files.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{kinds, pipeline};
use crate::config::path::KeyPath;
use crate::config::validate::{Rules, validate};
use crate::config::{Options, check, parse, yaml};
use crate::diagnostics::{Severity, Span};
use crate::registry::Role;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| pipeline(&kinds::registry()));

/// What is wrong with a value.
fn faults(schema: &Json, value: &Json) -> Vec<String> {
    let rules = Rules {
        root: schema,
        also_known: &[],
        planned: |_, _| None,
    };
    let node = yaml::parse(&value.to_string(), 0, &mut Vec::new()).unwrap();
    let faults = validate(rules, &node, Span::default(), &KeyPath::root());
    faults.into_iter().map(|d| d.message).collect()
}

/// A file with every kind and most keys.
fn complete() -> Json {
    json!({
        "version": 1,
        "name": "dock",
        "x-notes": [1, 2],
        "runtime": { "drain_timeout": "5s", "strict_pins": true, "reserve": { "cores": [0, "8-9"] }, "max_loss": "1%", "http": "[::1]:9898" },
        "defaults": { "queue": { "capacity": 2 }, "on_error": { "action": "retry", "max": 2, "then": "drop" }, "restart": { "max": 3 } },
        "models": { "person": { "path": "person.xml", "sha256": null } },
        "sources": {
            "east": { "type": "camera", "url": "rtsp://east", "reconnect": { "max": "10s" }, "redial": { "initial": "1s", "max": "30s" }, "limit": "10/s" },
            "west": { "type": "file", "path": "clip.mp4", "loop": { "times": 10 }, "pace": "realtime", "threads": 1 }
        },
        "stages": {
            "decode": { "type": "decode", "inputs": ["east", "west"], "replicas": "per_stream" },
            "prep": {
                "type": "resize",
                "inputs": [{ "from": "decode", "queue": { "capacity": 1, "overflow": "latest", "lossy": "all" } }],
                "size": [320, 240], "mean": [1.5, 2, 3], "pad": [0, 1, 255], "filter": "area",
                "replicas": 2, "order": "none"
            },
            "detect": {
                "type": "infer", "model": "person", "inputs": ["prep"], "threshold": 0.25, "memory": "64MiB",
                "device": { "kind": "gpu", "index": 1 }, "by_class": { "person": "30%" },
                "pin": { "node": "numa0", "cores": ["2-5"], "smt": "avoid", "exclusive": true }
            },
            "track": { "type": "track", "inputs": ["detect"], "route": "by_stream", "classes": ["a"], "patience": -3 }
        },
        "sinks": {
            "events": { "type": "jsonl", "inputs": ["track"], "path": "events.jsonl", "on_error": { "action": "fail" } },
            "rest": { "type": "null", "inputs": ["track"], "required": false, "restart": { "within": "1m" } }
        }
    })
}

/// Whether `check` finds no fault in keys and values.
fn keys_and_values_are_good(file: &Json) -> Result<(), String> {
    let text = file.to_string();
    let document = parse("pipeline.yaml", text.as_bytes(), &Options::default()).map_err(|e| e.to_string())?;
    match check(&document, &kinds::registry()) {
        Ok(_) => Ok(()),
        Err(diagnostics) => {
            // Beyond a schema: settings that contradict each other, names across the file, the graph.
            let beyond = ["E0110", "E0112"];
            let faults = diagnostics.iter().filter(|d| {
                d.severity == Severity::Error
                    && (d.code.0.starts_with("E01") && !beyond.contains(&d.code.0)
                        || ["E0201", "E0202", "E0207", "E0219"].contains(&d.code.0))
            });
            match faults.count() {
                0 => Ok(()),
                _ => Err(diagnostics.to_string()),
            }
        }
    }
}

/// Values that are right in some place and wrong in most.
fn values() -> impl Strategy<Value = Json> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(5),
        json!(300),
        json!(70_000),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("15ms"),
        json!("64MiB"),
        json!("50%"),
        json!("10/s"),
        json!("per_stream"),
        json!("model"),
        json!("file"),
        json!("null"),
        json!("2-5"),
        json!("two words"),
        json!([]),
        json!([1]),
        json!([1, 2]),
        json!([1, 2, 3]),
        json!(["decode"]),
        json!({}),
        json!({ "kind": "cpu" }),
        json!({ "times": 3 }),
        json!({ "for": "1h" }),
        json!({ "action": "drop" }),
        json!({ "from": "decode" }),
        json!({ "unheard": 1 }),
    ])
}

/// All paths into a value.
fn pointers(value: &Json, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    match value {
        Json::Object(object) => object
            .iter()
            .for_each(|(k, v)| pointers(v, format!("{at}/{k}"), all)),
        Json::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| pointers(v, format!("{at}/{i}"), all)),
        _ => {}
    }
}

/// Replaces, removes or adds at one place.
fn mutate(file: &mut Json, place: usize, how: usize, value: &Json) {
    let mut all = Vec::new();
    pointers(file, String::new(), &mut all);
    let pointer = &all[1 + place % (all.len() - 1)];
    match how {
        0 => *file.pointer_mut(pointer).unwrap() = value.clone(),
        1 => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match file.pointer_mut(parent).unwrap() {
                Json::Object(object) => drop(object.remove(key)),
                Json::Array(items) => drop(items.remove(key.parse().unwrap())),
                _ => {}
            }
        }
        _ => {
            if let Some(Json::Object(object)) = file.pointer_mut(pointer) {
                object.insert("unheard_of".into(), value.clone());
            }
        }
    }
}

#[test]
fn the_complete_file_fits() {
    assert_eq!(faults(&SCHEMA, &complete()), [""; 0]);
    assert_eq!(keys_and_values_are_good(&complete()), Ok(()));
}

#[test]
fn references_in_the_schema_lead_somewhere() {
    fn visit(schema: &Json, root: &Json) {
        match schema {
            Json::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Json::as_str) {
                    let target = root.pointer(reference.trim_start_matches('#'));
                    assert!(target.is_some(), "{reference}");
                }
                object.values().for_each(|v| visit(v, root));
            }
            Json::Array(items) => items.iter().for_each(|v| visit(v, root)),
            _ => {}
        }
    }
    let schema = pipeline(&kinds::registry());
    visit(&schema, &schema);
}

#[test]
fn the_reference_names_every_kind_and_key() {
    let registry = kinds::registry();
    let text = super::markdown(&registry);
    for kind in registry.kinds() {
        assert!(text.contains(&format!("## `type: {}`", kind.info.name)));
        for key in kind.schema.as_value()["properties"]
            .as_object()
            .into_iter()
            .flat_map(|p| p.keys())
        {
            assert!(text.contains(&format!("| `{key}` |")), "{key}");
        }
    }
    assert!(
        text.contains("| `threshold` | number 0 to 1 | `0.5` | Least score. |"),
        "{text}"
    );
    assert!(
        text.contains("- `device.kind: gpu`: On a graphics card."),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn schema_and_check_take_the_same_files(
        changes in prop::collection::vec((0usize..1000, 0usize..3, values()), 1..3)
    ) {
        let mut file = complete();
        for (place, how, value) in &changes {
            mutate(&mut file, *place, *how, value);
        }
        let by_check = keys_and_values_are_good(&file);
        let by_schema = faults(&SCHEMA, &file);
        prop_assert_eq!(by_schema.is_empty(), by_check.is_ok(), "{}\n{:?}\n{:?}", file, by_schema, by_check);
    }

    #[test]
    fn a_kind_reads_what_its_schema_takes(
        role in 0usize..9,
        changes in prop::collection::vec((0usize..1000, 0usize..3, values()), 1..4)
    ) {
        let registry = kinds::registry();
        let kind = registry.kinds().nth(role % registry.kinds().count()).unwrap();
        let section = match kind.role {
            Role::Source => "sources",
            Role::Stage => "stages",
            Role::Sink => "sinks",
        };
        let file = complete();
        let sample = file[section].as_object().unwrap().values().find(|c| c["type"] == kind.info.name);
        let mut own = sample.cloned().unwrap_or(json!({}));
        if let Json::Object(object) = &mut own {
            let known = kind.schema.as_value()["properties"].as_object().cloned().unwrap_or_default();
            object.retain(|key, _| known.contains_key(key));
        }
        for (place, how, value) in &changes {
            let mut all = Vec::new();
            pointers(&own, String::new(), &mut all);
            if all.len() > 1 {
                mutate(&mut own, *place, *how, value);
            }
        }
        if faults(kind.schema.as_value(), &own).is_empty() {
            let read = kind.parse(&own).map(drop);
            prop_assert!(read.is_ok(), "{}: {own}\n{read:?}", kind.info.name);
        }
    }
}
