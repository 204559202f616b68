//! The command line: commands, arguments and their help.

mod quantize;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use flow::config::keys::HttpAddress;
use flow_cpu::kernels::Isa;
use flow_inference::InputShape;

pub use quantize::{BiasName, Compare, OverflowName, PresetName, Quantize, StorageName, WeightRangeName};

const AFTER: &str = "\
Exit codes: 0 ok, 2 configuration or usage, 3 completed with more loss than allowed, 4 failed,
5 drain timeout, 6 ledger mismatch. Results go to stdout, everything else to stderr.

`benchmark_app` is a command of its own.";

const RUN_AFTER: &str = "\
Examples:
  flowrun run dock.yaml --summary out.json
  flowrun run dock.yaml --http 9898          then open http://127.0.0.1:9898/, or `flowrun top`
  flowrun run dock.yaml --trace trace.json   then open it at https://ui.perfetto.dev";

const TAP_AFTER: &str = "\
Examples:
  flowrun tap dock.yaml 'decode->detect' --count 10
  flowrun tap dock.yaml 'detect->boxes' | head -3

One JSON line for each packet: stream, epoch, seq, pts_ms, at_ms (since the start), age_ms (since the source took it in),
type and bytes. Where the consumer has one input, packets are seen as it takes them, behind the queue; else as the
producer gives them. The pipeline runs as it always does, outputs included.";

const WHY_SLOW_AFTER: &str = "\
Examples:
  flowrun why-slow dock.yaml                  run it for 10 s and tell
  flowrun why-slow out/summary.json           a run that has ended (`flowrun run --summary`)
  flowrun why-slow http://127.0.0.1:9898      one that runs now (`flowrun run --http`)";

const CONTROL_AFTER: &str = "\
Examples (the token is that of the run, in FLOWRUN_HTTP_TOKEN, at least 16 characters):
  flowrun control set stages.boxes.threshold=0.6     refused with the place of the fault if it has one
  flowrun control restart detect                     each instance lets go of what it holds, then a new one takes over
  flowrun control reload                             read the file again; refused if it needs a new run
  flowrun control end east                           end one source; the others go on
  flowrun control status --url http://127.0.0.1:9898";

const SOAK_AFTER: &str = "\
Examples:
  flowrun soak dock.yaml --duration 30s                        a first look
  flowrun soak dock.yaml --chaos default --seed 7              some of every fault
  flowrun soak dock.yaml --chaos panic@detect=1%,stall=0.1%/2s --load poisson:40 --report soak.html

Faults: panic, stall and slow befall stages; corrupt, source_loss and clock_jump befall sources; sink_error befalls
sinks. FAULT@COMPONENT=RATE/TIME befalls one component. The same seed hits the same packets.

The verdict: every packet accounted for, order kept, no hang, memory, file descriptors and threads flat, p99 steady,
no restart without a fault, enough traffic. Exit codes: 0 passed, 4 not passed, 5 did not drain, 6 ledger mismatch.
Outputs are written as in any other run: give the pipeline a folder of its own.";

/// Runs video and image pipelines declared in YAML through INT8 networks.
#[derive(Debug, Parser)]
#[command(name = "flowrun", bin_name = "flowrun", version, after_help = AFTER, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub logging: Logging,
    #[command(subcommand)]
    pub command: Command,
}

/// What is logged to stderr.
#[derive(Debug, Args)]
pub struct Logging {
    /// Log more: -v for the pipeline's events, -vv for each packet's.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Log only errors, and show no progress.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Form of the log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline until its sources end, or until it is stopped.
    #[command(after_help = RUN_AFTER)]
    Run(Run),
    /// Run a pipeline under load and faults for a time, and judge it.
    #[command(after_help = SOAK_AFTER)]
    Soak(Soak),
    /// Print the headers of the packets that pass an edge.
    #[command(after_help = TAP_AFTER)]
    Tap(Tap),
    /// Show a running pipeline in the terminal.
    Top(Top),
    /// Change a running pipeline: a value of a stage, a restart, the file read again, a source ended.
    #[command(after_help = CONTROL_AFTER)]
    Control(Control),
    /// Name the stage that holds up the others, and what would move it.
    #[command(after_help = WHY_SLOW_AFTER)]
    WhySlow(WhySlow),
    /// Check a pipeline file and show every error in it, without opening anything.
    Check(Check),
    /// Show the workers of a pipeline and the CPUs they would be pinned to.
    Plan(Plan),
    /// Draw the graph of a pipeline.
    Graph(Graph),
    /// List the kinds of sources, stages and sinks, or describe one.
    Stages(Stages),
    /// Print the JSON Schema of pipeline files.
    Schema(Schema),
    /// Explain an error code, such as E0107.
    Explain(Explain),
    /// Look at this machine: CPU, instruction sets, affinity, quotas, limits.
    Doctor(Doctor),
    /// Inspect, transform, run, benchmark, quantize or compare models.
    #[command(subcommand)]
    Model(Model),
}

