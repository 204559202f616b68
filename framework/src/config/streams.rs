//! `streams`: one source of the file that stands for several, each a stream of its own.
//!
//! It is written out before anything is checked: each stream becomes a source with the keys of the whole, and whatever
//! names the whole as its input takes all of them. Everything behind this sees sources as if they had been written one by
//! one, at the places in the file where they come from.

use std::collections::{BTreeMap, BTreeSet};

use super::path::KeyPath;
use super::suggest::list;
use super::tree::{Entry, Node, Value};
use crate::codes;
use crate::diagnostics::{Diagnostic, Span};

/// Most streams that one source may stand for.
const MOST: usize = 1024;

/// The files that a pattern matches, in any order; an error is what is wrong with the pattern.
pub type Matches<'a> = &'a dyn Fn(&str) -> Result<Vec<String>, String>;

/// Writes out all sources with `streams`.
pub(super) fn expand(root: &mut Node, matches: Matches<'_>, found: &mut Vec<Diagnostic>) {
    let Value::Mapping(sections) = &mut root.value else {
        return;
    };
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for section in sections.iter() {
        taken.extend(section.value.entries().iter().map(|entry| entry.key.clone()));
    }
    for section in sections.iter_mut().filter(|section| section.key == "sources") {
        let Value::Mapping(entries) = &mut section.value.value else {
            continue;
        };
        let mut all = Vec::with_capacity(entries.len());
        for mut entry in std::mem::take(entries) {
            if entry
                .value
                .get("streams")
                .is_none_or(|streams| matches!(streams.value, Value::Null))
            {
                all.push(entry);
                continue;
            }
            match written_out(&entry, matches, &mut taken) {
                Ok(streams) => {
                    let names = streams.iter().map(|stream| stream.key.clone()).collect();
                    groups.insert(entry.key, names);
                    all.extend(streams);
                }
                Err(error) => {
                    found.extend(error.map(|error| *error));
                    entry.value.value = Value::Unknown;
                    all.push(entry);
                }
            }
        }
        *entries = all;
    }
    if groups.is_empty() {
        return;
    }
    for section in sections
        .iter_mut()
        .filter(|s| s.key == "stages" || s.key == "sinks")
    {
        let Value::Mapping(components) = &mut section.value.value else {
            continue;
        };
        for component in components {
            let Value::Mapping(keys) = &mut component.value.value else {
                continue;
            };
            let inputs = keys.iter_mut().find(|key| key.key == "inputs");
            if let Some(Value::Sequence(items)) = inputs.map(|inputs| &mut inputs.value.value) {
                *items = std::mem::take(items)
                    .into_iter()
                    .flat_map(|item| each(item, &groups))
                    .collect();
            }
        }
    }
}

/// An input that names a source with streams, once for each of them.
fn each(item: Node, groups: &BTreeMap<String, Vec<String>>) -> Vec<Node> {
    let from = item.get("from").unwrap_or(&item);
    let Some(names) = from.as_str().and_then(|name| groups.get(name)) else {
        return vec![item];
    };
    let named = |name: &String| {
        let mut item = item.clone();
        let text = Value::String(name.clone());
        match &mut item.value {
            Value::Mapping(entries) => {
                if let Some(from) = entries.iter_mut().find(|entry| entry.key == "from") {
                    from.value.value = text;
                }
            }
            value => *value = text,
        }
        item
    };
    names.iter().map(named).collect()
}

