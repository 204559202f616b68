//! The ledger: what became of every source packet.
//!
//! Every packet a source gives is entered once, and each of its ways through the pipeline is a `Claim` that
//! must be settled: acknowledged by a required sink, or lost for a named reason. When the last claim of a packet
//! is settled, the packet is booked under the worst outcome of them all. So at exit
//!
//! ```text
//! in = out + dropped{reason} + dead_lettered
//! ```
//!
//! holds unless some code let a packet vanish: a claim that is let go unsettled books its packet as
//! unaccounted for, and the run ends as a ledger mismatch. Ways that lead to optional sinks only carry no claim.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use serde::Serialize;

use crate::error::Code;
use crate::packet::StreamId;

/// Why a packet was dropped; its [`Display`](fmt::Display) form is the key in summaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A lossy queue was full: `overflow`.
    Overflow,
    /// A stage settled the packet as dropped, with its own word.
    Stage(&'static str),
    /// The packet failed: `error:E0501`.
    Error(Code),
    /// The run was cut short while the packet was under way: `aborted`.
    Aborted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow => f.write_str("overflow"),
            Self::Stage(reason) => f.write_str(reason),
            Self::Error(code) => write!(f, "error:{code}"),
            Self::Aborted => f.write_str("aborted"),
        }
    }
}

/// Why a packet was dropped whose partners of a join did not come. Any other reason of the same packet says more.
pub(crate) const UNPAIRED: &str = "unpaired";

/// How a claim was lost, from mild to bad: the worst one of a packet wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    Dropped(Reason),
    DeadLettered,
    Unaccounted,
}

impl Loss {
    fn severity(self) -> u8 {
        match self {
            Self::Dropped(Reason::Stage(UNPAIRED)) => 0,
            Self::Dropped(Reason::Overflow) => 1,
            Self::Dropped(Reason::Stage(_)) => 2,
            Self::Dropped(Reason::Aborted) => 3,
            Self::Dropped(Reason::Error(_)) => 4,
            Self::DeadLettered => 5,
            Self::Unaccounted => 6,
        }
    }
}

/// The account of one stream.
pub(crate) struct Account {
    pub(crate) stream: StreamId,
    entered: CachePadded<AtomicU64>,
    out: CachePadded<AtomicU64>,
    losses: Mutex<Losses>,
    aborted: Arc<AtomicBool>,
    /// Tickets that are not in use, so that a packet costs no allocation.
    free: ArrayQueue<Arc<Ticket>>,
    /// Tickets are not kept any more.
    closed: AtomicBool,
}

/// Tickets that an account keeps; further packets under way at one time cost an allocation each.
const KEPT: usize = 1024;

#[derive(Default)]
struct Losses {
    dropped: BTreeMap<Reason, u64>,
    dead_lettered: u64,
    unaccounted: u64,
}

