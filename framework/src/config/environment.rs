//! `${...}` inside values, replaced from the environment after parsing, so that what a variable holds can
//! never change the structure of the file.
//!
//! | written | gives |
//! |---|---|
//! | `${NAME}` | the variable; an error if it is not set |
//! | `${NAME:-text}` | the variable, or `text` if it is not set or empty; `text` may hold `${...}` |
//! | `${NAME:?why}` | the variable; an error that says `why` if it is not set or empty |
//! | `$${` | the two characters `${` |
//!
//! Keys are left alone. A value without quotes that is one whole `${...}` is typed as YAML would
//! type the text that replaces it: `${N:-5}` is a number. Quoted values stay text.

use super::tree::{Node, Value, plain_scalar, shortened};
use crate::codes;
use crate::diagnostics::{Diagnostic, Span};

/// Looks up a variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Deepest nesting of defaults in defaults.
const MAX_DEPTH: usize = 8;
/// Longest value that may come out, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// Replaces all templates below `node`. What cannot be replaced becomes [`Value::Unknown`] and an error in
/// `found`. `stand_in` takes the place of variables that are needed and not set.
pub fn interpolate(
    node: &mut Node,
    environment: Environment<'_>,
    stand_in: Option<&str>,
    found: &mut Vec<Diagnostic>,
) {
    match &mut node.value {
        Value::Sequence(items) => {
            for item in items {
                interpolate(item, environment, stand_in, found);
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                interpolate(&mut entry.value, environment, stand_in, found);
            }
        }
        Value::Template { text, plain } => {
            node.value = match expand(text, environment, stand_in, node.span, 0) {
                Ok(expanded) if *plain && is_whole(text) => plain_scalar(expanded.trim()),
                Ok(expanded) => Value::String(expanded),
                Err(error) => {
                    found.push(*error);
                    Value::Unknown
                }
            };
        }
        _ => {}
    }
}

/// Whether the text is one `${...}` and nothing else.
fn is_whole(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(closing_brace)
        .is_some_and(|end| end + 3 == text.len())
}

