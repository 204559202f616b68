//! `flowrun plan`: the workers of a pipeline, their queues and the CPUs they would be pinned to.

use std::fmt::Write as _;
use std::process::ExitCode;

use flow::config::plan::{Pipeline, QueueSpec};
use flow::pins::{self, PinPlan};
use flow::registry::Role;
use flow::topology::Topology;
use serde_json::{Value, json};

use super::{print, print_json};
use crate::cli::Plan;
use crate::failure::{Failure, USAGE};
use crate::pipeline;

pub fn plan(args: &Plan) -> Result<ExitCode, Failure> {
    let pipeline = pipeline::checked(&args.pipeline)?;
    let (plan, warnings) = pins::plan_here(&pipeline).map_err(|errors| Failure::Other {
        exit: USAGE,
        code: errors.first().map(|e| e.code().to_string()),
        message: errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    })?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if args.json {
        print_json(&as_json(&pipeline, &plan))?;
    } else {
        print(&as_text(&pipeline, &plan))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Stage => "stage",
        Role::Sink => "sink",
    }
}

fn queue(spec: &QueueSpec) -> String {
    format!("{} {}", spec.capacity, spec.overflow.as_str())
}

fn cpus(cpus: &[usize]) -> String {
    if cpus.is_empty() {
        return "-".into();
    }
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn as_text(pipeline: &Pipeline, plan: &PinPlan) -> String {
    let mut out = String::new();
    if let Some(topology) = Topology::read() {
        let allowed = pins::allowed_cpus().unwrap_or_default();
        let _ = writeln!(
            out,
            "machine: {} cores, {} CPUs, allowed: {}\n",
            topology.cores(),
            topology.cpus.len(),
            cpus(&allowed)
        );
    }
    let _ = writeln!(
        out,
        "{:<16} {:<7} {:<14} {:<5} inputs (queue)",
        "worker", "role", "type", "CPUs"
    );
    for (i, c) in pipeline.components.iter().enumerate() {
        let inputs: Vec<_> = c
            .inputs
            .iter()
            .map(|e| format!("{} ({})", pipeline.components[e.from].name, queue(&e.queue)))
            .collect();
        for replica in 0..c.replica_count() {
            let name = if c.replica_count() == 1 {
                c.name.to_string()
            } else {
                format!("{}#{replica}", c.name)
            };
            let inputs = if replica == 0 {
                inputs.join(", ")
            } else {
                String::new()
            };
            let line = format!(
                "{name:<16} {:<7} {:<14} {:<5} {inputs}",
                role(c.role),
                c.kind,
                cpus(plan.cpus(i, replica))
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}

fn as_json(pipeline: &Pipeline, plan: &PinPlan) -> Value {
    let components: Vec<Value> = pipeline
        .components
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let inputs: Vec<Value> = c
                .inputs
                .iter()
                .map(|e| {
                    json!({"from": &*pipeline.components[e.from].name, "capacity": e.queue.capacity,
                           "overflow": e.queue.overflow.as_str()})
                })
                .collect();
            let cpus: Vec<_> = (0..c.replica_count()).map(|r| plan.cpus(i, r)).collect();
            json!({"name": &*c.name, "role": role(c.role), "type": c.kind, "threads": c.threads,
                   "streams": c.streams.iter().map(|s| &**s).collect::<Vec<_>>(), "inputs": inputs, "cpus": cpus})
        })
        .collect();
    json!({"name": pipeline.name, "components": components})
}
