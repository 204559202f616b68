//! What the kernel says about this process and its threads.

/// Memory, file descriptors and threads of this process; 0 where the kernel does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Resident memory in bytes.
    pub rss: u64,
    /// Open file descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
}

/// Looks at this process.
pub fn look() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    Process {
        rss: number(&status, "VmRSS:") * 1024,
        // One of them is the folder that is being read.
        fds: fds.saturating_sub(1),
        threads: number(&status, "Threads:"),
    }
}

/// The number behind a key of `/proc/self/status`.
fn number(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Clock ticks a second in `/proc`: a constant of the kernel's interface on all architectures that this runs on.
const TICKS: f64 = 100.0;

/// CPU time of a thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Thread {
    /// Its name, as the kernel keeps it.
    pub name: String,
    /// Seconds of CPU time so far.
    pub cpu_seconds: f64,
}

/// CPU times of the threads of this process.
pub fn threads() -> Vec<Thread> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let stats = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| thread(&stat)).collect()
}

/// A line of `/proc/PID/task/TID/stat`: the name in brackets, which may hold brackets itself, then the fields from the
/// state on; user and system time are the 12th and 13th of them.
fn thread(stat: &str) -> Option<Thread> {
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut fields = tail.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(Thread {
        name: name.to_owned(),
        cpu_seconds: (user + system) / TICKS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read() {
        assert_eq!(number("Name:\tx\nVmRSS:\t  1024 kB\n", "VmRSS:"), 1024);
        assert_eq!(number("Name:\tx\n", "VmRSS:"), 0);
        let now = look();
        assert!(now.rss > 1 << 20 && now.fds >= 3 && now.threads >= 1, "{now:?}");
        assert!(!threads().is_empty());
    }

    #[test]
    fn names_of_threads_may_hold_brackets() {
        let stat = "7 (a) b(#0) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        let expected = Thread {
            name: "a) b(#0".into(),
            cpu_seconds: 3.0,
        };
        assert_eq!(thread(stat), Some(expected));
        assert_eq!(thread("7 (x"), None);
    }
}
