//! A YAML document as a tree in which every key and value knows its place.

use serde_json::{Map, Number};

use super::path::{KeyPath, Segment};
use crate::diagnostics::Span;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
}

/// A value of a YAML document.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer or a finite decimal number.
    Number(Number),
    /// Text.
    String(String),
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the file, without duplicate keys.
    Mapping(Vec<Entry>),
    /// A value that could not be found out (an environment variable that is not set); an error has been
    /// reported, and checks leave it alone.
    Unknown,
    /// Text that holds `${...}`, until the environment has been asked.
    Template {
        /// The text as written.
        text: String,
        /// It is not quoted: a value that replaces it as a whole is typed as YAML would.
        plain: bool,
    },
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A mapping without entries.
    pub fn empty_mapping(span: Span) -> Self {
        Self {
            value: Value::Mapping(Vec::new()),
            span,
        }
    }

    /// Entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Items of a sequence; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of that key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The value of that key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// Whether the value or one below it is [`Value::Unknown`].
    pub fn has_unknown(&self) -> bool {
        match &self.value {
            Value::Unknown => true,
            Value::Sequence(items) => items.iter().any(Node::has_unknown),
            Value::Mapping(entries) => entries.iter().any(|e| e.value.has_unknown()),
            _ => false,
        }
    }

    /// The same value without places. Unknown values become null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Unknown => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => Json::Number(n.clone()),
            Value::String(s) | Value::Template { text: s, .. } => Json::String(s.clone()),
            Value::Sequence(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Mapping(entries) => Json::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.value.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The place of the value at `path`, or of the nearest value above it that exists.
    pub fn span_at(&self, path: &KeyPath) -> Span {
        let mut node = self;
        for segment in path.segments() {
            let below = match segment {
                Segment::Key(key) => node.get(key),
                Segment::Index(i) => node.items().get(*i),
            };
            match below {
                Some(below) => node = below,
                None => break,
            }
        }
        node.span
    }

    /// Calls `f` with the path and the place of every value below this one.
    pub fn visit_spans(&self, path: &KeyPath, f: &mut dyn FnMut(&KeyPath, Span)) {
        f(path, self.span);
        for (i, item) in self.items().iter().enumerate() {
            item.visit_spans(&path.index(i), f);
        }
        for entry in self.entries() {
            entry.value.visit_spans(&path.key(&entry.key), f);
        }
    }

    /// What a message calls the value: `a mapping`, `the string "x"`, ...
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("the boolean `{b}`"),
            Value::Number(n) => format!("the number `{n}`"),
            Value::String(s) | Value::Template { text: s, .. } => format!("the string \"{}\"", shortened(s)),
            Value::Sequence(_) => "a list".into(),
            Value::Mapping(_) => "a mapping".into(),
            Value::Unknown => "an unknown value".into(),
        }
    }
}

/// The first characters of a text that may be long.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain("...".chars()).collect()
}

/// The value of a plain (unquoted) scalar after the core schema of YAML 1.2 (section 10.3.2). Numbers that
/// JSON cannot hold (infinite, not a number) and numbers with leading zeros stay text, so that no value is
/// guessed.
pub(crate) fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    if let Some(hex) = text.strip_prefix("0x") {
        let all_hex = hex.chars().all(|c| c.is_ascii_hexdigit());
        return all_hex
            .then(|| u64::from_str_radix(hex, 16).ok())
            .flatten()
            .map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        let all_octal = octal.chars().all(|c| c.is_digit(8));
        return all_octal
            .then(|| u64::from_str_radix(octal, 8).ok())
            .flatten()
            .map(Number::from);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let looks_numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
    if !looks_numeric || leading_zero {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if digits.chars().all(|c| c.is_ascii_digit()) {
        if let Ok(n) = text.parse::<u64>() {
            return Some(n.into());
        }
        if let Ok(n) = text.parse::<i64>() {
            return Some(n.into());
        }
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let json = |text: &str| {
            Node {
                value: plain_scalar(text),
                span: Span::default(),
            }
            .to_json()
        };
        use serde_json::json;
        assert_eq!(json("~"), json!(null));
        assert_eq!(json("true"), json!(true));
        assert_eq!(json("5"), json!(5));
        assert_eq!(json("-5"), json!(-5));
        assert_eq!(json("+5"), json!(5));
        assert_eq!(json("0x1F"), json!(31));
        assert_eq!(json("0o17"), json!(15));
        assert_eq!(json("0.5"), json!(0.5));
        assert_eq!(json(".5"), json!(0.5));
        assert_eq!(json("1e3"), json!(1000.0));
        for text in [
            "yes", "on", "off", "010", "1_000", ".inf", ".nan", "1.2.3", "15ms", "-", "0x", "0xg", "e5",
            "1e999",
        ] {
            assert_eq!(json(text), json!(text), "{text}");
        }
    }
}
