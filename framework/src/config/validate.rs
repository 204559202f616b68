//! Checks a [tree](super::tree) against a JSON Schema (the part of draft 2020-12 that `schemars` writes for
//! configuration structs), with the place of every fault.
//!
//! Objects are strict: a mapping with `properties` and without `additionalProperties` takes no other keys.

mod alternatives;
mod scalars;

use serde_json::Value as Json;

use super::path::KeyPath;
use super::suggest::{closest, list};
use super::tree::{Node, Value};
use crate::codes;
use crate::diagnostics::{Diagnostic, Span};

/// Deepest chain of schemas in schemas.
const MAX_DEPTH: usize = 200;

/// What the validator needs to know beyond the schema.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The schema that `$ref`s point into.
    pub root: &'a Json,
    /// Further keys to suggest in place of an unknown key of the value itself.
    pub also_known: &'a [&'a str],
    /// Explains a key that is planned but not there yet, by the path of its mapping and its name.
    pub planned: fn(&KeyPath, &str) -> Option<&'static str>,
}

/// Checks `node`, which stands at `path` with its key at `key_span`.
pub fn validate(rules: Rules<'_>, node: &Node, key_span: Span, path: &KeyPath) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let place = Place { node, key_span, path };
    Validator { rules, depth: 0 }.check(rules.root, place, &mut found);
    found
}

/// A value under check.
#[derive(Clone, Copy)]
struct Place<'n> {
    node: &'n Node,
    key_span: Span,
    path: &'n KeyPath,
}

impl Place<'_> {
    /// The path, or words for the empty one.
    fn name(&self) -> String {
        if self.path.is_root() {
            "the pipeline file".into()
        } else {
            self.path.to_string()
        }
    }

    fn error(&self, code: crate::error::Code, message: String) -> Diagnostic {
        Diagnostic::error(code, self.node.span, message)
    }
}

struct Validator<'a> {
    rules: Rules<'a>,
    depth: usize,
}

impl<'a> Validator<'a> {
    fn check(&mut self, schema: &'a Json, place: Place<'_>, found: &mut Vec<Diagnostic>) {
        if matches!(place.node.value, Value::Unknown) || self.depth > MAX_DEPTH {
            return;
        }
        self.depth += 1;
        self.check_here(schema, place, found);
        self.depth -= 1;
    }

    fn check_here(&mut self, schema: &'a Json, place: Place<'_>, found: &mut Vec<Diagnostic>) {
        if schema == &Json::Bool(false) {
            found.push(place.error(codes::WRONG_TYPE, format!("`{}` takes no value", place.name())));
            return;
        }
        if let Some(target) = schema["$ref"].as_str().and_then(|r| self.resolve(r)) {
            self.check(target, place, found);
        }
        if !self.check_type(schema, place, found) {
            return;
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(branches) = schema[key].as_array() {
                self.check_alternatives(branches, place, found);
            }
        }
        for all in schema["allOf"].as_array().into_iter().flatten() {
            self.check(all, place, found);
        }
        if schema["if"].is_object() {
            let mut differs = Vec::new();
            self.check(&schema["if"], place, &mut differs);
            let branch = if differs.is_empty() {
                &schema["then"]
            } else {
                &schema["else"]
            };
            self.check(branch, place, found);
        }
        scalars::check(schema, place, found);
        match &place.node.value {
            Value::Mapping(_) => self.check_mapping(schema, place, found),
            Value::Sequence(_) => self.check_sequence(schema, place, found),
            _ => {}
        }
    }