impl Account {
    /// `aborted` is set once the run is cut short: claims let go from then on count as aborted.
    pub(crate) fn new(stream: StreamId, aborted: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            entered: CachePadded::default(),
            out: CachePadded::default(),
            losses: Mutex::default(),
            aborted,
            free: ArrayQueue::new(KEPT),
            closed: AtomicBool::new(false),
        })
    }

    /// The run is over: lets go of the tickets that are kept, each of which holds the account.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        while self.free.pop().is_some() {}
    }

    /// Enters one source packet. Only the thread of the source does so.
    pub(crate) fn enter(self: &Arc<Self>) -> Claim {
        let entered = self.entered.load(Ordering::Relaxed);
        self.entered.store(entered + 1, Ordering::Release);
        let ticket = self.free.pop().unwrap_or_else(|| {
            Arc::new(Ticket {
                account: self.clone(),
                claims: AtomicUsize::new(1),
                lost: AtomicBool::new(false),
                worst: Mutex::new(None),
            })
        });
        Claim(Some(ticket))
    }

    /// Packets entered, and packets booked so far.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let out = self.out.load(Ordering::Acquire);
        let lost = {
            let losses = lock(&self.losses);
            losses.dropped.values().sum::<u64>() + losses.dead_lettered + losses.unaccounted
        };
        (self.entered.load(Ordering::Acquire), out + lost)
    }

    fn book(&self, worst: Option<Loss>) {
        let Some(worst) = worst else {
            self.out.fetch_add(1, Ordering::AcqRel);
            return;
        };
        let mut losses = lock(&self.losses);
        match worst {
            Loss::Dropped(reason) => *losses.dropped.entry(reason).or_default() += 1,
            Loss::DeadLettered => losses.dead_lettered += 1,
            Loss::Unaccounted => losses.unaccounted += 1,
        }
    }

    /// The account as it stands. With `cut_short`, packets still under way count as aborted: whoever holds them
    /// is never coming back.
    pub(crate) fn report(&self, cut_short: bool) -> LedgerReport {
        let losses = lock(&self.losses);
        let mut dropped = losses.dropped.clone();
        let out = self.out.load(Ordering::Acquire);
        let entered = self.entered.load(Ordering::Acquire);
        let booked = out + dropped.values().sum::<u64>() + losses.dead_lettered + losses.unaccounted;
        let under_way = entered.saturating_sub(booked);
        if cut_short && under_way > 0 {
            *dropped.entry(Reason::Aborted).or_default() += under_way;
        }
        let errors = dropped
            .iter()
            .filter(|(reason, _)| matches!(reason, Reason::Error(_)))
            .map(|(_, n)| n)
            .sum();
        let mut report = LedgerReport {
            balanced: false,
            entered,
            out,
            dropped: dropped
                .iter()
                .map(|(reason, n)| (reason.to_string(), *n))
                .collect(),
            dead_lettered: losses.dead_lettered,
            errors,
        };
        report.balanced = report.settled() == report.entered;
        report
    }
}

/// One packet's entry; booked when its last claim is settled.
struct Ticket {
    account: Arc<Account>,
    /// Claims that are not settled; 1 while it is not in use.
    claims: AtomicUsize,
    /// Whether there is a `worst`.
    lost: AtomicBool,
    worst: Mutex<Option<Loss>>,
}

