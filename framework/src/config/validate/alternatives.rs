//! `oneOf` and `anyOf`: finding the alternative that was meant, so that the error is about that one.

use serde_json::Value as Json;

use super::{MAX_DEPTH, Place, Validator, has_type, scalars, type_names};
use crate::codes;
use crate::config::suggest::{closest, list};
use crate::config::tree::{Node, Value};
use crate::diagnostics::Diagnostic;

impl<'a> Validator<'a> {
    pub(super) fn check_alternatives(
        &mut self,
        branches: &'a [Json],
        place: Place<'_>,
        found: &mut Vec<Diagnostic>,
    ) {
        let mut outcomes: Vec<(&'a Json, Vec<Diagnostic>)> = Vec::new();
        for branch in branches {
            let mut errors = Vec::new();
            self.check(branch, place, &mut errors);
            if errors.is_empty() {
                return;
            }
            let schema = self.resolved(branch);
            if schema["type"] != "null" {
                outcomes.push((schema, errors));
            }
        }
        if let [(_, errors)] = &mut outcomes[..] {
            found.append(errors);
            return;
        }
        let by_type = |(schema, _): &&mut (&'a Json, Vec<Diagnostic>)| self.may_hold(schema, place.node, 0);
        let is_mapping = matches!(place.node.value, Value::Mapping(_));
        if is_mapping && let Some(errors) = self.by_tag(&mut outcomes, place) {
            found.extend(errors);
            return;
        }
        let words: Vec<String> = outcomes.iter().flat_map(|(s, _)| allowed_words(s)).collect();
        let all_words = outcomes.iter().all(|(s, _)| !allowed_words(s).is_empty());
        if all_words {
            found.push(scalars::not_allowed(&words, place));
            return;
        }
        // A text that is like one of the words is a slip; any other text may have meant another alternative.
        let stray = match &place.node.value {
            Value::String(text) if !words.is_empty() => {
                closest(text, words.iter().map(String::as_str)).is_none()
            }
            _ => false,
        };
        let mut fitting: Vec<_> = outcomes.iter_mut().filter(by_type).collect();
        if let [(schema, errors)] = &mut fitting[..]
            && !(stray && self.words_of(schema))
        {
            found.append(errors);
            return;
        }
        if is_mapping {
            // The alternative with the fewest faults is the likeliest.
            if let Some((_, errors)) = fitting.into_iter().min_by_key(|(_, errors)| errors.len()) {
                found.append(errors);
                return;
            }
        }
        let mut expected: Vec<String> = Vec::new();
        for (schema, _) in &outcomes {
            let part = self.expected(schema);
            if !expected.contains(&part) {
                expected.push(part);
            }
        }
        let expected = expected.join(" or ");
        let code = if stray {
            codes::NOT_ALLOWED
        } else {
            codes::WRONG_TYPE
        };
        found.push(
            place
                .error(
                    code,
                    format!(
                        "`{}` must be {expected}, found {}",
                        place.name(),
                        place.node.describe()
                    ),
                )
                .label(format!("expected {expected}")),
        );
    }

    /// Whether a schema takes a few fixed words and nothing else.
    fn words_of(&self, schema: &'a Json) -> bool {
        !allowed_words(self.resolved(schema)).is_empty()
    }

    /// Whether the type of a value is one that the schema takes.
    fn may_hold(&self, schema: &'a Json, node: &Node, depth: usize) -> bool {
        let schema = self.resolved(schema);
        let types = type_names(schema);
        if !types.is_empty() {
            return types.iter().any(|t| has_type(node, t));
        }
        let branches = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        match branches {
            Some(branches) if depth < MAX_DEPTH => branches.iter().any(|b| self.may_hold(b, node, depth + 1)),
            _ => true,
        }
    }

    /// Picks the alternative of a mapping by the key that tells alternatives apart: a key with one fixed
    /// value in each of them, or the only key of each. `None`: there is no such key.
    fn by_tag(
        &self,
        outcomes: &mut [(&'a Json, Vec<Diagnostic>)],
        place: Place<'_>,
    ) -> Option<Vec<Diagnostic>> {
        let objects = |schema: &Json| type_names(schema).contains(&"object");
        let (first, _) = outcomes.iter().find(|(s, _)| objects(s))?;
        let tag = first["properties"]
            .as_object()?
            .iter()
            .find(|(_, property)| !property["const"].is_null())
            .map(|(key, _)| key.clone());
        if let Some(tag) = tag {
            let words: Vec<String> = outcomes
                .iter()
                .flat_map(|(s, _)| allowed_words(&s["properties"][tag.as_str()]))
                .collect();
            let Some(entry) = place.node.entry(&tag) else {
                return Some(vec![
                    Diagnostic::error(
                        codes::MISSING_KEY,
                        place.key_span,
                        format!("missing key `{tag}` in {}", place.name()),
                    )
                    .label(format!(
                        "`{tag}` is {}",
                        list(words.iter().map(String::as_str), "or")
                    )),
                ]);
            };
            let value = entry.value.to_json();
            let chosen = outcomes
                .iter_mut()
                .find(|(s, _)| s["properties"][tag.as_str()]["const"] == value);
            return Some(match chosen {
                Some((_, errors)) => std::mem::take(errors),
                None => {
                    let path = place.path.key(&tag);
                    let below = Place {
                        node: &entry.value,
                        key_span: entry.key_span,
                        path: &path,
                    };
                    vec![scalars::not_allowed(&words, below)]
                }
            });
        }
        // `{rtsp: {...}}` or `{file: {...}}`
        let only_key = |schema: &'a Json| match schema["required"].as_array().map(Vec::as_slice) {
            Some([only]) if schema["properties"].as_object().is_some_and(|p| p.len() == 1) => only.as_str(),
            _ => None,
        };
        let keys: Vec<&str> = outcomes.iter().filter_map(|(s, _)| only_key(s)).collect();
        if keys.is_empty() {
            return None;
        }
        let entry = place.node.entries().first()?;
        let chosen = outcomes
            .iter_mut()
            .find(|(s, _)| only_key(s) == Some(entry.key.as_str()));
        Some(match chosen {
            Some((_, errors)) => std::mem::take(errors),
            None => vec![self.unknown_key(&keys, &entry.key, entry.key_span, place)],
        })
    }
}

/// The fixed values a schema allows, as they would be written.
pub(super) fn allowed_words(schema: &Json) -> Vec<String> {
    let word = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    if !schema["const"].is_null() {
        return vec![word(&schema["const"])];
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().filter(|v| !v.is_null()).map(word).collect();
    }
    match schema["oneOf"].as_array() {
        Some(branches) if branches.iter().all(|b| !allowed_words(b).is_empty()) => {
            branches.iter().flat_map(allowed_words).collect()
        }
        _ => Vec::new(),
    }
}
