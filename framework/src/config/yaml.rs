//! From YAML text to a [tree](super::tree) with places, within fixed limits.

use std::collections::HashMap;

use serde_yaml::granit_parser::{self as granit, Event, Parser, ScalarStyle, StrInput, StructureStyle};

use super::tree::{Entry, Node, Value, plain_scalar};
use crate::codes;
use crate::diagnostics::{Diagnostic, Span};

/// Largest pipeline file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Most values a file may hold, those that aliases repeat included.
const MAX_NODES: usize = 20_000;
/// Deepest nesting of mappings and lists.
const MAX_DEPTH: usize = 64;

/// Reads text from a file: UTF-8, at most [`MAX_FILE_BYTES`], no NUL. A byte order mark is dropped.
pub fn decode(bytes: &[u8]) -> Result<&str, Box<Diagnostic>> {
    let nowhere = Span::default();
    if bytes.len() > MAX_FILE_BYTES {
        let found = bytes.len();
        return Err(Diagnostic::error(
            codes::FILE_TOO_LARGE,
            nowhere,
            format!("the pipeline file has more than 1 MiB: {found} bytes"),
        )
        .help("is this a pipeline file? Data belongs into files of their own")
        .into());
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let at = e.valid_up_to();
            let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
            let help = match bytes {
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is UTF-16; save it as UTF-8",
                _ => "save the file as UTF-8",
            };
            return Err(Diagnostic::error(
                codes::FILE_NOT_UTF8,
                nowhere,
                format!("the pipeline file is not UTF-8 text: byte {at}, in line {line}"),
            )
            .help(help)
            .into());
        }
    };
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Parses one YAML document. Errors of syntax end it; duplicate keys and the like are added to `found` and
/// reading goes on.
pub fn parse(text: &str, source: usize, found: &mut Vec<Diagnostic>) -> Result<Node, Box<Diagnostic>> {
    let options = granit::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        source,
        nodes: 0,
        anchors: HashMap::new(),
        found,
    };
    reader.document()
}

