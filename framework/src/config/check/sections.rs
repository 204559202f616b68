//! The sections that hold no components: `version`, `name`, `runtime`, `defaults` and `models`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::read;
use crate::codes;
use crate::config::keys::{DefaultsKeys, ModelKeys, NAME_PATTERN, RuntimeKeys, cpus};
use crate::config::overrides::SECTIONS;
use crate::config::path::KeyPath;
use crate::config::plan::RuntimeSpec;
use crate::config::suggest::{did_you_mean, list};
use crate::config::tree::{Node, Value, shortened};
use crate::diagnostics::{Diagnostic, Span};
use crate::registry::ModelDecl;

/// Whether a name may stand for a component or a model.
pub(super) fn is_name(text: &str) -> bool {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(NAME_PATTERN).ok());
    NAME.as_ref().is_some_and(|regex| regex.is_match(text))
}

pub(super) fn bad_name(name: &str, span: Span) -> Diagnostic {
    let mended: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(63)
        .collect();
    let mended = if mended.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        format!("_{mended}").chars().take(63).collect()
    } else {
        mended
    };
    let error = Diagnostic::error(
        codes::BAD_NAME,
        span,
        format!("\"{}\" cannot be a name", shortened(name)),
    )
    .help(
        "names hold letters, digits, `_` and `-`, start with a letter or `_`, and have at most 63 characters",
    );
    if is_name(&mended) {
        error.label(format!("for example `{mended}`"))
    } else {
        error
    }
}

/// The keys of the file itself, and the version.
pub(super) fn check_top(root: &Node, found: &mut Vec<Diagnostic>) {
    for entry in root.entries() {
        let key = entry.key.as_str();
        // A place for anchors, as other YAML tools have it.
        if SECTIONS.contains(&key) || key.starts_with("x-") {
            continue;
        }
        if let Some(note) = crate::config::keys::planned(&KeyPath::root(), key) {
            found.push(
                Diagnostic::error(
                    codes::NOT_SUPPORTED,
                    entry.key_span,
                    format!("`{key}` is not supported yet"),
                )
                .help(note),
            );
            continue;
        }
        let suggestion = did_you_mean(key, SECTIONS);
        let mut error = Diagnostic::error(
            codes::UNKNOWN_KEY,
            entry.key_span,
            format!("unknown key `{}` in the pipeline file", shortened(key)),
        );
        if suggestion.is_empty() {
            error = error.help(format!(
                "known keys: {}; keys that start with `x-` are yours",
                list(SECTIONS, "and")
            ));
        }
        found.push(error.label(suggestion));
    }
    let version = root.entry("version");
    let is_one = version.is_some_and(|v| matches!(&v.value.value, Value::Number(n) if n.as_u64() == Some(1)));
    if !is_one && !version.is_some_and(|v| v.value.has_unknown()) {
        found.push(match version {
            Some(v) => Diagnostic::error(
                codes::BAD_VERSION,
                v.value.span,
                format!("`version` must be 1, found {}", v.value.describe()),
            )
            .label("expected 1"),
            None => Diagnostic::error(codes::BAD_VERSION, root.span, "missing key `version`")
                .help("write `version: 1` in the first line"),
        });
    }
    if let Some(entry) = root.entry("name") {
        match &entry.value.value {
            Value::String(name) if is_name(name) => {}
            Value::Unknown => {}
            Value::String(name) => found.push(bad_name(name, entry.value.span)),
            _ => found.push(
                Diagnostic::error(
                    codes::WRONG_TYPE,
                    entry.value.span,
                    format!("`name` must be a string, found {}", entry.value.describe()),
                )
                .label("expected a string")
                .help("write it in quotes"),
            ),
        }
    }
}

