//! A team of threads that share the work of one layer after another.
//!
//! Work comes in parts that any member takes: one that the system keeps from running delays only the part it has
//! begun. Members wait for the next layer by spinning for a moment, then sleep.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a member spins before it sleeps: longer than a layer that is not shared, shorter than a picture.
const SPIN: Duration = Duration::from_micros(40);

/// What a part does: its number, and the number of the member that runs it.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    /// Number of the run in the upper half, parts nobody has taken in the lower half.
    state: AtomicU64,
    /// Parts of the run, and parts done.
    parts: AtomicU32,
    done: AtomicU32,
    /// Points to the job of the run, a `&Job`; valid while parts are not done.
    job: AtomicPtr<()>,
    failed: AtomicBool,
    stop: AtomicBool,
    /// Which members sleep; the first is the caller.
    asleep: Vec<AtomicBool>,
    caller: Mutex<Option<Thread>>,
}

/// The threads of a team, without the one that calls [`Team::run`].
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("members", &self.members()).finish()
    }
}

impl Team {
    /// A team of `members`, the calling thread among them; `start` is called first on each new thread, with its number.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(members: usize, start: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Self> {
        let members = members.max(1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            parts: AtomicU32::new(0),
            done: AtomicU32::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: (0..members).map(|_| AtomicBool::new(false)).collect(),
            caller: Mutex::new(None),
        });
        let mut team = Self {
            shared,
            workers: Vec::with_capacity(members - 1),
        };
        let start = Arc::new(start);
        for member in 1..members {
            let (shared, start) = (Arc::clone(&team.shared), Arc::clone(&start));
            let worker = std::thread::Builder::new()
                .name(format!("infer-team-{member}"))
                .spawn(move || {
                    start(member);
                    shared.work(member);
                })?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// Threads, the calling one among them.
    pub fn members(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(part, member)` once for each part below `parts`, and returns when all have returned; false if one
    /// panicked.
    pub fn run(&mut self, parts: usize, job: &Job<'_>) -> bool {
        let shared = &*self.shared;
        if parts <= 1 || self.workers.is_empty() {
            return (0..parts).all(|part| catch_unwind(AssertUnwindSafe(|| job(part, 0))).is_ok());
        }
        let parts = u32::try_from(parts).unwrap_or(u32::MAX);
        *shared.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        shared.parts.store(parts, Ordering::Relaxed);
        shared.done.store(0, Ordering::Relaxed);
        shared
            .job
            .store(std::ptr::from_ref(&job).cast_mut().cast(), Ordering::Relaxed);
        let run = (shared.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // From here on members take parts.
        shared.state.store(run << 32 | u64::from(parts), Ordering::SeqCst);
        for (asleep, worker) in shared.asleep[1..].iter().zip(&self.workers) {
            if asleep.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        while shared.take_part(0) {}
        shared.wait(0, || shared.done.load(Ordering::SeqCst) == parts);
        !shared.failed.swap(false, Ordering::Relaxed)
    }
}

impl Shared {
    fn work(&self, member: usize) {
        loop {
            while self.take_part(member) {}
            self.wait(member, || {
                self.stop.load(Ordering::SeqCst) || self.state.load(Ordering::SeqCst) as u32 != 0
            });
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Runs a part that nobody has taken, if there is one.
    fn take_part(&self, member: usize) -> bool {
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            if state as u32 == 0 {
                return false;
            }
            let taken =
                self.state
                    .compare_exchange_weak(state, state - 1, Ordering::SeqCst, Ordering::SeqCst);
            match taken {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        let parts = self.parts.load(Ordering::Relaxed);
        let part = parts - state as u32;
        // SAFETY: a part of this run is taken and not done, so that `Team::run` has not returned and the reference it
        // stored before the run began is alive; `Job` is `Sync`.
        let job: &Job<'_> = unsafe { *self.job.load(Ordering::Relaxed).cast::<&Job<'_>>() };
        if catch_unwind(AssertUnwindSafe(|| job(part as usize, member))).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        if self.done.fetch_add(1, Ordering::SeqCst) + 1 == parts && self.asleep[0].load(Ordering::SeqCst) {
            let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(caller) = &*caller {
                caller.unpark();
            }
        }
        true
    }

    /// Returns when `ready` says so.
    fn wait(&self, member: usize, ready: impl Fn() -> bool) {
        let begin = Instant::now();
        while begin.elapsed() < SPIN {
            for _ in 0..16 {
                if ready() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        // Whoever makes it ready looks at `asleep` after that, and this thread looks once more after setting it.
        self.asleep[member].store(true, Ordering::SeqCst);
        while !ready() {
            std::thread::park();
        }
        self.asleep[member].store(false, Ordering::SeqCst);
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its jobs.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_part_runs_once_in_each_of_many_runs() {
        for members in [1, 2, 3, 5] {
            let mut team = Team::new(members, |_| {}).unwrap();
            for run in 0..2000_usize {
                let parts = run % 9;
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                assert!(team.run(parts, &|part, member| {
                    assert!(member < members);
                    counts[part].fetch_add(1, Ordering::Relaxed);
                }));
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "run {run}");
            }
        }
    }

    #[test]
    fn a_team_that_fell_asleep_wakes_up() {
        let mut team = Team::new(2, |_| {}).unwrap();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            let sum = AtomicUsize::new(0);
            // The caller waits asleep, too.
            assert!(team.run(2, &|part, _| {
                std::thread::sleep(Duration::from_millis(part as u64));
                sum.fetch_add(part + 1, Ordering::Relaxed);
            }));
            assert_eq!(sum.into_inner(), 3);
        }
    }

    #[test]
    fn a_panic_is_told_and_the_team_goes_on() {
        let mut team = Team::new(2, |_| {}).unwrap();
        for members in [1, 2] {
            let mut team_of = Team::new(members, |_| {}).unwrap();
            assert!(!team_of.run(4, &|part, _| assert_ne!(part, 2, "meant to fail")));
            assert!(team_of.run(4, &|_, _| {}));
        }
        assert!(team.run(3, &|_, _| {}));
    }

    #[test]
    fn members_start_with_their_number() {
        let started = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&started);
        drop(Team::new(4, move |member| {
            seen.fetch_add(member, Ordering::Relaxed);
        }));
        assert_eq!(started.load(Ordering::Relaxed), 1 + 2 + 3);
    }
}
