//! A run that gives and takes the packets that another run did, as its record ([`record`](super::record)) says.
//!
//! What chance decided is taken from the record: in which order packets of several sources came, which ones a full queue, a
//! deadline or a rate limit dropped, and where a run was stopped. Everything else is computed again, so that sinks get the same
//! packets in the same order, and JSON lines come out the same byte for byte.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::record::{Entry, Heading};
use crate::config::plan::{Overflow, PreparedPipeline};
use crate::error::{Code, StageError};
use crate::layer::{SourceLayer, StageLayer};
use crate::ledger::lock;
use crate::packet::{Packet, PacketId, Payload, StreamId};
use crate::registry::{PreparedComponent, Role};
use crate::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage, StopFlag, WorkerContext};

/// Most packets that a sink holds until those before them have come.
const MOST_HELD: usize = 4096;
/// How often one that waits looks whether the run stops.
const TICK: Duration = Duration::from_millis(20);
/// Why a packet is dropped that the recorded run had dropped before.
const REASON: &str = "not_recorded";

/// What a record holds.
#[derive(Debug, Default)]
pub struct Recording {
    /// Packets of sources in the order in which they were given, with their times.
    given: VecDeque<(PacketId, Option<u64>)>,
    /// By stage or sink: packets in the order in which they were first taken.
    taken: HashMap<String, Vec<PacketId>>,
    names: HashSet<String>,
}

impl Recording {
    /// Reads a record; a last line that is cut off, as of a run that was killed, is left out.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines().enumerate();
        let heading = lines.next().map_or("", |(_, line)| line);
        match serde_json::from_str::<Heading>(heading) {
            Ok(Heading { record: 1, .. }) => {}
            Ok(heading) => {
                return Err(format!(
                    "it is a record of version {}, expected 1",
                    heading.record
                ));
            }
            Err(_) => {
                return Err("it is no record; `flowrun run FILE --record headers.jsonl` writes one".into());
            }
        }
        let mut this = Self::default();
        let mut streams: HashMap<String, StreamId> = HashMap::new();
        let mut seen: HashSet<(String, PacketId)> = HashSet::new();
        for (number, line) in lines {
            let entry: Entry = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", number + 1))?;
            let stream = entry
                .stream
                .as_ref()
                .or(entry.give.as_ref())
                .cloned()
                .unwrap_or_default();
            let stream = streams
                .entry(stream.clone())
                .or_insert_with(|| stream.into())
                .clone();
            let id = PacketId {
                stream,
                epoch: entry.epoch,
                seq: entry.seq,
            };
            match (entry.give, entry.take) {
                (Some(name), None) => {
                    this.names.insert(name);
                    this.given.push_back((id, entry.pts));
                }
                (None, Some(name)) => {
                    // A packet that is tried again is taken again.
                    if seen.insert((name.clone(), id.clone())) {
                        this.taken.entry(name).or_default().push(id);
                    }
                }
                _ => return Err(format!("line {}: expected either `give` or `take`", number + 1)),
            }
        }
        Ok(this)
    }

    /// Makes a pipeline give and take what was recorded. Queues wait for room and rules about time are lifted: what they
    /// decided is in the record.
    ///
    /// # Errors
    /// When the record is of another pipeline.
    pub fn replay(self, prepared: &mut PreparedPipeline) -> Result<(), String> {
        let known: HashSet<&str> = prepared.pipeline.components.iter().map(|c| &*c.name).collect();
        let names = self.names.iter().chain(self.taken.keys());
        if let Some(name) = names.into_iter().find(|name| !known.contains(name.as_str())) {
            return Err(format!(
                "the record is of another pipeline: there is no `{name}` in this one"
            ));
        }
        for component in &mut prepared.pipeline.components {
            (component.deadline, component.rate_limit, component.timeout) = (None, None, None);
            component.required = true;
            for input in &mut component.inputs {
                input.queue.overflow = Overflow::Block;
            }
        }
        let turns = Arc::new(Turns::new(self.given));
        let mut taken = self.taken;
        let parts = std::mem::take(&mut prepared.parts).into_iter();
        prepared.parts = parts
            .zip(&prepared.pipeline.components)
            .map(|(part, component)| {
                let order = taken.remove(&*component.name).unwrap_or_default();
                let in_order = component.role == Role::Sink && component.replica_count() == 1;
                let ids: Arc<HashSet<PacketId>> = Arc::new(order.iter().cloned().collect());
                match part {
                    PreparedComponent::Source(part) => {
                        let (turns, name) = (turns.clone(), component.name.clone());
                        PreparedComponent::Source(part.layered(move |_, inner| {
                            Box::new(Replayed {
                                inner,
                                turns: turns.clone(),
                                stream: StreamId::from(&name),
                                stopping: StopFlag::default(),
                            })
                        }))
                    }
                    PreparedComponent::Stage(part) => {
                        PreparedComponent::Stage(part.layered(move |_, inner| {
                            let ids = ids.clone();
                            Box::new(Filtered { inner, ids })
                        }))
                    }
                    PreparedComponent::Sink(part) => {
                        PreparedComponent::Sink(part.layered(move |_, inner| {
                            Box::new(Ordered {
                                inner,
                                ids: ids.clone(),
                                order: in_order.then(|| order.iter().cloned().collect()),
                                held: HashMap::new(),
                                ended: Vec::new(),
                            })
                        }))
                    }
                }
            })
            .collect();
        Ok(())
    }
}

