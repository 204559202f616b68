//! The report of a soak as one page for a browser.

use std::fmt::Write as _;

use flow::soak::{Sample, SoakReport, Status};
use flow_model::text::escape;

use super::plots::{Line, Plot, draw};

const STYLE: &str = include_str!("report.css");

/// The page: verdict, checks, plots, stages and the ledger.
pub fn page(report: &SoakReport) -> String {
    let run = &report.run;
    let verdict = if report.passed { "passed" } else { "not passed" };
    let class = if report.passed { "pass" } else { "fail" };
    let name = escape(&run.pipeline);
    let mut page = format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\n\
         <title>soak of {name}: {verdict}</title>\n<style>{STYLE}</style>\n\
         <h1>Soak of {name} <span class=\"badge {class}\">{verdict}</span></h1>\n"
    );
    let faults = if report.chaos.is_empty() {
        "none".into()
    } else {
        format!("<code>{}</code>", escape(&report.chaos))
    };
    let _ = writeln!(
        page,
        "<p>{} packets in {:.0} s; load <code>{}</code>, faults {faults}, seed {}; flowrun {} on {} CPUs.</p>",
        run.ledger.entered,
        run.seconds,
        report.load,
        report.seed,
        env!("CARGO_PKG_VERSION"),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    page.push_str("<h2>Verdict</h2>\n<table class=checks>\n");
    for check in &report.checks {
        let (class, word) = match check.status {
            Status::Pass => ("pass", "pass"),
            Status::Fail => ("fail", "FAIL"),
            Status::NotJudged => ("none", "not judged"),
        };
        let _ = writeln!(
            page,
            "<tr><td><span class=\"badge {class}\">{word}</span><td>{}<td>{}",
            check.name,
            escape(&check.found)
        );
    }
    page.push_str("</table>\n<h2>Over time</h2>\n");
    plots(report, &mut page);
    if !report.faults.is_empty() {
        page.push_str("<h2>Faults injected</h2>\n<table><tr><th>fault<th>times\n");
        for (fault, times) in &report.faults {
            let _ = writeln!(page, "<tr><td>{fault}<td class=n>{times}");
        }
        page.push_str("</table>\n");
    }
    stages(report, &mut page);
    ledger(report, &mut page);
    page
}

fn plots(report: &SoakReport, page: &mut String) {
    const MIB: f64 = 1024.0 * 1024.0;
    let marks: Vec<f64> = report.fault_times.iter().map(|(at, _)| *at).collect();
    let seconds = report.samples.last().map_or(0.0, |s| s.seconds);
    let line = |name, class, of: &dyn Fn(&Sample) -> Option<f64>| Line {
        name,
        class,
        points: report
            .samples
            .iter()
            .filter_map(|s| Some((s.seconds, of(s)?)))
            .collect(),
    };
    let rate = |of: fn(&Sample) -> u64| -> Vec<(f64, f64)> {
        let pairs = report.samples.iter().zip(report.samples.iter().skip(1));
        pairs
            .filter(|(a, b)| b.seconds > a.seconds)
            .map(|(a, b)| {
                (
                    b.seconds,
                    of(b).saturating_sub(of(a)) as f64 / (b.seconds - a.seconds),
                )
            })
            .collect()
    };
    let plot = |title, unit, lines, from_zero| {
        draw(&Plot {
            title,
            unit,
            lines,
            marks: &marks,
            seconds,
            warm_up: report.warm_up,
            from_zero,
        })
    };
    page.push_str(&plot(
        "Packets",
        "a second",
        vec![
            Line {
                name: "given",
                class: "b",
                points: rate(|s| s.entered),
            },
            Line {
                name: "settled",
                class: "a",
                points: rate(|s| s.settled),
            },
        ],
        true,
    ));
    page.push_str(&plot(
        "Latency, from when a packet was due",
        "ms",
        vec![line("p99", "b", &|s| s.p99_ms), line("p50", "a", &|s| s.p50_ms)],
        true,
    ));
    page.push_str(&plot(
        "Memory: resident, and what the program holds of it",
        "MiB",
        vec![
            line("resident", "a", &|s| Some(s.rss as f64 / MIB)),
            line("held", "b", &|s| Some(s.heap? as f64 / MIB)),
        ],
        false,
    ));
    page.push_str(&plot(
        "Packets waiting in queues",
        "",
        vec![line("waiting", "a", &|s| Some(s.waiting as f64))],
        true,
    ));
    page.push_str(&plot(
        "Threads and file descriptors",
        "",
        vec![
            line("threads", "a", &|s| Some(s.threads as f64)),
            line("file descriptors", "b", &|s| Some(s.fds as f64)),
        ],
        true,
    ));
    page.push_str(&plot(
        "Faults and restarts so far",
        "",
        vec![
            line("faults", "b", &|s| Some(s.faults as f64)),
            line("restarts", "a", &|s| Some(s.restarts as f64)),
        ],
        true,
    ));
    page.push_str("<p class=note>Grey: the warm-up, which is not judged. Red ticks below a plot: faults injected.</p>\n");
}

fn stages(report: &SoakReport, page: &mut String) {
    page.push_str(
        "<h2>Stages</h2>\n<table><tr><th>stage<th>packets<th>a second<th>service ms p50 / p95 / p99\
         <th>queue wait ms p50 / p95 / p99<th>dropped<th>failed<th>restarts\n",
    );
    for (name, stage) in &report.run.stages {
        let (s, w) = (&stage.service_ms, &stage.queue_wait_ms);
        let _ = writeln!(
            page,
            "<tr><td>{}<td class=n>{}<td class=n>{:.1}<td class=n>{:.2} / {:.2} / {:.2}\
             <td class=n>{:.2} / {:.2} / {:.2}<td class=n>{}<td class=n>{}<td class=n>{}",
            escape(name),
            stage.packets,
            stage.fps,
            s.p50,
            s.p95,
            s.p99,
            w.p50,
            w.p95,
            w.p99,
            stage.dropped,
            stage.failed,
            stage.restarts
        );
    }
    page.push_str("</table>\n");
}

fn ledger(report: &SoakReport, page: &mut String) {
    page.push_str(
        "<h2>Ledger</h2>\n<table><tr><th>stream<th>in<th>out<th>dropped, by reason<th>dead-lettered\n",
    );
    let all = std::iter::once(("all", &report.run.ledger));
    let streams = report
        .run
        .streams
        .iter()
        .map(|(name, ledger)| (name.as_str(), ledger));
    for (name, ledger) in streams.chain(all) {
        let reasons = ledger
            .dropped
            .iter()
            .map(|(reason, n)| format!("{n} {}", escape(reason)));
        let _ = writeln!(
            page,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td>{}<td class=n>{}",
            escape(name),
            ledger.entered,
            ledger.out,
            reasons.collect::<Vec<_>>().join(", "),
            ledger.dead_lettered
        );
    }
    page.push_str("</table>\n");
}
