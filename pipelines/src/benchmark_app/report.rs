//! The report files: OpenVINO's names, sections and columns, as CSV or JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flow_inference::LayerCounter;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// How files are written.
#[derive(Debug, Clone)]
pub struct Format {
    /// Folder of the files.
    pub folder: PathBuf,
    /// JSON rather than CSV.
    pub json: bool,
    /// `Status.EXECUTED` rather than `EXECUTED`.
    pub python: bool,
}

/// The sections of `benchmark_report`.
#[derive(Debug, Clone, Default)]
pub struct Sections {
    /// The flags.
    pub command_line: Vec<(String, String)>,
    /// What they led to.
    pub configuration: Vec<(String, String)>,
    /// What was measured.
    pub results: Vec<(String, String)>,
}

/// `0.123`.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

/// `EXECUTED` or `NOT_RUN`.
pub fn status(executed: bool, python: bool) -> String {
    let word = if executed { "EXECUTED" } else { "NOT_RUN" };
    format!("{}{word}", if python { "Status." } else { "" })
}

/// The mean counters over requests.
pub fn average(requests: &[Vec<LayerCounter>]) -> Vec<LayerCounter> {
    let Some((first, rest)) = requests.split_first() else {
        return Vec::new();
    };
    let mut mean = first.clone();
    for other in rest {
        for (sum, counter) in mean.iter_mut().zip(other) {
            sum.real += counter.real;
            sum.cpu += counter.cpu;
        }
    }
    let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
    for counter in &mut mean {
        counter.real /= count;
        counter.cpu /= count;
    }
    mean
}

/// Sums of both times.
pub fn total(counters: &[LayerCounter]) -> (Duration, Duration) {
    (
        counters.iter().map(|c| c.real).sum(),
        counters.iter().map(|c| c.cpu).sum(),
    )
}

/// Share of the whole, in percent with two digits.
pub fn share(part: Duration, whole: Duration) -> String {
    let share = part.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE) * 100.0;
    format!("{share:.2}%")
}

impl Format {
    fn write(
        &self,
        name: &str,
        csv: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<PathBuf, Failure> {
        let (ending, text) = if self.json {
            let text = serde_json::to_string_pretty(&json()).map_err(Failure::failed)?;
            ("json", text + "\n")
        } else {
            ("csv", csv())
        };
        let path = self.folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, text).map_err(|e| Failure::file("write", &path, e))?;
        Ok(path)
    }