/// Place of the brace that closes an already opened `${`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut previous = ' ';
    for (i, c) in text.char_indices() {
        match c {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(i),
            '}' => depth -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

fn expand(
    text: &str,
    environment: Environment<'_>,
    stand_in: Option<&str>,
    span: Span,
    depth: usize,
) -> Result<String, Box<Diagnostic>> {
    let malformed = |what: String| {
        let error = Diagnostic::error(codes::BAD_INTERPOLATION, span, what).help(
            "write `${NAME}`, `${NAME:-default}` or `${NAME:?why it is needed}`; `$${` gives a plain `${`",
        );
        Box::new(error)
    };
    if depth > MAX_DEPTH {
        return Err(malformed(format!("`${{...}}` is nested deeper than {MAX_DEPTH}")));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = closing_brace(inside) else {
            return Err(malformed(format!(
                "`{}` has no closing brace",
                shortened(&rest[at..])
            )));
        };
        let (expression, after) = (&inside[..end], &inside[end + 1..]);
        let name_end = expression
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(expression.len());
        let (name, operation) = expression.split_at(name_end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(malformed(format!(
                "`${{{}}}` does not name a variable",
                shortened(expression)
            )));
        }
        let value = environment(name);
        let filled = value.clone().filter(|v| !v.is_empty());
        let stand_in_text = stand_in.map(str::to_owned);
        let replaced = if operation.is_empty() {
            value.or(stand_in_text).ok_or_else(|| unset(name, None, span))?
        } else if let Some(default) = operation.strip_prefix(":-") {
            match filled {
                Some(value) => value,
                None => expand(default, environment, stand_in, span, depth + 1)?,
            }
        } else if let Some(why) = operation.strip_prefix(":?") {
            filled
                .or(stand_in_text)
                .ok_or_else(|| unset(name, Some(why), span))?
        } else {
            return Err(malformed(format!(
                "`${{{}}}`: after the name may follow `:-` or `:?`",
                shortened(expression)
            )));
        };
        out.push_str(&replaced);
        if out.len() > MAX_BYTES {
            return Err(malformed(format!("the value grows beyond {MAX_BYTES} bytes")));
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn unset(name: &str, why: Option<&str>, span: Span) -> Box<Diagnostic> {
    let error = match why {
        Some(why) if !why.trim().is_empty() => Diagnostic::error(
            codes::VARIABLE_NOT_SET,
            span,
            format!("the environment variable `{name}` is not set: {}", why.trim()),
        ),
        _ => Diagnostic::error(
            codes::VARIABLE_NOT_SET,
            span,
            format!("the environment variable `{name}` is not set"),
        ),
    };
    let error = error.help(format!(
        "set it: `{name}=... flowrun run FILE`, or give a default: `${{{name}:-default}}`"
    ));
    Box::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    fn environment(name: &str) -> Option<String> {
        match name {
            "N" => Some("5".into()),
            "EMPTY" => Some(String::new()),
            "EVIL" => Some("a: [b, {c: d}]".into()),
            _ => None,
        }
    }

    fn read(value: &str) -> Result<Json, &'static str> {
        let mut found = Vec::new();
        let mut node = super::super::yaml::parse(&format!("v: {value}\n"), 0, &mut found).unwrap();
        interpolate(&mut node, &environment, None, &mut found);
        match found.first() {
            Some(error) => Err(error.code.0),
            None => Ok(node.to_json()["v"].clone()),
        }
    }

    #[test]
    fn whole_plain_values_are_typed_and_others_are_text() {
        assert_eq!(read("${N}"), Ok(json!(5)));
        assert_eq!(read("${X:-5}"), Ok(json!(5)));
        assert_eq!(read("${X:-true}"), Ok(json!(true)));
        assert_eq!(read("\"${N}\""), Ok(json!("5")));
        assert_eq!(read("a${N}"), Ok(json!("a5")));
        assert_eq!(read("${N}${N}"), Ok(json!("55")));
        assert_eq!(read("${EVIL}"), Ok(json!("a: [b, {c: d}]")));
    }

    #[test]
    fn defaults_reasons_and_escapes() {
        assert_eq!(read("${OUT:-out}/x.jsonl"), Ok(json!("out/x.jsonl")));
        assert_eq!(read("'${EMPTY:-d}'"), Ok(json!("d")));
        assert_eq!(read("'${EMPTY}'"), Ok(json!("")));
        assert_eq!(read("'${X:-${Y:-deep}}!'"), Ok(json!("deep!")));
        assert_eq!(read("'$${N} costs $5'"), Ok(json!("${N} costs $5")));
        assert_eq!(read("${X}"), Err("E0010"));
        assert_eq!(read("'${EMPTY:?needed}'"), Err("E0010"));
        for bad in ["'${'", "'${}'", "'${1}'", "'${N:+x}'", "'${N-x}'", "'${A B}'"] {
            assert_eq!(read(bad), Err("E0011"), "{bad}");
        }
    }

    #[test]
    fn a_stand_in_takes_the_place_of_what_is_needed_and_not_set_only() {
        let text = "v: ['${X:?why}', '${X}', '${X:-d}', '${N}', '${EMPTY:?why}']\n";
        let (mut node, mut found) = (
            super::super::yaml::parse(text, 0, &mut Vec::new()).unwrap(),
            Vec::new(),
        );
        interpolate(&mut node, &environment, Some("-"), &mut found);
        assert!(found.is_empty());
        assert_eq!(node.to_json()["v"], json!(["-", "-", "d", "5", "-"]));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r"[$\{\}:\-?NX]{0,40}") {
            let _ = expand(&text, &environment, None, Span::default(), 0);
        }
    }
}
