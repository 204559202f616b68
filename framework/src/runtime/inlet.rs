//! The way into a worker: the lanes of all edges that feed it, and what its fellow replicas tell it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bell::Bell;
use super::core::Core;
use super::edge::{Arrival, Edge, Envelope};
use super::exit::Exit;
use super::fair::{FairLane, Front, Taken};
use super::fifo::{FifoLane, Item};
use super::join::{Join, Parts};
use crate::clock::Timer;
use crate::sync::{Receiver, Sender, never, select, yield_now};

/// How often a worker that finds nothing lets other threads go first, before it sleeps.
pub(super) const YIELDS: u32 = 1;

/// What replicas that share packets tell each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Control {
    /// The stream has ended and no packet of it waits any more: flush it.
    Flush(usize),
    /// A replica waits for a credit of the stream: settle what is held back of it.
    Settle(usize),
}

/// What a worker does next.
pub(crate) enum Next {
    /// Process the packet, taken with that number.
    Packet(Envelope, u64),
    /// One of the edges has brought the end of that stream.
    End(usize),
    /// What the edges brought for one place of a stream, taken with that number.
    Joined(Parts, u64),
    /// Some packets of the stream will not come, and the exit knows.
    Gone(usize),
    Control(Control),
    /// The run is cut short.
    Aborted,
}

/// Clones take from the same lanes.
#[derive(Clone)]
pub(crate) struct Inlet {
    pub(crate) ways: Ways,
    pub(crate) control: Receiver<Control>,
    /// Held while taking a packet and its credit from what replicas share, where order matters: numbers then follow
    /// the queue.
    baton: Option<(Sender<()>, Receiver<()>)>,
}

/// The lanes of all edges, of one sort for all of them.
#[derive(Clone)]
pub(crate) enum Ways {
    Fifo(FifoLanes),
    Fair(FairLanes),
}

impl Inlet {
    pub(crate) fn new(
        ways: Ways,
        control: Option<Receiver<Control>>,
        baton: Option<(Sender<()>, Receiver<()>)>,
    ) -> Self {
        Self {
            ways,
            control: control.unwrap_or_else(never),
            baton,
        }
    }

    /// Waits for the next thing to do.
    pub(crate) fn next(&mut self, core: &Core, exit: &Exit) -> Next {
        if let Some(other) = self.take_turn(core) {
            return other;
        }
        let next = match &mut self.ways {
            Ways::Fifo(lanes) => lanes.next(core, exit, &self.control),
            Ways::Fair(lanes) => lanes.next(core, exit, &self.control),
        };
        if !matches!(next, Next::Packet(..) | Next::Joined(..)) {
            self.pass_on();
        }
        next
    }

    /// Whether something is at hand that can be had without waiting and without a look at any queue.
    pub(crate) fn has_ahead(&self) -> bool {
        match &self.ways {
            Ways::Fifo(lanes) => lanes.lanes.iter().any(|feed| !feed.ahead.is_empty()),
            Ways::Fair(_) => false,
        }
    }

    /// Whether the last wait for something to do may have taken time.
    pub(crate) fn has_slept(&self) -> bool {
        match &self.ways {
            Ways::Fifo(lanes) => lanes.slept || self.baton.is_some(),
            Ways::Fair(_) => true,
        }
    }

    /// Waits for the baton, unless there is something else to do. Whoever gets `None` passes it on afterwards.
    pub(crate) fn take_turn(&self, core: &Core) -> Option<Next> {
        if core.is_aborted() {
            return Some(Next::Aborted);
        }
        if let Ok(control) = self.control.try_recv() {
            return Some(Next::Control(control));
        }
        let (_, take) = self.baton.as_ref()?;
        if take.try_recv().is_err() {
            select! {
                recv(take) -> _ => {}
                recv(self.control) -> told => return Some(told.map_or(Next::Aborted, Next::Control)),
                recv(core.cut_short) -> _ => return Some(Next::Aborted),
            }
        }
        None
    }

