//! Instances that are disturbed: each wraps one that is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Dice, Fault, INJECTED};
use crate::error::StageError;
use crate::layer::{SinkLayer, SourceLayer, StageLayer};
use crate::packet::{Packet, Payload};
use crate::registry::Prepared;
use crate::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage, StopFlag, WorkerContext};

/// Longest sleep at a time, so that a stop is noticed.
const STEP: Duration = Duration::from_millis(50);

/// Sleeps for `time`, or until the pipeline is to stop.
fn pause(time: Duration, stopping: &StopFlag) {
    let until = Instant::now() + time;
    while !stopping.is_set() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Stalls and slowness, which befall stages and sinks alike.
fn delay(dice: &Dice, packet: &Packet, stopping: &StopFlag) {
    let id = &packet.header.id;
    for fault in [Fault::Slow, Fault::Stall] {
        if let Some((time, _)) = dice.hit(fault, &id.stream, id.epoch, id.seq) {
            dice.chaos.note(fault);
            pause(time, stopping);
        }
    }
}

pub(super) fn stage(part: Prepared<dyn Stage>, dice: Dice) -> Prepared<dyn Stage> {
    part.layered(move |_, inner| {
        Box::new(DisturbedStage {
            inner,
            dice: dice.clone(),
            stopping: StopFlag::default(),
        })
    })
}

struct DisturbedStage {
    inner: Box<dyn Stage>,
    dice: Dice,
    stopping: StopFlag,
}

impl DisturbedStage {
    /// Delays a packet, or panics over it.
    fn disturb(&self, packet: &Packet) {
        delay(&self.dice, packet, &self.stopping);
        let id = &packet.header.id;
        if self
            .dice
            .hit(Fault::Panic, &id.stream, id.epoch, id.seq)
            .is_some()
        {
            self.dice.chaos.note(Fault::Panic);
            // Unwinds as a panic does, without its message on stderr.
            std::panic::resume_unwind(Box::new(format!("injected into `{}`", self.dice.name)));
        }
    }
}

impl StageLayer for DisturbedStage {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }

    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.stopping = cx.stopping.clone();
        self.inner.open(cx)
    }

    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.disturb(&packet);
        self.inner.process(packet, out)
    }

    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        packets.iter().for_each(|packet| self.disturb(packet));
        self.inner.process_batch(packets, out)
    }
}

pub(super) fn sink(part: Prepared<dyn Sink>, dice: Dice) -> Prepared<dyn Sink> {
    part.layered(move |_, inner| {
        Box::new(DisturbedSink {
            inner,
            dice: dice.clone(),
            stopping: StopFlag::default(),
        })
    })
}

struct DisturbedSink {
    inner: Box<dyn Sink>,
    dice: Dice,
    stopping: StopFlag,
}

impl SinkLayer for DisturbedSink {
    fn inner(&mut self) -> &mut dyn Sink {
        &mut *self.inner
    }

    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.stopping = cx.stopping.clone();
        self.inner.open(cx)
    }

    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        delay(&self.dice, &packet, &self.stopping);
        let id = &packet.header.id;
        let hit = self.dice.hit(Fault::SinkError, &id.stream, id.epoch, id.seq);
        if hit.is_some() {
            self.dice.chaos.note(Fault::SinkError);
            let message = format!("a fault was injected into the sink `{}`", self.dice.name);
            return Err(StageError::packet(INJECTED, message));
        }
        self.inner.consume(packet)
    }
}

pub(super) fn source(mut part: Prepared<dyn Source>, dice: Dice) -> Prepared<dyn Source> {
    let build: Arc<dyn Fn() -> Result<Box<dyn Source>, StageError> + Send + Sync> = {
        let build = part.build;
        Arc::new(move || build(0))
    };
    // Counted over all instances, or every one would be hit in the same places.
    let given = Arc::new(AtomicU64::new(0));
    part.build = Box::new(move |_| {
        Ok(Box::new(DisturbedSource {
            inner: build()?,
            build: build.clone(),
            dice: dice.clone(),
            given: given.clone(),
            back: None,
            shift: 0,
            cx: None,
        }) as Box<dyn Source>)
    });
    part
}

