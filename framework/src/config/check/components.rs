//! Sources, stages and sinks, each on its own: keys, values, names and references to models.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value as Json;

use super::sections::{bad_name, check_on_error, is_name, mapping};
use super::{locate, refused, typed};
use crate::codes;
use crate::config::keys::{
    self, BatchKeys, InputKey, JoinKey, OnErrorKeys, OrderKey, PinKeys, QueueKeys, RateLimitKeys,
    ReconnectKeys, ReplicasKey, RestartKeys, RouteKey, SinkKeys, SourceKeys, StageKeys,
};
use crate::config::path::KeyPath;
use crate::config::suggest::{closest, list};
use crate::config::tree::{Entry, Node, Value};
use crate::config::validate::{Rules, validate};
use crate::diagnostics::{Diagnostic, Span};
use crate::registry::{AnyConfig, Kind, ModelDecl, Registry, Role};
use crate::units::Duration;

/// A component as far as it could be read.
pub(super) struct Draft<'a> {
    pub name: &'a str,
    pub name_span: Span,
    pub role: Role,
    /// `None`: its type is missing or unknown.
    pub kind: Option<&'a Kind>,
    pub node: &'a Node,
    pub path: KeyPath,
    /// Its configuration, where it has no faults.
    pub config: Option<AnyConfig>,
    pub inputs: Vec<DraftInput>,
    /// The inputs could be read in full.
    pub inputs_known: bool,
    pub replicas: Option<ReplicasKey>,
    pub threads: Option<usize>,
    pub pin: Option<PinKeys>,
    pub on_error: Option<OnErrorKeys>,
    pub restart: RestartKeys,
    pub reconnect: Option<ReconnectKeys>,
    pub stall_timeout: Option<Duration>,
    pub route: Option<RouteKey>,
    pub order: Option<OrderKey>,
    pub join: Option<JoinKey>,
    pub window: Option<usize>,
    pub batch: Option<BatchKeys>,
    pub deadline: Option<Duration>,
    pub timeout: Option<Duration>,
    pub rate_limit: Option<RateLimitKeys>,
    pub required: bool,
    pub live: bool,
}

/// One input of a draft.
pub(super) struct DraftInput {
    pub name: String,
    pub span: Span,
    pub queue: QueueKeys,
    /// Where `overflow` stands, if it is said.
    pub overflow_span: Option<Span>,
    /// Where `capacity` stands, if it is said.
    pub capacity_span: Option<Span>,
    /// Index of the producer among the drafts; `None`: there is none of that name.
    pub from: Option<usize>,
}

impl Draft<'_> {
    /// Place of one of its keys, or of its name.
    pub fn key_span(&self, key: &str) -> Span {
        self.node.get(key).map_or(self.name_span, |n| n.span)
    }

    /// What its kind is called.
    pub fn kind_name(&self) -> &'static str {
        self.kind.map_or("", |k| k.info.name)
    }
}

/// Section and words of a role.
pub(in crate::config) fn section(role: Role) -> &'static str {
    match role {
        Role::Source => "sources",
        Role::Stage => "stages",
        Role::Sink => "sinks",
    }
}

fn singular(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Stage => "stage",
        Role::Sink => "sink",
    }
}

/// The schema of the keys that every component of a role has.
pub(crate) fn common_schema(role: Role) -> &'static Json {
    static SCHEMAS: LazyLock<[Json; 3]> = LazyLock::new(|| {
        [
            schemars::schema_for!(SourceKeys).into(),
            schemars::schema_for!(StageKeys).into(),
            schemars::schema_for!(SinkKeys).into(),
        ]
        .map(|mut schema: Json| {
            // Both have errors of their own.
            schema["required"] = Json::Array(Vec::new());
            if let Some(inputs) = schema["properties"]["inputs"].as_object_mut() {
                inputs.remove("minItems");
            }
            schema
        })
    });
    match role {
        Role::Source => &SCHEMAS[0],
        Role::Stage => &SCHEMAS[1],
        Role::Sink => &SCHEMAS[2],
    }
}

