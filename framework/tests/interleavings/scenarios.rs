use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use shuttle::thread;

use crate::config::plan::{Overflow, QueueSpec};
use crate::ledger::{Claim, lock};
use crate::metrics::EdgeMeter;
use crate::packet::Packet;
use crate::runtime::bell::Bell;
use crate::runtime::core::Core;
use crate::runtime::edge::{Edge, Lane, Queue};
use crate::runtime::exit::Exit;
use crate::runtime::fair::FairLane;
use crate::runtime::fifo::{FifoLane, Use};
use crate::runtime::inlet::{Control, FairLanes, FifoLanes, Inlet, Next, Ways};
use crate::runtime::resequencer::Resequencer;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Receiver, Sender, bounded, select};

const LOSSY: [Overflow; 3] = [Overflow::Latest, Overflow::DropOldest, Overflow::DropNewest];

/// Runs `scenario` in many orders: some of them at random, others such that few switches of threads matter.
fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let tries = std::env::var("FLOW_INTERLEAVINGS")
        .ok()
        .and_then(|n| n.parse().ok());
    let tries: usize = tries.unwrap_or(1000);
    let scenario = Arc::new(scenario);
    let again = scenario.clone();
    shuttle::check_random(move || scenario(), tries);
    shuttle::check_pct(move || again(), tries, 3);
}

fn edge(queue: Queue, streams: &[usize], all: usize, marks: bool) -> Arc<Edge> {
    let mut lane_of = vec![None; all];
    streams.iter().for_each(|&stream| lane_of[stream] = Some(0));
    Arc::new(Edge {
        name: "from -> to".into(),
        to: "to".into(),
        required: true,
        marks,
        lanes: vec![Lane { replica: None, queue }],
        lane_of,
        meter: EdgeMeter::default(),
    })
}

fn fifo(
    policy: Overflow,
    capacity: usize,
    streams: &[usize],
    all: usize,
    bell: &Bell,
    used: Use,
) -> Arc<Edge> {
    let lane = FifoLane::new(policy, capacity, streams, all, bell.clone(), used);
    edge(Queue::Fifo(Box::new(lane)), streams, all, false)
}

fn fair(
    policy: Overflow,
    spec: QueueSpec,
    streams: &[usize],
    all: usize,
    bell: &Bell,
    marks: bool,
) -> Arc<Edge> {
    let lane = FairLane::new(policy, spec, streams, all, marks, bell.clone());
    edge(Queue::Fair(lane), streams, all, marks)
}

fn fifo_inlet(edges: &[Arc<Edge>], bell: &Bell, shared: bool) -> Inlet {
    let lanes = edges.iter().map(|edge| (edge.clone(), 0)).collect();
    Inlet::new(
        Ways::Fifo(FifoLanes::new(lanes, bell.clone(), shared)),
        None,
        None,
    )
}

fn fair_inlet(edges: &[Arc<Edge>], bell: &Bell, all: usize, join: bool) -> Inlet {
    let lanes = edges.iter().map(|edge| (edge.clone(), 0)).collect();
    Inlet::new(
        Ways::Fair(FairLanes::new(lanes, bell.clone(), all, join)),
        None,
        None,
    )
}

/// Sends the numbers `0..count` of a stream, one byte each, and its end.
fn produce(core: Arc<Core>, edges: Vec<Arc<Edge>>, stream: usize, count: u64) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let exit = Exit::new(edges, None);
        for seq in 0..count {
            exit.emit(
                &core,
                stream,
                0,
                Packet::new(seq, 1),
                Claim::none(),
                Instant::now(),
            );
        }
        exit.end(&core, stream);
    })
}

/// What a consumer took: numbers by stream, and how many were told not to come.
#[derive(Default)]
struct Taken {
    numbers: BTreeMap<usize, Vec<u64>>,
    gone: BTreeMap<usize, u64>,
    ends: usize,
    aborted: bool,
}

