//! `flowrun doctor`: what this machine is and what may hinder a pipeline on it.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use flow_cpu::kernels::Isa;
use serde::Serialize;

use super::{print, print_json};
use crate::cli::Doctor;
use crate::failure::Failure;

#[derive(Serialize)]
struct Finding {
    /// What was looked at.
    name: &'static str,
    /// What was found.
    value: String,
    /// Why it matters and what to do, where something is amiss.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

pub fn doctor(args: &Doctor) -> Result<ExitCode, Failure> {
    let findings = vec![
        processor(),
        isa(),
        allowed_cpus(),
        quota(),
        governor(),
        open_files(),
        free_memory(),
        ffmpeg(),
    ];
    if args.json {
        print_json(&findings)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = format!("flowrun {}\n", env!("CARGO_PKG_VERSION"));
    for f in &findings {
        let _ = writeln!(out, "{:<17} {}", f.name, f.value);
        if let Some(advice) = &f.advice {
            let _ = writeln!(out, "{:<17} ! {advice}", "");
        }
    }
    print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn good(name: &'static str, value: impl Into<String>) -> Finding {
    Finding {
        name,
        value: value.into(),
        advice: None,
    }
}

/// The value of `key: value` in a file of such lines.
fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|l| l.split_once(':'))
        .find(|(k, _)| k.trim() == key)?;
    Some(value.trim().to_owned())
}

fn processor() -> Finding {
    let name = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    good("processor", name)
}

fn isa() -> Finding {
    let names: Vec<_> = Isa::ALL
        .iter()
        .filter(|i| i.is_supported())
        .map(|i| i.name())
        .collect();
    let mut finding = good("instruction sets", names.join(" "));
    if !Isa::Avx512Vnni.is_supported() && !Isa::AvxVnni.is_supported() {
        finding.advice = Some("no VNNI: INT8 runs exactly, but at a fraction of the speed".into());
    }
    match Isa::cap_from_env() {
        Ok(None) => {}
        Ok(Some(cap)) => finding.advice = Some(format!("FLOW_MAX_ISA caps them at {}", cap.name())),
        Err(e) => finding.advice = Some(e.to_string()),
    }
    finding
}

fn allowed_cpus() -> Finding {
    let allowed = field("/proc/self/status", "Cpus_allowed_list").unwrap_or_else(|| "unknown".into());
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let online = online.trim();
    let mut finding = good("allowed CPUs", format!("{allowed} (online: {online})"));
    if !online.is_empty() && allowed != online {
        finding.advice = Some("this process may not use every CPU; pins can only name allowed ones".into());
    }
    finding
}

fn quota() -> Finding {
    let max = fs::read_to_string("/sys/fs/cgroup/cpu.max").unwrap_or_default();
    let mut parts = max.split_whitespace();
    match (
        parts.next().and_then(|q| q.parse::<f64>().ok()),
        parts.next().and_then(|p| p.parse::<f64>().ok()),
    ) {
        (Some(quota), Some(period)) if period > 0.0 => Finding {
            name: "CPU quota",
            value: format!("{:.2} CPUs", quota / period),
            advice: Some("the container is throttled above this; use no more workers than that".into()),
        },
        _ => good("CPU quota", "none"),
    }
}

fn governor() -> Finding {
    match fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
        Ok(governor) => {
            let governor = governor.trim();
            let slow = governor == "powersave" || governor == "conservative";
            let advice = slow
                .then(|| "clock speeds follow the load slowly; `performance` gives steadier figures".into());
            Finding {
                name: "clock governor",
                value: governor.to_owned(),
                advice,
            }
        }
        Err(_) => good("clock governor", "not shown by this system"),
    }
}

fn open_files() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .unwrap_or_default();
    let soft = line.split_whitespace().nth(3).unwrap_or("unknown");
    let low = soft.parse::<u64>().is_ok_and(|n| n < 1024);
    let advice = low.then(|| "raise it with `ulimit -n 4096` for pipelines with many files".into());
    Finding {
        name: "open files",
        value: format!("{soft} at once"),
        advice,
    }
}

fn free_memory() -> Finding {
    match field("/proc/meminfo", "MemAvailable").and_then(|v| v.split(' ').next()?.parse::<u64>().ok()) {
        Some(kib) => {
            let advice = (kib < 512 * 1024)
                .then(|| "little memory is free; large frames and models may not fit".into());
            Finding {
                name: "free memory",
                value: format!("{} MiB", kib / 1024),
                advice,
            }
        }
        None => good("free memory", "unknown"),
    }
}

fn ffmpeg() -> Finding {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|dir| dir.join("ffmpeg"))
            .find(|p| p.is_file())
    });
    match found {
        Some(path) => good("ffmpeg", path.display().to_string()),
        None => Finding {
            name: "ffmpeg",
            value: "not installed".into(),
            advice: Some("only sources of `type: ffmpeg` need it: apt-get install ffmpeg".into()),
        },
    }
}