    /// The packet taken last has its credit: another replica may take the next one. Until then none does, since
    /// credits must be had in the order of numbers: else later packets could use them all up and wait for a packet
    /// that waits for a credit.
    pub(crate) fn pass_on(&self) {
        // There is one baton, and its channel has room for it.
        if let Some((give, _)) = &self.baton {
            let _ = give.try_send(());
        }
    }
}

/// Lanes that give what came first.
pub(crate) struct FifoLanes {
    lanes: Vec<Feed>,
    bell: Bell,
    /// Whether other replicas take from the same lanes.
    shared: bool,
    /// Lane that is asked first, so that none starves.
    turn: usize,
    /// Whether the last call found nothing at first.
    slept: bool,
}

struct Feed {
    edge: Arc<Edge>,
    lane: usize,
    /// What was taken ahead of its turn.
    ahead: VecDeque<Item>,
}

impl Clone for FifoLanes {
    /// What the original has taken ahead stays with it.
    fn clone(&self) -> Self {
        let lanes = self.lanes.iter().map(|feed| (feed.edge.clone(), feed.lane));
        Self::new(lanes.collect(), self.bell.clone(), self.shared)
    }
}

impl Feed {
    fn fifo(&self) -> Option<&FifoLane> {
        self.edge.lanes.get(self.lane)?.fifo()
    }

    fn take(&mut self) -> Option<Arrival> {
        let fifo = self.edge.lanes.get(self.lane)?.fifo()?;
        fifo.take(&mut self.ahead)
    }
}

impl FifoLanes {
    pub(crate) fn new(lanes: Vec<(Arc<Edge>, usize)>, bell: Bell, shared: bool) -> Self {
        let feed = |(edge, lane)| Feed {
            edge,
            lane,
            ahead: VecDeque::new(),
        };
        Self {
            lanes: lanes.into_iter().map(feed).collect(),
            bell,
            shared,
            turn: 0,
            slept: false,
        }
    }

    fn next(&mut self, core: &Core, exit: &Exit, control: &Receiver<Control>) -> Next {
        self.slept = false;
        let mut yields = 0;
        loop {
            if let Some(next) = self.take(exit) {
                return next;
            }
            self.slept = true;
            // Falling asleep and being woken costs more than letting others of this core go first.
            if yields < YIELDS {
                yields += 1;
                yield_now();
                continue;
            }
            match self.wait(core, control) {
                Waited::Rung | Waited::Expired => {}
                Waited::Told(control) => return Next::Control(control),
                Waited::CutShort => return Next::Aborted,
            }
        }
    }

    fn take(&mut self, exit: &Exit) -> Option<Next> {
        let count = self.lanes.len();
        for step in 0..count {
            let index = match self.turn + step {
                index if index < count => index,
                beyond => beyond - count,
            };
            let Some(arrival) = self.lanes.get_mut(index).and_then(Feed::take) else {
                continue;
            };
            self.turn = if index + 1 < count { index + 1 } else { 0 };
            if self.shared && count > 1 {
                // The bell may have been rung for what lies in another lane.
                let more = self
                    .lanes
                    .iter()
                    .filter_map(Feed::fifo)
                    .any(|fifo| fifo.len() > 0);
                if more {
                    self.bell.ring();
                }
            }
            return Some(match arrival {
                Arrival::End(stream) => Next::End(stream),
                Arrival::Packet(envelope) => {
                    let order = exit.order.as_ref();
                    let number = order.map_or(0, |order| order.number(envelope.stream));
                    Next::Packet(envelope, number)
                }
            });
        }
        None
    }

    /// Sleeps until there may be something to take.
    fn wait(&self, core: &Core, control: &Receiver<Control>) -> Waited {
        let mut asleep = 0;
        for fifo in self.lanes.iter().filter_map(Feed::fifo) {
            if !fifo.falls_asleep() {
                break;
            }
            asleep += 1;
        }
        let waited = if asleep < self.lanes.len() {
            Waited::Rung
        } else {
            select! {
                recv(self.bell.rung) -> _ => Waited::Rung,
                recv(control) -> told => told.map_or(Waited::CutShort, Waited::Told),
                recv(core.cut_short) -> _ => Waited::CutShort,
            }
        };
        let lanes = self.lanes.iter().filter_map(Feed::fifo);
        lanes.take(asleep).for_each(FifoLane::wakes);
        waited
    }
}

