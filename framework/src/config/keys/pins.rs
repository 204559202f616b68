//! Where workers are pinned.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::plan::{CpuSet, PinSpec, Smt};
use crate::diagnostics::Span;

/// A kernel CPU number such as `3`, or a range such as `2-5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CoreRangeText")]
pub struct CoreRange {
    /// First CPU.
    pub first: usize,
    /// Last CPU, itself included.
    pub last: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CoreRangeText {
    One(usize),
    Range(String),
}

/// Highest kernel CPU number.
const MAX_CPU: usize = 1023;

impl TryFrom<CoreRangeText> for CoreRange {
    type Error = String;

    fn try_from(text: CoreRangeText) -> Result<Self, String> {
        let (first, last) = match text {
            CoreRangeText::One(n) => (n, n),
            CoreRangeText::Range(text) => text
                .split_once('-')
                .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
                .ok_or_else(|| format!("expected a CPU number or a range such as 2-5, found \"{text}\""))?,
        };
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        if last > MAX_CPU {
            return Err(format!("the highest CPU number is {MAX_CPU}, found {last}"));
        }
        Ok(Self { first, last })
    }
}

impl JsonSchema for CoreRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CoreRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A kernel CPU number such as `3`, or a range such as `2-5`.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": MAX_CPU },
                {
                    "type": "string",
                    "description": "A range of kernel CPU numbers, such as `2-5`.",
                    "pattern": "^[0-9]{1,4}-[0-9]{1,4}$"
                }
            ]
        })
    }
}

/// CPU numbers of ranges, ascending, each once.
pub fn cpus(ranges: &[CoreRange]) -> Vec<usize> {
    let mut all: Vec<usize> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Where workers are pinned. The keys are intersected.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pin")]
pub struct PinKeys {
    /// Kernel CPU numbers and ranges, such as `[1, 4-7]`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub cores: Option<Vec<CoreRange>>,
    /// NUMA node, such as `numa0`.
    #[serde(default)]
    pub node: Option<NodeKey>,
    /// Class of cores.
    #[serde(default)]
    pub cpuset: CpuSetKey,
    /// Whether both hardware threads of a core may be used.
    #[serde(default)]
    pub smt: SmtKey,
    /// No other component may be pinned to these CPUs.
    #[serde(default)]
    pub exclusive: bool,
    /// Replicas may share CPUs when there are too few.
    #[serde(default)]
    pub oversubscribe: bool,
}

/// A NUMA node such as `numa0`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeKey(pub usize);

impl TryFrom<String> for NodeKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_prefix("numa").filter(|n| (1..=4).contains(&n.len()));
        number
            .filter(|n| n.chars().all(|c| c.is_ascii_digit()))
            .and_then(|n| n.parse().ok())
            .map(Self)
            .ok_or_else(|| format!("expected a NUMA node such as numa0, found \"{text}\""))
    }
}

impl JsonSchema for NodeKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NumaNode".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A NUMA node such as `numa0`.",
            "pattern": "^numa[0-9]{1,4}$"
        })
    }
}

/// Class of cores.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpuSetKey {
    /// All CPUs.
    #[default]
    All,
    /// Performance cores of a hybrid processor.
    Pcores,
    /// Efficiency cores of a hybrid processor.
    Ecores,
    /// One hardware thread of each core.
    Physical,
}

/// Use of the hardware threads of a core.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmtKey {
    /// All hardware threads.
    #[default]
    Allow,
    /// One hardware thread per core.
    Avoid,
}

impl PinKeys {
    /// The pin, which stands at `span`.
    pub fn spec(&self, span: Span) -> PinSpec {
        PinSpec {
            cores: self.cores.as_deref().map(cpus),
            node: self.node.map(|n| n.0),
            cpuset: match self.cpuset {
                CpuSetKey::All => CpuSet::All,
                CpuSetKey::Pcores => CpuSet::Pcores,
                CpuSetKey::Ecores => CpuSet::Ecores,
                CpuSetKey::Physical => CpuSet::Physical,
            },
            smt: match self.smt {
                SmtKey::Allow => Smt::Allow,
                SmtKey::Avoid => Smt::Avoid,
            },
            exclusive: self.exclusive,
            oversubscribe: self.oversubscribe,
            span,
        }
    }
}
