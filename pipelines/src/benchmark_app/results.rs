//! The last step: counters and results on the console and in the reports.

use flow_inference::{Device, LayerCounter};

use super::Reports;
use super::console::Console;
use super::flags::Given;
use super::inputs::InputInfo;
use super::measure::{Measured, Summary, ms};
use super::report;
use crate::failure::Failure;

/// Prints and writes the counters.
///
/// # Errors
/// Where a report cannot be written.
pub fn counters(
    given: &Given,
    requests: &[Vec<LayerCounter>],
    reports: &Reports,
    console: &Console,
) -> Result<(), Failure> {
    if requests.is_empty() {
        return Ok(());
    }
    let python = given.text("status_style") == Some("python");
    if let Some(order) = given.text("pcsort") {
        for (i, counters) in requests.iter().enumerate() {
            console.info(&format!("Performance counts sorted for {i}-th infer request"));
            print_counters(&report::sorted(counters, order), true, python, console);
        }
        if let (Some(format), Some(last)) = (&reports.format, requests.last()) {
            let path = format.sorted(&report::sorted(last, order))?;
            console.info(&format!(
                "Sorted performance counters report is stored to {}",
                path.display()
            ));
        }
    } else if given.yes("pc") {
        for (i, counters) in requests.iter().enumerate() {
            console.info(&format!("Performance counts for {i}-th infer request"));
            print_counters(counters, false, python, console);
        }
    }
    let Some(format) = &reports.format else {
        return Ok(());
    };
    match given.text("report_type") {
        Some(kind @ ("average_counters" | "detailed_counters")) => {
            let path = format.counters(kind == "detailed_counters", requests)?;
            console.info(&format!(
                "Performance counters report is stored to {}",
                path.display()
            ));
        }
        _ => console
            .info("Statistics collecting for performance counters was not requested. No reports are dumped."),
    }
    Ok(())
}

fn print_counters(counters: &[LayerCounter], shares: bool, python: bool, console: &Console) {
    let cut = |text: &str| -> String {
        if text.chars().count() < 30 {
            return text.to_owned();
        }
        text.chars().take(26).chain("...".chars()).collect()
    };
    let (real, cpu) = report::total(counters);
    for c in counters {
        let mut line = format!(
            "{:<30} {:<20} layerType: {:<20} execType: {:<26} realTime (ms): {:<10} cpuTime (ms): {:<10}",
            cut(&c.name),
            report::status(c.executed, python),
            cut(&c.layer_type),
            c.exec_type,
            report::milliseconds(c.real),
            report::milliseconds(c.cpu)
        );
        if shares {
            line.push_str(&format!(" proportion: {}", report::share(c.real, real)));
        }
        console.line(line.trim_end());
    }
    console.line(&format!(
        "Total time:     {} milliseconds",
        report::milliseconds(real)
    ));
    console.line(&format!(
        "Total CPU time: {} milliseconds\n",
        report::milliseconds(cpu)
    ));
}

/// Prints the result and writes the report of the run.
///
/// # Errors
/// Where nothing was measured, or the report cannot be written.
pub fn results(
    given: &Given,
    device: Device,
    measured: &Measured,
    infos: &[InputInfo],
    percentile: usize,
    reports: &mut Reports,
    console: &Console,
) -> Result<(), Failure> {
    let Some(summary) = Summary::of(&measured.latencies, percentile) else {
        return Err(Failure::usage("nothing was measured: give -t or -niter above 0"));
    };
    let sequence = given.yes("pcseq") && measured.groups.len() > 1;
    reports.result("total execution time (ms)", format!("{:.2}", ms(measured.total)));
    reports.result("total number of iterations", measured.iterations);
    let key = match percentile {
        50 => "latency (ms)".to_owned(),
        p => format!("latency ({p} percentile) (ms)"),
    };
    let two = |value: f64| format!("{value:.2}");
    reports.result(&key, two(summary.percentile));
    reports.result("avg latency", two(summary.average));
    reports.result("min latency", two(summary.min));
    reports.result("max latency", two(summary.max));
    let groups: Vec<(String, Summary)> = measured
        .groups
        .iter()
        .enumerate()
        .filter(|_| sequence)
        .filter_map(|(i, times)| Some((group_name(infos, i), Summary::of(times, percentile)?)))
        .collect();
    for (name, group) in &groups {
        reports.result("group", name);
        reports.result("avg latency", two(group.average));
        reports.result("min latency", two(group.min));
        reports.result("max latency", two(group.max));
    }
    reports.result("throughput", two(measured.fps()));
    reports.dump(console)?;

    console.info(&format!("Execution Devices:['{device}']"));
    console.info(&format!("Count:            {} iterations", measured.iterations));
    console.info(&format!("Duration:         {:.2} ms", ms(measured.total)));
    console.info("Latency:");
    latency(&summary, percentile, console);
    if sequence {
        console.info("Latency for each data shape group:");
        for (i, (name, group)) in groups.iter().enumerate() {
            console.info(&format!("{}.{name}", i + 1));
            latency(group, percentile, console);
        }
    }
    console.info(&format!("Throughput:   {:.2} FPS", measured.fps()));
    Ok(())
}

fn latency(summary: &Summary, percentile: usize, console: &Console) {
    let text = |value: f64| match summary.average < 1.0 {
        true => format!("{:.2} us", value * 1e3),
        false => format!("{value:.2} ms"),
    };
    match percentile {
        50 => console.info(&format!("   Median:        {}", text(summary.percentile))),
        p => console.info(&format!("   {p} percentile:     {}", text(summary.percentile))),
    }
    console.info(&format!("   Average:       {}", text(summary.average)));
    console.info(&format!("   Min:           {}", text(summary.min)));
    console.info(&format!("   Max:           {}", text(summary.max)));
}

/// ` data: [1, 3, 224, 224]` for each input.
fn group_name(infos: &[InputInfo], group: usize) -> String {
    infos
        .iter()
        .map(|input| {
            let shapes = input.shapes();
            format!(" {}: {:?}", input.name, shapes[group % shapes.len()])
        })
        .collect()
}