/// The sources that one with `streams` stands for; an error of `None` has been told before.
fn written_out(
    source: &Entry,
    matches: Matches<'_>,
    taken: &mut BTreeSet<String>,
) -> Result<Vec<Entry>, Option<Box<Diagnostic>>> {
    let path = KeyPath::root().key("sources").key(&source.key).key("streams");
    let (Some(streams), others) = (source.value.entry("streams"), others(&source.value)) else {
        return Err(None);
    };
    if source.value.has_unknown() {
        return Err(None);
    }
    let node = &streams.value;
    let main = main_key(&source.value);
    let wrong = |span: Span, what: String, help: &str| {
        Err(Some(Box::new(
            Diagnostic::error(codes::STREAMS, span, what).help(help),
        )))
    };
    let help =
        "write `{east: east.mp4, west: west.mp4}`, a list of inputs, or a pattern such as `clips/*.mp4`";
    let mut given: Vec<(Option<String>, Span, Node)> = Vec::new();
    match &node.value {
        Value::Mapping(entries) => {
            let named = |e: &Entry| (Some(e.key.clone()), e.key_span, e.value.clone());
            given.extend(entries.iter().map(named));
        }
        Value::Sequence(items) => given.extend(items.iter().map(|item| (None, item.span, item.clone()))),
        Value::String(pattern) => {
            let mut files = match matches(pattern) {
                Ok(files) => files,
                Err(why) => {
                    return wrong(
                        node.span,
                        format!("the pattern of `{path}` is not valid: {why}"),
                        help,
                    );
                }
            };
            files.sort();
            if files.is_empty() {
                let what = format!("no file matches the pattern `{pattern}` of `{path}`");
                let help = "patterns are looked up in the working directory, then beside the pipeline file";
                return wrong(node.span, what, help);
            }
            for file in files {
                let value = Value::String(file);
                given.push((
                    None,
                    node.span,
                    Node {
                        value,
                        span: node.span,
                    },
                ));
            }
        }
        _ => {
            let what = format!(
                "`{path}` must be a mapping, a list or a pattern, found {}",
                node.describe()
            );
            return wrong(node.span, what, help);
        }
    }
    if given.is_empty() || given.len() > MOST {
        let what = format!("`{path}` must name 1 to {MOST} streams, found {}", given.len());
        return wrong(node.span, what, help);
    }
    // The name of the whole is free for a stream.
    taken.remove(&source.key);
    let mut all = Vec::with_capacity(given.len());
    for (number, (name, span, value)) in given.into_iter().enumerate() {
        let own = match value.value {
            Value::Mapping(entries) if name.is_some() => entries,
            Value::String(_) => vec![Entry {
                key: main.to_owned(),
                key_span: span,
                value: value.clone(),
            }],
            _ => {
                let what = format!(
                    "a stream of `{path}` must be the `{main}` of its source, found {}",
                    value.describe()
                );
                let help =
                    "to give a stream keys of its own, name it: `streams: {east: {path: east.mp4, loop: 2}}`";
                return wrong(value.span, what, help);
            }
        };
        let doubled: Vec<&str> = own
            .iter()
            .map(|e| e.key.as_str())
            .filter(|key| *key == "streams")
            .collect();
        if !doubled.is_empty() {
            return wrong(
                span,
                format!("a stream of `{path}` cannot have {} itself", list(doubled, "and")),
                help,
            );
        }
        let name = name.unwrap_or_else(|| {
            let text = own.first().and_then(|entry| entry.value.as_str()).unwrap_or("");
            unique(named_after(text, &source.key, number), taken)
        });
        taken.insert(name.clone());
        let mut entries: Vec<Entry> = others
            .iter()
            .filter(|other| own.iter().all(|entry| entry.key != other.key))
            .cloned()
            .collect();
        entries.extend(own);
        all.push(Entry {
            key: name,
            key_span: span,
            value: Node {
                value: Value::Mapping(entries),
                span: source.value.span,
            },
        });
    }
    Ok(all)
}

fn others(source: &Node) -> Vec<Entry> {
    let entries = source.entries().iter();
    entries.filter(|entry| entry.key != "streams").cloned().collect()
}

/// What tells the streams of a kind from each other.
fn main_key(source: &Node) -> &'static str {
    match source.get("type").and_then(Node::as_str) {
        Some("ffmpeg") => "url",
        _ => "path",
    }
}

/// The name of a stream that has none: what its file is called, or the source and a number.
fn named_after(input: &str, source: &str, number: usize) -> String {
    let file = input.rsplit('/').next().unwrap_or(input);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
            c
        } else {
            '_'
        }
    };
    let stem: String = stem.chars().take(56).map(plain).collect();
    let begins = stem.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if input.contains("://") || !begins {
        return format!("{}-{}", source.chars().take(50).collect::<String>(), number + 1);
    }
    stem
}

fn unique(name: String, taken: &BTreeSet<String>) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    numbered
        .into_iter()
        .find(|name| !taken.contains(name))
        .unwrap_or(name)
}

