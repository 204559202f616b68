//! What the device is to do: from flags and from a file of settings, and back into such a file.

use std::path::Path;

use flow_inference::DeviceRequest;
use flow_lpt::Numerics;
use serde_json::{Map, Value};

use super::console::Console;
use super::flags::Given;
use crate::failure::Failure;

/// How requests and streams are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// One request at a time.
    Latency,
    /// One stream per CPU.
    Throughput,
    /// One stream per CPU; there are no further devices to add up.
    CumulativeThroughput,
    /// As the numbers say.
    None,
}

impl Hint {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "latency" => Self::Latency,
            "throughput" | "tput" => Self::Throughput,
            "cumulative_throughput" | "ctput" => Self::CumulativeThroughput,
            "none" | "undefined" | "" => Self::None,
            _ => return None,
        })
    }

    /// As OpenVINO's property spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "LATENCY",
            Self::Throughput => "THROUGHPUT",
            Self::CumulativeThroughput => "CUMULATIVE_THROUGHPUT",
            Self::None => "UNDEFINED",
        }
    }
}

/// Which precision the layers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Quantized layers in INT8, the others in f32.
    Integer,
    /// All in f32, FakeQuantize included.
    Float,
}

/// The settings of the device.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the device string asks for.
    pub device: DeviceRequest,
    /// Streams and requests.
    pub hint: Hint,
    /// Requests in flight.
    pub requests: Option<usize>,
    /// Streams.
    pub streams: Option<usize>,
    /// Most threads.
    pub threads: Option<usize>,
    /// Whether streams are pinned.
    pub pin: bool,
    /// Whether layers are timed.
    pub profile: bool,
    /// INT8 or f32.
    pub precision: Precision,
    /// Where values are rounded.
    pub numerics: Numerics,
    /// What goes into a file of settings: properties by OpenVINO's names.
    properties: Map<String, Value>,
}

/// CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    flow::pins::allowed_cpus()
        .unwrap_or_else(|| (0..std::thread::available_parallelism().map_or(1, usize::from)).collect())
}

impl Settings {
    /// The settings that flags and the file of `-load_config` make.
    ///
    /// # Errors
    /// Where a value makes no sense, or the file cannot be read.
    pub fn new(given: &Given, device: DeviceRequest, console: &Console) -> Result<Self, Failure> {
        let properties = match given.text("load_config") {
            Some(file) => load(Path::new(file), &device)?,
            None => Map::new(),
        };
        let mut settings = Self {
            requests: device.requests,
            device,
            hint: Hint::None,
            streams: None,
            threads: None,
            pin: false,
            profile: false,
            precision: Precision::Integer,
            numerics: Numerics::Literal,
            properties: Map::new(),
        };
        let mut hint = None;
        for (key, value) in &properties {
            settings.property(key, value, &mut hint, console)?;
        }
        settings.flags(given, hint, console)?;
        Ok(settings)
    }

    /// Takes one property of the file.
    fn property(
        &mut self,
        key: &str,
        value: &Value,
        hint: &mut Option<Hint>,
        console: &Console,
    ) -> Result<(), Failure> {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fault = |expected: &str| {
            Failure::usage(format!(
                "-load_config: {key}: expected {expected}, found `{text}`"
            ))
        };
        let switch = || match text.to_ascii_uppercase().as_str() {
            "YES" | "TRUE" => Ok(true),
            "NO" | "FALSE" => Ok(false),
            _ => Err(fault("YES or NO")),
        };
        let number = || text.parse::<usize>().map_err(|_| fault("a whole number"));
        let positive = |n: usize| (n > 0).then_some(n);
        match key {
            "PERFORMANCE_HINT" => {
                *hint = Some(
                    Hint::parse(&text)
                        .ok_or_else(|| fault("LATENCY, THROUGHPUT or CUMULATIVE_THROUGHPUT"))?,
                );
            }
            "PERFORMANCE_HINT_NUM_REQUESTS" => self.requests = positive(number()?).or(self.requests),
            "NUM_STREAMS" | "CPU_THROUGHPUT_STREAMS" => {
                self.streams = streams(&text).map_err(|e| fault(&e))?
            }
            "INFERENCE_NUM_THREADS" => self.threads = positive(number()?),
            "PERF_COUNT" => self.profile = switch()?,
            "ENABLE_CPU_PINNING" => self.pin = switch()?,
            "INFERENCE_PRECISION_HINT" => self.precision(&text, key, console)?,
            "LP_TRANSFORMS_MODE" => {
                self.precision = if switch()? {
                    Precision::Integer
                } else {
                    Precision::Float
                };
            }
            _ => {
                console.warning(&format!(
                    "-load_config: {key} is not honoured: it has no meaning here"
                ));
                return Ok(());
            }
        }
        self.properties.insert(key.to_owned(), Value::String(text));
        Ok(())
    }

