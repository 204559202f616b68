//! Runs a source and the `decode` stage as a pipeline would, and keeps what they give.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::error::StageError;
use flow::packet::{Header, Packet, PacketId, Payload, StreamId};
use flow::registry::{PrepareContext, PreparedComponent, Registry, Role};
use flow::stage::{Emitter, Progress, Source, SourceEmitter, Stage, StopFlag, WorkerContext};
use serde_json::Value;

/// What became of one packet.
#[derive(Debug)]
pub enum Outcome {
    Emitted(Packet),
    Dropped(&'static str),
    Failed(StageError),
}

/// Outcomes by epoch and seq, and the order in which they came.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub by_id: BTreeMap<(u32, u64), Outcome>,
    pub emitted: Vec<(u32, u64)>,
}

impl Outcomes {
    fn settle(&mut self, id: &PacketId, outcome: Outcome) {
        let key = (id.epoch, id.seq);
        let before = self.by_id.insert(key, outcome);
        assert!(before.is_none(), "packet {key:?} has two outcomes");
    }
    /// The emitted packets in order of emission.
    pub fn packets(&self) -> Vec<&Packet> {
        self.emitted
            .iter()
            .map(|id| match &self.by_id[id] {
                Outcome::Emitted(packet) => packet,
                other => panic!("{other:?} was emitted"),
            })
            .collect()
    }
    pub fn errors(&self) -> Vec<&StageError> {
        self.by_id
            .values()
            .filter_map(|o| match o {
                Outcome::Failed(e) => Some(e),
                _ => None,
            })
            .collect()
    }
    pub fn dropped(&self, reason: &str) -> usize {
        self.by_id
            .values()
            .filter(|o| matches!(o, Outcome::Dropped(r) if *r == reason))
            .count()
    }
}

impl Emitter for Outcomes {
    fn emit(&mut self, packet: Packet) {
        self.emitted.push((packet.header.id.epoch, packet.header.id.seq));
        self.settle(&packet.header.id.clone(), Outcome::Emitted(packet));
    }
    fn drop_packet(&mut self, header: &Header, reason: &'static str) {
        self.settle(&header.id, Outcome::Dropped(reason));
    }
    fn fail(&mut self, header: &Header, error: StageError) {
        self.settle(&header.id, Outcome::Failed(error));
    }
}

/// What a source gave, in order; failures take a number as well.
#[derive(Default)]
pub struct Taken {
    pub items: Vec<(PacketId, Result<Packet, StageError>)>,
    epoch: u32,
    seq: u64,
}

impl Taken {
    fn id(&mut self) -> PacketId {
        self.seq += 1;
        PacketId {
            stream: "s".into(),
            epoch: self.epoch,
            seq: self.seq - 1,
        }
    }
}

impl SourceEmitter for Taken {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let id = self.id();
        let header = Header {
            id: id.clone(),
            captured: Instant::now(),
            pts,
        };
        let mut packet = Packet::new(header, payload);
        attach(&mut packet);
        self.items.push((id, Ok(packet)));
    }
    fn fail(&mut self, _: Option<Duration>, error: StageError) {
        let id = self.id();
        self.items.push((id, Err(error)));
    }
    fn discontinuity(&mut self) {
        self.epoch += 1;
        self.seq = 0;
    }
}

fn prepared(role: Role, kind: &str, config: &Value) -> Result<PreparedComponent, flow::error::PrepareError> {
    let mut registry = Registry::new();
    flow_decode::register(&mut registry);
    let kind = registry.get(role, kind).expect("the kind is registered");
    let config = kind.parse(config).expect("the configuration is valid");
    assert!(kind.check(&config).is_empty());
    let models = BTreeMap::new();
    kind.prepare(
        &config,
        &PrepareContext {
            name: "s",
            folder: Path::new("."),
            models: &models,
            downstream: &[],
            streams: &[],
            replicas: 1,
            threads: 1,
            batch: None,
        },
    )
}

fn worker() -> WorkerContext {
    WorkerContext {
        name: "s".into(),
        replica: 0,
        replicas: 1,
        streams: vec!["s".into()],
        cpus: Vec::new(),
        stopping: StopFlag::default(),
        clock: Arc::new(flow::clock::MonotonicClock),
    }
}

/// A source of that kind, ready to be asked.
pub fn source(kind: &str, config: &Value) -> Result<Box<dyn Source>, flow::error::PrepareError> {
    let PreparedComponent::Source(prepared) = prepared(Role::Source, kind, config)? else {
        panic!("a source kind prepares a source")
    };
    let mut source = (prepared.build)(0).expect("it can be built");
    source.open(&worker()).expect("it opens");
    Ok(source)
}

/// Reads a source to its end.
pub fn take(source: &mut dyn Source) -> Taken {
    let mut taken = Taken::default();
    while source.next(&mut taken).expect("the source goes on") == Progress::More {}
    source.close().expect("it closes");
    taken
}

/// Decodes what a source gave.
pub fn decode(taken: Taken) -> Outcomes {
    let PreparedComponent::Stage(prepared) =
        prepared(Role::Stage, "decode", &serde_json::json!({})).expect("decode can be prepared")
    else {
        panic!("a stage kind prepares a stage")
    };
    let mut stage: Box<dyn Stage> = (prepared.build)(0).expect("it can be built");
    stage.open(&worker()).expect("it opens");
    let stream: StreamId = "s".into();
    let mut out = Outcomes::default();
    let mut epoch = 0;
    let mut ids = Vec::new();
    for (id, item) in taken.items {
        if id.epoch != epoch {
            stage.discontinuity(&stream, &mut out).expect("it goes on");
            epoch = id.epoch;
        }
        ids.push((id.epoch, id.seq));
        let result = match item {
            Ok(packet) => stage.process(packet, &mut out),
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            out.settle(&id, Outcome::Failed(e));
        }
    }
    stage.flush(&stream, &mut out).expect("it flushes");
    ids.sort_unstable();
    let settled: Vec<_> = out.by_id.keys().copied().collect();
    assert_eq!(settled, ids, "every packet has one outcome");
    assert!(out.emitted.is_sorted(), "packets leave in the order of seq");
    out
}