/// Takes until that many ends have come, or the run is cut short.
fn consume(core: &Core, mut inlet: Inlet, ends: usize) -> Taken {
    // Notes what was said not to come, as a component before another join does.
    let exit = Exit::new(Vec::new(), None);
    let mut taken = Taken::default();
    while taken.ends < ends {
        match inlet.next(core, &exit) {
            Next::Packet(envelope, _) => {
                let numbers = taken.numbers.entry(envelope.stream).or_default();
                numbers.push(envelope.packet.header.id.seq);
            }
            Next::End(_) => taken.ends += 1,
            Next::Gone(stream) => *taken.gone.entry(stream).or_default() += 1,
            Next::Aborted => {
                taken.aborted = true;
                break;
            }
            Next::Joined(..) | Next::Control(_) => unreachable!(),
        }
    }
    taken
}

/// Every packet of each stream was taken in order or lost, none twice.
fn assert_accounted(core: &Core, taken: &Taken, streams: usize, count: u64) {
    for stream in 0..streams {
        let took = taken.numbers.get(&stream).cloned().unwrap_or_default();
        assert!(took.is_sorted_by(|a, b| a < b), "stream {stream}: {took:?}");
        let lost = lock(&core.lost);
        let mut all: Vec<u64> = lost
            .iter()
            .filter(|(s, _)| *s == stream)
            .map(|(_, n)| *n)
            .collect();
        all.extend(took);
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>(), "stream {stream}");
    }
}

#[test]
fn a_queue_that_blocks_loses_nothing_and_wakes_whoever_sleeps() {
    for (capacity, ahead) in [(0, false), (1, false), (1, true), (2, true), (3, true)] {
        check(move || {
            let (core, bell) = (Arc::new(Core::new()), Bell::new());
            let used = Use { ahead, lazy: false };
            let edge = fifo(Overflow::Block, capacity, &[0, 1], 2, &bell, used);
            let producers = [0, 1].map(|stream| produce(core.clone(), vec![edge.clone()], stream, 3));
            let taken = consume(&core, fifo_inlet(&[edge], &bell, false), 2);
            producers
                .into_iter()
                .for_each(|producer| producer.join().unwrap());
            assert!(lock(&core.lost).is_empty());
            assert_accounted(&core, &taken, 2, 3);
        });
    }
}

#[test]
fn producers_that_wait_for_plenty_of_room_are_woken() {
    check(|| {
        let (core, bell) = (Arc::new(Core::new()), Bell::new());
        let used = Use {
            ahead: true,
            lazy: true,
        };
        let edge = fifo(Overflow::Block, 16, &[0, 1], 2, &bell, used);
        let producers = [0, 1].map(|stream| produce(core.clone(), vec![edge.clone()], stream, 19));
        let taken = consume(&core, fifo_inlet(&[edge], &bell, false), 2);
        producers
            .into_iter()
            .for_each(|producer| producer.join().unwrap());
        assert_accounted(&core, &taken, 2, 19);
    });
}

#[test]
fn lossy_queues_account_for_every_packet() {
    for policy in LOSSY {
        check(move || {
            let (core, bell) = (Arc::new(Core::new()), Bell::new());
            let used = Use {
                ahead: true,
                lazy: true,
            };
            let edge = fifo(policy, 1, &[0, 1], 2, &bell, used);
            let producers = [0, 1].map(|stream| produce(core.clone(), vec![edge.clone()], stream, 4));
            let taken = consume(&core, fifo_inlet(&[edge], &bell, false), 2);
            producers
                .into_iter()
                .for_each(|producer| producer.join().unwrap());
            assert_accounted(&core, &taken, 2, 4);
            if policy == Overflow::Latest {
                // The newest of each stream is never lost.
                assert!(taken.numbers.values().all(|numbers| numbers.last() == Some(&3)));
            }
        });
    }
}