/// Stands for a source that is lost.
struct Absent;

impl Source for Absent {
    fn next(&mut self, _: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        Ok(Progress::More)
    }
}

struct DisturbedSource {
    inner: Box<dyn Source>,
    build: Arc<dyn Fn() -> Result<Box<dyn Source>, StageError> + Send + Sync>,
    dice: Dice,
    given: Arc<AtomicU64>,
    /// When the source comes back, where it is lost.
    back: Option<Instant>,
    /// Where its clock has jumped to, in microseconds.
    shift: i64,
    cx: Option<WorkerContext>,
}

impl SourceLayer for DisturbedSource {
    fn inner(&self) -> &dyn Source {
        &*self.inner
    }

    fn inner_mut(&mut self) -> &mut dyn Source {
        &mut *self.inner
    }

    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.cx = Some(cx.clone());
        self.inner.open(cx)
    }

    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        let seq = self.given.load(Ordering::Relaxed);
        let name = self.dice.name.clone();
        if let Some(back) = self.back {
            let left = back.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left.min(STEP));
                return Ok(Progress::More);
            }
            let mut inner = (self.build)()?;
            if let Some(cx) = &self.cx {
                inner.open(cx)?;
            }
            self.inner = inner;
            self.back = None;
            out.discontinuity();
        } else if let Some((time, _)) = self.dice.hit(Fault::SourceLoss, &name, 0, seq) {
            self.dice.chaos.note(Fault::SourceLoss);
            self.given.fetch_add(1, Ordering::Relaxed);
            self.back = Some(Instant::now() + time);
            let mut lost: Box<dyn Source> = std::mem::replace(&mut self.inner, Box::new(Absent));
            return lost.close().map(|()| Progress::More);
        }
        if let Some((time, number)) = self.dice.hit(Fault::ClockJump, &name, 0, seq) {
            self.dice.chaos.note(Fault::ClockJump);
            self.dice.chaos.clock.leap(time);
            let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
            self.shift = if number & 1 == 0 { micros } else { -micros };
        }
        self.inner.next(&mut Disturbing {
            out,
            dice: &self.dice,
            given: &self.given,
            shift: self.shift,
        })
    }

    /// Packets that are lost with the source do not come.
    fn size_hint(&self) -> Option<u64> {
        None
    }
}

struct Disturbing<'a> {
    out: &'a mut dyn SourceEmitter,
    dice: &'a Dice,
    given: &'a AtomicU64,
    shift: i64,
}

impl Disturbing<'_> {
    fn shifted(&self, pts: Option<Duration>) -> Option<Duration> {
        let by = Duration::from_micros(self.shift.unsigned_abs());
        pts.map(|pts| match self.shift < 0 {
            true => pts.saturating_sub(by),
            false => pts.saturating_add(by),
        })
    }
}

impl SourceEmitter for Disturbing<'_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let pts = self.shifted(pts);
        let seq = self.given.fetch_add(1, Ordering::Relaxed);
        let hit = self.dice.hit(Fault::Corrupt, &self.dice.name, 0, seq);
        let Some((_, number)) = hit else {
            return self.out.emit(pts, payload, attach);
        };
        self.dice.chaos.note(Fault::Corrupt);
        let corrupt = self.dice.chaos.corrupt;
        match corrupt.and_then(|corrupt| corrupt(&payload, number)) {
            Some(damaged) => self.out.emit(pts, damaged, attach),
            None => {
                let message = format!("a packet of `{}` was damaged on purpose", self.dice.name);
                self.out.fail(pts, StageError::packet(INJECTED, message));
            }
        }
    }

    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.out.fail(self.shifted(pts), error);
    }

    fn discontinuity(&mut self) {
        self.out.discontinuity();
    }
}