struct Reader<'t, 'f> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    source: usize,
    nodes: usize,
    anchors: HashMap<usize, Node>,
    found: &'f mut Vec<Diagnostic>,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Box<Diagnostic>> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let span = self.span(span.start, span.end);
                Ok((event, span))
            }
            Some(Err(error)) => Err(self.syntax_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn span(&self, start: granit::Marker, end: granit::Marker) -> Span {
        let start_byte = start.byte_offset().unwrap_or(0).min(self.text.len());
        let end_byte = end.byte_offset().unwrap_or(start_byte).min(self.text.len());
        let covered = self.text.get(start_byte..end_byte).unwrap_or("");
        Span {
            source: self.source,
            start: start_byte,
            end: start_byte + covered.trim_end().len(),
            line: start.line(),
            column: start.col() + 1,
        }
    }

    fn syntax_error(&self, error: &granit::ScanError) -> Box<Diagnostic> {
        let at = *error.marker();
        let span = self.span(at, at);
        let line_start = self.text[..span.start].rfind('\n').map_or(0, |i| i + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let indent = &line[..line.len() - line.trim_start().len()];
        let help = if indent.contains('\t') {
            "indent with spaces: YAML does not take tabs"
        } else if line.contains("${") {
            "inside `{ }` and `[ ]`, quote what holds `${...}`: \"${NAME}\""
        } else {
            "check the indentation, the colons and the quotes here and in the line above"
        };
        Diagnostic::error(
            codes::YAML_SYNTAX,
            span,
            format!("this is not valid YAML: {}", error.kind()),
        )
        .help(help)
        .into()
    }

    fn document(&mut self) -> Result<Node, Box<Diagnostic>> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Diagnostic::error(
                        codes::SEVERAL_DOCUMENTS,
                        span,
                        "a second YAML document starts here; a pipeline file holds one",
                    )
                    .help("remove the `---`, or put the other pipeline into a file of its own")
                    .into());
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root.unwrap_or(Node {
            value: Value::Null,
            span: Span {
                source: self.source,
                line: 1,
                column: 1,
                ..Span::default()
            },
        }))
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Diagnostic::error(
                codes::TOO_MANY_VALUES,
                span,
                format!("the file holds more than {MAX_NODES} values"),
            )
            .help("aliases (`*name`) repeat all that their anchor holds; use fewer of them")
            .into());
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Box<Diagnostic>> {
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(Diagnostic::error(
                codes::TOO_MANY_VALUES,
                span,
                format!("mappings and lists are nested deeper than {MAX_DEPTH}"),
            )
            .into());
        }
        if let Some(tag) = event.tag() {
            let tag = tag.original();
            self.found.push(
                Diagnostic::error(
                    codes::YAML_FEATURE,
                    span,
                    format!("the tag `{tag}` is not used in pipeline files"),
                )
                .help("remove the tag; write \"...\" around what must be text"),
            );
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let value = if text.contains("${") {
                    Value::Template {
                        text: text.into_owned(),
                        plain,
                    }
                } else if plain {
                    plain_scalar(&text)
                } else {
                    Value::String(text.into_owned())
                };
                Ok(self.anchored(anchor, Node { value, span }))
            }
            Event::SequenceStart(style, anchor, _) => {
                let node = self.sequence(style, span, depth)?;
                Ok(self.anchored(anchor, node))
            }
            Event::MappingStart(style, anchor, _) => {
                let node = self.mapping(style, span, depth)?;
                Ok(self.anchored(anchor, node))
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Diagnostic::error(
                        codes::YAML_FEATURE,
                        span,
                        "this alias stands inside the value that it repeats",
                    )
                    .into());
                };
                self.count(size(&node), span)?;
                Ok(node)
            }
            _ => Err(Diagnostic::error(
                codes::YAML_SYNTAX,
                span,
                "this is not valid YAML: a value was expected",
            )
            .into()),
        }
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Node {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }

    fn sequence(
        &mut self,
        style: StructureStyle,
        start: Span,
        depth: usize,
    ) -> Result<Node, Box<Diagnostic>> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let span = match (style, items.first()) {
                    (StructureStyle::Block, Some(first)) => first.span,
                    _ => Span {
                        end: span.end,
                        ..start
                    },
                };
                let value = Value::Sequence(items);
                return Ok(Node { value, span });
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, style: StructureStyle, start: Span, depth: usize) -> Result<Node, Box<Diagnostic>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            let (key, plain) = match event {
                Event::MappingEnd => {
                    for entry in merged {
                        if !entries.iter().any(|e| e.key == entry.key) {
                            entries.push(entry);
                        }
                    }
                    let span = match (style, entries.first()) {
                        (StructureStyle::Block, Some(first)) => first.key_span,
                        _ => Span {
                            end: key_span.end,
                            ..start
                        },
                    };
                    let value = Value::Mapping(entries);
                    return Ok(Node { value, span });
                }
                Event::Scalar(key, style, ..) => (key.into_owned(), style == ScalarStyle::Plain),
                _ => {
                    return Err(Diagnostic::error(
                        codes::YAML_FEATURE,
                        key_span,
                        "a key must be a plain word",
                    )
                    .help("if this is a value that starts with `{`, `[` or `*`, put it in quotes")
                    .into());
                }
            };
            self.count(1, key_span)?;
            let (event, span) = self.next()?;
            let block = matches!(
                event,
                Event::MappingStart(StructureStyle::Block, ..)
                    | Event::SequenceStart(StructureStyle::Block, ..)
            );
            let mut value = self.node(event, span, depth + 1)?;
            if key == "<<" && plain {
                self.merge(value, key_span, &mut merged);
                continue;
            }
            // What is wrong with a block as a whole, or with nothing at all, is shown at its key.
            if block || matches!(value.value, Value::Null) && value.span.start == value.span.end {
                value.span = key_span;
            }
            if let Some(first) = entries.iter().find(|e| e.key == key) {
                self.found.push(
                    Diagnostic::error(
                        codes::DUPLICATE_KEY,
                        key_span,
                        format!(
                            "the key `{}` stands here a second time",
                            super::tree::shortened(&key)
                        ),
                    )
                    .note(first.key_span, "first here")
                    .help("remove one of them, or give one another name"),
                );
                continue;
            }
            entries.push(Entry { key, key_span, value });
        }
    }

    /// `<<: *base` and `<<: [*a, *b]`: keys that are not there already; the first mapping wins.
    fn merge(&mut self, value: Node, key_span: Span, merged: &mut Vec<Entry>) {
        let mappings = match value.value {
            Value::Sequence(items) => items,
            _ => vec![value],
        };
        for mapping in mappings {
            match mapping.value {
                Value::Mapping(entries) => {
                    for entry in entries {
                        if !merged.iter().any(|e| e.key == entry.key) {
                            merged.push(entry);
                        }
                    }
                }
                _ => self.found.push(
                    Diagnostic::error(
                        codes::YAML_FEATURE,
                        key_span,
                        format!("`<<` merges mappings; this is {}", mapping.describe()),
                    )
                    .help("write `<<: *name`, where `&name` stands before a mapping"),
                ),
            }
        }
    }
}

