//! What all file-like sources share: repeating, pacing, and handing packets on.

mod keys;

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::clock::{Clock, MonotonicClock};
use flow::error::StageError;
use flow::packet::Payload;
use flow::stage::{Progress, Source, SourceEmitter, StopFlag, WorkerContext};

use crate::error::MediaError;
use crate::media::DEFAULT_FPS;
pub(crate) use keys::{Looping, OnWrap, Pace};

/// Longest wait inside one call of `next`, so that a stop is noticed.
const STEP: Duration = Duration::from_millis(50);

/// Attachment of a packet that is decoded only because later ones refer to it: an edit makes the
/// presentation begin after it. The decoder drops its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preroll {
    /// How long before the start of the presentation the frame would stand.
    pub before: Duration,
}

/// One packet of a [`Medium`].
pub(crate) struct Item {
    /// Presentation time in nanoseconds; negative: see [`Preroll`].
    pub(crate) pts: i64,
    pub(crate) payload: Arc<dyn Payload>,
}

/// Something that is read from its beginning to its end.
pub(crate) trait Medium: Send {
    /// The next packet; `None` at the end. It can be called again after a recoverable error.
    fn next(&mut self) -> Result<Option<Item>, MediaError>;
    /// Called when it is no longer needed.
    fn close(&mut self) {}
}

/// Opens a medium anew for each pass; the flag ends waits inside it.
pub(crate) type Opener = Box<dyn Fn(&StopFlag) -> Result<Box<dyn Medium>, MediaError> + Send>;

/// A source that plays a medium.
pub(crate) struct Player {
    name: String,
    opener: Opener,
    looping: Looping,
    pace: Pace,
    declared: Option<u64>,
    medium: Option<Box<dyn Medium>>,
    held: Option<Item>,
    stopping: StopFlag,
    clock: Arc<dyn Clock>,
    passes: u64,
    pass: PassTimes,
    /// Added to presentation times when the loop continues.
    offset: i64,
    /// When the packet of time 0 was or would have been due.
    start: Option<(Instant, i64)>,
}

/// Times seen in one pass.
#[derive(Default)]
struct PassTimes {
    packets: u64,
    first: i64,
    last: i64,
}

impl PassTimes {
    fn add(&mut self, pts: i64) {
        if self.packets == 0 {
            (self.first, self.last) = (pts, pts);
        }
        self.packets += 1;
        self.first = self.first.min(pts);
        self.last = self.last.max(pts);
    }

    /// Time at which the next pass begins: the last packet lasts as long as the mean packet.
    fn end(&self) -> i64 {
        let mean = match self.packets {
            0 | 1 => (1e9 / DEFAULT_FPS) as i64,
            n => self.last.saturating_sub(self.first) / i64::try_from(n - 1).unwrap_or(i64::MAX),
        };
        self.last.saturating_add(mean)
    }
}

impl Player {
    /// Plays what `opener` opens; `name` stands in messages, `declared` is the packets of one pass.
    pub(crate) fn new(
        name: String,
        opener: Opener,
        looping: Looping,
        pace: Pace,
        declared: Option<u64>,
    ) -> Self {
        Self {
            name,
            opener,
            looping,
            pace,
            declared,
            medium: None,
            held: None,
            stopping: StopFlag::default(),
            clock: Arc::new(MonotonicClock),
            passes: 0,
            pass: PassTimes::default(),
            offset: 0,
            start: None,
        }
    }

    /// Waits until `pts` is due, at most [`STEP`]; `false` if it is not due yet.
    fn wait(&mut self, pts: i64) -> bool {
        let Pace::Times(speed) = self.pace else {
            return true;
        };
        let now = self.clock.now();
        let &mut (start, first) = self.start.get_or_insert((now, pts));
        let ahead = pts.saturating_sub(first).max(0) as f64 / 1e9 / speed;
        let due = Duration::try_from_secs_f64(ahead)
            .ok()
            .and_then(|ahead| start.checked_add(ahead));
        // A time that no clock reaches is never due.
        let left = due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
        if let Some(until) = now.checked_add(left.min(STEP)).filter(|_| !left.is_zero()) {
            self.clock.timer(until).wait();
        }
        left <= STEP
    }

