//! Pins of a whole run, as the kernel has them.

use flow::config::plan::PinSpec;
use flow::packet::Packet;
use flow::runtime::{Outcome, RunReport};
use flow::stage::{Emitter, Stage, WorkerContext};

use super::harness::Build;

/// CPUs that this thread may use, as `/proc` lists them: `0-3,8`.
fn allowed() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    };
    list.trim().split(',').flat_map(range).collect()
}

/// Looks, for each packet, at where it runs.
struct Looks(Vec<usize>);

impl Stage for Looks {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), flow::error::StageError> {
        self.0.clone_from(&cx.cpus);
        Ok(())
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), flow::error::StageError> {
        assert_eq!(allowed(), self.0);
        out.emit(packet);
        Ok(())
    }
}

fn pinned(cores: Vec<usize>, strict: bool) -> Result<RunReport, flow::runtime::RunError> {
    let mut build = Build::new();
    build.runtime().strict_pins = strict;
    build.source("cam", 20);
    build.stage("stage", &["cam"], |_| Looks(Vec::new())).pin = Some(PinSpec {
        cores: Some(cores),
        ..PinSpec::default()
    });
    build.sink("out", &["stage"]);
    flow::runtime::run(build.prepared(), &flow::runtime::RunOptions::default())
}

#[test]
fn a_worker_runs_where_it_is_pinned_and_the_report_says_so() {
    let last = *allowed().last().unwrap();
    let report = pinned(vec![last], true).unwrap();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    assert_eq!(report.ledger.out, 20);
    let pins: Vec<_> = report
        .pins
        .iter()
        .map(|pin| (pin.worker.as_str(), &*pin.got, pin.ok))
        .collect();
    assert_eq!(pins, [("stage#0", &[last][..], true)]);
}

#[test]
fn a_pin_that_cannot_be_had_keeps_the_run_from_starting() {
    for strict in [true, false] {
        let error = pinned(vec![900], strict).unwrap_err();
        assert_eq!(error.code().0, "E0332", "{error}");
    }
}
