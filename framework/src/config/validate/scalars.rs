//! Ranges, lengths, patterns and fixed values of scalars.

use regex::Regex;
use serde_json::{Number, Value as Json};

use super::alternatives::allowed_words;
use super::{Place, type_names};
use crate::codes;
use crate::config::suggest::{closest, list};
use crate::config::tree::{Node, Value};
use crate::diagnostics::Diagnostic;
use crate::units;

/// Checks what a schema says about a scalar.
pub(super) fn check(schema: &Json, place: Place<'_>, found: &mut Vec<Diagnostic>) {
    // Schemas with alternatives name their words there.
    if schema["oneOf"].is_null() && schema["anyOf"].is_null() {
        check_fixed(schema, place, found);
    }
    match &place.node.value {
        Value::Number(number) => check_range(schema, number, place, found),
        Value::String(text) => check_text(schema, text, place, found),
        _ => {}
    }
}

fn check_fixed(schema: &Json, place: Place<'_>, found: &mut Vec<Diagnostic>) {
    let value = place.node.to_json();
    let fits = match (&schema["const"], schema["enum"].as_array()) {
        (Json::Null, None) => true,
        (Json::Null, Some(allowed)) => allowed.contains(&value),
        (only, _) => *only == value,
    };
    if !fits {
        found.push(not_allowed(&allowed_words(schema), place));
    }
}

/// The error for a value that is none of `words`.
pub(super) fn not_allowed(words: &[String], place: Place<'_>) -> Diagnostic {
    let allowed = list(words.iter().map(String::as_str), "or");
    let error = place.error(
        codes::NOT_ALLOWED,
        format!(
            "`{}` must be {allowed}, found {}",
            place.name(),
            place.node.describe()
        ),
    );
    let found = match &place.node.value {
        Value::String(text) => text.clone(),
        other => {
            let node = Node {
                value: other.clone(),
                span: place.node.span,
            };
            node.to_json().to_string()
        }
    };
    match closest(&found, words.iter().map(String::as_str)) {
        Some(close) => error.label(format!("did you mean `{close}`?")),
        None => error.label(format!("expected {allowed}")),
    }
}

fn check_range(schema: &Json, number: &Number, place: Place<'_>, found: &mut Vec<Diagnostic>) {
    let Some(value) = number.as_f64() else { return };
    let (format_least, format_most) = format_range(schema["format"].as_str().unwrap_or(""));
    let least = schema["minimum"].as_f64().or(format_least);
    let most = schema["maximum"].as_f64().or(format_most);
    let above = schema["exclusiveMinimum"].as_f64();
    let below = schema["exclusiveMaximum"].as_f64();
    let fits = least.is_none_or(|n| value >= n)
        && most.is_none_or(|n| value <= n)
        && above.is_none_or(|n| value > n)
        && below.is_none_or(|n| value < n);
    if !fits {
        let lower = least.map(|n| format!("at least {n}"));
        let lower = lower.or(above.map(|n| format!("more than {n}")));
        let upper = most.map(|n| format!("at most {n}"));
        let upper = upper.or(below.map(|n| format!("less than {n}")));
        let wanted = match (least, most) {
            (Some(least), Some(most)) => format!("from {least} to {most}"),
            _ => {
                let wanted: Vec<String> = [lower, upper].into_iter().flatten().collect();
                wanted.join(" and ")
            }
        };
        found.push(
            place
                .error(
                    codes::OUT_OF_RANGE,
                    format!("`{}` must be {wanted}, found {number}", place.name()),
                )
                .label(format!("expected {wanted}")),
        );
    }
    if let Some(step) = schema["multipleOf"].as_f64().filter(|s| *s > 0.0)
        && (value / step).fract() != 0.0
    {
        found.push(
            place
                .error(
                    codes::OUT_OF_RANGE,
                    format!("`{}` must be a multiple of {step}, found {number}", place.name()),
                )
                .label(format!("expected a multiple of {step}")),
        );
    }
}

/// The range of the integer formats that schemars writes.
fn format_range(format: &str) -> (Option<f64>, Option<f64>) {
    match format {
        "uint8" => (Some(0.0), Some(f64::from(u8::MAX))),
        "uint16" => (Some(0.0), Some(f64::from(u16::MAX))),
        "uint32" => (Some(0.0), Some(f64::from(u32::MAX))),
        "uint64" | "uint" | "uint128" => (Some(0.0), None),
        "int8" => (Some(f64::from(i8::MIN)), Some(f64::from(i8::MAX))),
        "int16" => (Some(f64::from(i16::MIN)), Some(f64::from(i16::MAX))),
        "int32" => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    }
}