/// Whose turn it is to give a packet.
struct Turns {
    left: Mutex<Left>,
    passed: Condvar,
}

struct Left {
    order: VecDeque<(PacketId, Option<u64>)>,
    /// By stream: how many it still has in `order`; none of those that left.
    counts: HashMap<StreamId, usize>,
}

impl Left {
    /// Takes away packets at the head whose streams have left.
    fn skip(&mut self) {
        while self
            .order
            .front()
            .is_some_and(|(id, _)| !self.counts.contains_key(&id.stream))
        {
            self.order.pop_front();
        }
    }
}

impl Turns {
    fn new(order: VecDeque<(PacketId, Option<u64>)>) -> Self {
        let mut counts = HashMap::new();
        for (id, _) in &order {
            *counts.entry(id.stream.clone()).or_default() += 1;
        }
        Self {
            left: Mutex::new(Left { order, counts }),
            passed: Condvar::new(),
        }
    }

    /// Waits until the next packet is one of this stream; `None`: it has none left, or the run stops.
    fn wait(&self, stream: &StreamId, stopping: &StopFlag) -> Option<(PacketId, Option<u64>)> {
        let mut left = lock(&self.left);
        loop {
            left.skip();
            let count = left.counts.get(stream).copied().filter(|_| !stopping.is_set())?;
            if left.order.front().is_some_and(|(id, _)| id.stream == *stream) {
                match count {
                    1 => left.counts.remove(stream),
                    more => left.counts.insert(stream.clone(), more - 1),
                };
                let next = left.order.pop_front();
                self.passed.notify_all();
                return next;
            }
            let waited = self.passed.wait_timeout(left, TICK);
            left = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn has_more(&self, stream: &StreamId) -> bool {
        lock(&self.left).counts.contains_key(stream)
    }

    /// The stream gives no more: nobody waits for it.
    fn leave(&self, stream: &StreamId) {
        lock(&self.left).counts.remove(stream);
        self.passed.notify_all();
    }
}

/// A source that gives what was recorded, in turn with the others.
struct Replayed {
    inner: Box<dyn Source>,
    turns: Arc<Turns>,
    stream: StreamId,
    stopping: StopFlag,
}

struct InTurn<'a> {
    out: &'a mut dyn SourceEmitter,
    turns: &'a Turns,
    stream: &'a StreamId,
    stopping: &'a StopFlag,
    differs: Option<String>,
}

impl SourceEmitter for InTurn<'_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let Some((id, recorded)) = self.turns.wait(self.stream, self.stopping) else {
            // The recorded run was stopped before this packet.
            return;
        };
        let now = pts.map(|pts| u64::try_from(pts.as_nanos()).unwrap_or(u64::MAX));
        let differs = &mut self.differs;
        self.out.emit(pts, payload, &mut |packet| {
            attach(packet);
            if packet.header.id != id || now != recorded {
                *differs = Some(format!(
                    "`{}` gives epoch {} packet {} at {now:?} ns, and the record holds epoch {} packet {} at {recorded:?} ns",
                    id.stream, packet.header.id.epoch, packet.header.id.seq, id.epoch, id.seq
                ));
            }
        });
    }
    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        self.out.fail(pts, error);
    }
    fn discontinuity(&mut self) {
        self.out.discontinuity();
    }
}

