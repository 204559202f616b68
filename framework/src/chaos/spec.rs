//! What faults are asked for, as text: `panic=0.3%,stall@detect=0.1%/200ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::config::suggest::{did_you_mean, list};
use crate::registry::Role;
use crate::units;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A stage panics instead of taking a packet.
    Panic,
    /// A stage hangs with a packet in hand.
    Stall,
    /// A stage takes longer than usual.
    Slow,
    /// A source gives a damaged packet.
    Corrupt,
    /// A source goes away, and comes back after a time as a new instance and a new epoch.
    SourceLoss,
    /// A sink refuses a packet.
    SinkError,
    /// The clock of the run leaps ahead, and the presentation times of a source jump, forward or back, and stay there.
    ClockJump,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 7] = [
        Self::Panic,
        Self::Stall,
        Self::Slow,
        Self::Corrupt,
        Self::SourceLoss,
        Self::SinkError,
        Self::ClockJump,
    ];

    /// The name used in specifications and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::Corrupt => "corrupt",
            Self::SourceLoss => "source_loss",
            Self::SinkError => "sink_error",
            Self::ClockJump => "clock_jump",
        }
    }

    /// Whether a rule that names no component concerns those of this role.
    pub(super) fn befalls(self, role: Role) -> bool {
        role == match self {
            Self::Panic | Self::Stall | Self::Slow => Role::Stage,
            Self::Corrupt | Self::SourceLoss | Self::ClockJump => Role::Source,
            Self::SinkError => Role::Sink,
        }
    }

    /// Whether a rule may name a component of this role.
    pub(super) fn may_befall(self, role: Role) -> bool {
        self.befalls(role) || matches!((self, role), (Self::Stall | Self::Slow, Role::Sink))
    }

    pub(super) fn usual_role(self) -> &'static str {
        match self {
            Self::Panic | Self::Stall | Self::Slow => "stage",
            Self::Corrupt | Self::SourceLoss | Self::ClockJump => "source",
            Self::SinkError => "sink",
        }
    }

    /// How long it lasts where the rule does not say; `None`: it has no length.
    fn usual_time(self) -> Option<Duration> {
        match self {
            Self::Stall | Self::SourceLoss => Some(Duration::from_millis(200)),
            Self::Slow => Some(Duration::from_millis(10)),
            Self::ClockJump => Some(Duration::from_secs(5)),
            Self::Panic | Self::Corrupt | Self::SinkError => None,
        }
    }
}

/// One fault, where it strikes, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The fault.
    pub fault: Fault,
    /// The component it befalls; `None`: all for which it is usual.
    pub component: Option<String>,
    /// Part of the packets that are hit, 0 to 1.
    pub rate: f64,
    /// How long it lasts, for faults that have a length.
    pub time: Option<Duration>,
}

impl Rule {
    pub(super) fn time(&self) -> Duration {
        self.time.or_else(|| self.fault.usual_time()).unwrap_or_default()
    }
}

/// The faults of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spec {
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What `default` stands for: some of everything.
const DEFAULT: &str = "panic=0.3%,stall=0.1%/200ms,slow=1%/10ms,corrupt=0.5%,source_loss=0.1%/200ms,\
                       sink_error=0.5%,clock_jump=0.1%/5s";

impl FromStr for Spec {
    type Err = String;

    /// Reads `FAULT[@COMPONENT]=RATE[/TIME]`, several with commas, or `default`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for part in text.split(',').map(str::trim) {
            if part == "default" {
                rules.extend(Self::from_str(DEFAULT)?.rules);
                continue;
            }
            rules.push(rule(part)?);
        }
        Ok(Self { rules })
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let form = "write FAULT[@COMPONENT]=RATE[/TIME], such as `panic=0.3%` or `stall@detect=0.1%/200ms`, or `default`";
    let (what, how) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is no fault; {form}"))?;
    let (name, component) = match what.split_once('@') {
        Some((name, component)) => (name, Some(component.to_owned())),
        None => (what, None),
    };
    let names = Fault::ALL.iter().map(|fault| fault.name());
    let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name);
    let Some(fault) = fault else {
        let suggestion = did_you_mean(name, names.clone());
        let known = format!("there are {}", list(names, "and"));
        let help = if suggestion.is_empty() { known } else { suggestion };
        return Err(format!("`{name}` is no fault; {help}"));
    };
    let (rate, time) = match how.split_once('/') {
        Some((rate, time)) => (rate, Some(time)),
        None => (how, None),
    };
    let rate: units::Percent = unit(rate).map_err(|e| format!("`{text}`: {e}"))?;
    let time: Option<units::Duration> = time.map(unit).transpose().map_err(|e| format!("`{text}`: {e}"))?;
    if time.is_some() && fault.usual_time().is_none() {
        return Err(format!("`{text}`: `{name}` has no length; leave out the time"));
    }
    Ok(Rule {
        fault,
        component,
        rate: rate.0,
        time: time.map(|time| time.0),
    })
}

/// A value with its unit, read as in a pipeline file.
fn unit<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|e| e.to_string())
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rule) in self.rules.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{}", rule.fault.name())?;
            if let Some(component) = &rule.component {
                write!(f, "@{component}")?;
            }
            write!(f, "={}%", rule.rate * 100.0)?;
            if rule.fault.usual_time().is_some() {
                write!(f, "/{:?}", rule.time())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_and_written() {
        let spec: Spec = "panic=0.3%, stall@detect=0.1%/1s".parse().unwrap();
        assert_eq!(spec.to_string(), "panic=0.3%,stall@detect=0.1%/1s");
        let [panic, stall] = &spec.rules[..] else {
            panic!("{spec:?}")
        };
        assert_eq!((panic.fault, panic.component.as_deref()), (Fault::Panic, None));
        assert_eq!((stall.rate, stall.time()), (0.001, Duration::from_secs(1)));
        let all: Spec = "default".parse().unwrap();
        assert_eq!(all.rules.len(), Fault::ALL.len());
        assert_eq!(all.to_string().parse::<Spec>().unwrap(), all);
    }

    #[test]
    fn slips_are_named() {
        let says = |text: &str, words: &str| {
            let error = text.parse::<Spec>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        };
        says("panik=1%", "did you mean `panic`?");
        says("explode=1%", "there are `panic`");
        says("panic", "FAULT[@COMPONENT]=RATE");
        says("panic=1", "percentage");
        says("panic=1%/5s", "has no length");
        says("stall=1%/5", "duration");
        says("", "FAULT");
    }
}