impl Ticket {
    fn lose(&self, loss: Loss) {
        let mut worst = lock(&self.worst);
        if worst.is_none_or(|w| w.severity() < loss.severity()) {
            *worst = Some(loss);
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// A claim is settled; the last one books the packet and gives the ticket back.
    fn settle(self: Arc<Self>) {
        let ticket = self.clone();
        ticket.settle_in(&self.account);
    }

    /// As [`settle`](Self::settle), where the account is at hand.
    fn settle_in(self: Arc<Self>, account: &Account) {
        // Whoever has the only claim is alone with the ticket.
        if self.claims.load(Ordering::Acquire) != 1 && self.claims.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let worst = if self.lost.load(Ordering::Relaxed) {
            self.lost.store(false, Ordering::Relaxed);
            lock(&self.worst).take()
        } else {
            None
        };
        self.claims.store(1, Ordering::Relaxed);
        account.book(worst);
        if !account.closed.load(Ordering::Acquire) {
            // Without room it is let go.
            let _ = account.free.push(self);
        }
    }
}

/// One way of a packet towards required sinks, to be settled exactly once.
pub(crate) struct Claim(Option<Arc<Ticket>>);

impl Claim {
    /// The claim of a copy that only optional sinks will see: it settles nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// A further claim on the same packet, for another way.
    pub(crate) fn fork(&self) -> Self {
        if let Some(ticket) = &self.0 {
            ticket.claims.fetch_add(1, Ordering::Relaxed);
        }
        Self(self.0.clone())
    }

    /// The packet was delivered on this way.
    pub(crate) fn acknowledge(mut self) {
        if let Some(ticket) = self.0.take() {
            ticket.settle();
        }
    }

    /// As [`acknowledge`](Self::acknowledge), with the account of the packet's stream at hand.
    pub(crate) fn acknowledge_in(mut self, account: &Account) {
        if let Some(ticket) = self.0.take() {
            ticket.settle_in(account);
        }
    }

    /// The packet was lost on this way.
    pub(crate) fn lose(mut self, loss: Loss) {
        if let Some(ticket) = self.0.take() {
            ticket.lose(loss);
            ticket.settle();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(ticket) = self.0.take() {
            ticket.lose(if ticket.account.aborted.load(Ordering::Acquire) {
                Loss::Dropped(Reason::Aborted)
            } else {
                Loss::Unaccounted
            });
            ticket.settle();
        }
    }
}

/// What became of the packets of a pipeline or of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// Whether every packet is accounted for.
    pub balanced: bool,
    /// Packets that sources gave, damaged ones included.
    #[serde(rename = "in")]
    pub entered: u64,
    /// Packets that reached every required sink.
    pub out: u64,
    /// Packets dropped, by [`Reason`].
    pub dropped: BTreeMap<String, u64>,
    /// Packets handed to a dead-letter file.
    pub dead_lettered: u64,
    /// The part of `dropped` whose reason is an error.
    #[serde(skip)]
    pub errors: u64,
}

impl LedgerReport {
    /// `out + dropped + dead_lettered`: what `in` must equal.
    pub fn settled(&self) -> u64 {
        self.out + self.dropped.values().sum::<u64>() + self.dead_lettered
    }

    /// Packets lost against the declaration: errors and dead letters. Drops of lossy queues and drops that a
    /// stage exists to make are declared in the pipeline and do not count; nor do aborted packets, which have an
    /// exit code of their own.
    pub fn loss(&self) -> u64 {
        self.errors + self.dead_lettered
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.entered += other.entered;
        self.out += other.out;
        self.dead_lettered += other.dead_lettered;
        self.errors += other.errors;
        for (reason, n) in &other.dropped {
            *self.dropped.entry(reason.clone()).or_default() += n;
        }
    }
}

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> (Arc<Account>, Arc<AtomicBool>) {
        let aborted = Arc::new(AtomicBool::new(false));
        (Account::new("cam".into(), aborted.clone()), aborted)
    }

    #[test]
    fn a_packet_is_out_only_after_its_last_claim_is_acknowledged() {
        let (account, _) = account();
        let claim = account.enter();
        let other = claim.fork();
        claim.acknowledge();
        assert_eq!(account.report(false).out, 0);
        assert!(!account.report(false).balanced);
        other.acknowledge();
        let report = account.report(false);
        assert_eq!((report.entered, report.out, report.balanced), (1, 1, true));
    }

    #[test]
    fn the_worst_outcome_wins_whatever_the_order() {
        let error = Loss::Dropped(Reason::Error(Code("E0501")));
        let overflow = Loss::Dropped(Reason::Overflow);
        for order in [[error, overflow], [overflow, error]] {
            let (account, _) = account();
            let claim = account.enter();
            let (a, b) = (claim.fork(), claim.fork());
            claim.acknowledge();
            a.lose(order[0]);
            b.lose(order[1]);
            let report = account.report(false);
            assert_eq!(report.dropped.get("error:E0501"), Some(&1));
            assert_eq!(report.dropped.len(), 1);
            assert!(report.balanced);
            assert_eq!(report.loss(), 1);
        }
    }

    #[test]
    fn a_claim_let_go_unbalances_the_ledger_unless_the_run_was_cut_short() {
        let (account, aborted) = account();
        drop(account.enter());
        assert!(!account.report(false).balanced);
        assert!(!account.report(true).balanced);
        aborted.store(true, Ordering::Release);
        drop(account.enter());
        assert_eq!(account.report(false).dropped.get("aborted"), Some(&1));
    }

    #[test]
    fn tickets_are_used_again_and_remember_nothing() {
        let (account, _) = account();
        for round in 0..3 {
            let claim = account.enter();
            let other = claim.fork();
            claim.lose(Loss::Dropped(Reason::Overflow));
            other.acknowledge();
            account.enter().acknowledge();
            let report = account.report(false);
            assert_eq!((report.out, report.dropped["overflow"]), (round + 1, round + 1));
        }
        assert_eq!(account.free.len(), 1);
        account.close();
        account.enter().acknowledge();
        assert_eq!(Arc::strong_count(&account), 1, "nothing holds a closed account");
    }

    #[test]
    fn packets_still_under_way_when_a_run_is_cut_short_are_aborted() {
        let (account, _) = account();
        let _held = account.enter();
        let report = account.report(true);
        assert_eq!(report.dropped.get("aborted"), Some(&1));
        assert!(report.balanced);
    }
}
