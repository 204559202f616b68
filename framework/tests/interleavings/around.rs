//! Stand-ins for what surrounds the queues in the library.

pub(crate) mod config {
    pub(crate) use flow::config::plan;
}

pub(crate) mod ledger {
    use crate::sync::{Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) struct Claim;

    impl Claim {
        pub(crate) fn none() -> Self {
            Self
        }
        pub(crate) fn fork(&self) -> Self {
            Self
        }
    }
}

pub(crate) mod clock {
    use std::time::Duration;

    use crate::sync::{Receiver, never};

    pub(crate) struct Timer(Receiver<()>);

    impl Timer {
        pub(crate) fn never() -> Self {
            Self(never())
        }
        pub(crate) fn ticks(&self) -> &Receiver<()> {
            &self.0
        }
        pub(crate) fn timeout(&self) -> Duration {
            Duration::MAX
        }
    }
}

pub(crate) mod metrics {
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    pub(crate) struct EdgeMeter {
        pub(crate) offered: AtomicU64,
        pub(crate) dropped: AtomicU64,
        pub(crate) taken: AtomicU64,
    }

    impl EdgeMeter {
        pub(crate) fn offered(&self) {
            self.offered.fetch_add(1, Ordering::Relaxed);
        }
        pub(crate) fn dropped(&self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        pub(crate) fn taken(&self) {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(crate) mod packet {
    #[derive(Clone)]
    pub(crate) struct Packet {
        pub(crate) header: Header,
        pub(crate) payload: Payload,
    }

    #[derive(Clone)]
    pub(crate) struct Header {
        pub(crate) id: Id,
    }

    #[derive(Clone)]
    pub(crate) struct Id {
        pub(crate) epoch: u32,
        pub(crate) seq: u64,
    }

    #[derive(Clone)]
    pub(crate) struct Payload(pub(crate) usize);

    impl Packet {
        pub(crate) fn new(seq: u64, bytes: usize) -> Self {
            Self {
                header: Header {
                    id: Id { epoch: 0, seq },
                },
                payload: Payload(bytes),
            }
        }
        pub(crate) fn raw_payload(&self) -> &Payload {
            &self.payload
        }
    }

    impl Payload {
        pub(crate) fn shape_key(&self) -> u64 {
            0
        }
        pub(crate) fn bytes(&self) -> usize {
            self.0
        }
    }
}

pub(crate) mod report {
    pub(crate) struct EdgeReport {
        pub(crate) name: String,
        pub(crate) offered: u64,
        pub(crate) dropped: u64,
        pub(crate) taken: u64,
        pub(crate) deepest: usize,
    }
}

pub(crate) mod event {
    use super::core::Core;
    use crate::ledger::lock;
    use crate::runtime::edge::{Edge, Envelope};

    pub(crate) struct Overflowed<'a> {
        pub(crate) edge: &'a Edge,
        pub(crate) fails: bool,
    }

    impl Overflowed<'_> {
        pub(crate) fn emit(self, core: &Core, lost: Envelope) {
            lock(&core.lost).push((lost.stream, lost.packet.header.id.seq));
        }
    }
}

pub(crate) mod core {
    use std::convert::Infallible;
    use std::time::Instant;

    use crate::ledger::lock;
    use crate::sync::atomic::{AtomicBool, Ordering};
    use crate::sync::{Mutex, Receiver, Sender, bounded};

    pub(crate) struct Core {
        pub(crate) clock: Clock,
        pub(crate) cut_short: Receiver<Infallible>,
        cutter: Mutex<Option<Sender<Infallible>>>,
        aborted: AtomicBool,
        /// Packets that full queues dropped: stream and number.
        pub(crate) lost: Mutex<Vec<(usize, u64)>>,
    }

    pub(crate) struct Clock;

    impl Clock {
        pub(crate) fn now(&self) -> Instant {
            Instant::now()
        }
    }

    impl Core {
        pub(crate) fn new() -> Self {
            let (cutter, cut_short) = bounded(1);
            Self {
                clock: Clock,
                cut_short,
                cutter: Mutex::new(Some(cutter)),
                aborted: AtomicBool::new(false),
                lost: Mutex::new(Vec::new()),
            }
        }
        pub(crate) fn abort(&self) {
            self.aborted.store(true, Ordering::SeqCst);
            let cutter = lock(&self.cutter).take();
            drop(cutter);
        }
        pub(crate) fn is_aborted(&self) -> bool {
            self.aborted.load(Ordering::SeqCst)
        }
    }
}
