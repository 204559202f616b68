//! Faults on purpose: a prepared pipeline whose instances panic, stall, err and lose their source, as a seed decides.
//!
//! [`inject`] wraps instances as they are built; a pipeline that was not given to it cannot be disturbed, and nothing
//! here is global. Whether a packet is hit depends on the seed, the component, the fault and the packet's id alone,
//! so that the same seed hits the same packets however threads take turns.

mod clock;
mod layers;
mod spec;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use spec::{Fault, Rule, Spec};

use clock::LeapingClock;

use crate::clock::Clock;
use crate::config::plan::PreparedPipeline;
use crate::config::suggest::{did_you_mean, list};
use crate::error::Code;
use crate::ledger::lock;
use crate::packet::Payload;
use crate::registry::{PreparedComponent, Role};

/// Code of packets that fail because a fault was injected.
pub const INJECTED: Code = Code("E0490");

/// Most faults whose times are kept, for drawing; all are counted.
const KEPT: usize = 20_000;

/// Damages a payload, as a number of the seed decides; `None`: it knows no way, and the packet is failed instead.
pub type Corrupt = fn(&Arc<dyn Payload>, u64) -> Option<Arc<dyn Payload>>;

/// The faults of one run: what is to be injected, and what has been.
pub struct Chaos {
    spec: Spec,
    seed: u64,
    corrupt: Option<Corrupt>,
    active: AtomicBool,
    started: Instant,
    counts: [AtomicU64; Fault::ALL.len()],
    times: Mutex<Vec<(Duration, Fault)>>,
    last: Mutex<Option<Instant>>,
    clock: LeapingClock,
}

impl Chaos {
    /// Faults by `spec` and `seed`; `corrupt` damages payloads where the caller knows how.
    pub fn new(spec: Spec, seed: u64, corrupt: Option<Corrupt>) -> Arc<Self> {
        Arc::new(Self {
            spec,
            seed,
            corrupt,
            active: AtomicBool::new(true),
            started: Instant::now(),
            counts: Default::default(),
            times: Mutex::new(touched(KEPT, (Duration::ZERO, Fault::Panic))),
            last: Mutex::default(),
            clock: LeapingClock::default(),
        })
    }

    /// The clock for the run, which leaps where the specification says so.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    /// What was asked for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Injects nothing from now on, so that a run can be seen to recover.
    pub fn calm(&self) {
        self.active.store(false, Ordering::Relaxed);
    }

