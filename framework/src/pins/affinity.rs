//! The mask of a thread: read, set, and read back.

use std::fmt;

use serde::Serialize;

use crate::topology::{format_cpu_list, parse_cpu_list};

/// CPUs this process may use: the mask of its main thread, which no pin has narrowed.
pub fn allowed_cpus() -> Option<Vec<usize>> {
    read_mask("/proc/self/status")
}

/// CPUs the calling thread may run on, as the kernel says.
pub fn current_cpus() -> Option<Vec<usize>> {
    read_mask("/proc/thread-self/status")
}

fn read_mask(path: &str) -> Option<Vec<usize>> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_cpu_list(line)
}

/// Where a worker was to run, and where the kernel lets it run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinReport {
    /// The worker, `component#replica`.
    pub worker: String,
    /// CPUs asked for.
    pub asked: Vec<usize>,
    /// CPUs read back from the kernel.
    pub got: Vec<usize>,
    /// Whether they are the same.
    pub ok: bool,
}

impl fmt::Display for PinReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = format_cpu_list(&self.asked);
        if self.ok {
            write!(f, "pin {}: CPU {asked}", self.worker)
        } else {
            let got = format_cpu_list(&self.got);
            write!(f, "pin {}: asked for CPU {asked}, but runs on {got}", self.worker)
        }
    }
}

/// Pins the calling thread to `cpus` and reads back what the kernel made of it. CPUs outside the process's own mask
/// are never asked for.
pub fn pin_current_thread(worker: String, cpus: &[usize]) -> PinReport {
    let allowed = allowed_cpus();
    let may = |cpu: &usize| *cpu < MASK_BITS && allowed.as_ref().is_none_or(|allowed| allowed.contains(cpu));
    if !cpus.is_empty() && cpus.iter().all(may) {
        match cpus {
            [cpu] => {
                // The answer is read back below.
                let _ = core_affinity::set_for_current(core_affinity::CoreId { id: *cpu });
            }
            several => set_mask(several),
        }
    }
    let got = current_cpus().unwrap_or_default();
    PinReport {
        worker,
        asked: cpus.to_vec(),
        ok: got == cpus,
        got,
    }
}

/// Bits of `cpu_set_t`; core_affinity aborts the process beyond them.
const MASK_BITS: usize = libc::CPU_SETSIZE as usize;

/// core_affinity knows single CPUs only.
fn set_mask(cpus: &[usize]) {
    // SAFETY: `cpu_set_t` is an array of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        // SAFETY: the caller has checked that `cpu` is below `CPU_SETSIZE`, the number of bits in the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: 0 is the calling thread, and the kernel reads `size_of_val(&set)` bytes from a live set.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}
