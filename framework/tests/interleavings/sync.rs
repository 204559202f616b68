//! The types that `crate::sync` names in the library, as the model checker has them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
pub(crate) use shuttle::thread::yield_now;

shuttle::lazy_static! {
    /// All channels share one lock, and whoever waits for one looks again after each change of any.
    static ref CHANGES: (Mutex<()>, shuttle::sync::Condvar) = (Mutex::new(()), shuttle::sync::Condvar::new());
}

struct Channel<T> {
    /// Only touched under the lock of all channels.
    queue: std::sync::Mutex<VecDeque<T>>,
    capacity: usize,
    senders: AtomicUsize,
}

pub(crate) struct Sender<T>(Arc<Channel<T>>);

pub(crate) struct Receiver<T>(Arc<Channel<T>>);

pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct Empty;

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "channels without room are not modelled");
    let channel = Arc::new(Channel {
        queue: std::sync::Mutex::default(),
        capacity,
        senders: AtomicUsize::new(1),
    });
    (Sender(channel.clone()), Receiver(channel))
}

/// A channel that nothing comes from.
pub(crate) fn never<T>() -> Receiver<T> {
    let (sender, receiver) = bounded(1);
    std::mem::forget(sender);
    receiver
}

impl<T> Channel<T> {
    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap()
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, value: T) -> Result<(), Full> {
        let (lock, changed) = &*CHANGES;
        let _all = lock.lock().unwrap();
        if self.0.queue().len() == self.0.capacity {
            return Err(Full);
        }
        self.0.queue().push_back(value);
        changed.notify_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, Empty> {
        let _all = CHANGES.0.lock().unwrap();
        self.0.queue().pop_front().ok_or(Empty)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        let _all = CHANGES.0.lock().unwrap();
        self.0.queue().len()
    }

    /// What there is, or `Err` where nothing can come any more; under the lock of all channels.
    pub(crate) fn poll(&self) -> Option<Result<T, Empty>> {
        let value = self.0.queue().pop_front();
        let over = self.0.senders.load(Ordering::Relaxed) == 0;
        value.map(Ok).or_else(|| over.then_some(Err(Empty)))
    }
}

/// Waits until `poll` finds something.
pub(crate) fn wait_for<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let (lock, changed) = &*CHANGES;
    let mut all = lock.lock().unwrap();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        all = changed.wait(all).unwrap();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::Relaxed) == 1 && !std::thread::panicking() {
            let (lock, changed) = &*CHANGES;
            let _all = lock.lock().unwrap();
            changed.notify_all();
        }
    }
}

/// As of `crossbeam_channel`; a `default` arm is a timeout, and none ever comes.
macro_rules! select {
    (@arms $wait:ident ($($done:tt)*) default($t:expr) => $body:expr $(,)?) => {
        { let _ = $t; $crate::sync::select!(@build $wait $($done)*) }
    };
    (@arms $wait:ident ($($done:tt)*) recv($r:expr) -> $p:pat => $body:block $(,)? $($rest:tt)*) => {
        $crate::sync::select!(@arms $wait ($($done)* [($r) ($p) ($body)]) $($rest)*)
    };
    (@arms $wait:ident ($($done:tt)*) recv($r:expr) -> $p:pat => $body:expr, $($rest:tt)*) => {
        $crate::sync::select!(@arms $wait ($($done)* [($r) ($p) ($body)]) $($rest)*)
    };
    (@arms $wait:ident ($($done:tt)*)) => {
        $crate::sync::select!(@build $wait $($done)*)
    };
    (@build $wait:ident [($r1:expr) ($p1:pat) ($b1:expr)] [($r2:expr) ($p2:pat) ($b2:expr)]) => {{
        enum Which<A, B> { A(A), B(B) }
        match $crate::sync::wait_for(|| $r1.poll().map(Which::A).or_else(|| $r2.poll().map(Which::B))) {
            Which::A($p1) => $b1,
            Which::B($p2) => $b2,
        }
    }};
    (@build $wait:ident [($r1:expr) ($p1:pat) ($b1:expr)] [($r2:expr) ($p2:pat) ($b2:expr)]
        [($r3:expr) ($p3:pat) ($b3:expr)]) => {{
        enum Which<A, B, C> { A(A), B(B), C(C) }
        match $crate::sync::wait_for(|| {
            let first = $r1.poll().map(Which::A);
            first.or_else(|| $r2.poll().map(Which::B)).or_else(|| $r3.poll().map(Which::C))
        }) {
            Which::A($p1) => $b1,
            Which::B($p2) => $b2,
            Which::C($p3) => $b3,
        }
    }};
    (@build $wait:ident [($r1:expr) ($p1:pat) ($b1:expr)] [($r2:expr) ($p2:pat) ($b2:expr)]
        [($r3:expr) ($p3:pat) ($b3:expr)] [($r4:expr) ($p4:pat) ($b4:expr)]) => {{
        enum Which<A, B, C, D> { A(A), B(B), C(C), D(D) }
        match $crate::sync::wait_for(|| {
            let first = $r1.poll().map(Which::A).or_else(|| $r2.poll().map(Which::B));
            first.or_else(|| $r3.poll().map(Which::C)).or_else(|| $r4.poll().map(Which::D))
        }) {
            Which::A($p1) => $b1,
            Which::B($p2) => $b2,
            Which::C($p3) => $b3,
            Which::D($p4) => $b4,
        }
    }};
    (recv $($arms:tt)*) => { $crate::sync::select!(@arms wait () recv $($arms)*) };
}
pub(crate) use select;