#[test]
fn several_edges_ring_one_bell() {
    check(|| {
        let (core, bell) = (Arc::new(Core::new()), Bell::new());
        let used = Use {
            ahead: true,
            lazy: true,
        };
        let edges = [0, 1].map(|stream| fifo(Overflow::Block, 1, &[stream], 2, &bell, used));
        let producers = [0, 1].map(|stream| produce(core.clone(), vec![edges[stream].clone()], stream, 3));
        let taken = consume(&core, fifo_inlet(&edges, &bell, false), 2);
        producers
            .into_iter()
            .for_each(|producer| producer.join().unwrap());
        assert_accounted(&core, &taken, 2, 3);
    });
}

/// Replicas that share packets of several edges, without order: the bell wakes one of them at a time.
#[test]
fn replicas_that_share_queues_take_everything_once() {
    check(|| {
        let (core, bell) = (Arc::new(Core::new()), Bell::new());
        let used = Use {
            ahead: false,
            lazy: true,
        };
        let edges = [0, 1].map(|stream| fifo(Overflow::Block, 2, &[stream], 2, &bell, used));
        let producers = [0, 1].map(|stream| produce(core.clone(), vec![edges[stream].clone()], stream, 3));
        let (controls, told): (Vec<Sender<Control>>, Vec<Receiver<Control>>) =
            (0..2).map(|_| bounded(4)).unzip();
        let replicas: Vec<_> = told
            .into_iter()
            .map(|told| {
                let lanes = edges.iter().map(|edge| (edge.clone(), 0)).collect();
                let lanes = FifoLanes::new(lanes, bell.clone(), true);
                let mut inlet = Inlet::new(Ways::Fifo(lanes), Some(told), None);
                let (core, controls) = (core.clone(), controls.clone());
                thread::spawn(move || {
                    let exit = Exit::new(Vec::new(), None);
                    let (mut numbers, mut flushed) = (Vec::new(), 0);
                    while flushed < 2 {
                        match inlet.next(&core, &exit) {
                            Next::Packet(envelope, _) => {
                                numbers.push((envelope.stream, envelope.packet.header.id.seq))
                            }
                            Next::End(stream) => {
                                let flush = |control: &Sender<Control>| {
                                    control.try_send(Control::Flush(stream)).is_ok()
                                };
                                assert!(controls.iter().all(flush));
                            }
                            Next::Control(Control::Flush(_)) => flushed += 1,
                            _ => unreachable!(),
                        }
                    }
                    numbers
                })
            })
            .collect();
        producers
            .into_iter()
            .for_each(|producer| producer.join().unwrap());
        let mut all: Vec<_> = replicas
            .into_iter()
            .flat_map(|replica| replica.join().unwrap())
            .collect();
        all.sort_unstable();
        let expected: Vec<_> = [0, 1].iter().flat_map(|s| (0..3).map(move |n| (*s, n))).collect();
        assert_eq!(all, expected);
    });
}

/// A replica: takes packets in its turn, waits for a credit, and hands on what it has taken.
struct Replica {
    core: Arc<Core>,
    inlet: Inlet,
    exit: Arc<Exit>,
    controls: Vec<Sender<Control>>,
    flushed: Arc<AtomicUsize>,
    replicas: usize,
    /// Numbers that are dropped on the way.
    drops: fn(u64) -> bool,
}

impl Replica {
    fn run(mut self) {
        let order = self.exit.clone();
        let order = order.order.as_ref().unwrap();
        let mut later = None;
        loop {
            match later
                .take()
                .unwrap_or_else(|| self.inlet.next(&self.core, &self.exit))
            {
                Next::Packet(envelope, number) => {
                    let credits = order.credits(0).unwrap();
                    if credits.try_recv().is_err() {
                        // It holds nothing back, so that the others need not be asked to settle anything.
                        let control = &self.inlet.control;
                        select! {
                            recv(credits) -> credit => assert!(credit.is_ok()),
                            recv(self.core.cut_short) -> _ => unreachable!(),
                            recv(control) -> _ => unreachable!("the end comes behind all packets"),
                        }
                    }
                    self.inlet.pass_on();
                    thread::yield_now();
                    let (packet, claim) = (envelope.packet, envelope.claim);
                    if (self.drops)(packet.header.id.seq) {
                        self.exit.skip(&self.core, 0, number);
                    } else {
                        self.exit
                            .emit(&self.core, 0, number, packet, claim, Instant::now());
                    }
                }
                Next::End(stream) => {
                    self.controls
                        .iter()
                        .for_each(|control| assert!(control.try_send(Control::Flush(stream)).is_ok()));
                }
                Next::Control(Control::Flush(stream)) => {
                    if self.flushed.fetch_add(1, Ordering::SeqCst) + 1 == self.replicas {
                        self.exit.end(&self.core, stream);
                    }
                    return;
                }
                Next::Gone(stream) => self.exit.pass_gone(&self.core, stream),
                _ => unreachable!(),
            }
        }
    }
}

