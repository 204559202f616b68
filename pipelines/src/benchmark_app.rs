//! `benchmark_app`: measures a network, with the flags, steps and reports of OpenVINO's tool of that name.

mod console;
mod data;
mod flags;
mod inputs;
mod loops;
mod measure;
mod report;
mod results;
mod settings;
mod shapes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flow_inference::{DeviceRequest, Engine, EngineError, Options, adapt, execution_xml, with_batch};
use flow_model::{Graph, PartialShape, Value};

use crate::failure::{Failure, USAGE};
use console::Console;
use flags::{FlagError, Given};
use inputs::InputInfo;
use loops::Loops;
use measure::{Group, Limits, ms};
use report::{Format, Sections};
use results::{counters, results};
use settings::{Precision, Settings};

/// Seconds to measure where neither time nor iterations are given.
const DEFAULT_SECONDS: u64 = 60;
/// Most requests; each owns the memory of a run.
const MAX_REQUESTS: usize = 4096;

/// Runs the tool.
pub fn main(arguments: &[String]) -> ExitCode {
    let console = Console::new();
    let given = match flags::parse(arguments) {
        Ok(given) => given,
        Err(FlagError(message)) => {
            eprintln!("[ ERROR ] {message}");
            return ExitCode::from(USAGE);
        }
    };
    if given.has("h") || arguments.is_empty() {
        console.line(flags::help().trim_end());
        return ExitCode::SUCCESS;
    }
    match run(&given, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Other { exit, message, .. }) => {
            eprintln!("[ ERROR ] {message}");
            ExitCode::from(exit)
        }
        Err(failure) => failure.report(),
    }
}

/// What reports are written, and how.
struct Reports {
    format: Option<Format>,
    sections: Sections,
}

impl Reports {
    fn result(&mut self, key: &str, value: impl ToString) {
        self.sections.results.push((key.to_owned(), value.to_string()));
    }

    fn configuration(&mut self, key: &str, value: impl ToString) {
        self.sections
            .configuration
            .push((key.to_owned(), value.to_string()));
    }

    /// Writes the report of the run.
    fn dump(&self, console: &Console) -> Result<(), Failure> {
        if let Some(format) = &self.format {
            let path = format.run(&self.sections)?;
            console.info(&format!("Statistics report is stored to {}", path.display()));
        }
        Ok(())
    }
}

fn run(given: &Given, console: &Console) -> Result<(), Failure> {
    console.step(1, "");
    console.info("Parsing input parameters");
    let model = model_path(given)?;
    let percentile = given.number("latency_percentile").unwrap_or(50);
    if percentile > 100 {
        return Err(Failure::usage("-latency_percentile: expected 1 to 100"));
    }
    let device: DeviceRequest = given
        .text("d")
        .unwrap_or("CPU")
        .parse()
        .map_err(Failure::engine)?;
    let mut reports = Reports {
        format: match given.text("report_type") {
            Some(_) => Some(Format {
                folder: report::folder(given.text("report_folder").unwrap_or_default())?,
                json: given.yes("json_stats"),
                python: given.text("status_style") == Some("python"),
            }),
            None => None,
        },
        sections: Sections {
            command_line: given.written.clone(),
            ..Sections::default()
        },
    };
    let result = measured(given, console, &model, device, percentile, &mut reports);
    if let Err(Failure::Other { message, .. }) = &result {
        // A report that tells of the failure is worth more than none.
        reports.result("error", message);
        let _ = reports.dump(console);
    }
    result
}

fn model_path(given: &Given) -> Result<PathBuf, Failure> {
    let Some(path) = given.text("m") else {
        return Err(Failure::usage(
            "-m is missing: the model, as in -m resnet50-int8.xml; -h lists the flags",
        ));
    };
    let ending = Path::new(path)
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    match ending.as_deref() {
        Some("blob") => Err(Failure::usage(format!(
            "-m {path}: a compiled model of OpenVINO cannot be read; give the .xml it was made from"
        ))),
        Some("onnx" | "tflite" | "pb" | "pdmodel") => Err(Failure::usage(format!(
            "-m {path}: only OpenVINO IR is read; convert it with OpenVINO's `ovc {path}`"
        ))),
        _ => Ok(PathBuf::from(path)),
    }
}

