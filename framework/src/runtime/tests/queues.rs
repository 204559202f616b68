//! Every overflow policy, capacities in packets and bytes, and tombstones, one step after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use crate::clock::MonotonicClock;
use crate::config::plan::{Overflow, QueueSpec};
use crate::ledger::Claim;
use crate::packet::{Header, Packet, PacketId, Payload, StreamId};
use crate::ports::PortType;
use crate::runtime::bell::Bell;
use crate::runtime::core::Core;
use crate::runtime::dead_letter::DeadLetters;
use crate::runtime::edge::{Arrival, Envelope};
use crate::runtime::fair::{FairLane, Front, Taken};
use crate::runtime::fifo::{FifoLane, Use};

const STREAMS: usize = 3;

struct Weight(usize);

impl Payload for Weight {
    fn port_type(&self) -> PortType {
        PortType("weight")
    }
    fn bytes(&self) -> usize {
        self.0
    }
}

fn core() -> Core {
    let streams: Vec<StreamId> = (0..STREAMS).map(|n| n.to_string().into()).collect();
    Core::new(
        "model".into(),
        &streams,
        DeadLetters::default(),
        Arc::new(MonotonicClock),
    )
}

fn envelope(stream: usize, seq: u64, bytes: usize) -> Envelope {
    let id = PacketId {
        stream: stream.to_string().into(),
        epoch: 0,
        seq,
    };
    let header = Header {
        id,
        captured: Instant::now(),
        pts: None,
    };
    Envelope {
        packet: Packet::new(header, Arc::new(Weight(bytes))),
        claim: Claim::none(),
        stream,
        queued: Instant::now(),
    }
}

/// A packet as the model has it: its stream, number and bytes.
type Sent = (usize, u64, usize);

fn sent(envelope: &Envelope) -> Sent {
    (
        envelope.stream,
        envelope.packet.header.id.seq,
        envelope.packet.raw_payload().bytes(),
    )
}

#[derive(Debug, Clone)]
enum Step {
    Send {
        stream: usize,
        bytes: usize,
    },
    /// Packets that were dropped before they came here.
    Gone {
        stream: usize,
        count: u64,
    },
    End {
        stream: usize,
    },
    /// Take from that stream, or whatever comes first.
    Take {
        stream: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = 0..STREAMS;
    let step = prop_oneof![
        6 => (stream.clone(), 1..6_usize).prop_map(|(stream, bytes)| Step::Send { stream, bytes }),
        2 => (stream.clone(), 1..4_u64).prop_map(|(stream, count)| Step::Gone { stream, count }),
        1 => stream.clone().prop_map(|stream| Step::End { stream }),
        4 => stream.prop_map(|stream| Step::Take { stream }),
    ];
    prop::collection::vec(step, 1..80)
}

fn policies() -> impl Strategy<Value = Overflow> {
    prop_oneof![
        Just(Overflow::Block),
        Just(Overflow::Latest),
        Just(Overflow::DropOldest),
        Just(Overflow::DropNewest),
        Just(Overflow::Fail),
    ]
}

/// What the model holds, oldest first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    Packet(Sent),
    Gone(usize, u64),
    End(usize),
}

impl Held {
    fn stream(&self) -> usize {
        match self {
            Self::Packet((stream, ..)) | Self::Gone(stream, _) | Self::End(stream) => *stream,
        }
    }
}

/// A queue as the documentation describes it: one list, looked through from its head for everything.
struct Model {
    policy: Overflow,
    capacity: usize,
    bytes: usize,
    marks: bool,
    held: Vec<Held>,
    ended: [bool; STREAMS],
    deepest: usize,
}

impl Model {
    fn new(policy: Overflow, capacity: usize, bytes: usize, marks: bool) -> Self {
        Self {
            policy,
            capacity,
            bytes,
            marks,
            held: Vec::new(),
            ended: [false; STREAMS],
            deepest: 0,
        }
    }

    fn packets(&self) -> impl Iterator<Item = Sent> {
        self.held.iter().filter_map(|held| match held {
            Held::Packet(sent) => Some(*sent),
            _ => None,
        })
    }

    fn has_room(&self, bytes: usize) -> bool {
        let waiting: usize = self.packets().map(|(.., bytes)| bytes).sum();
        let packets = self.packets().count();
        packets == 0 || packets < self.capacity && waiting + bytes <= self.bytes
    }

    /// Drops the oldest packet that `which` takes; its place is remembered where places count.
    fn drop_first(&mut self, which: impl Fn(&Sent) -> bool) -> Option<Sent> {
        let dropped = self.packets().find(which)?;
        let place = self.held.iter().position(|held| *held == Held::Packet(dropped))?;
        self.held[place] = Held::Gone(dropped.0, 1);
        Some(dropped)
    }

    /// What is lost, where the packet can be sent at all without waiting.
    fn send(&mut self, packet: Sent) -> Option<Vec<Sent>> {
        let mut lost = Vec::new();
        match self.policy {
            Overflow::Block if !self.has_room(packet.2) => return None,
            Overflow::DropNewest | Overflow::Fail if !self.has_room(packet.2) => {
                self.held.push(Held::Gone(packet.0, 1));
                self.tidy();
                return Some(vec![packet]);
            }
            Overflow::DropOldest => {
                while !self.has_room(packet.2) {
                    lost.extend(self.drop_first(|_| true));
                }
            }
            Overflow::Latest => lost.extend(self.drop_first(|(stream, ..)| *stream == packet.0)),
            _ => {}
        }
        self.held.push(Held::Packet(packet));
        self.tidy();
        self.deepest = self.deepest.max(self.packets().count());
        Some(lost)
    }