impl Command {
    /// What is logged unless the user says otherwise.
    pub fn default_log(&self) -> &'static str {
        match self {
            // Faults on purpose would fill the screen; the verdict counts them.
            Self::Soak(soak) if soak.chaos.is_some() => "off",
            // What a pipeline was asked to find out is shown without asking.
            _ => "warn,flow_output::evaluate=info",
        }
    }
}

/// The pipeline file and what overrides it.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// The pipeline file (YAML); `-` reads it from stdin.
    pub file: PathBuf,
    /// Override one value of the file, such as `stages.detect.threshold=0.5`. May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Stop after this long, as Ctrl-C would: `30s`, `5m`.
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Write the summary of the run to this file as JSON; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Serve metrics, health and a page with the live graph: a port for this machine only, or an address with a port.
    #[arg(long, value_name = "[ADDRESS:]PORT")]
    pub http: Option<HttpAddress>,
    /// Write a trace of every call into a stage to this file, for Perfetto.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write the headers of all packets to this file, for --replay.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Give and take the packets of a run that was recorded: the same drops, the same order, the same JSON lines.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Tap {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The edge: FROM->TO, in quotes.
    pub edge: String,
    /// Stop after so many packets.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Stop after this long: `30s`, `5m`.
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
}

#[derive(Debug, Args)]
pub struct Top {
    /// Where the pipeline is served.
    #[arg(default_value = crate::client::DEFAULT)]
    pub url: String,
    /// Print once and end.
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub struct Control {
    #[command(subcommand)]
    pub action: ControlAction,
    /// Where the pipeline is served.
    #[arg(long, global = true, default_value = crate::client::DEFAULT)]
    pub url: String,
}

/// A change to a running pipeline.
#[derive(Debug, Subcommand)]
pub enum ControlAction {
    /// Change a value of a stage or source, as `run --set` does.
    Set {
        /// `stages.NAME.KEY=VALUE` or `sources.NAME.KEY=VALUE`.
        change: String,
    },
    /// Build the instances of a stage anew.
    Restart {
        /// The stage.
        stage: String,
    },
    /// Read the pipeline file again and make what differs so.
    Reload,
    /// Close a source until `start`: its stream waits, the others go on.
    Pause {
        /// The source.
        source: String,
    },
    /// Open a source again, with a new epoch.
    Start {
        /// The source.
        source: String,
    },
    /// End a source; what is under way drains, and the others go on.
    End {
        /// The source.
        source: String,
    },
    /// End the run; what is under way drains.
    Stop,
    /// Tell where changes stand.
    Status,
}

#[derive(Debug, Args)]
pub struct WhySlow {
    /// A pipeline file, the summary of a run (.json), or the address of a running pipeline.
    pub subject: String,
    /// Override one value of the pipeline file, as for `run`.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// How long a pipeline file is run: `10s` by default.
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Soak {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// How long sources give packets: `30s`, `10m`, `8h`.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub duration: String,
    /// Faults to inject: `default`, or `FAULT[@COMPONENT]=RATE[/TIME]`, several with commas.
    #[arg(long, value_name = "SPEC")]
    pub chaos: Option<flow::chaos::Spec>,
    /// When packets arrive at each source: `constant:RATE`, `poisson:RATE` (packets a second), or `own` for the pace of
    /// the source. Sources that end begin anew; live sources keep their own pace.
    #[arg(long, default_value = "constant:25")]
    pub load: flow::soak::Load,
    /// Seed of arrivals and faults.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write a report with plots to this file: one page for a browser.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Largest growth of memory, in MiB an hour.
    #[arg(long, value_name = "MIB", default_value_t = 1.0)]
    pub max_growth: f64,
    /// Largest rise of the 99th percentile of latency from the first fifth to the last, in percent; `off`.
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = drift)]
    pub max_drift: Drift,
    /// Fewest packets that count as traffic. Default: half of those that are due.
    #[arg(long, value_name = "N")]
    pub min_packets: Option<u64>,
}

/// Largest rise of a latency, as a part of it; `None`: not judged.
#[derive(Debug, Clone, Copy)]
pub struct Drift(pub Option<f64>);

fn drift(text: &str) -> Result<Drift, String> {
    if text == "off" {
        return Ok(Drift(None));
    }
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(Drift(Some(percent / 100.0))),
        _ => Err("expected a percentage such as 20, or `off`".into()),
    }
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
    /// Plan for another machine: an XML file that hwloc wrote there (`lstopo machine.xml`).
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Graph {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Form of the drawing.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,
}

/// Form of a drawn graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown pages show it.
    Mermaid,
    /// A picture.
    Svg,
}