    fn precision(&mut self, text: &str, place: &str, console: &Console) -> Result<(), Failure> {
        match text.to_ascii_lowercase().as_str() {
            "f32" => {
                console.warning(&format!(
                    "{place} f32: all layers run in f32, those of a quantized model too. Leave it out for INT8; float layers are f32 anyway."
                ));
                self.precision = Precision::Float;
            }
            "i8" | "u8" | "int8" | "undefined" | "dynamic" => self.precision = Precision::Integer,
            other @ ("bf16" | "f16") => console.warning(&format!(
                "{place} {other} is not honoured: float layers run in f32, quantized ones in INT8"
            )),
            other => {
                return Err(Failure::usage(format!(
                    "{place}: expected f32 or i8, found `{other}`"
                )));
            }
        }
        Ok(())
    }

    fn flags(&mut self, given: &Given, loaded: Option<Hint>, console: &Console) -> Result<(), Failure> {
        let device = self.device.device.name();
        let tuned = ["nstreams", "nthreads", "pin"].into_iter().find(|f| given.has(f));
        self.hint = match (given.text("hint").and_then(Hint::parse), loaded) {
            (Some(hint), _) => hint,
            (None, Some(hint)) => hint,
            (None, None) if tuned.is_some() => Hint::None,
            (None, None) => {
                let hint = if given.text("api") == Some("sync") {
                    Hint::Latency
                } else {
                    Hint::Throughput
                };
                console.warning(&format!(
                    "Performance hint was not explicitly specified in command line or config file. Device({device}) performance hint will be set to PerformanceMode.{}.",
                    hint.name()
                ));
                hint
            }
        };
        if let (Some(flag), true) = (tuned, given.has("hint") && self.hint != Hint::None) {
            return Err(Failure::usage(format!(
                "-{flag} is a fine tune option: to use it set -hint none, for a hint chooses by itself"
            )));
        }
        if let Some(text) = given.text("nstreams") {
            let value = per_device("nstreams", text, &self.device)?;
            self.streams = streams(&value)
                .map_err(|e| Failure::usage(format!("-nstreams: expected {e}, found `{value}`")))?;
            self.properties.insert("NUM_STREAMS".into(), Value::String(value));
        }
        if let Some(n) = given.number("nthreads") {
            self.threads = Some(n);
            self.properties
                .insert("INFERENCE_NUM_THREADS".into(), Value::String(n.to_string()));
        }
        if let Some(word) = given.text("pin") {
            self.pin = word == "YES";
            self.properties
                .insert("ENABLE_CPU_PINNING".into(), Value::String(word.to_owned()));
        }
        if let Some(n) = given.number("nireq") {
            self.requests = Some(n);
            self.properties.insert(
                "PERFORMANCE_HINT_NUM_REQUESTS".into(),
                Value::String(n.to_string()),
            );
        }
        if let Some(text) = given.text("infer_precision") {
            let value = per_device("infer_precision", text, &self.device)?;
            self.precision(&value, "-infer_precision", console)?;
            self.properties
                .insert("INFERENCE_PRECISION_HINT".into(), Value::String(value));
        }
        if given.has("no_lpt") {
            self.precision = Precision::Float;
            self.properties
                .insert("LP_TRANSFORMS_MODE".into(), Value::String("NO".into()));
        }
        if given.text("numerics") == Some("openvino") {
            self.numerics = Numerics::OpenVino;
        }
        self.counters(given, device, console);
        if self.hint != Hint::None {
            self.properties
                .insert("PERFORMANCE_HINT".into(), Value::String(self.hint.name().into()));
        }
        let profile = if self.profile { "YES" } else { "NO" };
        self.properties
            .insert("PERF_COUNT".into(), Value::String(profile.into()));
        for (flag, why) in [
            (
                "cdir",
                "compiled models are not cached; a model compiles in well under a second",
            ),
            ("extensions", "OpenVINO's extensions cannot be loaded"),
            ("c", "there is no GPU plugin"),
            ("lfile", "the model is read as usual"),
        ] {
            if given.has(flag) {
                console.warning(&format!("-{flag} is not honoured: {why}"));
            }
        }
        Ok(())
    }