    /// The pass has ended: prepares the next, or says that there is none.
    fn wrap(&mut self, out: &mut dyn SourceEmitter) -> Progress {
        if let Some(mut medium) = self.medium.take() {
            medium.close();
        }
        let pass = std::mem::take(&mut self.pass);
        self.passes += 1;
        // A pass without a packet would repeat for ever without giving any.
        if pass.packets == 0 || self.looping.times.is_some_and(|times| self.passes >= times) {
            return Progress::End;
        }
        match self.looping.on_wrap {
            OnWrap::Continue => self.offset = self.offset.saturating_add(pass.end().max(0)),
            OnWrap::Discontinuity => {
                out.discontinuity();
                if let Some((start, _)) = &mut self.start {
                    *start = self.clock.now();
                }
            }
        }
        Progress::More
    }
}

impl Source for Player {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.stopping = cx.stopping.clone();
        self.clock = cx.clock.clone();
        Ok(())
    }

    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        if self.stopping.is_set() {
            return Ok(Progress::End);
        }
        let in_stage = |e: MediaError| e.in_stage(&self.name);
        let medium = match &mut self.medium {
            Some(medium) => medium,
            none => none.insert((self.opener)(&self.stopping).map_err(in_stage)?),
        };
        let item = match self.held.take() {
            Some(item) => item,
            None => match medium.next() {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(self.wrap(out)),
                Err(MediaError::Stopped) => return Ok(Progress::End),
                Err(e) if e.recoverable() => {
                    out.fail(None, in_stage(e));
                    return Ok(Progress::More);
                }
                Err(e) => return Err(in_stage(e)),
            },
        };
        let pts = item.pts.saturating_add(self.offset);
        if !self.wait(pts) {
            self.held = Some(item);
            return Ok(Progress::More);
        }
        self.pass.add(item.pts);
        let preroll = (pts < 0).then(|| {
            Arc::new(Preroll {
                before: Duration::from_nanos(pts.unsigned_abs()),
            })
        });
        out.emit(
            Some(Duration::from_nanos(pts.max(0) as u64)),
            item.payload,
            &mut |packet| {
                if let Some(preroll) = &preroll {
                    packet.attach(preroll.clone());
                }
            },
        );
        Ok(Progress::More)
    }

    fn size_hint(&self) -> Option<u64> {
        self.declared?.checked_mul(self.looping.times?)
    }

    fn close(&mut self) -> Result<(), StageError> {
        if let Some(mut medium) = self.medium.take() {
            medium.close();
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flow::clock::ManualClock;
    use flow::packet::{Header, Packet, PacketId};
    use flow::ports::PortType;

    /// What a source gave.
    #[derive(Default)]
    pub(crate) struct Collected {
        pub(crate) packets: Vec<Packet>,
        pub(crate) failed: Vec<StageError>,
        pub(crate) epoch: u32,
        seq: u64,
    }

    impl SourceEmitter for Collected {
        fn emit(
            &mut self,
            pts: Option<Duration>,
            payload: Arc<dyn Payload>,
            attach: &mut dyn FnMut(&mut Packet),
        ) {
            let id = PacketId {
                stream: "s".into(),
                epoch: self.epoch,
                seq: self.seq,
            };
            self.seq += 1;
            let header = Header {
                id,
                captured: Instant::now(),
                pts,
            };
            let mut packet = Packet::new(header, payload);
            attach(&mut packet);
            self.packets.push(packet);
        }
        fn fail(&mut self, _: Option<Duration>, error: StageError) {
            self.seq += 1;
            self.failed.push(error);
        }
        fn discontinuity(&mut self) {
            self.epoch += 1;
            self.seq = 0;
        }
    }

    /// Plays a source to its end.
    pub(crate) fn play(source: &mut dyn Source) -> Collected {
        let mut out = Collected::default();
        let cx = WorkerContext {
            name: "s".into(),
            replica: 0,
            replicas: 1,
            streams: vec!["s".into()],
            cpus: Vec::new(),
            stopping: StopFlag::default(),
            clock: Arc::new(MonotonicClock),
        };
        source.open(&cx).unwrap();
        while source.next(&mut out).unwrap() == Progress::More {}
        source.close().unwrap();
        out
    }

    struct Number;
    impl Payload for Number {
        fn port_type(&self) -> PortType {
            PortType("number")
        }
        fn bytes(&self) -> usize {
            1
        }
    }

    /// Packets 100 ms apart.
    struct Ticks(i64, i64);
    impl Medium for Ticks {
        fn next(&mut self) -> Result<Option<Item>, MediaError> {
            if self.0 == self.1 {
                return Ok(None);
            }
            self.0 += 1;
            Ok(Some(Item {
                pts: (self.0 - 1) * 100_000_000,
                payload: Arc::new(Number),
            }))
        }
    }

    fn player(count: i64, looping: serde_json::Value, pace: &str) -> Player {
        Player::new(
            "ticks".into(),
            Box::new(move |_| Ok(Box::new(Ticks(0, count)))),
            serde_json::from_value(looping).unwrap(),
            Pace::parse(pace).unwrap(),
            Some(count as u64),
        )
    }

    fn millis(out: &Collected) -> Vec<u128> {
        out.packets
            .iter()
            .map(|p| p.header.pts.unwrap().as_millis())
            .collect()
    }

    #[test]
    fn a_continued_loop_keeps_time_rising() {
        let out = play(&mut player(
            3,
            serde_json::json!({"times": 2, "on_wrap": "continue"}),
            "asap",
        ));
        assert_eq!(millis(&out), [0, 100, 200, 300, 400, 500]);
        assert_eq!(out.epoch, 0);
    }

    #[test]
    fn a_discontinuity_begins_a_new_epoch() {
        let mut source = player(2, serde_json::json!(3), "asap");
        assert_eq!(source.size_hint(), Some(6));
        let out = play(&mut source);
        assert_eq!(millis(&out), [0, 100, 0, 100, 0, 100]);
        assert_eq!(out.epoch, 2);
    }

    #[test]
    fn pace_follows_the_times_by_the_clock_of_the_run() {
        let ms = Duration::from_millis;
        let clock = ManualClock::new();
        let (given, packets) = std::sync::mpsc::channel();
        // Packets every 100 ms, twice as fast, and a second pass that begins anew.
        let mut source = player(3, serde_json::json!(2), "2x");
        source.clock = Arc::new(clock.clone());
        let reader = std::thread::spawn(move || {
            let mut out = Collected::default();
            while source.next(&mut out).unwrap() == Progress::More {
                for packet in out.packets.drain(..) {
                    given
                        .send((packet.header.id.epoch, packet.header.id.seq))
                        .unwrap();
                }
            }
        });
        for (epoch, waits) in [(0, [0, 50, 100]), (1, [100, 150, 200])] {
            for (seq, at) in waits.into_iter().enumerate() {
                if at > 0 && seq > 0 {
                    clock.await_timer(ms(at));
                    clock.advance(ms(49));
                    assert!(packets.try_recv().is_err(), "{seq} came too early");
                    clock.advance(ms(1));
                }
                assert_eq!(packets.recv().unwrap(), (epoch, seq as u64));
                assert_eq!(clock.elapsed(), ms(at));
            }
        }
        reader.join().unwrap();
    }

    #[test]
    fn a_stop_ends_a_wait() {
        let mut source = player(2, serde_json::json!(1), "0.001x");
        let stopping = StopFlag::default();
        let mut out = Collected::default();
        source.stopping = stopping.clone();
        assert_eq!(source.next(&mut out).unwrap(), Progress::More);
        assert_eq!(source.next(&mut out).unwrap(), Progress::More);
        stopping.set();
        assert_eq!(source.next(&mut out).unwrap(), Progress::End);
        assert_eq!(out.packets.len(), 1);
    }

    #[test]
    fn an_empty_medium_does_not_loop_for_ever() {
        assert!(
            play(&mut player(0, serde_json::json!("forever"), "asap"))
                .packets
                .is_empty()
        );
    }

    #[test]
    fn wrong_values_are_explained() {
        let e = serde_json::from_value::<Looping>(serde_json::json!("twice")).unwrap_err();
        assert!(e.to_string().contains("forever"), "{e}");
        assert!(serde_json::from_value::<Looping>(serde_json::json!(0)).is_err());
        assert!(serde_json::from_value::<Looping>(serde_json::json!({"times": {"times": 1}})).is_err());
        let e = serde_json::from_value::<Pace>(serde_json::json!("fast")).unwrap_err();
        assert!(e.to_string().contains("realtime"), "{e}");
        assert!(serde_json::from_value::<Pace>(serde_json::json!("0x")).is_err());
    }
}