#[test]
fn replicas_keep_the_order_of_a_stream_within_a_window() {
    for (replicas, window, drops) in [
        (2, 1, (|_| false) as fn(u64) -> bool),
        (2, 2, |seq| seq % 3 == 1),
        (3, 2, |_| false),
    ] {
        check(move || {
            let (core, bell, out) = (Arc::new(Core::new()), Bell::new(), Bell::new());
            let used = Use {
                ahead: false,
                lazy: false,
            };
            let into = fifo(Overflow::Block, 2, &[0], 1, &bell, used);
            let from = fifo(
                Overflow::Block,
                1,
                &[0],
                1,
                &out,
                Use {
                    ahead: true,
                    lazy: false,
                },
            );
            let order = Resequencer::new(1, Some(window), false);
            let exit = Arc::new(Exit::new(vec![from.clone()], Some(order)));
            let (give, take) = bounded(1);
            assert!(give.try_send(()).is_ok());
            let (controls, told): (Vec<_>, Vec<_>) = (0..replicas).map(|_| bounded(2)).unzip();
            let flushed = Arc::new(AtomicUsize::new(0));
            let workers: Vec<_> = told
                .into_iter()
                .map(|told| {
                    let lanes = FifoLanes::new(vec![(into.clone(), 0)], bell.clone(), true);
                    let baton = Some((give.clone(), take.clone()));
                    let replica = Replica {
                        core: core.clone(),
                        inlet: Inlet::new(Ways::Fifo(lanes), Some(told), baton),
                        exit: exit.clone(),
                        controls: controls.clone(),
                        flushed: flushed.clone(),
                        replicas,
                        drops,
                    };
                    thread::spawn(move || replica.run())
                })
                .collect();
            let producer = produce(core.clone(), vec![into], 0, 5);
            let taken = consume(&core, fifo_inlet(&[from], &out, false), 1);
            producer.join().unwrap();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            let expected: Vec<u64> = (0..5).filter(|seq| !drops(*seq)).collect();
            assert_eq!(taken.numbers.get(&0), Some(&expected));
            // Every credit is back.
            assert_eq!(exit.order.as_ref().unwrap().credits(0).unwrap().len(), window);
        });
    }
}

#[test]
fn a_queue_by_streams_accounts_for_every_packet() {
    let limits = [(Overflow::Block, 0), (Overflow::Block, 2)];
    for (policy, capacity) in limits.into_iter().chain(LOSSY.map(|policy| (policy, 2))) {
        check(move || {
            let (core, bell) = (Arc::new(Core::new()), Bell::new());
            let spec = QueueSpec {
                capacity,
                bytes: Some(2),
                overflow: policy,
                ..QueueSpec::default()
            };
            let edge = fair(policy, spec, &[0, 1], 2, &bell, false);
            let producers = [0, 1].map(|stream| produce(core.clone(), vec![edge.clone()], stream, 3));
            let taken = consume(&core, fair_inlet(&[edge], &bell, 2, false), 2);
            producers
                .into_iter()
                .for_each(|producer| producer.join().unwrap());
            assert_accounted(&core, &taken, 2, 3);
        });
    }
}

