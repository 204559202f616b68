//! `flowrun top`: a running pipeline in the terminal, as its HTTP server tells it.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::print;
use crate::cli::Top;
use crate::client;
use crate::failure::Failure;

pub fn top(args: &Top) -> Result<ExitCode, Failure> {
    let host = client::url(&args.url).ok_or_else(|| {
        Failure::usage(format!(
            "`{}` is no address; write http://127.0.0.1:9898",
            args.url
        ))
    })?;
    let live = !args.once && std::io::stdout().is_terminal();
    let mut before = look(&host)?;
    let step = Duration::from_millis(1000);
    if live {
        print("\x1b[2J")?;
    }
    loop {
        std::thread::sleep(step);
        let now = match look(&host) {
            Ok(now) => now,
            Err(_) if live => {
                print("\nthe pipeline has ended\n")?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error),
        };
        let table = table(&before, &now);
        if !live {
            print(&table)?;
            return Ok(ExitCode::SUCCESS);
        }
        // Home, the table with the rest of each line cleared, and everything below.
        print(&format!("\x1b[H{}\x1b[J", table.replace('\n', "\x1b[K\n")))?;
        before = now;
    }
}

fn look(host: &str) -> Result<Value, Failure> {
    let text = client::get(host, "/graph")?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::usage(format!("http://{host}/graph: {e}; is it flowrun?")))
}

/// The state of a pipeline, with rates since an earlier look.
fn table(before: &Value, now: &Value) -> String {
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap_or(0.0);
    let step = (number(now, "seconds") - number(before, "seconds")).max(1e-3);
    let ledger = &now["ledger"];
    let dropped: u64 = ledger["dropped"]
        .as_object()
        .map_or(0, |d| d.values().filter_map(Value::as_u64).sum());
    let state = match (
        now["failure"].is_object(),
        now["stopping"].as_bool(),
        now["ready"].as_bool(),
    ) {
        (true, ..) => "FAILED",
        (_, Some(true), _) => "stopping",
        (_, _, Some(true)) => "running",
        _ => "starting",
    };
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut out = format!(
        "{}  {state}  {:.0} s   in {}  out {}  dropped {dropped}  dead-lettered {}   {:.1} MiB  {} threads\n\n",
        text(&now["pipeline"]),
        number(now, "seconds"),
        ledger["in"],
        ledger["out"],
        ledger["dead_lettered"],
        number(&now["process"], "rss") / 1048576.0,
        now["process"]["threads"],
    );
    let none = Vec::new();
    let stages = now["stages"].as_array().unwrap_or(&none);
    let width = stages
        .iter()
        .map(|s| text(&s["name"]).chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    let _ = writeln!(
        out,
        "{:width$}  {:>9}  {:>6}  {:>8}  {:>5}  {:>17}  {:>17}  {:>7}  {:>14}",
        "stage", "packets/s", "busy", "blocked", "CPU", "service p50/p99", "wait p50/p99", "waiting", "lost"
    );
    for stage in stages {
        let name = text(&stage["name"]);
        let earlier = before["stages"]
            .as_array()
            .unwrap_or(&none)
            .iter()
            .find(|s| s["name"] == stage["name"]);
        let since = |key: &str| number(stage, key) - earlier.map_or(0.0, |earlier| number(earlier, key));
        let share = |key: &str| 100.0 * since(key) / step / number(stage, "replicas").max(1.0);
        let pair = |key: &str| {
            format!(
                "{:.2}/{:.2} ms",
                number(&stage[key], "p50"),
                number(&stage[key], "p99")
            )
        };
        let lost = number(stage, "dropped") + number(stage, "failed");
        let _ = writeln!(
            out,
            "{name:width$}  {:>9.1}  {:>4.0} %  {:>6.0} %  {:>5.2}  {:>17}  {:>17}  {:>7}  {:>14}",
            since("packets") / step,
            share("busy_seconds").clamp(0.0, 100.0),
            share("blocked_seconds").clamp(0.0, 100.0),
            since("cpu_seconds") / step,
            pair("service_ms"),
            pair("queue_wait_ms"),
            number(stage, "waiting"),
            if lost > 0.0 {
                format!("{lost}")
            } else {
                String::new()
            },
        );
    }
    let edges = now["edges"].as_array().unwrap_or(&none);
    for edge in edges.iter().filter(|edge| number(edge, "dropped") > 0.0) {
        let _ = writeln!(
            out,
            "\nqueue {}: {} dropped of {}",
            text(&edge["name"]),
            edge["dropped"],
            edge["offered"]
        );
    }
    if let Some(failure) = now["failure"].as_object() {
        let _ = writeln!(out, "\n{}", failure.get("message").map(text).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates_are_those_since_the_last_look() {
        let look = |seconds: f64, packets: u64, busy: f64| {
            json!({"pipeline": "dock", "seconds": seconds, "ready": true, "stopping": false, "failure": null,
                "ledger": {"in": packets, "out": packets, "dropped": {"overflow": 2}, "dead_lettered": 0},
                "process": {"rss": 1048576, "threads": 4},
                "stages": [{"name": "detect", "packets": packets, "busy_seconds": busy, "blocked_seconds": 0.0, "replicas": 2,
                    "cpu_seconds": busy, "service_ms": {"p50": 1.0, "p99": 2.0}, "queue_wait_ms": {"p50": 0.0, "p99": 0.0},
                    "waiting": 3, "dropped": 0, "failed": 1}],
                "edges": [{"name": "a -> b", "dropped": 2, "offered": 9}]})
        };
        let table = table(&look(10.0, 100, 5.0), &look(12.0, 150, 7.0));
        assert!(
            table.contains("dock  running  12 s   in 150  out 150  dropped 2"),
            "{table}"
        );
        assert!(table.contains("25.0    50 %"), "{table}");
        assert!(table.contains("queue a -> b: 2 dropped of 9"), "{table}");
    }
}