    /// Writes `benchmark_report`.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn run(&self, sections: &Sections) -> Result<PathBuf, Failure> {
        self.write(
            "benchmark_report",
            || {
                let mut text = String::new();
                for (title, rows) in [
                    ("Command line parameters", &sections.command_line),
                    ("Configuration setup", &sections.configuration),
                    ("Execution results", &sections.results),
                ] {
                    if rows.is_empty() {
                        continue;
                    }
                    let _ = writeln!(text, "{title}");
                    for (key, value) in rows {
                        let _ = writeln!(text, "{key};{value}");
                    }
                    text.push('\n');
                }
                text
            },
            || {
                let object = |rows: &[(String, String)]| {
                    let pairs = rows.iter().map(|(k, v)| (k.clone(), Value::String(v.clone())));
                    Value::Object(pairs.collect::<Map<_, _>>())
                };
                json!({
                    "cmd_options": object(&sections.command_line),
                    "configuration_setup": object(&sections.configuration),
                    "execution_results": object(&sections.results),
                })
            },
        )
    }

    /// Writes `benchmark_average_counters_report` or `benchmark_detailed_counters_report`, one block per request.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn counters(&self, detailed: bool, requests: &[Vec<LayerCounter>]) -> Result<PathBuf, Failure> {
        let name = if detailed { "detailed" } else { "average" };
        let blocks = if detailed {
            requests.to_vec()
        } else {
            vec![average(requests)]
        };
        self.write(
            &format!("benchmark_{name}_counters_report"),
            || blocks.iter().map(|b| self.block(b)).collect(),
            || {
                let mut nodes: Vec<Value> = blocks.iter().map(|b| self.nodes(b, false)).collect();
                if detailed {
                    json!({ "report_type": name, "detailed_performance": nodes })
                } else {
                    json!({ "report_type": name, "avg_performance": nodes.pop() })
                }
            },
        )
    }

    /// One table with its `Total` row and a blank line.
    fn block(&self, counters: &[LayerCounter]) -> String {
        let mut text = String::from("layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)\n");
        for c in counters {
            let _ = writeln!(
                text,
                "{};{};{};{};{};{}",
                // The separator cannot be quoted in this format.
                c.name.replace([';', '\n', '\r'], "_"),
                status(c.executed, self.python),
                c.layer_type,
                c.exec_type,
                milliseconds(c.real),
                milliseconds(c.cpu)
            );
        }
        let (real, cpu) = total(counters);
        let _ = write!(text, "Total;;;;{};{}\n\n", milliseconds(real), milliseconds(cpu));
        text
    }

    fn nodes(&self, counters: &[LayerCounter], shares: bool) -> Value {
        let (real, cpu) = total(counters);
        let nodes: Vec<Value> = counters
            .iter()
            .map(|c| {
                let mut node = json!({
                    "name": c.name,
                    "node_type": c.layer_type,
                    "status": status(c.executed, self.python),
                    "real_time": milliseconds(c.real),
                    "cpu_time": milliseconds(c.cpu),
                    "exec_type": c.exec_type,
                });
                if shares {
                    node["%"] = Value::String(share(c.real, real));
                }
                node
            })
            .collect();
        json!({
            "nodes": nodes,
            "total_real_time": milliseconds(real),
            "total_cpu_time": milliseconds(cpu),
        })
    }

    /// Writes `benchmark_sorted_report`, of counters in the order of [`sorted`].
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn sorted(&self, counters: &[LayerCounter]) -> Result<PathBuf, Failure> {
        let (real, cpu) = total(counters);
        self.write(
            "benchmark_sorted_report",
            || {
                let mut text = String::from(
                    "layerName,execStatus,layerType,execType,realTime (ms),cpuTime (ms),proportion (%)\n",
                );
                for c in counters {
                    let name = match c.name.contains([',', '"', '\n']) {
                        true => format!("\"{}\"", c.name.replace('"', "\"\"")),
                        false => c.name.clone(),
                    };
                    let _ = writeln!(
                        text,
                        "{name},{},{},{},{},{},{}",
                        status(c.executed, self.python),
                        c.layer_type,
                        c.exec_type,
                        milliseconds(c.real),
                        milliseconds(c.cpu),
                        share(c.real, real)
                    );
                }
                let _ = write!(
                    text,
                    "\nTotal time: {:.2} milliseconds\nTotal CPU time: {:.2} milliseconds\n\n\n",
                    real.as_secs_f64() * 1e3,
                    cpu.as_secs_f64() * 1e3
                );
                text
            },
            || json!({ "report_type": "sorted", "avg_performance": self.nodes(counters, true) }),
        )
    }
}

/// Counters in the order of `-pcsort`: `sort` puts the slowest first, `simple_sort` also leaves out what did not
/// run, `no_sort` keeps the order.
pub fn sorted(counters: &[LayerCounter], order: &str) -> Vec<LayerCounter> {
    let mut sorted = counters.to_vec();
    if order != "no_sort" {
        sorted.sort_by_key(|c| std::cmp::Reverse(c.real));
    }
    if order == "simple_sort" {
        sorted.retain(|c| c.executed);
    }
    sorted
}