fn size(node: &Node) -> usize {
    let below: usize = match &node.value {
        Value::Sequence(items) => items.iter().map(size).sum(),
        Value::Mapping(entries) => entries.iter().map(|e| 1 + size(&e.value)).sum(),
        _ => 0,
    };
    1 + below
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> (serde_json::Value, Vec<&'static str>) {
        let mut found = Vec::new();
        match parse(text, 0, &mut found) {
            Ok(node) => (node.to_json(), found.iter().map(|d| d.code.0).collect()),
            Err(e) => (json!(null), vec![e.code.0]),
        }
    }

    #[test]
    fn values_know_their_places() {
        let text = "a: 1\nb:\n  c: [x, 'y z']\n  d: {e: true}\n";
        let node = parse(text, 0, &mut Vec::new()).unwrap();
        let slice = |path: &str| {
            let span = node.span_at(&crate::config::path::KeyPath::parse(path).unwrap());
            (&text[span.start..span.end], span.line, span.column)
        };
        assert_eq!(slice("a"), ("1", 1, 4));
        assert_eq!(slice("b"), ("b", 2, 1));
        assert_eq!(slice("b.c"), ("[x, 'y z']", 3, 6));
        assert_eq!(slice("b.c[1]"), ("'y z'", 3, 10));
        assert_eq!(slice("b.d"), ("{e: true}", 4, 6));
        assert_eq!(slice("b.d.e"), ("true", 4, 10));
    }

    #[test]
    fn places_survive_windows_line_ends_and_wide_letters() {
        let text = "a: \"ä→\"\r\nb: x # ü\r\nc: y\r\n";
        let node = parse(text, 0, &mut Vec::new()).unwrap();
        let span = node.get("c").unwrap().span;
        assert_eq!((&text[span.start..span.end], span.line, span.column), ("y", 3, 4));
    }

    #[test]
    fn anchors_aliases_and_merge_keys() {
        let (value, codes) = read("x: &q {a: 1, b: 2}\ny: *q\nz: {<<: *q, b: 3}\n");
        assert!(codes.is_empty(), "{codes:?}");
        assert_eq!(
            value,
            json!({"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 2}, "z": {"b": 3, "a": 1}})
        );
        assert_eq!(read("a: {<<: 3}").1, ["E0009"]);
        assert_eq!(read("a: &x [*x]").1, ["E0009"]);
        assert_eq!(read("a: *nowhere").1, ["E0004"]);
    }

    #[test]
    fn duplicate_keys_are_found_and_reading_goes_on() {
        let (value, codes) = read("a: 1\na: 2\nb: {c: 1, c: 2}\n");
        assert_eq!(codes, ["E0005", "E0005"]);
        assert_eq!(value, json!({"a": 1, "b": {"c": 1}}));
    }

    #[test]
    fn hostile_documents_are_refused_quickly() {
        let laughs = (0..10).fold(
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(),
            |mut text, i| {
                let alias = format!("*a{i}, ").repeat(10);
                text.push_str(&format!("a{}: &a{} [{alias}]\n", i + 1, i + 1));
                text
            },
        );
        assert_eq!(read(&laughs).1, ["E0006"]);
        for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            let codes = read(&deep).1;
            assert!(codes == ["E0004"] || codes == ["E0006"], "{codes:?}");
        }
        assert_eq!(read("a: 1\n---\nb: 2\n").1, ["E0008"]);
        assert_eq!(read("? [a, b]\n: c\n").1, ["E0009"]);
        assert_eq!(read("a: !!python/object x\n").1, ["E0009"]);
        assert_eq!(read("a:\n\tb: 1\n").1, ["E0004"]);
    }

    #[test]
    fn files_must_be_small_utf8_text() {
        assert_eq!(decode(b"\xef\xbb\xbfa: 1").unwrap(), "a: 1");
        assert_eq!(decode(b"a: \xff").unwrap_err().code.0, "E0002");
        assert_eq!(
            decode(b"\xff\xfea\0").unwrap_err().help,
            ["the file is UTF-16; save it as UTF-8"]
        );
        assert_eq!(
            decode(&vec![b' '; MAX_FILE_BYTES + 1]).unwrap_err().code.0,
            "E0003"
        );
    }
}