    fn resolve(&self, reference: &str) -> Option<&'a Json> {
        self.rules.root.pointer(reference.strip_prefix('#')?)
    }

    /// Follows `$ref`s to the schema that says something.
    fn resolved(&self, mut schema: &'a Json) -> &'a Json {
        for _ in 0..MAX_DEPTH {
            match schema["$ref"].as_str().and_then(|r| self.resolve(r)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    fn check_type(&mut self, schema: &'a Json, place: Place<'_>, found: &mut Vec<Diagnostic>) -> bool {
        let types = type_names(schema);
        if types.is_empty() || types.iter().any(|t| has_type(place.node, t)) {
            return true;
        }
        let expected = self.expected(schema);
        let mut error = place
            .error(
                codes::WRONG_TYPE,
                format!(
                    "`{}` must be {expected}, found {}",
                    place.name(),
                    place.node.describe()
                ),
            )
            .label(format!("expected {}", one_line(&expected)));
        if let Some(help) = scalars::type_help(schema, &types, place.node) {
            error = error.help(help);
        }
        if scalars::is_unit(schema) {
            error.code = codes::BAD_UNIT;
        }
        found.push(error);
        false
    }

    fn check_mapping(&mut self, schema: &'a Json, place: Place<'_>, found: &mut Vec<Diagnostic>) {
        let properties = schema["properties"].as_object();
        for required in schema["required"].as_array().into_iter().flatten() {
            let Some(key) = required.as_str() else { continue };
            if place.node.entry(key).is_none() {
                found.push(self.missing(schema, key, place));
            }
        }
        let additional = &schema["additionalProperties"];
        let composed = ["oneOf", "anyOf", "allOf", "$ref"]
            .iter()
            .any(|k| !schema[*k].is_null());
        for entry in place.node.entries() {
            let path = place.path.key(&entry.key);
            let below = Place {
                node: &entry.value,
                key_span: entry.key_span,
                path: &path,
            };
            if let Some(pattern) = schema["propertyNames"]["pattern"].as_str()
                && !scalars::matches(pattern, &entry.key)
            {
                found.push(Diagnostic::error(
                    codes::BAD_NAME,
                    entry.key_span,
                    format!("\"{}\" cannot be a name", super::tree::shortened(&entry.key)),
                ));
            }
            let by_pattern = || {
                let patterns = schema["patternProperties"].as_object()?;
                let matching = patterns.iter().find(|(p, _)| scalars::matches(p, &entry.key));
                matching.map(|(_, schema)| schema)
            };
            if let Some(property) = properties.and_then(|p| p.get(&entry.key)).or_else(by_pattern) {
                self.check(property, below, found);
            } else if additional.is_object() {
                self.check(additional, below, found);
            } else if additional == &Json::Bool(false)
                || additional.is_null() && properties.is_some() && !composed
            {
                let known = properties.into_iter().flat_map(|p| p.keys());
                let known: Vec<&str> = known.map(String::as_str).collect();
                found.push(self.unknown_key(&known, &entry.key, entry.key_span, place));
            }
        }
        if let Some(limit) = schema["minProperties"].as_u64()
            && (place.node.entries().len() as u64) < limit
        {
            found.push(place.error(
                codes::OUT_OF_RANGE,
                format!("`{}` needs at least {limit} keys", place.name()),
            ));
        }
    }

    fn missing(&self, schema: &'a Json, key: &str, place: Place<'_>) -> Diagnostic {
        let property = &schema["properties"][key];
        let expected = self.expected(property);
        let mut error = Diagnostic::error(
            codes::MISSING_KEY,
            place.key_span,
            if place.path.is_root() {
                format!("missing key `{key}`")
            } else {
                format!("missing key `{key}` in {}", place.path)
            },
        )
        .label(format!("`{key}` is {}", one_line(&expected)));
        let description = property["description"]
            .as_str()
            .or_else(|| self.resolved(property)["description"].as_str());
        if let Some(description) = description {
            error = error.help(format!("`{key}`: {}", one_line(description)));
        }
        error
    }

    fn unknown_key(&self, known: &[&str], key: &str, span: Span, place: Place<'_>) -> Diagnostic {
        let place_name = if place.path.is_root() {
            "the pipeline file".to_owned()
        } else {
            place.path.to_string()
        };
        let shown = super::tree::shortened(key);
        if let Some(note) = (self.rules.planned)(place.path, key) {
            return Diagnostic::error(
                codes::NOT_SUPPORTED,
                span,
                format!("`{shown}` in {place_name} is not supported yet"),
            )
            .help(note);
        }
        let error = Diagnostic::error(
            codes::UNKNOWN_KEY,
            span,
            format!("unknown key `{shown}` in {place_name}"),
        );
        let also = if self.depth == 1 {
            self.rules.also_known
        } else {
            &[]
        };
        let all = || known.iter().chain(also).copied();
        if let Some(close) = closest(key, all()) {
            return error.label(format!("did you mean `{close}`?"));
        }
        let mut keys: Vec<&str> = all().collect();
        keys.sort_unstable();
        if keys.is_empty() {
            error.help(format!("{place_name} takes no keys"))
        } else {
            error.help(format!("known keys: {}", list(keys, "and")))
        }
    }

    fn check_sequence(&mut self, schema: &'a Json, place: Place<'_>, found: &mut Vec<Diagnostic>) {
        let items = place.node.items();
        let count = items.len() as u64;
        let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
        if least.is_some_and(|n| count < n) || most.is_some_and(|n| count > n) {
            let wanted = match (least, most) {
                (Some(a), Some(b)) if a == b => format!("exactly {a}"),
                (Some(a), Some(b)) => format!("{a} to {b}"),
                (Some(a), None) => format!("at least {a}"),
                (None, Some(b)) => format!("at most {b}"),
                (None, None) => String::new(),
            };
            let plural = if wanted.ends_with(" 1") { "" } else { "s" };
            found.push(
                place
                    .error(
                        codes::OUT_OF_RANGE,
                        format!(
                            "`{}` must have {wanted} item{plural}, found {count}",
                            place.name()
                        ),
                    )
                    .label(format!("expected {wanted} item{plural}")),
            );
        }
        let first = schema["prefixItems"].as_array();
        for (i, item) in items.iter().enumerate() {
            let path = place.path.index(i);
            let below = Place {
                node: item,
                key_span: item.span,
                path: &path,
            };
            if let Some(schema) = first.and_then(|f| f.get(i)) {
                self.check(schema, below, found);
            } else if schema["items"].is_object() {
                self.check(&schema["items"], below, found);
            }
        }
        if schema["uniqueItems"] == Json::Bool(true) {
            for (i, item) in items.iter().enumerate() {
                let json = item.to_json();
                if let Some(first) = items[..i].iter().find(|other| other.to_json() == json) {
                    found.push(
                        Diagnostic::error(
                            codes::OUT_OF_RANGE,
                            item.span,
                            format!("`{}` holds {} twice", place.name(), item.describe()),
                        )
                        .note(first.span, "first here"),
                    );
                }
            }
        }
    }

    /// Words for what a schema takes: `a number`, `` `a` or `b` ``, ...
    fn expected(&self, schema: &'a Json) -> String {
        let schema = self.resolved(schema);
        if let Some(unit) = scalars::unit(schema) {
            return unit;
        }
        let words = alternatives::allowed_words(schema);
        if !words.is_empty() {
            return list(words.iter().map(String::as_str), "or");
        }
        let branches = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        if let Some(branches) = branches {
            let mut parts: Vec<String> = Vec::new();
            for branch in branches {
                let part = self.expected(branch);
                if part != "nothing" && !parts.contains(&part) {
                    parts.push(part);
                }
            }
            if !parts.is_empty() {
                return parts.join(" or ");
            }
        }
        let types = type_names(schema);
        let mut names: Vec<&str> = types.iter().map(|t| type_words(t)).collect();
        if names.len() > 1 {
            names.retain(|n| *n != "nothing");
        }
        if names.is_empty() {
            return "a value".into();
        }
        names.join(" or ")
    }
}

fn type_names(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn type_words(name: &str) -> &'static str {
    match name {
        "null" => "nothing",
        "boolean" => "`true` or `false`",
        "integer" => "an integer",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "a mapping",
        _ => "a value",
    }
}

fn has_type(node: &Node, name: &str) -> bool {
    match (&node.value, name) {
        (Value::Number(n), "integer") => n.is_u64() || n.is_i64(),
        (Value::Null, "null")
        | (Value::Bool(_), "boolean")
        | (Value::Number(_), "number")
        | (Value::String(_), "string")
        | (Value::Sequence(_), "array")
        | (Value::Mapping(_), "object")
        | (Value::Unknown | Value::Template { .. }, _) => true,
        _ => false,
    }
}

/// The first paragraph of a description on one line, without its full stop.
fn one_line(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or("");
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_end_matches('.').to_owned()
}
