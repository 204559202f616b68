//! `flowrun tap`: what passes an edge, one JSON line for each packet.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flow::config;
use flow::observe::tap::{self, Observer};
use flow::packet::{Header, Packet};
use flow::runtime::{self, RunOptions};
use serde_json::json;

use super::run::{cannot_start, duration, forward_signals};
use crate::cli::Tap;
use crate::failure::Failure;
use crate::kinds;
use crate::pipeline;

pub fn tap(args: &Tap, quiet: bool) -> Result<ExitCode, Failure> {
    let (from, to) = args
        .edge
        .split_once("->")
        .map(|(from, to)| (from.trim(), to.trim()))
        .ok_or_else(|| {
            Failure::usage(format!(
                "`{}` names no edge; write FROM->TO, such as 'decode->detect'",
                args.edge
            ))
        })?;
    let options = RunOptions {
        duration: args.duration.as_deref().map(duration).transpose()?,
        ..RunOptions::default()
    };
    let pipeline = pipeline::checked(&args.pipeline)?;
    let mut prepared = config::prepare(&pipeline, &kinds::registry()).map_err(Failure::pipeline)?;
    let (stop, stopped) = std::sync::mpsc::sync_channel(1);
    let printer = Arc::new(Printer {
        started: Instant::now(),
        left: Mutex::new(args.count.unwrap_or(u64::MAX)),
        stop: stop.clone(),
    });
    tap::edge(&mut prepared, from, to, printer).map_err(Failure::usage)?;
    let running = runtime::start(prepared, &options).map_err(|e| cannot_start(e, &pipeline))?;
    let handle = running.handle();
    forward_signals(handle.clone())?;
    let stopper = std::thread::spawn(move || {
        let _ = stopped.recv();
        handle.stop();
    });
    let report = running.wait();
    // A run that has ended by itself is stopped in vain, and the thread ends too.
    let _ = stop.try_send(());
    let _ = stopper.join();
    if !quiet {
        eprint!("{report}");
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Prints the headers of packets.
struct Printer {
    started: Instant,
    /// Packets still to be printed.
    left: Mutex<u64>,
    stop: std::sync::mpsc::SyncSender<()>,
}

impl Printer {
    fn print(&self, line: &serde_json::Value) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *left == 0 {
            return;
        }
        *left -= 1;
        let written = writeln!(std::io::stdout(), "{line}");
        if written.is_err() {
            // Nobody reads any more, as behind `head`.
            *left = 0;
        }
        if *left == 0 {
            let _ = self.stop.try_send(());
        }
    }

    fn header(&self, header: &Header) -> serde_json::Value {
        let id = &header.id;
        json!({
            "stream": &*id.stream,
            "epoch": id.epoch,
            "seq": id.seq,
            "pts_ms": header.pts.map(|pts| pts.as_nanos() as f64 / 1e6),
            "at_ms": round(self.started.elapsed().as_secs_f64() * 1e3),
            "age_ms": round(header.captured.elapsed().as_secs_f64() * 1e3),
        })
    }
}

fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

impl Observer for Printer {
    fn packet(&self, packet: &Packet) {
        let mut line = self.header(&packet.header);
        let payload = packet.raw_payload();
        line["type"] = payload.port_type().0.into();
        line["bytes"] = payload.bytes().into();
        self.print(&line);
    }

    fn lost(&self, header: &Header, reason: &str) {
        let mut line = self.header(header);
        line["lost"] = reason.into();
        self.print(&line);
    }
}