    /// Whether layers are timed, and why.
    fn counters(&mut self, given: &Given, device: &str, console: &Console) {
        let report = given.text("report_type").unwrap_or_default();
        let because = if given.has("pc") {
            self.profile = given.yes("pc");
            return;
        } else if self.profile {
            console.warning(&format!(
                "Performance counters for {device} device is turned on. To print results use -pc option."
            ));
            return;
        } else if matches!(report, "average_counters" | "detailed_counters") {
            format!("since report type is {report}")
        } else if given.has("exec_graph_path") {
            "due to execution graph dumping".to_owned()
        } else if let Some(order) = given.text("pcsort") {
            format!("since pcsort value is {order}")
        } else {
            return;
        };
        console.warning(&format!(
            "Turn on performance counters for {device} device {because}."
        ));
        self.profile = true;
    }

    /// Threads that share the requests of a stream: with the latency hint, or with more threads than streams, all that
    /// there are.
    pub fn threads_per_stream(&self) -> usize {
        let all = match (self.threads, self.hint) {
            (Some(threads), _) => threads,
            (None, Hint::Latency) => cpus().len(),
            (None, _) => 1,
        };
        (all / self.stream_count()).max(1)
    }

    /// Streams: as many as asked for, or as the hint wants.
    pub fn stream_count(&self) -> usize {
        let wanted = self.streams.unwrap_or(match self.hint {
            Hint::Throughput | Hint::CumulativeThroughput => cpus().len(),
            Hint::Latency | Hint::None => 1,
        });
        wanted.min(self.threads.unwrap_or(usize::MAX)).max(1)
    }

    /// Writes the settings as a file that `-load_config` reads.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn dump(&self, path: &Path) -> Result<(), Failure> {
        let name = self.device.through.unwrap_or(self.device.device.name());
        let mut file = Map::new();
        file.insert(name.to_owned(), Value::Object(self.properties.clone()));
        let text = serde_json::to_string_pretty(&file).map_err(Failure::failed)?;
        std::fs::write(path, text + "\n").map_err(|e| Failure::file("write", path, e))
    }
}

/// `4`, `AUTO` or `-1`; `None` leaves it to the hint.
fn streams(text: &str) -> Result<Option<usize>, String> {
    match text.to_ascii_uppercase().as_str() {
        "AUTO" | "-1" | "CPU_THROUGHPUT_AUTO" => Ok(Some(cpus().len())),
        _ => match text.parse::<usize>() {
            Ok(n) if (1..=1024).contains(&n) => Ok(Some(n)),
            _ => Err("1 to 1024, or AUTO".into()),
        },
    }
}

/// The value for the device that runs, of `CPU:4,GPU:2` or `4`.
fn per_device(flag: &str, text: &str, device: &DeviceRequest) -> Result<String, Failure> {
    let mut found = None;
    let listed = device.text.to_ascii_uppercase();
    for part in text.split(',') {
        let Some((name, value)) = part.split_once(':') else {
            found = found.or_else(|| Some(part.trim().to_owned()));
            continue;
        };
        let upper = name.trim().to_ascii_uppercase();
        if upper == device.device.name() || Some(upper.as_str()) == device.through {
            found = Some(value.trim().to_owned());
        } else if !listed.contains(&upper) {
            return Err(Failure::usage(format!(
                "-{flag} `{text}`: {name} is not among the devices of -d {}",
                device.text
            )));
        }
    }
    found.ok_or_else(|| {
        Failure::usage(format!(
            "-{flag} `{text}` says nothing about {}, which runs the network",
            device.device
        ))
    })
}

/// Properties of the device from a file of settings.
fn load(path: &Path, device: &DeviceRequest) -> Result<Map<String, Value>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file("read", path, e))?;
    let file: Value = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::usage(format!(
            "-load_config {}:{}:{}: it is not JSON: {e}",
            path.display(),
            e.line(),
            e.column()
        ))
    })?;
    let shape = || {
        Failure::usage(format!(
            "-load_config {}: expected an object of devices, as in {{\"CPU\": {{\"NUM_STREAMS\": \"3\"}}}}",
            path.display()
        ))
    };
    let devices = file.as_object().ok_or_else(shape)?;
    let names = [
        Some(device.text.as_str()),
        device.through,
        Some(device.device.name()),
    ];
    let mut properties = Map::new();
    if let Some(entry) = names.into_iter().flatten().find_map(|n| devices.get(n)) {
        properties = entry.as_object().ok_or_else(shape)?.clone();
    }
    // Settings of the device behind a virtual one: `{CPU:{NUM_STREAMS:3,..},GPU:{..}}`.
    if let Some(nested) = properties.remove("DEVICE_PROPERTIES") {
        let text = nested.as_str().map_or_else(|| nested.to_string(), str::to_owned);
        for (key, value) in nested_properties(&text, device.device.name()) {
            properties.insert(key, Value::String(value));
        }
    }
    Ok(properties)
}