fn measured(
    given: &Given,
    console: &Console,
    path: &Path,
    device: DeviceRequest,
    percentile: usize,
    reports: &mut Reports,
) -> Result<(), Failure> {
    console.step(2, "");
    console.info("flowrun:");
    console.info(&format!(
        "Build ................................. {}",
        env!("CARGO_PKG_VERSION")
    ));
    console.info("");
    console.info("Device info:");
    console.info(device.device.name());
    for note in &device.notes {
        console.warning(note);
    }

    console.step(3, "");
    let settings = Settings::new(given, device, console)?;
    let sync = match given.text("api") {
        Some(api) => api == "sync",
        None => settings.hint == settings::Hint::Latency,
    };
    let streams = if sync { 1 } else { settings.stream_count() };
    let requests = if sync {
        1
    } else {
        settings.requests.unwrap_or(streams)
    };
    if requests > MAX_REQUESTS {
        return Err(Failure::usage(format!(
            "-nireq {requests}: expected at most {MAX_REQUESTS}"
        )));
    }
    let (count, seconds) = (given.number("niter"), given.number("t"));
    if sync && seconds.is_none() && count.is_some_and(|n| n > 0 && settings.requests.unwrap_or(1) > n) {
        return Err(Failure::usage(
            "-nireq: number of infer requests should be less than or equal to number of iterations in sync mode",
        ));
    }
    if streams > settings::cpus().len() {
        console.warning(&format!(
            "{streams} streams share {} CPUs: they will wait for one another",
            settings::cpus().len()
        ));
    }

    console.step(4, "");
    console.info("Loading model files");
    let start = Instant::now();
    let mut graph = flow_model::ir::read(path).map_err(|e| Failure::engine(EngineError::Model(e)))?;
    let read = format!("{:.2}", ms(start.elapsed()));
    console.info(&format!("Read model took {read} ms"));
    console.info("Original model I/O parameters:");
    ports(&graph, &[], console);
    reports.result("read model time (ms)", &read);

    console.step(5, "");
    if let Some(batch) = settings.device.batch {
        graph = with_batch(&graph, batch, path).map_err(Failure::engine)?;
    }
    let (infos, reshape) = inputs::inputs(&graph, given, console)?;
    let groups = infos.iter().map(|i| i.shapes().len()).max().unwrap_or(1);
    let batch = inputs::batch_of(&infos, 0)?;
    console.info(&format!("Model batch size: {batch}"));
    if reshape || groups > 1 || infos.iter().any(|i| !i.is_static()) {
        let shapes: Vec<String> = infos
            .iter()
            .map(|i| format!("'{}': {}", i.name, shapes::display(&i.shape)))
            .collect();
        console.info(&format!("Reshaping model: {}", shapes.join(", ")));
    }

    console.step(6, "");
    let start = Instant::now();
    let networks: Vec<Graph> = (0..groups)
        .map(|group| prepared(&graph, &infos, given, group))
        .collect::<Result<_, _>>()?;
    if reshape {
        let took = format!("{:.2}", ms(start.elapsed()));
        console.info(&format!("Reshape model took {took} ms"));
        reports.result("reshape model time (ms)", took);
    }
    ports(&networks[0], &infos, console);

    console.step(7, "");
    let start = Instant::now();
    let options = Options {
        device: settings.device.device,
        numerics: settings.numerics,
        lpt: settings.precision == Precision::Integer,
        threads: settings.threads_per_stream(),
        ..Options::default()
    };
    let engines: Vec<Engine> = networks
        .into_iter()
        .map(|graph| Engine::from_graph(path, graph, &options).map_err(Failure::engine))
        .collect::<Result<_, _>>()?;
    let compile = format!("{:.2}", ms(start.elapsed()));
    console.info(&format!("Compile model took {compile} ms"));
    reports.result("compile model time (ms)", compile);
    if count == Some(0) {
        console.info("Model compiled successfully. Skipping inference due to -niter 0.");
        (8..=10).for_each(|step| console.step(step, "skipped"));
        console.step(11, "");
        dump_config(given, &settings, console)?;
        return reports.dump(console);
    }

    console.step(8, "");
    properties(&engines[0], &settings, sync, streams, console);

    console.step(9, "");
    let files = data::files(&infos, given.texts("i"), console)?;
    let groups: Vec<Group> = (0..groups)
        .map(|group| {
            Ok(Group {
                sets: data::data(&infos, &files, group, console)?,
                batch: inputs::batch_of(&infos, group)?,
            })
        })
        .collect::<Result<_, Failure>>()?;
    if groups.len() > 1 && sync {
        return Err(Failure::usage(
            "-data_shape with several shapes needs -api async; -api async -hint latency -nireq 1 behaves like sync",
        ));
    }
    let inference_only = match given.has("inference_only") {
        true => given.yes("inference_only"),
        false => groups.len() == 1,
    };
    if inference_only && groups.len() > 1 {
        return Err(Failure::usage(
            "-inference_only: with several shapes each iteration takes its own input; leave it out",
        ));
    }
    let iterations = count.map(|n| measure::aligned(n, requests, groups.len()));
    if let (Some(given), Some(aligned)) = (count, iterations.filter(|n| count != Some(*n))) {
        let (what, number) = if groups.len() > requests {
            ("number of input shapes", groups.len())
        } else {
            ("request number", requests)
        };
        console.warning(&format!(
            "Number of iterations was aligned by {what} from {given} to {aligned} using number of requests {number}"
        ));
    }
    let duration = match (seconds, count) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds as u64)),
        (None, None) => Some(Duration::from_secs(DEFAULT_SECONDS)),
        (None, Some(_)) => None,
    };
    let limits = Limits {
        iterations,
        duration,
        max_rate: given
            .text("max_irate")
            .and_then(|t| t.parse().ok())
            .unwrap_or(0.0),
        refill: !inference_only,
    };
    let milliseconds = duration.map_or(0, |d| d.as_millis());
    for (key, value) in [
        ("topology", graph.name.clone()),
        ("target device", settings.device.text.clone()),
        ("API", if sync { "sync" } else { "async" }.to_owned()),
        (
            "inference_only",
            if inference_only { "True" } else { "False" }.to_owned(),
        ),
        ("precision", "UNSPECIFIED".to_owned()),
        ("batch size", batch.to_string()),
        (
            "number of iterations",
            iterations.map_or("None".to_owned(), |n| n.to_string()),
        ),
        ("number of parallel infer requests", requests.to_string()),
        ("duration (ms)", milliseconds.to_string()),
        ("number of CPU streams", streams.to_string()),
    ] {
        reports.configuration(key, value);
    }

    console.step(10, &heading(sync, requests, streams, milliseconds, iterations));
    console.info(if inference_only {
        "Benchmarking in inference only mode (inputs filling are not included in measurement loop)."
    } else {
        "Benchmarking in full mode (inputs filling are included in measurement loop)."
    });
    let warm_up = !given.has("no_warmup");
    if !warm_up {
        console.info("Skipping warmup inference due to -no_warmup flag");
    }
    let loops = Loops {
        engines: &engines,
        groups: &groups,
        settings: &settings,
        limits: &limits,
        streams,
        requests,
        warm_up,
    };
    let outcome = if sync { loops.sync() } else { loops.queued() };
    let outcome = outcome.map_err(Failure::engine)?;
    if let Some(first) = outcome.first {
        let first = format!("{:.2}", ms(first));
        console.info(&format!("First inference took {first} ms"));
        reports.result("first inference time (ms)", first);
    }

    console.step(11, "");
    dump_config(given, &settings, console)?;
    if let Some(file) = given.text("exec_graph_path") {
        let nodes = engines[0]
            .runtime_graph(&outcome.times)
            .map_err(Failure::engine)?;
        let path = Path::new(file);
        std::fs::write(path, execution_xml(&graph.name, &nodes))
            .map_err(|e| Failure::file("write", path, e))?;
        console.info(&format!("Executable graph is stored to {file}"));
    }
    counters(given, &outcome.counters, reports, console)?;
    let device = engines[0].device();
    results(
        given,
        device,
        &outcome.measured,
        &infos,
        percentile,
        reports,
        console,
    )?;
    Ok(())
}

