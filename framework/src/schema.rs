//! The pipeline language as JSON Schema, for editors and other tools, and as a reference for people.

mod reference;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use crate::config::keys::{
    DefaultsKeys, ModelKeys, NAME_PATTERN, RuntimeKeys, SinkKeys, SourceKeys, StageKeys,
};
use crate::registry::{Kind, Registry, Role};

pub use reference::{KeyReference, kind_keys, markdown};

/// Strict JSON Schema (draft 2020-12) of pipeline files whose kinds are those of `registry`: the keys of a
/// component follow from its `type`, and no unknown key is taken.
///
/// A file that fits the schema can still be refused by `check`: names, the graph and ports are beyond a schema.
pub fn pipeline(registry: &Registry) -> Json {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let runtime = nullable(subschema::<RuntimeKeys>(&mut generator));
    let defaults = nullable(subschema::<DefaultsKeys>(&mut generator));
    let model = subschema::<ModelKeys>(&mut generator);
    let source = subschema::<SourceKeys>(&mut generator);
    let stage = subschema::<StageKeys>(&mut generator);
    let sink = subschema::<SinkKeys>(&mut generator);
    let mut definitions: Map<String, Json> = generator.take_definitions(true);
    // The keys of a role are part of each of its kinds.
    for (name, role, common) in [
        ("Source", Role::Source, source),
        ("Stage", Role::Stage, stage),
        ("Sink", Role::Sink, sink),
    ] {
        let common = resolve(&common, &definitions);
        let kinds: Vec<&Kind> = registry.kinds().filter(|k| k.role == role).collect();
        let component = component(&kinds, &common, &mut definitions);
        definitions.insert(name.to_owned(), component);
    }
    for merged in ["SourceKeys", "StageKeys", "SinkKeys"] {
        definitions.remove(merged);
    }
    let named = |schema: Json, description: &str| {
        json!({
            "type": ["object", "null"],
            "description": description,
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": schema,
        })
    };
    let some = |name: &str, description: &str| {
        json!({
            "type": "object",
            "description": description,
            "propertyNames": { "pattern": NAME_PATTERN },
            "minProperties": 1,
            "additionalProperties": { "$ref": format!("#/$defs/{name}") },
        })
    };
    let root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowrun pipeline",
        "type": "object",
        "properties": {
            "version": { "const": 1, "description": "Version of the pipeline language." },
            "name": {
                "type": "string",
                "pattern": NAME_PATTERN,
                "description": "Name of the pipeline. Default: the name of the file.",
            },
            "runtime": runtime,
            "defaults": defaults,
            "models": named(model, "Model files that stages refer to by name."),
            "sources": some("Source", "What reads streams, by name."),
            "stages": named(json!({ "$ref": "#/$defs/Stage" }), "What turns packets into packets, by name."),
            "sinks": some("Sink", "What takes packets out, by name."),
        },
        "patternProperties": { "^x-": { "description": "Yours, for anchors." } },
        "required": ["version", "sources", "sinks"],
        "additionalProperties": false,
        "$defs": definitions,
    });
    strict(root)
}

fn subschema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Json {
    generator.subschema_for::<T>().into()
}

