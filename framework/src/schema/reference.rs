//! The reference of the pipeline language in Markdown, from the doc comments of the settings.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::config::keys::{
    BatchKeys, DefaultsKeys, EdgeKeys, ModelKeys, OnErrorKeys, PinKeys, QueueKeys, RateLimitKeys,
    ReconnectKeys, RestartKeys, RuntimeKeys, SinkKeys, SourceKeys, StageKeys,
};
use crate::ports::PortType;
use crate::registry::{Kind, Registry, Replication, Role};
use crate::units::describe_pattern;

/// Markdown of all sections and kinds: keys, types, defaults and what they mean.
pub fn markdown(registry: &Registry) -> String {
    let mut out = String::from(
        "# Reference of pipeline files\n\n\
         Written by `flowrun schema --markdown` from the code; `make docs` renews it.\n\n\
         A pipeline file is a YAML mapping with `version: 1` and the sections below. Unknown and duplicate keys \
         are errors. Keys that start with `x-` at the top are free for anchors. `${NAME}`, `${NAME:-default}` and \
         `${NAME:?why}` in values are replaced from the environment.\n",
    );
    let common: [(&str, &str, Json); 14] = [
        (
            "runtime",
            "Options of the run as a whole.",
            schema_of::<RuntimeKeys>(),
        ),
        (
            "defaults",
            "What components have when they do not say otherwise.",
            schema_of::<DefaultsKeys>(),
        ),
        (
            "models.NAME",
            "A model file that stages refer to by name.",
            schema_of::<ModelKeys>(),
        ),
        (
            "sources.NAME",
            "Keys that every source has.",
            schema_of::<SourceKeys>(),
        ),
        (
            "stages.NAME",
            "Keys that every stage has.",
            schema_of::<StageKeys>(),
        ),
        ("sinks.NAME", "Keys that every sink has.", schema_of::<SinkKeys>()),
        (
            "inputs",
            "An item of `inputs`: the name of the producer alone, or:",
            schema_of::<EdgeKeys>(),
        ),
        ("queue", "The bounded queue of an edge.", schema_of::<QueueKeys>()),
        (
            "batch",
            "How packets are put together before a stage is called.",
            schema_of::<BatchKeys>(),
        ),
        (
            "rate_limit",
            "How many packets are taken per time.",
            schema_of::<RateLimitKeys>(),
        ),
        (
            "on_error",
            "What becomes of a packet that fails.",
            schema_of::<OnErrorKeys>(),
        ),
        (
            "restart",
            "How often instances that panicked or failed are rebuilt.",
            schema_of::<RestartKeys>(),
        ),
        (
            "reconnect",
            "How a source that was lost is opened again.",
            schema_of::<ReconnectKeys>(),
        ),
        (
            "pin",
            "Where workers are pinned. The keys are intersected.",
            schema_of::<PinKeys>(),
        ),
    ];
    for (name, text, schema) in &common {
        let _ = write!(out, "\n## `{name}`\n\n{text}\n\n");
        keys(&mut out, schema, schema);
    }
    for (role, title) in [
        (Role::Source, "Sources"),
        (Role::Stage, "Stages"),
        (Role::Sink, "Sinks"),
    ] {
        let _ = write!(out, "\n# {title}\n");
        for kind in registry.kinds().filter(|k| k.role == role) {
            out.push_str(&kind_reference(kind));
        }
    }
    out
}

fn schema_of<T: schemars::JsonSchema>() -> Json {
    schemars::schema_for!(T).into()
}

/// Markdown of one kind.
pub(super) fn kind_reference(kind: &Kind) -> String {
    let schema = kind.schema.as_value();
    let mut out = format!("\n## `type: {}`\n\n{}.\n", kind.info.name, kind.info.summary);
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(out, "\n{}\n", description.trim());
    }
    let ports = |types: &[PortType]| {
        types
            .iter()
            .map(|t| format!("`{t}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut facts = Vec::new();
    if !kind.info.ports.takes.is_empty() {
        facts.push(format!("takes {}", ports(kind.info.ports.takes)));
    }
    if !kind.info.ports.gives.is_empty() {
        facts.push(format!("gives {}", ports(kind.info.ports.gives)));
    }
    if kind.role == Role::Stage {
        facts.push(
            match kind.info.replication {
                Replication::Free => "any number of replicas",
                Replication::PerStream => {
                    "keeps state per stream: `replicas: per_stream`, or `route: by_stream`"
                }
                Replication::Single => "one instance",
            }
            .to_owned(),
        );
    }
    if !facts.is_empty() {
        let text = facts.join("; ");
        let mut chars = text.chars();
        let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
        let _ = write!(out, "\n{first}{}.\n", chars.as_str());
    }
    let has_keys = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    if has_keys {
        out.push('\n');
        keys(&mut out, schema, schema);
    }
    out
}

/// One key of a kind, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// The key.
    pub key: String,
    /// What it takes.
    pub value: String,
    /// Its default, or `required`; empty where leaving it out has its own meaning.
    pub default: String,
    /// What it means.
    pub text: String,
}

/// The keys of a kind, without those that every component has.
pub fn kind_keys(kind: &Kind) -> Vec<KeyReference> {
    rows(kind.schema.as_value(), kind.schema.as_value())
}

fn rows(schema: &Json, root: &Json) -> Vec<KeyReference> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(key, property)| {
            let target = resolve(property, root);
            let text = property["description"]
                .as_str()
                .or(target["description"].as_str());
            KeyReference {
                key: key.clone(),
                value: type_words(property, root, 0),
                default: match &property["default"] {
                    Json::Null if required.contains(&key.as_str()) => "required".to_owned(),
                    Json::Null => String::new(),
                    default => format!("`{}`", plain(default)),
                },
                text: text.unwrap_or("").to_owned(),
            }
        })
        .collect()
}

