//! All flags, with what they take and their help.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// Nothing, or a yes or no.
    YesNo,
    /// Any text.
    Text,
    /// One or more texts, up to the next flag.
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number above 0.
    Positive,
    /// A whole number.
    Count,
    /// A number that is not negative.
    Real,
}

/// A flag: its names (the first is what reports and errors print), what it takes, and its help.
pub struct Flag {
    /// Names, without dashes.
    pub names: &'static [&'static str],
    /// What it takes.
    pub takes: Takes,
    /// How the help calls its value.
    pub value: &'static str,
    /// What it is for.
    pub help: &'static str,
}

const fn flag(names: &'static [&'static str], takes: Takes, value: &'static str, help: &'static str) -> Flag {
    Flag {
        names,
        takes,
        value,
        help,
    }
}

const TYPES: &[&str] = &[
    "bool", "f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64",
];
const HINTS: &[&str] = &[
    "throughput",
    "tput",
    "cumulative_throughput",
    "ctput",
    "latency",
    "none",
];

/// Groups of flags, in the order of the help.
pub const FLAGS: &[(&str, &[Flag])] = &[
    (
        "Options",
        &[
            flag(&["h", "help"], Takes::Nothing, "", "Show this help and exit."),
            flag(
                &["m", "path_to_model"],
                Takes::Text,
                "FILE.xml",
                "Required. The model: OpenVINO IR, with its .bin beside it.",
            ),
            flag(
                &["i", "paths_to_input"],
                Takes::Texts,
                "PATH..",
                "Folders or files with inputs: images (bmp, jpg, png, pnm), .npy, .bin. For several inputs: `name1:file1,file2 name2:file3`. Without it inputs are random.",
            ),
            flag(
                &["d", "target_device"],
                Takes::Text,
                "DEVICE",
                "CPU (default) or REF; AUTO, MULTI:CPU, HETERO:GPU,CPU, BATCH:CPU(4) fall back to what is there.",
            ),
            flag(
                &["hint", "perf_hint"],
                Takes::Word(HINTS),
                "HINT",
                "latency: one request at a time. throughput (tput), cumulative_throughput (ctput): one stream per CPU. none: -nstreams and -nthreads say it.",
            ),
            flag(
                &["niter", "number_iterations"],
                Takes::Count,
                "N",
                "Number of iterations; rounded up to a multiple of the requests with -api async. 0 compiles only.",
            ),
            flag(
                &["max_irate", "maximum_inference_rate"],
                Takes::Real,
                "FPS",
                "Most frames per second; 0 (default): as many as there are.",
            ),
            flag(
                &["t", "time"],
                Takes::Positive,
                "SECONDS",
                "How long to measure; 60 without -niter.",
            ),
            flag(
                &["api", "api_type"],
                Takes::Word(&["sync", "async"]),
                "API",
                "sync: one request in this thread (default with -hint latency). async: requests on streams.",
            ),
            flag(
                &["json_stats"],
                Takes::YesNo,
                "",
                "Write reports as JSON rather than CSV.",
            ),
        ],
    ),
    (
        "Input shapes",
        &[
            flag(
                &["b", "batch_size"],
                Takes::Positive,
                "N",
                "Batch of all inputs that have one.",
            ),
            flag(
                &["shape"],
                Takes::Text,
                "SHAPES",
                "Shapes of inputs: `[1,3,224,224]`, or `name[1,3,224,224],other[1,4]`. `?` or `-1` leaves an axis open for -data_shape.",
            ),
            flag(
                &["data_shape"],
                Takes::Text,
                "SHAPES",
                "Shapes to run, for models with open axes: `name[1,3,224,224][1,3,448,448]`. Each is compiled once.",
            ),
            flag(
                &["layout"],
                Takes::Text,
                "LAYOUTS",
                "Layouts of inputs: `[NCHW]`, or `name[NCHW],other[NC]`.",
            ),
        ],
    ),
    (
        "Preprocessing",
        &[
            flag(
                &["ip", "input_precision"],
                Takes::Word(TYPES),
                "TYPE",
                "Element type of all inputs; u8 for images if nothing is said.",
            ),
            flag(
                &["op", "output_precision"],
                Takes::Word(TYPES),
                "TYPE",
                "Element type of all outputs.",
            ),
            flag(
                &["iop", "input_output_precision"],
                Takes::Text,
                "MAP",
                "Element types by name: `input:f16, output:f16`.",
            ),
            flag(
                &["mean_values"],
                Takes::Text,
                "VALUES",
                "Subtracted from each channel of images: `[123,117,104]`, or `name[..]`.",
            ),
            flag(
                &["scale_values"],
                Takes::Text,
                "VALUES",
                "Divides each channel of images, after the mean.",
            ),
        ],
    ),
    (
        "Device",
        &[
            flag(
                &["nireq", "number_infer_requests"],
                Takes::Positive,
                "N",
                "Number of requests in flight; by default as many as streams.",
            ),
            flag(
                &["nstreams", "number_streams"],
                Takes::Text,
                "N",
                "Number of streams, each a thread that runs one request at a time: `4` or `CPU:4`.",
            ),
            flag(
                &["nthreads", "number_threads"],
                Takes::Positive,
                "N",
                "Most threads: of all streams together, each request shared by the threads of its stream.",
            ),
            flag(
                &["pin", "infer_threads_pinning"],
                Takes::Word(&["YES", "NO"]),
                "YES|NO",
                "Pin each stream to a CPU.",
            ),
            flag(
                &["infer_precision"],
                Takes::Text,
                "TYPE",
                "f32: run a quantized model in plain f32, FakeQuantize included, as a device without INT8 would. Also `CPU:f32`.",
            ),
            flag(
                &["inference_only"],
                Takes::YesNo,
                "",
                "false: take the next input for each iteration, rather than one per request.",
            ),
            flag(&["no_warmup"], Takes::Nothing, "", "Skip the first inference."),
            flag(
                &["no_lpt"],
                Takes::Nothing,
                "",
                "Leave out low precision transformations (not of OpenVINO; same as -infer_precision f32).",
            ),
            flag(
                &["numerics"],
                Takes::Word(&["literal", "openvino"]),
                "MODE",
                "Where values are rounded (not of OpenVINO): wherever the model says, or as OpenVINO does.",
            ),
            flag(
                &["cdir", "cache_dir"],
                Takes::Text,
                "DIR",
                "Not honoured: there is no cache of compiled models.",
            ),
            flag(
                &["extensions"],
                Takes::Text,
                "FILES",
                "Not honoured: OpenVINO's extensions cannot be loaded.",
            ),
            flag(
                &["c", "path_to_cldnn_config"],
                Takes::Text,
                "FILE",
                "Not honoured: there is no GPU plugin.",
            ),
            flag(
                &["lfile", "load_from_file"],
                Takes::Nothing,
                "",
                "Not honoured: the model is read as usual.",
            ),
        ],
    ),
    (
        "Statistics",
        &[
            flag(
                &["latency_percentile"],
                Takes::Positive,
                "1..100",
                "Percentile that is told beside average, minimum and maximum; 50 is the median.",
            ),
            flag(
                &["report_type"],
                Takes::Word(&["no_counters", "average_counters", "detailed_counters"]),
                "TYPE",
                "Write reports: the run alone, with mean times of layers, or with those of each request.",
            ),
            flag(
                &["report_folder"],
                Takes::Text,
                "DIR",
                "Folder of the reports; made if it is not there.",
            ),
            flag(
                &["pc", "perf_counts"],
                Takes::YesNo,
                "",
                "Print the times of layers.",
            ),
            flag(
                &["pcsort", "perf_counts_sort"],
                Takes::Word(&["sort", "no_sort", "simple_sort"]),
                "ORDER",
                "Print the times of layers with their share: the slowest first, in order, or only what ran.",
            ),
            flag(
                &["pcseq"],
                Takes::YesNo,
                "",
                "Tell latencies for each shape of -data_shape.",
            ),
            flag(
                &["exec_graph_path"],
                Takes::Text,
                "FILE.xml",
                "Write the graph that runs, with kernels and times.",
            ),
            flag(
                &["dump_config"],
                Takes::Text,
                "FILE.json",
                "Write the settings of the device.",
            ),
            flag(
                &["load_config"],
                Takes::Text,
                "FILE.json",
                "Read settings of devices; flags come before them.",
            ),
            flag(
                &["status_style"],
                Takes::Word(&["cpp", "python"]),
                "STYLE",
                "Write EXECUTED as OpenVINO's C++ tool does (default), or Status.EXECUTED as its Python tool.",
            ),
        ],
    ),
];