fn nullable(schema: Json) -> Json {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Follows a `$ref` into the definitions.
fn resolve(schema: &Json, definitions: &Map<String, Json>) -> Json {
    let name = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/"));
    name.and_then(|n| definitions.get(n)).unwrap_or(schema).clone()
}

/// The schema of a component: `type` picks the keys.
fn component(kinds: &[&Kind], common: &Json, definitions: &mut Map<String, Json>) -> Json {
    let names: Vec<&str> = kinds.iter().map(|k| k.info.name).collect();
    let mut branches = Vec::new();
    for kind in kinds {
        let prefix = format!("{}.{}", role_name(kind.role), kind.info.name);
        let mut own: Json = kind.schema.clone().into();
        // Kinds may name their definitions alike; each gets names of its own.
        if let Some(Json::Object(defs)) = own.as_object_mut().and_then(|o| o.remove("$defs")) {
            for (name, mut definition) in defs {
                rename_references(&mut definition, &prefix);
                definitions.insert(format!("{prefix}.{name}"), definition);
            }
        }
        rename_references(&mut own, &prefix);
        let mut merged = Map::new();
        merged.insert("type".into(), "object".into());
        merged.insert("description".into(), kind.info.summary.into());
        let mut properties = common["properties"].as_object().cloned().unwrap_or_default();
        let mut kind_key = json!({ "description": "The kind." });
        // YAML reads a plain `null` as nothing.
        kind_key["enum"] = if kind.info.name == "null" {
            json!(["null", null])
        } else {
            json!([kind.info.name])
        };
        properties.insert("type".into(), kind_key);
        properties.extend(own["properties"].as_object().cloned().unwrap_or_default());
        merged.insert("properties".into(), Json::Object(properties));
        let mut required: Vec<Json> = common["required"].as_array().cloned().unwrap_or_default();
        let own_required = own["required"].as_array().cloned().unwrap_or_default();
        if kind.role == Role::Source && !own_required.is_empty() && own.get("anyOf").is_none() {
            // Streams may have them instead.
            let alternatives = json!([{ "required": own_required }, { "required": ["streams"] }]);
            merged.insert("anyOf".into(), alternatives);
        } else {
            required.extend(own_required);
        }
        merged.insert("required".into(), Json::Array(required));
        merged.insert("additionalProperties".into(), Json::Bool(false));
        // A kind whose settings are alternatives has them beside its properties.
        for key in ["oneOf", "anyOf", "allOf"] {
            if let Some(alternatives) = own.get(key) {
                merged.insert(key.into(), alternatives.clone());
                merged.remove("additionalProperties");
                merged.insert("unevaluatedProperties".into(), Json::Bool(false));
            }
        }
        let definition = format!("{prefix}.component");
        definitions.insert(definition.clone(), Json::Object(merged));
        let mut test =
            json!({ "properties": { "type": {} }, "required": ["type"], "additionalProperties": true });
        test["properties"]["type"]["enum"] = if kind.info.name == "null" {
            json!(["null", null])
        } else {
            json!([kind.info.name])
        };
        branches.push(json!({ "if": test, "then": { "$ref": format!("#/$defs/{definition}") } }));
    }
    let mut types: Vec<Json> = names.iter().map(|n| json!(n)).collect();
    if names.contains(&"null") {
        types.push(Json::Null);
    }
    json!({
        "type": "object",
        "properties": { "type": { "enum": types, "description": "The kind." } },
        "required": ["type"],
        "allOf": branches,
    })
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Stage => "stage",
        Role::Sink => "sink",
    }
}

/// Points references at the definitions of a kind.
fn rename_references(schema: &mut Json, prefix: &str) {
    match schema {
        Json::Object(object) => {
            if let Some(Json::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/$defs/")
            {
                *reference = format!("#/$defs/{prefix}.{name}");
            }
            object.values_mut().for_each(|v| rename_references(v, prefix));
        }
        Json::Array(items) => items.iter_mut().for_each(|v| rename_references(v, prefix)),
        _ => {}
    }
}

/// No object with properties takes unknown ones; `$schema` and `title` stand at the top only.
fn strict(mut schema: Json) -> Json {
    fn visit(schema: &mut Json, top: bool) {
        let Json::Object(object) = schema else {
            if let Json::Array(items) = schema {
                items.iter_mut().for_each(|s| visit(s, false));
            }
            return;
        };
        if !top && object.get("$schema").is_some_and(Json::is_string) {
            object.remove("$schema");
        }
        let composed = ["oneOf", "anyOf", "allOf", "$ref", "unevaluatedProperties"]
            .iter()
            .any(|k| object.contains_key(*k));
        // A test after `if` looks at one key only; it has no type.
        let is_object = object.get("type").is_some_and(|t| t == "object");
        if is_object && object.contains_key("properties") && !composed {
            object.entry("additionalProperties").or_insert(Json::Bool(false));
        }
        object.values_mut().for_each(|s| visit(s, false));
    }
    visit(&mut schema, true);
    schema
}

#[cfg(test)]
#[path = "../tests/support/registry.rs"]
mod kinds;

#[cfg(test)]
mod tests;