    /// Makes neighbouring tombstones of a stream one.
    fn tidy(&mut self) {
        let mut tidy: Vec<Held> = Vec::new();
        for held in self.held.drain(..) {
            let last = tidy
                .iter_mut()
                .rev()
                .find(|before| before.stream() == held.stream());
            match (held, last) {
                (Held::Gone(..), _) if !self.marks => {}
                (Held::Gone(_, more), Some(Held::Gone(_, count))) => *count += more,
                _ => tidy.push(held),
            }
        }
        self.held = tidy;
    }

    fn take(&mut self, stream: usize) -> Option<Held> {
        let place = self.held.iter().position(|held| held.stream() == stream)?;
        Some(self.held.remove(place))
    }
}

proptest! {
    /// A queue by streams gives each stream what the model gives, loses what it loses, and holds no more than it may.
    #[test]
    fn a_queue_by_streams_equals_its_model(
        steps in steps(),
        policy in policies(),
        capacity in 1..5_usize,
        bytes in prop_oneof![Just(None), (1..12_u64).prop_map(Some)],
        marks in any::<bool>(),
    ) {
        let core = core();
        let spec = QueueSpec { capacity, bytes, overflow: policy, ..QueueSpec::default() };
        let lane = FairLane::new(policy, spec, &[0, 1, 2], STREAMS, marks, Bell::new());
        let most = bytes.map_or(usize::MAX, |bytes| bytes as usize);
        let mut model = Model::new(policy, capacity, most, marks);
        let mut seq = 0;
        for step in steps {
            match step {
                Step::Send { stream, bytes } if !model.ended[stream] => {
                    let Some(expected) = model.send((stream, seq, bytes)) else { continue };
                    let mut lost = Vec::new();
                    lane.send(&core, envelope(stream, seq, bytes), &mut |envelope| lost.push(sent(&envelope)));
                    prop_assert_eq!(lost, expected);
                    seq += 1;
                }
                Step::Gone { stream, count } if !model.ended[stream] => {
                    lane.gone(stream, count);
                    model.held.push(Held::Gone(stream, count));
                    model.tidy();
                }
                Step::End { stream } if !model.ended[stream] => {
                    lane.end(stream);
                    model.ended[stream] = true;
                    model.held.push(Held::End(stream));
                }
                Step::Take { stream } => {
                    let front = lane.front(stream);
                    let expected = model.take(stream);
                    let seen = front.map(|front| match front {
                        Front::Packet { .. } => 0,
                        Front::Gone(count) => count,
                        Front::End => u64::MAX,
                    });
                    prop_assert_eq!(seen, expected.map(|held| match held {
                        Held::Packet(_) => 0,
                        Held::Gone(_, count) => count,
                        Held::End(_) => u64::MAX,
                    }));
                    let taken = lane.take(stream, u64::MAX).map(|taken| match taken {
                        Taken::Packet(envelope) => Held::Packet(sent(&envelope)),
                        Taken::Gone(count) => Held::Gone(stream, count),
                        Taken::End => Held::End(stream),
                    });
                    prop_assert_eq!(taken, expected);
                }
                _ => {}
            }
            prop_assert_eq!(lane.len(), model.packets().count());
            // However much is dropped, a stream has no more tombstones than packets beside one more.
            for stream in 0..STREAMS {
                let of_stream = model.held.iter().filter(|held| held.stream() == stream);
                let (gone, others): (Vec<&Held>, Vec<&Held>) = of_stream.partition(|held| matches!(held, Held::Gone(..)));
                prop_assert!(gone.len() <= others.len() + 1);
            }
        }
        prop_assert_eq!(lane.deepest(), model.deepest);
    }

    /// A queue in order gives what the model gives, all streams in one order; taken ahead or not.
    #[test]
    fn a_queue_in_order_equals_its_model(
        steps in steps(),
        policy in policies(),
        capacity in 1..5_usize,
        ahead in any::<bool>(),
    ) {
        let core = core();
        let used = Use { ahead, lazy: true };
        let lane = FifoLane::new(policy, capacity, &[0, 1, 2], STREAMS, Bell::new(), used);
        // The newest packet of a stream takes the place of the one before it, in line with the others.
        let latest = policy == Overflow::Latest;
        let mut model = Model::new(policy, capacity, usize::MAX, false);
        let (mut seq, mut buffer) = (0, VecDeque::new());
        for step in steps {
            match step {
                Step::Send { stream, .. } if !model.ended[stream] => {
                    let packet = (stream, seq, 1);
                    let before = model.held.iter().position(|held| latest && matches!(held, Held::Packet(p) if p.0 == stream));
                    let expected = match before {
                        Some(place) => match std::mem::replace(&mut model.held[place], Held::Packet(packet)) {
                            Held::Packet(older) => Some(vec![older]),
                            _ => None,
                        },
                        None => model.send(packet),
                    };
                    let Some(expected) = expected else { continue };
                    let mut lost = Vec::new();
                    lane.send(&core, envelope(stream, seq, 1), &mut |envelope| lost.push(sent(&envelope)));
                    prop_assert_eq!(lost, expected);
                    seq += 1;
                }
                Step::End { stream } if !model.ended[stream] => {
                    lane.end(stream);
                    model.ended[stream] = true;
                    model.held.push(Held::End(stream));
                }
                Step::Take { .. } => {
                    let expected = (!model.held.is_empty()).then(|| model.held.remove(0));
                    let taken = lane.take(&mut buffer).map(|arrival| match arrival {
                        Arrival::Packet(envelope) => Held::Packet(sent(&envelope)),
                        Arrival::End(stream) => Held::End(stream),
                    });
                    prop_assert_eq!(taken, expected);
                }
                _ => {}
            }
            let most = if latest { STREAMS } else { capacity };
            prop_assert!(model.packets().count() <= most);
        }
        prop_assert_eq!(lane.deepest(), model.deepest);
    }
}