/// Lanes whose streams the consumer picks from.
#[derive(Clone)]
pub(crate) struct FairLanes {
    lanes: Vec<(Arc<Edge>, usize)>,
    bell: Bell,
    join: Option<Join>,
    /// By stream: when it was last served, as a number that rises.
    served: Vec<u64>,
    services: u64,
}

impl FairLanes {
    /// With `join`, the lanes bring one and the same stream.
    pub(crate) fn new(lanes: Vec<(Arc<Edge>, usize)>, bell: Bell, streams: usize, join: bool) -> Self {
        let join = join.then(|| Join::new(&lanes, streams));
        Self {
            lanes,
            bell,
            join,
            served: vec![0; streams],
            services: 0,
        }
    }

    fn queues(&self) -> impl Iterator<Item = &FairLane> {
        let lanes = self.lanes.iter();
        lanes.filter_map(|(edge, lane)| edge.lanes.get(*lane).and_then(|lane| lane.fair()))
    }

    /// Calls `look` with each stream that has something to take, and what that is.
    pub(crate) fn fronts(&self, look: &mut dyn FnMut(usize, Front)) {
        self.queues().for_each(|lane| lane.fronts(look));
    }

    /// Takes from the stream that `rank` puts first, with its front; of equal ones, from that which has waited
    /// longest for its turn. `None`: there is nothing, or nothing that `rank` takes.
    pub(crate) fn pick(&mut self, rank: &dyn Fn(usize, Front) -> Option<u32>) -> Option<(usize, Taken)> {
        let served = &self.served;
        let mut best: Option<((u32, u64, usize), usize)> = None;
        for (index, lane) in self.queues().enumerate() {
            lane.fronts(&mut |stream, front| {
                let Some(rank) = rank(stream, front) else { return };
                let key = (rank, served.get(stream).copied().unwrap_or(0), stream);
                if best.is_none_or(|(found, _)| key < found) {
                    best = Some((key, index));
                }
            });
        }
        let ((_, _, stream), index) = best?;
        let (edge, lane) = self.lanes.get(index)?;
        let taken = edge.lanes.get(*lane)?.fair()?.take(stream, u64::MAX)?;
        if matches!(taken, Taken::Packet(_)) {
            edge.meter.taken();
            self.services += 1;
            if let Some(served) = self.served.get_mut(stream) {
                *served = self.services;
            }
        }
        Some((stream, taken))
    }

    fn next(&mut self, core: &Core, exit: &Exit, control: &Receiver<Control>) -> Next {
        loop {
            if let Some(join) = &mut self.join {
                if let Some(next) = join.next(&self.lanes, exit) {
                    return next;
                }
            } else if let Some((stream, taken)) = self.pick(&|_, _| Some(0)) {
                return match taken {
                    Taken::Packet(envelope) => {
                        let number = exit.order.as_ref().map_or(0, |order| order.number(stream));
                        Next::Packet(envelope, number)
                    }
                    Taken::Gone(count) => {
                        exit.note_gone(stream, count);
                        Next::Gone(stream)
                    }
                    Taken::End => Next::End(stream),
                };
            }
            match self.wait(core, control, &Timer::never()) {
                Waited::Rung | Waited::Expired => {}
                Waited::Told(control) => return Next::Control(control),
                Waited::CutShort => return Next::Aborted,
            }
        }
    }

    /// Waits until there may be something to take.
    pub(crate) fn wait(&self, core: &Core, control: &Receiver<Control>, timer: &Timer) -> Waited {
        select! {
            recv(self.bell.rung) -> _ => Waited::Rung,
            recv(control) -> told => told.map_or(Waited::CutShort, Waited::Told),
            recv(core.cut_short) -> _ => Waited::CutShort,
            recv(timer.ticks()) -> _ => Waited::Expired,
            default(timer.timeout()) => Waited::Expired,
        }
    }
}

/// What ended a wait for packets.
pub(crate) enum Waited {
    Rung,
    Told(Control),
    Expired,
    CutShort,
}
