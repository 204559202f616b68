//! What `flowrun run` offers to those who look: the HTTP server and the trace.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::config::Details;
use flow::config::edit::Editor;
use flow::config::plan::{Pipeline, PreparedPipeline};
use flow::observe::control::{Replaceable, Switchable};
use flow::observe::http::Server;
use flow::observe::trace::{MAX_SLICES, Trace};
use flow::observe::{Controls, Graph, Preview, Service};
use flow::packet::Packet;
use flow::registry::{Registry, Replication, Role};
use flow::runtime::RunHandle;
use flow_frame::{FRAME, Frame};

use crate::cli::PipelineArgs;
use crate::failure::Failure;
use crate::kinds;

/// Quality of preview pictures.
const QUALITY: u8 = 75;

/// Everything that is wrapped around a pipeline before it starts.
pub struct Observing {
    graph: Graph,
    http: Option<TcpListener>,
    previews: Vec<Preview>,
    trace: Option<(PathBuf, File, Arc<Trace>)>,
    controls: Option<Controls>,
}

/// Variable of the environment that holds the token for changes to a run.
pub const TOKEN: &str = "FLOWRUN_HTTP_TOKEN";

impl Observing {
    /// Wraps a prepared pipeline. `http` wins over what the pipeline file says.
    pub fn prepare(
        prepared: &mut PreparedPipeline,
        args: &PipelineArgs,
        http: Option<SocketAddr>,
        trace: Option<&Path>,
    ) -> Result<Self, Failure> {
        let registry = &kinds::registry();
        // Found out now rather than when everything runs.
        let http = http.or(prepared.pipeline.runtime.http).map(listen).transpose()?;
        let controls = match (&http, std::env::var(TOKEN)) {
            (Some(_), Ok(token)) => Some(controls(prepared, args, token)?),
            _ => None,
        };
        let trace = match trace {
            None => None,
            Some(path) => {
                let file = File::create(path)
                    .map_err(|e| Failure::usage(format!("--trace {}: {e}", path.display())))?;
                Some((path.to_path_buf(), file, Trace::of(prepared, MAX_SLICES)))
            }
        };
        let previews = match &http {
            None => Vec::new(),
            Some(_) => Preview::offer(prepared, |component| {
                let kind = registry.get(component.role, component.kind);
                component.role == Role::Stage
                    && kind.is_some_and(|kind| kind.info.ports.gives.contains(&FRAME))
            }),
        };
        Ok(Self {
            graph: graph(&prepared.pipeline, registry),
            http,
            previews,
            trace,
            controls,
        })
    }

    /// Serves a run that has started, if that was asked for; the server ends when it is dropped.
    pub fn serve(&mut self, run: RunHandle) -> Result<Option<Server>, Failure> {
        let Some(listener) = self.http.take() else {
            return Ok(None);
        };
        let previews = std::mem::take(&mut self.previews);
        let mut service = Service::new(self.graph.clone(), run, previews, encode, cpus());
        if let Some(controls) = self.controls.take() {
            service = service.controlled(controls);
        }
        let server =
            Server::start(listener, move |request| service.answer(request)).map_err(Failure::failed)?;
        let address = server.address();
        eprintln!("watch it at http://{address}/ (metrics at /metrics)");
        if !address.ip().is_loopback() {
            eprintln!(
                "warning: {address} can be reached from other machines, without encryption or a password"
            );
        }
        Ok(Some(server))
    }

    /// Writes the trace, if one was asked for.
    pub fn finish(self) -> Result<(), Failure> {
        let Some((path, file, trace)) = self.trace else {
            return Ok(());
        };
        let mut out = BufWriter::new(file);
        let written = trace.write(&mut out).and_then(|()| out.flush());
        written.map_err(|e| Failure::file("write", &path, e))?;
        eprintln!("trace: {}; open it at https://ui.perfetto.dev", path.display());
        if trace.beyond() > 0 {
            eprintln!(
                "warning: the trace holds the first {MAX_SLICES} calls; {} more were left out",
                trace.beyond()
            );
        }
        Ok(())
    }
}

/// Changes to the run, for whoever has the token.
fn controls(
    prepared: &mut PreparedPipeline,
    args: &PipelineArgs,
    token: String,
) -> Result<Controls, Failure> {
    let details = Details::of(prepared);
    let editor = match args.file == Path::new("-") {
        true => Err("the pipeline came from standard input, which cannot be read again".to_owned()),
        false => Editor::new(kinds::registry(), &args.file, &args.set, details).map_err(|e| e.render(false)),
    };
    let (stages, sources) = (Replaceable::all(prepared), Switchable::all(prepared));
    Controls::new(token, stages, sources, editor).map_err(|e| Failure::usage(format!("{TOKEN}: {e}")))
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|e| {
        Failure::usage(format!(
            "cannot serve http://{address}: {e}; give another address or port"
        ))
    })
}

/// The shape of a pipeline.
pub fn graph(pipeline: &Pipeline, registry: &Registry) -> Graph {
    Graph::of(pipeline, |role, kind| {
        let kind = registry.get(role, kind);
        kind.is_some_and(|kind| kind.info.replication == Replication::Free)
    })
}

/// CPUs that this process may use: those of its mask, or fewer by the quota of its cgroup.
pub fn cpus() -> f64 {
    let mask = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    flow::pins::cpu_quota().map_or(mask, |quota| quota.min(mask))
}

/// The frame of a packet as a JPEG picture.
fn encode(packet: &Packet) -> Option<Vec<u8>> {
    flow_output::jpeg(packet.payload::<Frame>()?, QUALITY).ok()
}