/// A table of the keys of an object, then tables of the objects among them.
fn keys(out: &mut String, schema: &Json, root: &Json) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    out.push_str("| key | value | default | |\n|---|---|---|---|\n");
    for row in rows(schema, root) {
        let (value, text) = (cell(&row.value), cell(&row.text));
        let _ = writeln!(out, "| `{}` | {value} | {} | {text} |", row.key, row.default);
    }
    for (key, property) in properties {
        nested(out, key, property, root, 0);
    }
}

/// Keys and words of the values of one key, where they are more than a line.
fn nested(out: &mut String, key: &str, property: &Json, root: &Json, depth: usize) {
    let target = resolve(property, root);
    if depth > 4 {
        return;
    }
    for branch in alternatives(target) {
        let branch = resolve(branch, root);
        if let (Some(word), Some(text)) = (branch["const"].as_str(), branch["description"].as_str()) {
            let _ = writeln!(out, "{}- `{key}: {word}`: {}", lead(out), cell(text));
        } else if branch["properties"].is_object() {
            table(out, key, branch, root, depth);
        } else if !alternatives(branch).is_empty() {
            nested(out, key, branch, root, depth + 1);
        }
    }
    // Keys that have sections of their own are described there.
    let own_section = ["queue", "on_error", "restart", "pin", "inputs"].contains(&key);
    if target["properties"].is_object() && !own_section {
        table(out, key, target, root, depth);
    }
}

fn table(out: &mut String, key: &str, schema: &Json, root: &Json, depth: usize) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (name, property) in properties {
        let text = property["description"]
            .as_str()
            .or(schema["description"].as_str())
            .or(resolve(property, root)["description"].as_str())
            .unwrap_or("");
        let value = type_words(property, root, 0);
        let line = match property["const"].as_str() {
            // The word that tells alternatives apart stands for the alternative.
            Some(word) => format!("{}- `{key}.{name}: {word}`: {}\n", lead(out), cell(text)),
            None => format!("{}- `{key}.{name}` ({value}): {}\n", lead(out), cell(text)),
        };
        out.push_str(&line);
        nested(out, &format!("{key}.{name}"), property, root, depth + 1);
    }
}

/// An empty line before the first item of a list.
fn lead(out: &str) -> &'static str {
    match out.lines().last() {
        Some(line) if line.starts_with('|') => "\n",
        _ => "",
    }
}

fn resolve<'a>(mut schema: &'a Json, root: &'a Json) -> &'a Json {
    for _ in 0..32 {
        let target = schema["$ref"]
            .as_str()
            .and_then(|r| r.strip_prefix('#'))
            .and_then(|r| root.pointer(r));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    // An optional value is that value.
    let branches = alternatives(schema);
    let some: Vec<&Json> = branches.iter().filter(|b| b["type"] != "null").collect();
    match some[..] {
        [only] if branches.len() == 2 && schema["properties"].is_null() => resolve(only, root),
        _ => schema,
    }
}

fn alternatives(schema: &Json) -> &[Json] {
    schema["oneOf"]
        .as_array()
        .or(schema["anyOf"].as_array())
        .map_or(&[], Vec::as_slice)
}

fn type_words(property: &Json, root: &Json, depth: usize) -> String {
    let schema = resolve(property, root);
    if depth > 6 {
        return "value".into();
    }
    if let Some((description, _)) = schema["pattern"].as_str().and_then(describe_pattern) {
        return description
            .split(" with")
            .next()
            .unwrap_or(description)
            .trim_start_matches("a ")
            .to_owned();
    }
    if let Some(word) = schema.get("const") {
        return format!("`{}`", plain(word));
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter(|w| !w.is_null())
            .map(|w| format!("`{}`", plain(w)))
            .collect();
        return words.join(", ");
    }
    let branches = alternatives(schema);
    if !branches.is_empty() {
        let mut words: Vec<String> = Vec::new();
        for branch in branches.iter().filter(|b| b["type"] != "null") {
            let word = type_words(branch, root, depth + 1);
            if !words.contains(&word) {
                words.push(word);
            }
        }
        return words.join(", ");
    }
    let mut types: Vec<&str> = match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    types.retain(|t| *t != "null");
    match types[..] {
        ["array"] => {
            let item = type_words(&schema["items"], root, depth + 1);
            match schema["minItems"]
                .as_u64()
                .filter(|n| schema["maxItems"].as_u64() == Some(*n))
            {
                Some(count) => format!("list of {count}: {item}"),
                None => format!("list of {item}"),
            }
        }
        ["object"] if schema["additionalProperties"].is_object() => {
            let value = type_words(&schema["additionalProperties"], root, depth + 1);
            format!("mapping of names to {value}")
        }
        ["object"] => "mapping".into(),
        ["boolean"] => "`true`, `false`".into(),
        ["integer"] | ["number"] => {
            let range = match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
                (Some(a), Some(b)) => format!(" {a} to {b}"),
                (Some(a), None) => format!(" from {a}"),
                (None, Some(b)) => format!(" up to {b}"),
                (None, None) => String::new(),
            };
            format!("{}{range}", types[0])
        }
        [one] => one.to_owned(),
        _ => "any".into(),
    }
}

/// A value as it is written in YAML.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        // Settings of type f32 come as the f64 next to them: 0.4 as 0.4000000059604645.
        Json::Number(number) => match number.as_f64() {
            Some(v) if number.is_f64() && f64::from(v as f32) == v => (v as f32).to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Text on one line of a table.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