/// The graph for one group of shapes, with conversions at inputs and outputs.
fn prepared(graph: &Graph, infos: &[InputInfo], given: &Given, group: usize) -> Result<Graph, Failure> {
    let shapes: Vec<PartialShape> = infos
        .iter()
        .map(|input| {
            let shapes = input.shapes();
            shapes[group % shapes.len()].iter().map(|&d| Some(d)).collect()
        })
        .collect();
    let model = |e| Failure::engine(EngineError::Model(e));
    let reshaped = graph.with_input_shapes(&shapes).map_err(model)?;
    let outputs = inputs::output_types(graph, given)?;
    adapt(&reshaped, &inputs::changes(infos), &outputs).map_err(model)
}

/// Lists inputs and outputs.
fn ports(graph: &Graph, infos: &[InputInfo], console: &Console) {
    console.info("Model inputs:");
    for (i, &id) in graph.parameters.iter().enumerate() {
        let layout = infos.get(i).map_or("[...]".to_owned(), InputInfo::layout_text);
        port(graph, Value::of(id), &graph.node(id).name, &layout, console);
    }
    console.info("Model outputs:");
    for &id in &graph.results {
        let value = graph.node(id).inputs[0];
        port(graph, value, &graph.node(value.node).name, "[...]", console);
    }
}

