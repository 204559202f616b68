//! The way into a worker: the lanes of all edges that feed it, and what its fellow replicas tell it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, never, select};

use super::core::Core;
use super::edge::{Arrival, Edge, Envelope, Item};
use super::exit::Exit;
use super::fair::{Bell, FairLane, Front, Taken};
use super::join::{Join, Parts};
use crate::clock::Timer;

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
    Channels(Lanes),
    Fair(FairLanes),
}

/// What ended a wait.
enum Woken {
    Item(usize, Item),
    Otherwise(Control),
    CutShort,
}

#[derive(Clone)]
pub(crate) struct Lanes {
    lanes: Vec<(Arc<Edge>, usize)>,
    /// Lane that is asked first, so that none starves.
    turn: usize,
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
            Ways::Channels(lanes) => lanes.take(core, exit, &self.control),
            Ways::Fair(lanes) => lanes.next(core, exit, &self.control),
        };
        if !matches!(next, Next::Packet(..) | Next::Joined(..)) {
            self.pass_on();
        }
        next
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

impl Lanes {
    pub(crate) fn new(lanes: Vec<(Arc<Edge>, usize)>) -> Self {
        Self { lanes, turn: 0 }
    }

    fn take(&mut self, core: &Core, exit: &Exit, control: &Receiver<Control>) -> Next {
        loop {
            let count = self.lanes.len();
            for step in 0..count {
                let index = (self.turn + step) % count;
                let item = self.lane(index).and_then(|rx| rx.try_recv().ok());
                if let Some(next) = item.and_then(|item| self.arrived(index, item, exit)) {
                    return next;
                }
            }
            let (index, item) = match self.wait(core, control) {
                Woken::Item(index, item) => (index, item),
                Woken::Otherwise(control) => return Next::Control(control),
                Woken::CutShort => return Next::Aborted,
            };
            if let Some(next) = self.arrived(index, item, exit) {
                return next;
            }
        }
    }

    fn lane(&self, index: usize) -> Option<&Receiver<Item>> {
        let (edge, lane) = self.lanes.get(index)?;
        Some(&edge.lanes.get(*lane)?.channel()?.rx)
    }

    fn wait(&self, core: &Core, control: &Receiver<Control>) -> Woken {
        // Senders live as long as the run: what is disconnected has been cut short.
        if let (1, Some(rx)) = (self.lanes.len(), self.lane(0)) {
            return select! {
                recv(rx) -> item => item.map_or(Woken::CutShort, |item| Woken::Item(0, item)),
                recv(control) -> told => told.map_or(Woken::CutShort, Woken::Otherwise),
                recv(core.cut_short) -> _ => Woken::CutShort,
            };
        }
        let mut select = Select::new();
        let receivers: Vec<_> = (0..self.lanes.len()).filter_map(|i| self.lane(i)).collect();
        for rx in &receivers {
            select.recv(rx);
        }
        let told = select.recv(control);
        select.recv(&core.cut_short);
        let ready = select.select();
        let index = ready.index();
        if let Some(rx) = receivers.get(index) {
            return ready
                .recv(rx)
                .map_or(Woken::CutShort, |item| Woken::Item(index, item));
        }
        if index == told {
            return ready.recv(control).map_or(Woken::CutShort, Woken::Otherwise);
        }
        let _ = ready.recv(&core.cut_short);
        Woken::CutShort
    }

    fn arrived(&mut self, index: usize, item: Item, exit: &Exit) -> Option<Next> {
        self.turn = index + 1;
        let (edge, lane) = self.lanes.get(index)?;
        match edge.lanes.get(*lane)?.channel()?.open(item)? {
            Arrival::End(stream) => Some(Next::End(stream)),
            Arrival::Packet(envelope) => {
                edge.meter.taken();
                let number = exit
                    .order
                    .as_ref()
                    .map_or(0, |order| order.number(envelope.stream));
                Some(Next::Packet(envelope, number))
            }
        }
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
