//! What the HTTP server answers.
//!
//! | path | answer |
//! |---|---|
//! | `/` | a page with the live graph |
//! | `/metrics` | Prometheus text |
//! | `/health` | 200 while the pipeline has not failed, with what is wrong; else 503 |
//! | `/ready` | 200 once every stage is open and sources have begun; else 503 |
//! | `/graph` | the graph with all figures, as JSON |
//! | `/summary` | the summary so far, as `flowrun run --summary` writes it at the end |
//! | `/why-slow` | the bottleneck, as text; `?format=json` |
//! | `/preview?stage=NAME` | the last picture of a stage, as JPEG |
//!
//! With a token, requests to `/control` change the run: see [`Controls`].

mod controls;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http::{Request, Response};
use super::preview::{Encode, Preview};
use super::{Graph, process, prometheus, why_slow};
use crate::runtime::{RunHandle, Snapshot};

pub use controls::Controls;

const DASHBOARD: &str = include_str!("dashboard.html");

/// Answers requests about one run.
pub struct Service {
    graph: Graph,
    run: RunHandle,
    previews: Vec<Preview>,
    encode: Encode,
    cpus: f64,
    controls: Option<Controls>,
}

impl Service {
    /// A service for a run. `cpus` is the number of CPUs that the process may use.
    pub fn new(graph: Graph, run: RunHandle, previews: Vec<Preview>, encode: Encode, cpus: f64) -> Self {
        Self {
            graph,
            run,
            previews,
            encode,
            cpus,
            controls: None,
        }
    }

    /// Lets whoever has the token change the run.
    #[must_use]
    pub fn controlled(mut self, controls: Controls) -> Self {
        self.controls = Some(controls);
        self
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Request) -> Response {
        if request.path == "/control" || request.path.starts_with("/control/") {
            return match &mut self.controls {
                Some(controls) => controls.answer(request, &self.run),
                None => Response::text(
                    403,
                    "this run takes no changes: start it with FLOWRUN_HTTP_TOKEN in the environment\n",
                ),
            };
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Response::text(405, "only GET is answered here\n");
        }
        match request.path.as_str() {
            "/" => Response {
                status: 200,
                content_type: "text/html; charset=utf-8",
                body: DASHBOARD.into(),
            },
            "/metrics" => Response {
                status: 200,
                content_type: prometheus::CONTENT_TYPE,
                body: prometheus::text(&self.graph, &self.run.snapshot()).into_bytes(),
            },
            "/health" => health(&self.run.snapshot()),
            "/ready" => {
                let run = self.run.snapshot();
                let ready = run.ready && !run.stopping;
                Response::json(if ready { 200 } else { 503 }, &json!({ "ready": ready }))
            }
            "/graph" => Response::json(200, &self.graph()),
            "/summary" => Response::json(200, &summary(&self.run.snapshot())),
            "/why-slow" => self.why_slow(request),
            "/preview" => self.preview(request),
            other => Response::text(404, format!("there is no {other}; there are {PATHS}\n")),
        }
    }

    /// The graph with everything that is known of each component and edge.
    fn graph(&self) -> Value {
        let run = self.run.snapshot();
        let cpu = cpu_seconds(&run);
        let stages = run.stages.iter().map(|now| {
            let mut stage = json!(self.graph.stage(&now.name));
            merge(&mut stage, json!(now));
            merge(&mut stage, json!({ "cpu_seconds": cpu.get(&now.name) }));
            stage
        });
        let edges = run.edges.iter().map(|now| {
            let mut edge = json!(self.graph.edge(&now.report.name));
            merge(&mut edge, json!(now));
            edge
        });
        let process = process::look();
        json!({
            "pipeline": run.pipeline,
            "seconds": run.seconds,
            "ready": run.ready,
            "stopping": run.stopping,
            "ledger": run.ledger,
            "streams": run.streams,
            "quarantined": run.quarantined,
            "stages": stages.collect::<Vec<_>>(),
            "edges": edges.collect::<Vec<_>>(),
            "pins": run.pins,
            "failure": run.failure,
            "warnings": run.warnings,
            "previews": self.previews.iter().map(|p| &p.stage).collect::<Vec<_>>(),
            "process": { "rss": process.rss, "fds": process.fds, "threads": process.threads },
            "cpus": self.cpus,
        })
    }

    fn why_slow(&self, request: &Request) -> Response {
        let found = why_slow::loads(&summary(&self.run.snapshot()))
            .map(|loads| why_slow::find(loads, Some(&self.graph), self.cpus));
        match found {
            Ok(finding) if request.query_value("format").as_deref() == Some("json") => {
                Response::json(200, &finding)
            }
            Ok(finding) => Response::text(200, finding.to_string()),
            Err(error) => Response::text(503, error),
        }
    }

    fn preview(&self, request: &Request) -> Response {
        let named = request.query_value("stage");
        let preview = match &named {
            Some(name) => self.previews.iter().find(|preview| preview.stage == *name),
            None => self.previews.last(),
        };
        let Some(preview) = preview else {
            let names: Vec<&str> = self.previews.iter().map(|p| p.stage.as_str()).collect();
            let text = format!("no such preview; there are: {}\n", names.join(", "));
            return Response::text(404, text);
        };
        match preview.look().and_then(|packet| (self.encode)(&packet)) {
            Some(body) => Response {
                status: 200,
                content_type: "image/jpeg",
                body,
            },
            // The first look asks for a packet; the next one finds it.
            None => Response::text(503, "no picture yet; ask again\n"),
        }
    }
}

const PATHS: &str = "/, /metrics, /health, /ready, /graph, /summary, /why-slow and /preview";

fn health(run: &Snapshot) -> Response {
    let wrong: Vec<String> = run
        .failure
        .iter()
        .map(ToString::to_string)
        .chain(
            run.quarantined
                .iter()
                .map(|stream| format!("stream `{stream}` was given up")),
        )
        .chain(run.pins.iter().filter(|pin| !pin.ok).map(ToString::to_string))
        .collect();
    let status = match (&run.failure, wrong.is_empty()) {
        (Some(_), _) => "failed",
        (None, false) => "degraded",
        (None, true) => "ok",
    };
    let code = if run.failure.is_some() { 503 } else { 200 };
    Response::json(
        code,
        &json!({ "status": status, "wrong": wrong, "warnings": run.warnings }),
    )
}

/// The snapshot in the form of a run's summary, with CPU times beside.
fn summary(run: &Snapshot) -> Value {
    let stages: serde_json::Map<String, Value> = run
        .stages
        .iter()
        .map(|stage| (stage.name.clone(), json!(stage.report)))
        .collect();
    json!({
        "pipeline": run.pipeline,
        "ledger": run.ledger,
        "stages": stages,
        "seconds": run.seconds,
        "streams": run.streams,
        "edges": run.edges,
        "pins": run.pins,
        "failure": run.failure,
        "warnings": run.warnings,
        "cpu_seconds": cpu_seconds(run),
    })
}

/// CPU time of the threads of each component, in seconds. Threads that a component starts itself are not among them.
fn cpu_seconds(run: &Snapshot) -> BTreeMap<String, f64> {
    let threads = process::threads();
    let of = |names: &[String]| {
        threads
            .iter()
            .filter(|t| names.contains(&t.name))
            .map(|t| t.cpu_seconds)
            .sum()
    };
    run.stages
        .iter()
        .map(|stage| (stage.name.clone(), of(&stage.threads)))
        .collect()
}

/// Adds the keys of an object to another.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}