fn port(graph: &Graph, value: Value, node: &str, layout: &str, console: &Console) {
    let info = graph.info(value);
    let names: Vec<&str> = info.names.iter().map(|n| &**n).collect();
    let names = if names.is_empty() {
        node.to_owned()
    } else {
        names.join(" , ")
    };
    console.info(&format!(
        "    {names} (node: {node}) : {} / {layout} / {}",
        info.element_type,
        shapes::display(&info.shape)
    ));
}

/// What the settings led to, by OpenVINO's names.
fn properties(engine: &Engine, settings: &Settings, sync: bool, streams: usize, console: &Console) {
    let yes = |on: bool| if on { "YES" } else { "NO" };
    let precision = match settings.precision {
        Precision::Integer => "i8 where quantized, else f32",
        Precision::Float => "f32",
    };
    console.info("Model:");
    for (key, value) in [
        ("NETWORK_NAME", engine.original().name.clone()),
        ("OPTIMAL_NUMBER_OF_INFER_REQUESTS", streams.to_string()),
        ("NUM_STREAMS", streams.to_string()),
        ("INFERENCE_NUM_THREADS", (streams * engine.threads()).to_string()),
        ("PERF_COUNT", yes(settings.profile).to_owned()),
        ("INFERENCE_PRECISION_HINT", precision.to_owned()),
        ("PERFORMANCE_HINT", settings.hint.name().to_owned()),
        ("ENABLE_CPU_PINNING", yes(settings.pin && !sync).to_owned()),
        ("EXECUTION_DEVICES", engine.device().to_string()),
        (
            "INSTRUCTION_SET",
            engine.program().map_or("none", |p| p.isa().name()).to_owned(),
        ),
    ] {
        console.info(&format!("  {key}: {value}"));
    }
}

fn heading(
    sync: bool,
    requests: usize,
    streams: usize,
    milliseconds: u128,
    iterations: Option<usize>,
) -> String {
    let how = if sync {
        "synchronously".to_owned()
    } else {
        format!("asynchronously, {requests} inference requests using {streams} streams for CPU")
    };
    let mut limits = Vec::new();
    if milliseconds > 0 {
        limits.push(format!("{milliseconds} ms duration"));
    }
    if let Some(iterations) = iterations {
        limits.push(format!("{iterations} iterations"));
    }
    format!("Start inference {how}, limits: {}", limits.join(", "))
}

fn dump_config(given: &Given, settings: &Settings, console: &Console) -> Result<(), Failure> {
    if let Some(file) = given.text("dump_config") {
        settings.dump(Path::new(file))?;
        console.info(&format!("Configuration settings were dumped to {file}"));
    }
    Ok(())
}