impl SourceLayer for Replayed {
    fn inner(&self) -> &dyn Source {
        &*self.inner
    }
    fn inner_mut(&mut self) -> &mut dyn Source {
        &mut *self.inner
    }
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.stopping = cx.stopping.clone();
        self.inner.open(cx)
    }
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        if !self.turns.has_more(&self.stream) {
            return Ok(Progress::End);
        }
        let mut out = InTurn {
            out,
            turns: &self.turns,
            stream: &self.stream,
            stopping: &self.stopping,
            differs: None,
        };
        let progress = self.inner.next(&mut out);
        if let Some(differs) = out.differs {
            self.turns.leave(&self.stream);
            let help = "replay the same pipeline on the same media";
            return Err(StageError::fatal(Code("E0416"), format!("{differs}: {help}")));
        }
        if !matches!(progress, Ok(Progress::More)) {
            self.turns.leave(&self.stream);
        }
        progress
    }
}

/// A stage that takes what was recorded.
struct Filtered {
    inner: Box<dyn Stage>,
    ids: Arc<HashSet<PacketId>>,
}

impl StageLayer for Filtered {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        if self.ids.contains(&packet.header.id) {
            return self.inner.process(packet, out);
        }
        out.drop_packet(&packet.header, REASON);
        Ok(())
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        if packets.iter().all(|packet| self.ids.contains(&packet.header.id)) {
            return self.inner.process_batch(packets, out);
        }
        packets
            .iter()
            .try_for_each(|packet| StageLayer::process(self, packet.clone(), out))
    }
}

/// A sink that takes what was recorded, in that order.
struct Ordered {
    inner: Box<dyn Sink>,
    ids: Arc<HashSet<PacketId>>,
    /// What is still to come; `None` where several replicas take packets in any order.
    order: Option<VecDeque<PacketId>>,
    held: HashMap<PacketId, Packet>,
    ended: Vec<StreamId>,
}

impl Ordered {
    /// Hands on what it is the turn of; `all`: what is missing is left out.
    fn drain(&mut self, all: bool) -> Result<(), StageError> {
        while let Some(order) = &mut self.order {
            let Some(next) = order.front() else { break };
            match self.held.remove(next) {
                Some(packet) => {
                    order.pop_front();
                    self.inner.consume(packet)?;
                }
                None if all => {
                    order.pop_front();
                }
                None => break,
            }
        }
        let mut waiting: BTreeMap<StreamId, usize> = BTreeMap::new();
        for id in self.held.keys() {
            *waiting.entry(id.stream.clone()).or_default() += 1;
        }
        let (ended, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(|s| !waiting.contains_key(s));
        self.ended = left;
        ended
            .iter()
            .try_for_each(|stream| self.inner.end_of_stream(stream))
    }
}

impl Sink for Ordered {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.inner.open(cx)
    }
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        if !self.ids.contains(&packet.header.id) {
            return Ok(());
        }
        if self.order.is_none() {
            return self.inner.consume(packet);
        }
        self.held.insert(packet.header.id.clone(), packet);
        if self.held.len() > MOST_HELD {
            let message = format!("{MOST_HELD} packets wait for one that was recorded and does not come");
            return Err(StageError::fatal(Code("E0416"), message));
        }
        self.drain(false)
    }
    fn shape_changed(&mut self, stream: &StreamId) -> Result<(), StageError> {
        self.inner.shape_changed(stream)
    }
    fn end_of_stream(&mut self, stream: &StreamId) -> Result<(), StageError> {
        self.ended.push(stream.clone());
        self.drain(false)
    }
    fn close(&mut self) -> Result<(), StageError> {
        let drained = self.drain(true);
        drained.and(self.inner.close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_said() {
        let error = |text: &str| Recording::read(text).unwrap_err();
        assert!(error("").contains("--record"));
        assert!(error("{\"version\": 1}\n").contains("--record"));
        assert!(error("{\"record\": 2, \"pipeline\": \"x\"}\n").contains("version 2"));
        let head = "{\"record\":1,\"pipeline\":\"x\"}\n";
        assert!(error(&format!("{head}{{\"seq\": 1}}\n")).starts_with("line 2"));
        let both = "{\"give\":\"a\",\"take\":\"b\",\"epoch\":0,\"seq\":1}\n";
        assert!(error(&format!("{head}{both}")).contains("either `give` or `take`"));
        // A line that a kill cut off.
        let cut = format!("{head}{{\"give\":\"a\",\"epoch\":0,\"seq\":0}}\n{{\"give\":\"a\",\"ep");
        assert_eq!(Recording::read(&cut).unwrap().given.len(), 1);
    }
}