    /// Number of faults of a kind so far.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts
            .get(fault as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Number of all faults so far.
    pub fn total(&self) -> u64 {
        Fault::ALL.iter().map(|fault| self.count(*fault)).sum()
    }

    /// Kinds of faults that the specification asks for.
    pub fn kinds(&self) -> Vec<Fault> {
        let asked = |fault: &Fault| self.spec.rules.iter().any(|rule| rule.fault == *fault);
        Fault::ALL.iter().copied().filter(asked).collect()
    }

    /// When faults were injected, since the start, oldest first; the first 20,000 of them.
    pub fn times(&self) -> Vec<(Duration, Fault)> {
        lock(&self.times).clone()
    }

    /// When the last fault was injected.
    pub fn last(&self) -> Option<Instant> {
        *lock(&self.last)
    }

    fn note(&self, fault: Fault) {
        if let Some(count) = self.counts.get(fault as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut times = lock(&self.times);
        if times.len() < KEPT {
            times.push((self.started.elapsed(), fault));
        }
        *lock(&self.last) = Some(Instant::now());
    }
}

/// Wraps the instances of a pipeline so that they are disturbed.
///
/// # Errors
/// When a rule names a component that is not there, or one where its fault cannot happen, or hits no component.
pub fn inject(prepared: &mut PreparedPipeline, chaos: &Arc<Chaos>) -> Result<(), String> {
    let components = &prepared.pipeline.components;
    for rule in &chaos.spec.rules {
        let Some(name) = &rule.component else {
            if !components.iter().any(|c| rule.fault.befalls(c.role)) {
                return Err(format!(
                    "`{}` befalls {}s, and the pipeline has none",
                    rule.fault.name(),
                    rule.fault.usual_role()
                ));
            }
            continue;
        };
        let Some(component) = components.iter().find(|c| &*c.name == name.as_str()) else {
            let names = components.iter().map(|c| &*c.name);
            let suggestion = match did_you_mean(name, names.clone()) {
                none if none.is_empty() => format!("there are {}", list(names, "and")),
                some => some,
            };
            return Err(format!("there is no component `{name}`; {suggestion}"));
        };
        if !rule.fault.may_befall(component.role) {
            return Err(format!(
                "`{}` cannot befall `{name}`: it befalls {}s",
                rule.fault.name(),
                rule.fault.usual_role()
            ));
        }
    }
    let parts = std::mem::take(&mut prepared.parts);
    let parts = parts.into_iter().zip(&prepared.pipeline.components);
    prepared.parts = parts
        .map(|(part, component)| {
            let dice = Dice::new(chaos, &component.name, component.role);
            if dice.rules.is_empty() {
                return part;
            }
            match part {
                PreparedComponent::Source(part) => PreparedComponent::Source(layers::source(part, dice)),
                PreparedComponent::Stage(part) => PreparedComponent::Stage(layers::stage(part, dice)),
                PreparedComponent::Sink(part) => PreparedComponent::Sink(layers::sink(part, dice)),
            }
        })
        .collect();
    Ok(())
}

/// Decides what happens to the packets of one component.
#[derive(Clone)]
struct Dice {
    chaos: Arc<Chaos>,
    name: Arc<str>,
    /// Rules that concern the component, each with the hash of its place in the specification.
    rules: Arc<[(Rule, u64)]>,
}

impl Dice {
    fn new(chaos: &Arc<Chaos>, name: &Arc<str>, role: Role) -> Self {
        let concerns = |rule: &&Rule| match &rule.component {
            Some(named) => **named == **name,
            None => rule.fault.befalls(role),
        };
        let rules = chaos.spec.rules.iter().filter(concerns);
        let salted = rules.map(|rule| {
            let salt = mix(chaos.seed ^ text_hash(name) ^ text_hash(rule.fault.name()).rotate_left(17));
            (rule.clone(), salt)
        });
        Self {
            chaos: chaos.clone(),
            name: name.clone(),
            rules: salted.collect(),
        }
    }

    /// How long the fault lasts, and a number for its details, if it hits this packet.
    fn hit(&self, fault: Fault, stream: &str, epoch: u32, seq: u64) -> Option<(Duration, u64)> {
        if !self.chaos.active.load(Ordering::Relaxed) {
            return None;
        }
        self.rules.iter().find_map(|(rule, salt)| {
            if rule.fault != fault {
                return None;
            }
            let number = mix(salt ^ text_hash(stream) ^ mix(seq ^ (u64::from(epoch) << 40)));
            // 53 bits, so that the quotient is exact.
            let uniform = (number >> 11) as f64 / (1_u64 << 53) as f64;
            (uniform < rule.rate).then(|| (rule.time(), mix(number)))
        })
    }
}

/// An empty list with room for `most`, its memory touched: it will not look like growth while it fills.
pub(crate) fn touched<T: Clone>(most: usize, any: T) -> Vec<T> {
    let mut list = vec![any; most];
    list.clear();
    list
}

/// FNV-1a.
fn text_hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// The finalizer of SplitMix64.
fn mix(mut n: u64) -> u64 {
    n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice(spec: &str, seed: u64) -> Dice {
        let chaos = Chaos::new(spec.parse().unwrap(), seed, None);
        Dice::new(&chaos, &"detect".into(), Role::Stage)
    }

    fn hits(dice: &Dice, fault: Fault) -> Vec<u64> {
        (0..20_000)
            .filter(|seq| dice.hit(fault, "cam", 0, *seq).is_some())
            .collect()
    }

    #[test]
    fn a_seed_decides_which_packets_are_hit_and_the_rate_how_many() {
        let one = hits(&dice("panic=1%", 1), Fault::Panic);
        assert_eq!(one, hits(&dice("panic=1%", 1), Fault::Panic));
        assert_ne!(one, hits(&dice("panic=1%", 2), Fault::Panic));
        // 200 expected, standard deviation 14.
        assert!((130..270).contains(&one.len()), "{}", one.len());
        assert_eq!(hits(&dice("panic=100%", 1), Fault::Panic).len(), 20_000);
    }

    #[test]
    fn faults_are_independent_of_each_other_and_end_when_told() {
        let dice = dice("panic=2%,slow=2%", 7);
        let (panics, slow) = (hits(&dice, Fault::Panic), hits(&dice, Fault::Slow));
        let both = panics.iter().filter(|seq| slow.contains(seq)).count();
        assert!(both < panics.len() / 4, "{both} of {}", panics.len());
        dice.chaos.calm();
        assert!(hits(&dice, Fault::Panic).is_empty());
    }

    #[test]
    fn rules_concern_the_components_they_name_or_their_usual_role() {
        let chaos = Chaos::new("panic@decode=1%,corrupt=1%".parse().unwrap(), 0, None);
        let rules = |name: &str, role| Dice::new(&chaos, &name.into(), role).rules.len();
        assert_eq!(rules("decode", Role::Stage), 1);
        assert_eq!(rules("detect", Role::Stage), 0);
        assert_eq!(rules("cam", Role::Source), 1);
        assert_eq!(rules("out", Role::Sink), 0);
    }
}
