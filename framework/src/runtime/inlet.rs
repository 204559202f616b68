//! The way into a worker: the lanes of all edges that feed it, and what its fellow replicas tell it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, never, select};

use super::core::Core;
use super::edge::{Arrival, Edge, Envelope, Item};
use super::exit::Exit;

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
    Control(Control),
    /// The run is cut short.
    Aborted,
}

pub(crate) struct Inlet {
    lanes: Lanes,
    pub(crate) control: Receiver<Control>,
    /// Held while taking a packet and its credit from what replicas share, where order matters: numbers then follow
    /// the queue.
    baton: Option<(Sender<()>, Receiver<()>)>,
}

/// What ended a wait.
enum Woken {
    Item(usize, Item),
    Otherwise(Control),
    CutShort,
}

struct Lanes {
    lanes: Vec<(Arc<Edge>, usize)>,
    /// Lane that is asked first, so that none starves.
    turn: usize,
}

impl Inlet {
    pub(crate) fn new(
        lanes: Vec<(Arc<Edge>, usize)>,
        control: Option<Receiver<Control>>,
        baton: Option<(Sender<()>, Receiver<()>)>,
    ) -> Self {
        Self {
            lanes: Lanes { lanes, turn: 0 },
            control: control.unwrap_or_else(never),
            baton,
        }
    }

    /// Waits for the next thing to do.
    pub(crate) fn next(&mut self, core: &Core, exit: &Exit) -> Next {
        if core.is_aborted() {
            return Next::Aborted;
        }
        if let Ok(control) = self.control.try_recv() {
            return Next::Control(control);
        }
        let Some((give, take)) = &self.baton else {
            return self.lanes.take(core, exit, &self.control);
        };
        if take.try_recv().is_err() {
            select! {
                recv(take) -> _ => {}
                recv(self.control) -> told => return told.map_or(Next::Aborted, Next::Control),
                recv(core.cut_short) -> _ => return Next::Aborted,
            }
        }
        let next = self.lanes.take(core, exit, &self.control);
        if !matches!(next, Next::Packet(..)) {
            // There is one baton, and its channel has room for it.
            let _ = give.try_send(());
        }
        next
    }

    /// The packet taken last has its credit: another replica may take the next one. Until then none does, since
    /// credits must be had in the order of numbers: else later packets could use them all up and wait for a packet
    /// that waits for a credit.
    pub(crate) fn pass_on(&self) {
        if let Some((give, _)) = &self.baton {
            let _ = give.try_send(());
        }
    }
}

impl Lanes {
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
        edge.lanes.get(*lane).map(|lane| &lane.rx)
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
        match edge.lanes.get(*lane)?.open(item)? {
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
