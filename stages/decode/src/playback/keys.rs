//! What a pipeline file says of playing: `pace` and `loop`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

/// How fast a source gives its packets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Pace {
    /// As fast as they are taken.
    #[default]
    Asap,
    /// By their presentation times, this many times as fast as they were recorded.
    Times(f64),
}

impl Pace {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "asap" => Some(Self::Asap),
            "realtime" => Some(Self::Times(1.0)),
            other => {
                let speed: f64 = other.strip_suffix('x')?.parse().ok()?;
                (0.001..=1000.0).contains(&speed).then_some(Self::Times(speed))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Pace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "unknown pace `{text}`; expected `asap`, `realtime`, or a factor such as `2x` from 0.001x to \
                 1000x"
            ))
        })
    }
}

impl JsonSchema for Pace {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pace".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(asap|realtime|[0-9]+(\.[0-9]+)?x)$",
        })
    }
}

/// What the wrap from the end to the beginning means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnWrap {
    /// The stream goes on: times keep rising.
    Continue,
    /// A new epoch begins: times start at 0 and trackers begin anew.
    #[default]
    Discontinuity,
}

/// How often a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looping {
    /// Number of passes; `None`: for ever.
    pub(crate) times: Option<u64>,
    pub(crate) on_wrap: OnWrap,
}

impl Default for Looping {
    fn default() -> Self {
        Self {
            times: Some(1),
            on_wrap: OnWrap::default(),
        }
    }
}

/// A number of passes, or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times(Option<u64>);

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Looping { times, .. } = deserializer.deserialize_any(LoopingVisitor { map: false })?;
        Ok(Self(times))
    }
}

struct LoopingVisitor {
    map: bool,
}

impl<'de> Visitor<'de> for LoopingVisitor {
    type Value = Looping;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of passes from 1, or `forever`")?;
        if self.map {
            f.write_str(", or `{times, on_wrap}`")?;
        }
        Ok(())
    }
    fn visit_u64<E: Error>(self, times: u64) -> Result<Looping, E> {
        if times == 0 {
            return Err(E::custom(
                "0 passes give nothing; expected a number from 1, or `forever`",
            ));
        }
        Ok(Looping {
            times: Some(times),
            ..Looping::default()
        })
    }
    fn visit_i64<E: Error>(self, times: i64) -> Result<Looping, E> {
        self.visit_u64(u64::try_from(times).unwrap_or(0))
    }
    fn visit_str<E: Error>(self, word: &str) -> Result<Looping, E> {
        if word == "forever" {
            return Ok(Looping {
                times: None,
                ..Looping::default()
            });
        }
        Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Looping, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            times: Times,
            #[serde(default)]
            on_wrap: OnWrap,
        }
        if !self.map {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let long = Long::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Looping {
            times: long.times.0,
            on_wrap: long.on_wrap,
        })
    }
}

impl<'de> Deserialize<'de> for Looping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LoopingVisitor { map: true })
    }
}

impl JsonSchema for Looping {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Loop".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {"type": "integer", "minimum": 1},
                {"const": "forever"},
                {
                    "type": "object",
                    "properties": {
                        "times": {
                            "description": "Number of passes.",
                            "oneOf": [{"type": "integer", "minimum": 1}, {"const": "forever"}],
                        },
                        "on_wrap": {
                            "description": "Whether the stream goes on, its times rising, or starts anew at each pass \
                                            (the default).",
                            "enum": ["continue", "discontinuity"],
                        },
                    },
                    "required": ["times"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