/// The folder for reports, made if it is not there.
///
/// # Errors
/// Where it cannot be made.
pub fn folder(path: &str) -> Result<PathBuf, Failure> {
    let path = if path.is_empty() {
        Path::new(".")
    } else {
        Path::new(path)
    };
    std::fs::create_dir_all(path).map_err(|e| Failure::file("create", path, e))?;
    Ok(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(name: &str, executed: bool, micros: u64) -> LayerCounter {
        LayerCounter {
            name: name.to_owned(),
            executed,
            layer_type: "Convolution".into(),
            exec_type: if executed { "conv_avx2_I8" } else { "undef" }.into(),
            real: Duration::from_micros(micros),
            cpu: Duration::from_micros(micros / 2),
            step: executed.then_some(0),
        }
    }

    fn format(folder: &Path, json: bool) -> Format {
        Format {
            folder: folder.to_path_buf(),
            json,
            python: false,
        }
    }

    #[test]
    fn the_average_has_openvinos_header_total_and_blank_line() {
        let folder = tempfile::tempdir().unwrap();
        let requests = [
            vec![counter("a", true, 100), counter("b;c", false, 0)],
            vec![counter("a", true, 300), counter("b;c", false, 0)],
        ];
        let path = format(folder.path(), false).counters(false, &requests).unwrap();
        assert!(path.ends_with("benchmark_average_counters_report.csv"));
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)\n\
             a;EXECUTED;Convolution;conv_avx2_I8;0.200;0.100\n\
             b_c;NOT_RUN;Convolution;undef;0.000;0.000\n\
             Total;;;;0.200;0.100\n\n"
        );
    }

    #[test]
    fn details_have_a_block_per_request_and_python_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let requests = [vec![counter("a", true, 100)], vec![counter("a", true, 300)]];
        let python = Format {
            python: true,
            ..format(folder.path(), false)
        };
        let text = std::fs::read_to_string(python.counters(true, &requests).unwrap()).unwrap();
        assert_eq!(text.matches("layerName;").count(), 2);
        assert!(
            text.contains("a;Status.EXECUTED;") && text.contains("Total;;;;0.300;0.150\n\n"),
            "{text}"
        );
        let json = format(folder.path(), true).counters(true, &requests).unwrap();
        let json: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
        assert_eq!(json["detailed_performance"][1]["total_real_time"], "0.300");
        let json = format(folder.path(), true).counters(false, &requests).unwrap();
        let json: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
        assert_eq!(json["avg_performance"]["nodes"][0]["real_time"], "0.200");
    }

    #[test]
    fn sorting_puts_the_slowest_first() {
        let all = [
            counter("a", true, 100),
            counter("b", false, 0),
            counter("c", true, 300),
        ];
        let names = |order| -> Vec<String> { sorted(&all, order).into_iter().map(|c| c.name).collect() };
        assert_eq!(names("sort"), ["c", "a", "b"]);
        assert_eq!(names("no_sort"), ["a", "b", "c"]);
        assert_eq!(names("simple_sort"), ["c", "a"]);
        let folder = tempfile::tempdir().unwrap();
        let path = format(folder.path(), false)
            .sorted(&sorted(&all, "sort"))
            .unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text.contains("c,EXECUTED,Convolution,conv_avx2_I8,0.300,0.150,75.00%\n"),
            "{text}"
        );
        assert!(text.contains("Total time: 0.40 milliseconds"), "{text}");
    }

    #[test]
    fn the_run_has_its_three_sections() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |k: &str, v: &str| vec![(k.to_owned(), v.to_owned())];
        let sections = Sections {
            command_line: pair("-m", "net.xml"),
            configuration: pair("API", "sync"),
            results: pair("throughput", "12.50"),
        };
        let path = format(folder.path(), false).run(&sections).unwrap();
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "Command line parameters\n-m;net.xml\n\nConfiguration setup\nAPI;sync\n\nExecution results\nthroughput;12.50\n\n"
        );
        let path = format(folder.path(), true).run(&sections).unwrap();
        let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(json["execution_results"]["throughput"], "12.50");
    }
}