/// One way to the join keeps everything, the other one drops: places come in order, whole or not, and none is missing.
#[test]
fn a_join_finds_every_place_whatever_one_way_drops() {
    for policy in [
        Overflow::Block,
        Overflow::Latest,
        Overflow::DropOldest,
        Overflow::DropNewest,
    ] {
        check(move || {
            let (core, bell) = (Arc::new(Core::new()), Bell::new());
            let spec = |capacity| QueueSpec {
                capacity,
                ..QueueSpec::default()
            };
            let whole = fair(Overflow::Block, spec(2), &[0], 1, &bell, true);
            let lossy = fair(policy, spec(1), &[0], 1, &bell, true);
            let edges = [whole, lossy];
            let producer = produce(core.clone(), edges.to_vec(), 0, 4);
            let mut inlet = fair_inlet(&edges, &bell, 1, true);
            let exit = Exit::new(Vec::new(), None);
            let mut places = Vec::new();
            loop {
                match inlet.next(&core, &exit) {
                    Next::Joined(parts, _) => {
                        let seq = |part: &Option<crate::runtime::edge::Envelope>| {
                            part.as_ref().map(|e| e.packet.header.id.seq)
                        };
                        places.push(parts.parts.iter().map(seq).collect::<Vec<_>>());
                    }
                    Next::End(_) => break,
                    _ => unreachable!(),
                }
            }
            producer.join().unwrap();
            let lost = lock(&core.lost).clone();
            let whole_ones = places.iter().filter(|place| place[1].is_some()).count();
            assert_eq!(places.len(), 4, "{places:?}");
            for (seq, place) in places.iter().enumerate() {
                let seq = seq as u64;
                assert_eq!(place[0], Some(seq), "{places:?}");
                let expected = (!lost.contains(&(0, seq))).then_some(seq);
                assert_eq!(place[1], expected, "{places:?} without {lost:?}");
            }
            assert_eq!(whole_ones + lost.len(), 4);
        });
    }
}

#[test]
fn whoever_waits_is_told_when_a_run_is_cut_short() {
    for by_streams in [false, true] {
        check(move || {
            let (core, bell) = (Arc::new(Core::new()), Bell::new());
            let spec = QueueSpec {
                capacity: 1,
                ..QueueSpec::default()
            };
            let used = Use {
                ahead: true,
                lazy: true,
            };
            let make = move |bell: &Bell| match by_streams {
                true => fair(Overflow::Block, spec, &[0], 1, bell, false),
                false => fifo(Overflow::Block, 1, &[0], 1, bell, used),
            };
            // Nobody takes from the one, and nothing comes from the other.
            let full = produce(core.clone(), vec![make(&bell)], 0, 9);
            let (empty, idle) = (Bell::new(), core.clone());
            let waits = thread::spawn(move || {
                let edge = [make(&empty)];
                let inlet = match by_streams {
                    true => fair_inlet(&edge, &empty, 1, false),
                    false => fifo_inlet(&edge, &empty, false),
                };
                consume(&idle, inlet, 1)
            });
            core.abort();
            full.join().unwrap();
            assert!(waits.join().unwrap().aborted);
        });
    }
}

/// Settling in any order while another worker releases: nothing stays behind, nothing overtakes.
#[test]
fn workers_that_settle_at_once_leave_nothing_behind() {
    check(|| {
        let order = Arc::new(Resequencer::new(1, None, true));
        let left = Arc::new(Mutex::new(Vec::new()));
        let numbers: Vec<u64> = (0..4).map(|_| order.number(0)).collect();
        let workers: Vec<_> = numbers
            .chunks(2)
            .map(|numbers| {
                let (order, left, numbers) = (order.clone(), left.clone(), numbers.to_vec());
                thread::spawn(move || {
                    for number in numbers.into_iter().rev() {
                        order.settle(0, number, (number != 1).then_some(number));
                        order.release(0, |released| {
                            use crate::runtime::resequencer::Released;
                            lock(&left).push(match released {
                                Released::Item(number) => number,
                                Released::Gone(count) => 10 + count,
                                Released::End => 99,
                            });
                        });
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(*lock(&left), [0, 11, 2, 3]);
    });
}