fn common_keys(role: Role) -> Vec<&'static str> {
    let properties = common_schema(role)["properties"].as_object();
    properties
        .into_iter()
        .flat_map(|p| p.keys())
        .map(String::as_str)
        .collect()
}

/// Reads all components, in the order of the file: sources, stages, sinks.
pub(super) fn drafts<'a>(
    root: &'a Node,
    registry: &'a Registry,
    found: &mut Vec<Diagnostic>,
) -> Vec<Draft<'a>> {
    let mut drafts = Vec::new();
    for role in [Role::Source, Role::Stage, Role::Sink] {
        for entry in mapping(root, section(role), found) {
            drafts.push(draft(entry, role, registry, found));
        }
    }
    drafts
}

fn draft<'a>(entry: &'a Entry, role: Role, registry: &'a Registry, found: &mut Vec<Diagnostic>) -> Draft<'a> {
    let path = KeyPath::root().key(section(role)).key(&entry.key);
    let node = &entry.value;
    let mut draft = Draft {
        name: &entry.key,
        name_span: entry.key_span,
        role,
        kind: None,
        node,
        path,
        config: None,
        inputs: Vec::new(),
        inputs_known: false,
        replicas: None,
        threads: None,
        pin: None,
        on_error: None,
        restart: RestartKeys::default(),
        reconnect: None,
        stall_timeout: None,
        route: None,
        order: None,
        join: None,
        window: None,
        batch: None,
        deadline: None,
        timeout: None,
        rate_limit: None,
        required: true,
        live: false,
    };
    if !matches!(node.value, Value::Mapping(_)) {
        if !matches!(node.value, Value::Unknown) {
            found.push(
                Diagnostic::error(
                    codes::WRONG_TYPE,
                    node.span,
                    format!("`{}` must be a mapping, found {}", draft.path, node.describe()),
                )
                .label("expected a mapping")
                .help("write `{type: ..., ...}`"),
            );
        }
        return draft;
    }
    draft.kind = find_kind(&draft, registry, found);
    read_common(&mut draft, found);
    read_own(&mut draft, found);
    draft
}

fn find_kind<'a>(draft: &Draft<'_>, registry: &'a Registry, found: &mut Vec<Diagnostic>) -> Option<&'a Kind> {
    let role = draft.role;
    let names = || registry.kinds().filter(|k| k.role == role).map(|k| k.info.name);
    let Some(entry) = draft.node.entry("type") else {
        found.push(
            Diagnostic::error(
                codes::MISSING_KEY,
                draft.name_span,
                format!("missing key `type` in {}", draft.path),
            )
            .label(format!("which kind of {}?", singular(role)))
            .help(format!("kinds of {}: {}", section(role), list(names(), "and"))),
        );
        return None;
    };
    // `type: null` names the kind; YAML reads it as nothing.
    let name = match &entry.value.value {
        Value::Null if entry.value.span.start != entry.key_span.start => "null",
        _ => entry.value.as_str()?,
    };
    if let Some(kind) = registry.get(role, name) {
        return Some(kind);
    }
    let span = entry.value.span;
    if let Some(other) = registry.kinds().find(|k| k.info.name == name) {
        found.push(
            Diagnostic::error(
                codes::WRONG_ROLE,
                span,
                format!("`{name}` is a {}, not a {}", singular(other.role), singular(role)),
            )
            .label(format!("belongs into `{}`", section(other.role))),
        );
        return None;
    }
    let mut error = Diagnostic::error(
        codes::UNKNOWN_TYPE,
        span,
        format!(
            "unknown type `{}` of {}",
            crate::config::tree::shortened(name),
            draft.path
        ),
    );
    error = match closest(name, names()) {
        Some(close) => error.label(format!("did you mean `{close}`?")),
        None => match closest(name, registry.kinds().map(|k| k.info.name)) {
            Some(close) => {
                let role = registry
                    .kinds()
                    .find(|k| k.info.name == close)
                    .map_or(role, |k| k.role);
                error.label(format!("did you mean the {} `{close}`?", singular(role)))
            }
            None => error.help(format!(
                "kinds of {}: {}",
                section(draft.role),
                list(names(), "and")
            )),
        },
    };
    found.push(error);
    None
}