fn check_text(schema: &Json, text: &str, place: Place<'_>, found: &mut Vec<Diagnostic>) {
    let characters = text.chars().count() as u64;
    if let Some(least) = schema["minLength"].as_u64().filter(|n| characters < *n) {
        let message = if text.is_empty() {
            format!("`{}` must not be empty", place.name())
        } else {
            format!(
                "`{}` must have at least {least} characters, found {characters}",
                place.name()
            )
        };
        found.push(place.error(codes::OUT_OF_RANGE, message));
        return;
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|n| characters > *n) {
        found.push(place.error(
            codes::OUT_OF_RANGE,
            format!(
                "`{}` must have at most {most} characters, found {characters}",
                place.name()
            ),
        ));
        return;
    }
    let Some(pattern) = schema["pattern"].as_str().filter(|p| !matches(p, text)) else {
        return;
    };
    if let Some((description, examples)) = units::describe_pattern(pattern) {
        found.push(
            place
                .error(
                    codes::BAD_UNIT,
                    format!(
                        "`{}` must be {description}, found \"{}\"",
                        place.name(),
                        crate::config::tree::shortened(text)
                    ),
                )
                .label(format!("such as {}", list(examples.iter().copied(), "or"))),
        );
        return;
    }
    let mut error = place.error(
        codes::BAD_PATTERN,
        format!(
            "`{}` is not of the form it must have: {}",
            place.name(),
            place.node.describe()
        ),
    );
    if pattern.len() <= 40 {
        error = error.label(format!("expected the form {pattern}"));
    }
    error = match schema["description"].as_str() {
        Some(description) => error.help(super::one_line(description)),
        None => error.help(format!("it must match the pattern {pattern}")),
    };
    found.push(error);
}

/// Whether `text` matches; a pattern that is no regular expression matches everything, and the typed
/// configuration has the last word.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).map_or(true, |regex| regex.is_match(text))
}

/// What the schema calls its unit, if it is one of [`units`].
pub(super) fn unit(schema: &Json) -> Option<String> {
    let (description, _) = units::describe_pattern(schema["pattern"].as_str()?)?;
    Some(description.to_owned())
}

pub(super) fn is_unit(schema: &Json) -> bool {
    unit(schema).is_some()
}

/// Advice for a value of the wrong type.
pub(super) fn type_help(schema: &Json, types: &[&str], node: &Node) -> Option<String> {
    if let Some((_, examples)) = schema["pattern"].as_str().and_then(units::describe_pattern) {
        let suggestion = match &node.value {
            Value::Number(n) => {
                let unit = |example: &str| {
                    example
                        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                        .to_owned()
                };
                let mut values: Vec<String> = examples
                    .iter()
                    .take(2)
                    .map(|e| format!("{n}{}", unit(e)))
                    .collect();
                values.dedup();
                format!("add the unit: {}", list(values.iter().map(String::as_str), "or"))
            }
            _ => format!("write for example {}", list(examples.iter().copied(), "or")),
        };
        return Some(suggestion);
    }
    let wants = |name: &str| types.contains(&name) || type_names(schema).contains(&name);
    match &node.value {
        Value::String(text) if wants("boolean") => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" => Some("write `true`".into()),
            "no" | "off" | "n" => Some("write `false`".into()),
            "true" | "false" => Some("write it without quotes".into()),
            _ => None,
        },
        Value::String(text) if (wants("integer") || wants("number")) && text.parse::<f64>().is_ok() => {
            if text.len() > 1 && text.starts_with('0') {
                Some("write the number without leading zeros and without quotes".into())
            } else {
                Some("write the number without quotes".into())
            }
        }
        Value::Number(n) if wants("integer") && n.is_f64() => {
            Some("write a whole number without a point".into())
        }
        Value::Number(_) | Value::Bool(_) if wants("string") => {
            let text = node.to_json().to_string();
            Some(format!("write it in quotes: \"{text}\""))
        }
        Value::String(text) if wants("array") => {
            Some(format!("write `[{}]`", crate::config::tree::shortened(text)))
        }
        Value::Null => Some("give it a value, or remove the key".into()),
        _ => None,
    }
}