/// Looks files up in the working directory, then beside the pipeline file.
pub(super) fn files(folder: &std::path::Path, pattern: &str) -> Result<Vec<String>, String> {
    let find = |pattern: &str| {
        let found = glob::glob(pattern).map_err(|e| e.to_string())?;
        Ok::<_, String>(
            found
                .flatten()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>(),
        )
    };
    let found = find(pattern)?;
    if found.is_empty() && std::path::Path::new(pattern).is_relative() {
        return find(&folder.join(pattern).to_string_lossy());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn expanded(text: &str) -> (serde_json::Value, Vec<String>) {
        let mut found = Vec::new();
        let mut root = yaml::parse(text, 0, &mut found).unwrap();
        let matches = |pattern: &str| match pattern {
            "clips/*.mp4" => Ok(vec![
                "clips/b c.mp4".to_owned(),
                "clips/a.mp4".into(),
                "x/a.mp4".into(),
            ]),
            "[" => Err("no".into()),
            _ => Ok(Vec::new()),
        };
        expand(&mut root, &matches, &mut found);
        (root.to_json(), found.into_iter().map(|d| d.message).collect())
    }

    #[test]
    fn each_stream_is_a_source_and_whoever_takes_the_whole_takes_all() {
        let text = "
sources:
  door: {type: file, path: d.mp4}
  cams:
    type: file
    loop: 2
    streams: {east: e.mp4, west: {path: w.mp4, loop: 3}}
stages:
  decode: {type: decode, inputs: [door, {from: cams, queue: {capacity: 1}}]}
  one: {type: decode, inputs: [west]}
sinks:
  out: {type: jsonl, inputs: [decode, cams]}
";
        let (json, found) = expanded(text);
        assert!(found.is_empty(), "{found:?}");
        let expected = serde_json::json!({
            "door": {"type": "file", "path": "d.mp4"},
            "east": {"type": "file", "loop": 2, "path": "e.mp4"},
            "west": {"type": "file", "path": "w.mp4", "loop": 3},
        });
        assert_eq!(json["sources"], expected);
        let queue = serde_json::json!({"capacity": 1});
        let inputs =
            serde_json::json!(["door", {"from": "east", "queue": queue}, {"from": "west", "queue": queue}]);
        assert_eq!(json["stages"]["decode"]["inputs"], inputs);
        assert_eq!(json["stages"]["one"]["inputs"], serde_json::json!(["west"]));
        assert_eq!(
            json["sinks"]["out"]["inputs"],
            serde_json::json!(["decode", "east", "west"])
        );
    }

    #[test]
    fn streams_without_names_are_called_after_their_files() {
        let names = |streams: &str| {
            let kind = if streams.contains("://") { "ffmpeg" } else { "file" };
            let text = format!(
                "sources: {{cams: {{type: {kind}, streams: {streams}}}}}\nsinks: {{a-3: {{type: jsonl, inputs: [cams]}}}}"
            );
            let (json, found) = expanded(&text);
            assert!(found.is_empty(), "{found:?}");
            let sources = json["sources"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>();
            assert_eq!(serde_json::json!(sources), json["sinks"]["a-3"]["inputs"]);
            sources
        };
        assert_eq!(names("'clips/*.mp4'"), ["a", "b_c", "a-2"]);
        assert_eq!(
            names("[v/1.mp4, /dev/video0, cams.mp4]"),
            ["cams-1", "video0", "cams"]
        );
        assert_eq!(names("['rtsp://h/a', 'rtsp://h/b']"), ["cams-1", "cams-2"]);
    }

    #[test]
    fn what_is_no_list_of_streams_is_told_once() {
        for (streams, message) in [
            ("[]", "must name 1 to 1024 streams, found 0"),
            ("3", "must be a mapping, a list or a pattern"),
            ("'none/*'", "no file matches the pattern `none/*`"),
            ("'['", "is not valid: no"),
            (
                "[{path: a.mp4}]",
                "must be the `path` of its source, found a mapping",
            ),
            ("{a: {streams: [b.mp4]}}", "cannot have `streams` itself"),
        ] {
            let text = format!("sources: {{cams: {{type: file, streams: {streams}}}}}");
            let (json, found) = expanded(&text);
            assert_eq!(found.len(), 1, "{streams}");
            assert!(found[0].contains(message), "{found:?}");
            assert!(json["sources"]["cams"].is_null());
        }
    }
}