/// The entries of a mapping that `keep` keeps.
fn part(node: &Node, keep: impl Fn(&Entry) -> bool) -> Node {
    let entries = node.entries().iter().filter(|e| keep(e)).cloned().collect();
    Node {
        value: Value::Mapping(entries),
        span: node.span,
    }
}

fn read_common(draft: &mut Draft<'_>, found: &mut Vec<Diagnostic>) {
    let known = common_keys(draft.role);
    let common = part(draft.node, |e| {
        known.contains(&e.key.as_str()) && !(e.key == "type" && draft.kind.is_some())
    });
    let rules = Rules {
        root: common_schema(draft.role),
        also_known: &[],
        planned: keys::planned,
    };
    let errors = validate(rules, &common, draft.name_span, &draft.path);
    // A key is read when nothing is wrong with it.
    let faulty = |node: &Node| {
        let inside = |d: &Diagnostic| {
            d.span.source == node.span.source && (node.span.start..=node.span.end).contains(&d.span.start)
        };
        node.has_unknown() || errors.iter().any(inside)
    };
    let sound = |key: &str| common.entry(key).filter(|e| !faulty_below(&e.value, &faulty));
    let path = |key: &str| draft.path.key(key);
    macro_rules! value {
        ($key:literal) => {
            sound($key).and_then(|e| typed(&e.value, e.key_span, &path($key), found))
        };
    }
    draft.replicas = value!("replicas");
    draft.threads = value!("threads");
    draft.pin = value!("pin");
    draft.route = value!("route");
    draft.order = value!("order");
    draft.join = value!("join");
    draft.window = value!("window");
    draft.batch = value!("batch");
    draft.deadline = value!("deadline");
    draft.timeout = value!("timeout");
    draft.rate_limit = value!("rate_limit");
    draft.reconnect = value!("reconnect");
    draft.stall_timeout = value!("stall_timeout");
    draft.restart = value!("restart").unwrap_or_default();
    draft.required = value!("required").unwrap_or(true);
    draft.on_error = value!("on_error");
    if let (Some(keys), Some(node)) = (&draft.on_error, draft.node.get("on_error")) {
        check_on_error(keys, node, &path("on_error"), found);
    }
    let inputs_sound = sound("inputs").is_some();
    found.extend(errors);
    if draft.role == Role::Source {
        draft.inputs_known = true;
        return;
    }
    match common.entry("inputs") {
        Some(entry) if !entry.value.items().is_empty() => {
            draft.inputs = entry.value.items().iter().filter_map(input).collect();
            draft.inputs_known = inputs_sound && draft.inputs.len() == entry.value.items().len();
        }
        // A fault of the list as a whole is known by now.
        Some(entry) if !matches!(entry.value.value, Value::Sequence(_)) => {}
        present => found.push(
            Diagnostic::error(
                codes::NO_INPUTS,
                present.map_or(draft.name_span, |e| e.value.span),
                format!("{} has no inputs", draft.path),
            )
            .label("what feeds it?")
            .help("write `inputs: [NAME]` with the names of sources and stages"),
        ),
    }
}

fn faulty_below(node: &Node, faulty: &dyn Fn(&Node) -> bool) -> bool {
    faulty(node)
        || node.items().iter().any(|n| faulty_below(n, faulty))
        || node.entries().iter().any(|e| {
            faulty_below(&e.value, faulty)
                || faulty(&Node {
                    value: Value::Null,
                    span: e.key_span,
                })
        })
}

fn input(node: &Node) -> Option<DraftInput> {
    let json = node.to_json();
    let (name_node, queue_node) = match &node.value {
        Value::String(_) => (node, None),
        Value::Mapping(_) => (node.get("from")?, node.get("queue")),
        _ => return None,
    };
    let queue = match serde_json::from_value(json) {
        Ok(InputKey::Edge(edge)) => edge.queue,
        _ => QueueKeys::default(),
    };
    Some(DraftInput {
        name: name_node.as_str()?.to_owned(),
        span: name_node.span,
        queue,
        overflow_span: queue_node.and_then(|q| q.get("overflow")).map(|n| n.span),
        capacity_span: queue_node.and_then(|q| q.get("capacity")).map(|n| n.span),
        from: None,
    })
}

