//! `flowrun plan`: the workers of a pipeline, their queues and the CPUs they would be pinned to.

mod drawing;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use flow::config::plan::{Pipeline, QueueSpec};
use flow::pins::{self, PinError, PinPlan};
use flow::registry::Role;
use flow::topology::Topology;
use serde_json::{Value, json};

use super::{print, print_json};
use crate::cli::Plan;
use crate::failure::Failure;
use crate::pipeline;
use drawing::draw;

pub fn plan(args: &Plan) -> Result<ExitCode, Failure> {
    let pipeline = pipeline::checked(&args.pipeline)?;
    let errors = |errors: Vec<PinError>| Failure::pipeline(pins::diagnostics(&pipeline, &errors));
    let (machine, plan) = match &args.topology {
        Some(file) => {
            let (topology, allowed) = recorded(file)?;
            let plan = pins::plan(&topology, &allowed, &pipeline).map_err(errors)?;
            (Some((topology, allowed)), plan)
        }
        None => {
            let (plan, warnings) = pins::plan_here(&pipeline).map_err(errors)?;
            for warning in &warnings {
                eprintln!("warning: {warning}");
            }
            let allowed = pins::allowed_cpus().unwrap_or_default();
            (Topology::read().map(|topology| (topology, allowed)), plan)
        }
    };
    if args.json {
        print_json(&as_json(&pipeline, &plan))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = as_text(&pipeline, &plan);
    if let Some((topology, allowed)) = &machine {
        let _ = write!(text, "\n{}", draw(&pipeline, &plan, topology, allowed));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The machine in a file that hwloc exported.
fn recorded(file: &Path) -> Result<(Topology, Vec<usize>), Failure> {
    let fault = |why: String| Failure::usage(format!("--topology {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| fault(format!("it cannot be read: {e}")))?;
    Topology::from_hwloc_xml(&text).map_err(|e| fault(e.to_string()))
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
    flow::topology::format_cpu_list(cpus)
}

fn as_text(pipeline: &Pipeline, plan: &PinPlan) -> String {
    let mut out = String::new();
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