#[derive(Debug, Args)]
pub struct Stages {
    /// The kind to describe.
    pub kind: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Schema {
    /// Print the reference as Markdown instead.
    #[arg(long)]
    pub markdown: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The code; without it all are listed.
    pub code: Option<String>,
    /// Print all codes with their explanations as Markdown.
    #[arg(long, conflicts_with = "code")]
    pub markdown: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Model {
    /// Show how each operation of a model runs: precision, kernel, what it is fused into, and why it is not INT8.
    Inspect(Inspect),
    /// Apply low precision transformations and show or write the rewritten graph.
    Lpt(Lpt),
    /// Run a model once on .npy inputs.
    Run(ModelRun),
    /// Measure throughput or latency of a model.
    Benchmark(Benchmark),
    /// Make an INT8 model of an f32 model, with pictures to calibrate on.
    Quantize(Box<Quantize>),
    /// Compare two models layer by layer: noise, clipping, outputs, speed.
    Compare(Compare),
}

/// A model and how to compile it.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model: OpenVINO IR (.xml with its .bin beside it).
    pub model: PathBuf,
    /// The device that runs it: `CPU`, or `REF` for the reference evaluator. `AUTO:`, `MULTI:`, `HETERO:` and
    /// `BATCH:` take lists as in OpenVINO and fall back to what is there.
    #[arg(long, default_value = "CPU")]
    pub device: String,
    /// Where values are rounded: wherever the model says, or as OpenVINO does.
    #[arg(long, value_enum, default_value_t = NumericsName::Literal)]
    pub numerics: NumericsName,
    /// Leave out low precision transformations: run the quantized model in f32.
    #[arg(long)]
    pub no_lpt: bool,
    /// Shape of an input that takes the place of the model's: `[1,3,224,224]`, or `NAME[1,3,224,224]` where there are
    /// several. An axis may stay open: `?`, `1..8`.
    #[arg(long, value_name = "SHAPE", value_parser = input_shape)]
    pub shape: Vec<InputShape>,
    /// Use no instructions beyond this set: scalar, sse42, avx2, avxvnni, avx512bw, avx512vnni or avx512amx.
    /// `FLOW_MAX_ISA` caps further.
    #[arg(long, value_name = "SET", value_parser = instruction_set)]
    pub isa: Option<Isa>,
}

fn input_shape(text: &str) -> Result<InputShape, String> {
    text.parse()
        .map_err(|error: flow_inference::EngineError| error.to_string())
}

fn instruction_set(name: &str) -> Result<Isa, String> {
    Isa::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// A numeric mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NumericsName {
    /// Round wherever the model has a FakeQuantize.
    Literal,
    /// Drop the inner rounding of residual chains, as OpenVINO does.
    Openvino,
}

#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print as JSON; the same as `--format json`.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// What to print: a table, JSON, Graphviz, or a page with both graphs for a browser.
    #[arg(long, value_enum, default_value_t = InspectFormat::Table)]
    pub format: InspectFormat,
    /// Write to this file instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Run the model some times on arbitrary input, and tell how long each kernel takes.
    #[arg(long)]
    pub profile: bool,
}

/// Form of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InspectFormat {
    /// One row per operation.
    Table,
    /// The rows for scripts.
    Json,
    /// The steps that run, for Graphviz.
    Dot,
    /// One page for a browser: the model and what runs, with search, details and reasons.
    Html,
}

#[derive(Debug, Args)]
pub struct Lpt {
    /// The model: OpenVINO IR.
    pub model: PathBuf,
    /// Write the rewritten graph as OpenVINO IR to this .xml (and the .bin beside it).
    #[arg(short, long, value_name = "FILE.xml")]
    pub output: Option<PathBuf>,
    /// Where values are rounded.
    #[arg(long, value_enum, default_value_t = NumericsName::Literal)]
    pub numerics: NumericsName,
    /// Print the rewritten graph in Graphviz form.
    #[arg(long)]
    pub dot: bool,
}

#[derive(Debug, Args)]
pub struct ModelRun {
    #[command(flatten)]
    pub model: ModelArgs,
    /// An input as .npy; with several inputs give NAME=FILE.npy, or the files in the model's order.
    #[arg(long, value_name = "[NAME=]FILE.npy", required = true)]
    pub input: Vec<String>,
    /// Folder that takes 0.npy, 1.npy, ... in the order of the model's results.
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Benchmark {
    #[command(flatten)]
    pub model: Option<ModelArgs>,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = BenchmarkMode::Throughput)]
    pub mode: BenchmarkMode,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Threads: in throughput mode one for each request, in latency mode all for one. The CPUs this process may use by
    /// default.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
    /// Time each step of one request instead: microseconds, 10^9 multiply-accumulates per second, percent of the peak
    /// that registers reach in the same run, bytes, kernel.
    #[arg(long)]
    pub per_layer: bool,
    /// Set two results of `--per-layer --json` side by side, steps that changed most first; takes no model.
    #[arg(long, num_args = 2, value_names = ["BEFORE.json", "AFTER.json"], exclusive = true)]
    pub compare: Vec<PathBuf>,
}

/// What a benchmark measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchmarkMode {
    /// One request per thread, side by side.
    Throughput,
    /// One request at a time.
    Latency,
}