fn read_own(draft: &mut Draft<'_>, found: &mut Vec<Diagnostic>) {
    let known = common_keys(draft.role);
    let own = part(draft.node, |e| !known.contains(&e.key.as_str()));
    let Some(kind) = draft.kind else { return };
    let rules = Rules {
        root: kind.schema.as_value(),
        also_known: &known,
        planned: keys::planned,
    };
    let errors = validate(rules, &own, draft.name_span, &draft.path);
    draft.live = live(kind, &own);
    if !errors.is_empty() || own.has_unknown() {
        found.extend(errors);
        return;
    }
    match kind.parse(&own.to_json()) {
        Ok(config) => {
            for issue in kind.check(&config) {
                let (span, place) = locate(&own, draft.name_span, &draft.path, &issue.key);
                let mut error = Diagnostic::error(issue.code, span, format!("`{place}`: {}", issue.message));
                error.help.extend(issue.help);
                found.push(error);
            }
            draft.config = Some(config);
        }
        Err(failure) => found.push(refused(
            &own,
            draft.name_span,
            &draft.path,
            &failure.key,
            &failure.message,
        )),
    }
}

/// Whether a source is live: what its key `live` says, or the default of that key.
fn live(kind: &Kind, own: &Node) -> bool {
    if kind.role != Role::Source {
        return false;
    }
    match own.get("live").map(|n| &n.value) {
        Some(Value::Bool(live)) => *live,
        _ => kind.schema.as_value()["properties"]["live"]["default"] == Json::Bool(true),
    }
}

/// Names that are no names, or stand twice.
pub(super) fn check_names(drafts: &[Draft<'_>], found: &mut Vec<Diagnostic>) {
    for (i, draft) in drafts.iter().enumerate() {
        if !is_name(draft.name) {
            found.push(bad_name(draft.name, draft.name_span));
        }
        if let Some(first) = drafts[..i].iter().find(|d| d.name == draft.name) {
            found.push(
                Diagnostic::error(
                    codes::NAME_CLASH,
                    draft.name_span,
                    format!(
                        "`{}` is a {} and a {}",
                        draft.name,
                        singular(first.role),
                        singular(draft.role)
                    ),
                )
                .note(first.name_span, "first here")
                .help("sources, stages and sinks share one space of names; rename one of them"),
            );
        }
    }
}

/// References to models: a key `model` of a component names one, unless it looks like a path.
pub(super) fn check_models(
    drafts: &[Draft<'_>],
    models: &BTreeMap<String, ModelDecl>,
    spans: &BTreeMap<String, Span>,
    found: &mut Vec<Diagnostic>,
) {
    let mut used = Vec::new();
    for draft in drafts {
        let Some(node) = draft.node.get("model") else {
            continue;
        };
        let Some(name) = node.as_str() else { continue };
        if models.contains_key(name) {
            used.push(name);
        } else if !name.contains(['/', '\\', '.']) {
            let known = || models.keys().map(String::as_str);
            let error = Diagnostic::error(
                codes::UNKNOWN_MODEL,
                node.span,
                format!("`models` has no `{}`", crate::config::tree::shortened(name)),
            );
            found.push(match closest(name, known()) {
                Some(close) => {
                    used.push(close);
                    error.label(format!("did you mean `{close}`?"))
                }
                None if models.is_empty() => {
                    error.help(format!("declare it: `models: {{{name}: {{path: {name}.xml}}}}`"))
                }
                None => error.help(format!("it has {}", list(known(), "and"))),
            });
        }
    }
    for name in models.keys().filter(|name| !used.contains(&name.as_str())) {
        let span = spans.get(name).copied().unwrap_or_default();
        found.push(
            Diagnostic::warning(
                codes::UNUSED_MODEL,
                span,
                format!("the model `{name}` is not used"),
            )
            .help(format!("remove it, or refer to it: `model: {name}`")),
        );
    }
}