/// The name that is given, or that of the file.
pub(super) fn pipeline_name(root: &Node, file: &Path) -> String {
    let given = root.get("name").and_then(Node::as_str).map(str::to_owned);
    given.unwrap_or_else(|| {
        file.file_stem().map_or_else(
            || "pipeline".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    })
}

/// A section that may be absent or empty.
fn section<T: DeserializeOwned + Default>(
    root: &Node,
    key: &str,
    schema: &Json,
    found: &mut Vec<Diagnostic>,
) -> T {
    root.entry(key)
        .filter(|e| !matches!(e.value.value, Value::Null))
        .and_then(|e| read(schema, &e.value, e.key_span, &KeyPath::root().key(key), found))
        .unwrap_or_default()
}

pub(super) fn runtime(root: &Node, found: &mut Vec<Diagnostic>) -> RuntimeSpec {
    static SCHEMA: LazyLock<Json> = LazyLock::new(|| schemars::schema_for!(RuntimeKeys).into());
    let keys: RuntimeKeys = section(root, "runtime", &SCHEMA, found);
    RuntimeSpec {
        drain_timeout: keys.drain_timeout.0,
        strict_pins: keys.strict_pins,
        reserve: cpus(&keys.reserve.cores),
        max_loss: keys.max_loss.0,
        http: keys.http.map(|address| address.0),
    }
}

pub(super) fn defaults(root: &Node, found: &mut Vec<Diagnostic>) -> DefaultsKeys {
    static SCHEMA: LazyLock<Json> = LazyLock::new(|| schemars::schema_for!(DefaultsKeys).into());
    let keys: DefaultsKeys = section(root, "defaults", &SCHEMA, found);
    if let (Some(on_error), Some(node)) = (
        &keys.on_error,
        root.get("defaults").and_then(|d| d.get("on_error")),
    ) {
        check_on_error(
            on_error,
            node,
            &KeyPath::root().key("defaults").key("on_error"),
            found,
        );
    }
    keys
}

/// Keys of `on_error` that do not belong to its action.
pub(super) fn check_on_error(
    keys: &crate::config::keys::OnErrorKeys,
    node: &Node,
    path: &KeyPath,
    found: &mut Vec<Diagnostic>,
) {
    for key in keys.spec().1 {
        let Some(entry) = node.entry(key) else { continue };
        let owner = match key {
            "path" | "folder" | "max_bytes" | "max_count" => "dead_letter",
            _ => "retry",
        };
        let action = node.get("action").and_then(Node::as_str).unwrap_or("");
        found.push(
            Diagnostic::error(
                codes::FOREIGN_KEY,
                entry.key_span,
                format!("`{key}` in {path} does nothing with `action: {action}`"),
            )
            .label(format!("belongs to `{owner}`"))
            .help(format!("remove `{key}`, or say `action: {owner}`")),
        );
    }
}

pub(super) fn models(
    root: &Node,
    found: &mut Vec<Diagnostic>,
) -> (BTreeMap<String, ModelDecl>, BTreeMap<String, Span>) {
    static SCHEMA: LazyLock<Json> = LazyLock::new(|| schemars::schema_for!(ModelKeys).into());
    let mut models = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for entry in mapping(root, "models", found) {
        let path = KeyPath::root().key("models").key(&entry.key);
        if !is_name(&entry.key) {
            found.push(bad_name(&entry.key, entry.key_span));
        }
        let keys: Option<ModelKeys> = read(&SCHEMA, &entry.value, entry.key_span, &path, found);
        // A model with faults still exists for those who refer to it.
        let decl = keys.map_or_else(
            || ModelDecl {
                path: Default::default(),
                sha256: None,
            },
            |keys| ModelDecl {
                path: keys.path,
                sha256: keys.sha256,
            },
        );
        let span = entry.value.get("path").map_or(entry.key_span, |n| n.span);
        models.insert(entry.key.clone(), decl);
        spans.insert(entry.key.clone(), span);
    }
    (models, spans)
}

/// Entries of a section that is a mapping of names; an error if it is something else.
pub(super) fn mapping<'n>(
    root: &'n Node,
    key: &str,
    found: &mut Vec<Diagnostic>,
) -> &'n [crate::config::tree::Entry] {
    let Some(entry) = root.entry(key) else { return &[] };
    match &entry.value.value {
        Value::Mapping(entries) => entries,
        Value::Null | Value::Unknown => &[],
        _ => {
            found.push(
                Diagnostic::error(
                    codes::WRONG_TYPE,
                    entry.value.span,
                    format!(
                        "`{key}` must be a mapping of names, found {}",
                        entry.value.describe()
                    ),
                )
                .label("expected a mapping")
                .help(format!("write `{key}: {{NAME: {{...}}}}`, not `{key}: [...]`")),
            );
            &[]
        }
    }
}