/// The properties of one device in `{CPU:{A:1,B:2},GPU:{A:3}}`.
fn nested_properties(text: &str, device: &str) -> Vec<(String, String)> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
    let Some((_, rest)) = bare.split_once(&format!("{device}:{{")) else {
        return Vec::new();
    };
    let inner = rest.split('}').next().unwrap_or_default();
    inner
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark_app::flags;

    fn settings(line: &str, device: &str) -> Result<Settings, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let given = flags::parse(&arguments).unwrap();
        let console = Console::silent();
        Settings::new(&given, device.parse().unwrap(), &console).map_err(|f| match f {
            Failure::Other { message, .. } => message,
            Failure::Pipeline(_) => unreachable!(),
        })
    }

    #[test]
    fn hints_choose_streams_and_numbers_override_them() {
        let all = cpus().len();
        assert_eq!(settings("-hint latency", "CPU").unwrap().stream_count(), 1);
        assert_eq!(settings("-hint tput", "CPU").unwrap().stream_count(), all);
        assert_eq!(settings("-api sync", "CPU").unwrap().hint, Hint::Latency);
        assert_eq!(
            settings("-hint none -nstreams 3", "CPU").unwrap().stream_count(),
            3
        );
        assert_eq!(settings("-nstreams CPU:3", "CPU").unwrap().stream_count(), 3);
        assert_eq!(
            settings("-nstreams 4 -nthreads 2", "CPU").unwrap().stream_count(),
            2
        );
        assert_eq!(settings("", "MULTI:CPU(5)").unwrap().requests, Some(5));
        let error = settings("-hint latency -nstreams 3", "CPU").unwrap_err();
        assert!(error.contains("-hint none"), "{error}");
        let error = settings("-nstreams GPU:3", "CPU").unwrap_err();
        assert!(error.contains("GPU is not among"), "{error}");
        assert!(
            settings("-nstreams many", "CPU")
                .unwrap_err()
                .contains("1 to 1024")
        );
    }

    #[test]
    fn precisions_are_those_there_are() {
        let precision = |line| settings(line, "CPU").unwrap().precision;
        assert_eq!(precision(""), Precision::Integer);
        assert_eq!(precision("-infer_precision CPU:f32"), Precision::Float);
        assert_eq!(precision("-no_lpt"), Precision::Float);
        assert_eq!(precision("-infer_precision bf16"), Precision::Integer);
        assert!(
            settings("-infer_precision f99", "CPU")
                .unwrap_err()
                .contains("f99")
        );
    }

    #[test]
    fn settings_go_into_a_file_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let first = settings("-nstreams 3 -nireq 6 -pin YES -infer_precision f32 -pc", "CPU").unwrap();
        first.dump(&file).unwrap();
        let again = settings(&format!("-load_config {}", file.display()), "CPU").unwrap();
        assert_eq!(
            (again.streams, again.requests, again.pin),
            (Some(3), Some(6), true)
        );
        assert_eq!((again.profile, again.precision), (true, Precision::Float));
        let flags_first = settings(&format!("-load_config {} -nstreams 2", file.display()), "CPU").unwrap();
        assert_eq!(flags_first.streams, Some(2));

        let auto = r#"{"AUTO": {"PERFORMANCE_HINT": "LATENCY", "DEVICE_PROPERTIES": "{CPU:{NUM_STREAMS:7},GPU:{NUM_STREAMS:5}}"}}"#;
        std::fs::write(&file, auto).unwrap();
        let auto = settings(&format!("-load_config {}", file.display()), "AUTO:GPU,CPU").unwrap();
        assert_eq!((auto.hint, auto.streams), (Hint::Latency, Some(7)));
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        for (text, words) in [
            ("{", "not JSON"),
            ("[]", "NUM_STREAMS"),
            (r#"{"CPU": 3}"#, "NUM_STREAMS"),
            (r#"{"CPU": {"NUM_STREAMS": "x"}}"#, "1 to 1024"),
            (r#"{"CPU": {"PERF_COUNT": "maybe"}}"#, "YES or NO"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = settings(&format!("-load_config {}", file.display()), "CPU").unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
