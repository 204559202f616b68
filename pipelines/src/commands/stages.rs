//! `flowrun stages`: the kinds of sources, stages and sinks, and the keys of each.

use std::fmt::Write as _;
use std::process::ExitCode;

use flow::ports::PortType;
use flow::registry::{Kind, Registry, Replication, Role};
use serde_json::{Value, json};

use super::{print, print_json};
use crate::cli::Stages;
use crate::failure::Failure;
use crate::kinds;

pub fn stages(args: &Stages) -> Result<ExitCode, Failure> {
    let registry = kinds::registry();
    let chosen: Vec<&Kind> = match &args.kind {
        None => registry.kinds().collect(),
        Some(name) => registry.kinds().filter(|k| k.info.name == name).collect(),
    };
    if let (Some(name), true) = (&args.kind, chosen.is_empty()) {
        return Err(Failure::usage(unknown(&registry, name)));
    }
    if args.json {
        print_json(&chosen.iter().map(|k| describe_json(k)).collect::<Vec<_>>())?;
    } else if args.kind.is_some() {
        print(&chosen.iter().map(|k| describe(k)).collect::<Vec<_>>().join("\n"))?;
    } else {
        print(&list(&chosen))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(registry: &Registry, name: &str) -> String {
    let names: Vec<_> = registry.kinds().map(|k| k.info.name).collect();
    format!("there is no kind `{name}`; there are: {}", names.join(", "))
}

fn section(role: Role) -> &'static str {
    match role {
        Role::Source => "sources",
        Role::Stage => "stages",
        Role::Sink => "sinks",
    }
}

fn types(list: &[PortType]) -> String {
    list.iter().map(|t| t.0).collect::<Vec<_>>().join(" | ")
}

fn list(kinds: &[&Kind]) -> String {
    let mut out = String::new();
    let mut role = None;
    for kind in kinds {
        if role != Some(kind.role) {
            role = Some(kind.role);
            let _ = writeln!(
                out,
                "{}{}:",
                if out.is_empty() { "" } else { "\n" },
                section(kind.role)
            );
        }
        let _ = writeln!(out, "  {:<12} {}", kind.info.name, kind.info.summary);
    }
    out.push_str("\n`flowrun stages KIND` shows the keys of one.\n");
    out
}

fn describe(kind: &Kind) -> String {
    let info = &kind.info;
    let schema = kind.schema.as_value();
    let mut out = format!("{} (in `{}`): {}\n", info.name, section(kind.role), info.summary);
    if let Some(text) = schema.get("description").and_then(Value::as_str) {
        let _ = writeln!(out, "\n{}\n", text.replace('\n', " "));
    }
    if !info.ports.takes.is_empty() {
        let _ = writeln!(out, "takes:    {}", types(info.ports.takes));
    }
    if !info.ports.gives.is_empty() {
        let _ = writeln!(out, "gives:    {}", types(info.ports.gives));
    }
    let replicas = match info.replication {
        Replication::Free => "any number",
        Replication::PerStream => "one per stream",
        Replication::Single => "one",
    };
    let _ = writeln!(out, "replicas: {replicas}\n\nkeys:");
    for row in flow::schema::kind_keys(kind) {
        let default = match row.default.as_str() {
            "" => String::new(),
            "required" => ", required".into(),
            default => format!(", default {default}"),
        };
        let _ = writeln!(out, "  {}: {}{default}", row.key, row.value);
        let _ = writeln!(out, "      {}", row.text.replace('\n', " "));
    }
    out
}

fn describe_json(kind: &Kind) -> Value {
    let names = |list: &[PortType]| list.iter().map(|t| t.0).collect::<Vec<_>>();
    json!({
        "kind": kind.info.name,
        "section": section(kind.role),
        "summary": kind.info.summary,
        "takes": names(kind.info.ports.takes),
        "gives": names(kind.info.ports.gives),
        "schema": kind.schema.as_value(),
    })
}
