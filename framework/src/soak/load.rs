//! Arrivals by a schedule of their own: constant or Poisson, whatever the pipeline is doing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::plan::PreparedPipeline;
use crate::error::StageError;
use crate::layer::SourceLayer;
use crate::packet::{Packet, Payload};
use crate::registry::{Build, PreparedComponent};
use crate::stage::{Progress, Source, SourceEmitter, WorkerContext};

/// Longest sleep at a time, so that a stop is noticed.
const STEP: Duration = Duration::from_millis(50);

/// When packets of each source arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// As the source gives them.
    Own,
    /// That many a second, evenly.
    Constant(f64),
    /// That many a second on average, at random.
    Poisson(f64),
}

impl FromStr for Load {
    type Err = String;

    /// Reads `own`, `constant:RATE` or `poisson:RATE`, with rates in packets a second.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write `constant:25`, `poisson:25` (packets a second for each source) or `own`";
        if text == "own" {
            return Ok(Self::Own);
        }
        let (kind, rate) = text.split_once(':').ok_or_else(|| format!("`{text}`: {form}"))?;
        let rate: f64 = rate.trim_end_matches("/s").parse().unwrap_or(f64::NAN);
        if !(0.001..=1e6).contains(&rate) {
            return Err(format!(
                "`{text}`: the rate must lie between 0.001 and 1000000; {form}"
            ));
        }
        match kind {
            "constant" => Ok(Self::Constant(rate)),
            "poisson" => Ok(Self::Poisson(rate)),
            _ => Err(format!("`{text}`: {form}")),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Constant(rate) => write!(f, "constant:{rate}"),
            Self::Poisson(rate) => write!(f, "poisson:{rate}"),
        }
    }
}

/// Attachment of a packet: when it was due.
pub(super) struct Due(pub(super) Instant);

/// The schedule of all sources, and how it was kept.
pub(super) struct Arrivals {
    load: Load,
    seed: u64,
    /// Sources that keep the schedule.
    driven: AtomicU64,
}

impl Arrivals {
    pub(super) fn new(load: Load, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            load,
            seed,
            driven: AtomicU64::new(0),
        })
    }

    /// Packets that are due within `time`, on average; 0 where sources keep their own pace.
    pub(super) fn due(&self, time: Duration) -> u64 {
        let rate = match self.load {
            Load::Own => return 0,
            Load::Constant(rate) | Load::Poisson(rate) => rate,
        };
        (rate * time.as_secs_f64()) as u64 * self.driven.load(Ordering::Relaxed)
    }
}

/// Makes every source give packets by the schedule, and begin anew when it ends. Live sources keep their own pace.
pub(super) fn drive(prepared: &mut PreparedPipeline, arrivals: &Arc<Arrivals>) {
    let parts = prepared.parts.iter_mut().zip(&prepared.pipeline.components);
    for (index, (part, component)) in parts.enumerate() {
        let PreparedComponent::Source(part) = part else {
            continue;
        };
        let load = if component.live { Load::Own } else { arrivals.load };
        arrivals
            .driven
            .fetch_add(u64::from(load != Load::Own), Ordering::Relaxed);
        let refuse: Build<dyn Source> = Box::new(|_| unreachable!("replaced at once"));
        let build: Arc<Build<dyn Source>> = Arc::new(std::mem::replace(&mut part.build, refuse));
        let arrivals = arrivals.clone();
        part.build = Box::new(move |replica| {
            Ok(Box::new(Driven {
                inner: build(replica)?,
                build: build.clone(),
                cx: None,
                load,
                random: Random(arrivals.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                due: None,
                given_since_begun: 0,
            }) as Box<dyn Source>)
        });
    }
}

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    /// Above 0, at most 1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 |= u64::from(self.0 == 0);
        let n = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((n >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

struct Driven {
    inner: Box<dyn Source>,
    build: Arc<Build<dyn Source>>,
    cx: Option<WorkerContext>,
    load: Load,
    random: Random,
    /// When the next packet is due.
    due: Option<Instant>,
    /// Packets since the source last began.
    given_since_begun: u64,
}

impl Driven {
    /// Time to the next arrival; `None`: as the source likes.
    fn interval(&mut self) -> Option<Duration> {
        let seconds = match self.load {
            Load::Own => return None,
            Load::Constant(rate) => 1.0 / rate,
            Load::Poisson(rate) => -self.random.uniform().ln() / rate,
        };
        Some(Duration::from_secs_f64(seconds.min(3600.0)))
    }

    fn begin_anew(&mut self, out: &mut dyn SourceEmitter) -> Result<(), StageError> {
        self.inner.close()?;
        self.inner = (self.build)(0)?;
        if let Some(cx) = &self.cx {
            self.inner.open(cx)?;
        }
        self.given_since_begun = 0;
        out.discontinuity();
        Ok(())
    }
}

impl SourceLayer for Driven {
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

    /// It begins anew when it ends.
    fn size_hint(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        let now = Instant::now();
        let due = match (self.due, self.load) {
            (_, Load::Own) => None,
            (Some(due), _) => Some(due),
            (None, _) => Some(now),
        };
        if let Some(due) = due {
            self.due = Some(due);
            let left = due.saturating_duration_since(now);
            if !left.is_zero() {
                std::thread::sleep(left.min(STEP));
                // The wait is not the source's: the next call measures the source alone.
                return Ok(Progress::More);
            }
        }
        let mut counting = Counting { out, due, given: 0 };
        let progress = self.inner.next(&mut counting);
        let (given, due) = (counting.given, counting.due);
        self.given_since_begun += given;
        if let Some(due) = due {
            let mut next = due;
            for _ in 0..given {
                next += self.interval().unwrap_or_default();
            }
            self.due = Some(next);
        }
        match progress {
            // One that gives nothing at all would be opened for ever.
            Ok(Progress::End) if self.given_since_begun > 0 => {
                self.begin_anew(out)?;
                Ok(Progress::More)
            }
            other => other,
        }
    }
}

struct Counting<'a> {
    out: &'a mut dyn SourceEmitter,
    due: Option<Instant>,
    given: u64,
}

impl SourceEmitter for Counting<'_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        self.given += 1;
        let due = self.due;
        self.out.emit(pts, payload, &mut |packet| {
            attach(packet);
            if let Some(due) = due {
                packet.attach(Arc::new(Due(due)));
            }
        });
    }

    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        self.given += 1;
        self.out.fail(pts, error);
    }

    fn discontinuity(&mut self) {
        // What would have come while the source was away never was.
        self.due = self.due.map(|due| due.max(Instant::now()));
        self.out.discontinuity();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_read_and_written() {
        for text in ["own", "constant:25", "poisson:0.5"] {
            assert_eq!(text.parse::<Load>().unwrap().to_string(), text);
        }
        assert_eq!("constant:30/s".parse::<Load>(), Ok(Load::Constant(30.0)));
        for wrong in ["", "poisson", "poisson:0", "poisson:x", "burst:3", "constant:1e9"] {
            assert!(
                wrong.parse::<Load>().unwrap_err().contains("poisson:25"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn poisson_arrivals_are_exponential() {
        let mut random = Random(7);
        let gaps: Vec<f64> = (0..20_000).map(|_| -random.uniform().ln()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!(
            (mean - 1.0).abs() < 0.03 && (variance - 1.0).abs() < 0.1,
            "{mean} {variance}"
        );
    }
}
