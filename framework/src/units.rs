//! Values with units for configurations: durations, sizes, rates and percentages.
//!
//! Each reads from a string only, so that no unit is ever guessed, and accepts exactly what the `pattern` of
//! its JSON Schema accepts.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A span of time such as `15ms`, `2s`, `1m30s` or `1.5h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(pub std::time::Duration);

/// A size in bytes such as `512B`, `64KiB`, `64MiB` or `2GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// A number of events per time such as `10/s` or `600/min`, in events per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(pub f64);

/// A part of a whole such as `0.5%`, as a fraction from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(pub f64);

/// What the schema and the messages say about a unit.
struct Unit {
    name: &'static str,
    description: &'static str,
    pattern: &'static str,
    max_length: usize,
    examples: &'static [&'static str],
}

const DURATION: Unit = Unit {
    name: "Duration",
    description: "a duration with its unit (ns, us, ms, s, m, h or d)",
    pattern: r"^([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|ms|s|m|h|d))+$",
    max_length: 64,
    examples: &["15ms", "2s", "1m30s"],
};

const SIZE: Unit = Unit {
    name: "Size",
    description: "a size with its unit (B, kB, MB, GB, KiB, MiB or GiB)",
    pattern: r"^[0-9]{1,9}(\.[0-9]{1,3})?(B|kB|MB|GB|KiB|MiB|GiB)$",
    max_length: 64,
    examples: &["512B", "64MiB"],
};

const RATE: Unit = Unit {
    name: "Rate",
    description: "a rate with its unit (/s, /min or /h)",
    pattern: r"^[0-9]{1,9}(\.[0-9]{1,3})?/(s|min|h)$",
    max_length: 64,
    examples: &["10/s", "600/min"],
};

const PERCENT: Unit = Unit {
    name: "Percent",
    description: "a percentage from 0% to 100%",
    pattern: r"^(100(\.0{1,6})?|[0-9]{1,2}(\.[0-9]{1,6})?)%$",
    max_length: 64,
    examples: &["0.5%", "10%"],
};

/// The description and examples of the unit whose schema has this `pattern`.
pub(crate) fn describe_pattern(pattern: &str) -> Option<(&'static str, &'static [&'static str])> {
    [&DURATION, &SIZE, &RATE, &PERCENT]
        .into_iter()
        .find(|unit| unit.pattern == pattern)
        .map(|unit| (unit.description, unit.examples))
}

impl Unit {
    fn schema(&self) -> Schema {
        json_schema!({
            "type": "string",
            "description": format!("{}, such as `{}`.", capitalised(self.description), self.examples.join("`, `")),
            "pattern": self.pattern,
            "maxLength": self.max_length,
            "examples": self.examples,
        })
    }

    fn deserialize<'de, D: Deserializer<'de>, T>(
        &'static self,
        deserializer: D,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, D::Error> {
        deserializer.deserialize_str(UnitVisitor { unit: self, parse })
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

struct UnitVisitor<T> {
    unit: &'static Unit,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, such as `{}`",
            self.unit.description,
            self.unit.examples.join("` or `")
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

/// One number as written: whole part and decimals, so that nothing is rounded before the unit is known.
struct Number {
    whole: u64,
    /// Billionths.
    nanos: u64,
}

/// Splits the number off the front of `text`; at most nine digits before the point and `decimals` after it.
fn number(text: &str, decimals: usize) -> Option<(Number, &str)> {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let n = digits(text);
    if !(1..=9).contains(&n) {
        return None;
    }
    let (whole, mut rest) = text.split_at(n);
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let n = digits(after);
        if !(1..=decimals.min(9)).contains(&n) {
            return None;
        }
        let (fraction, after) = after.split_at(n);
        nanos = fraction.parse::<u64>().ok()? * 10u64.pow(9 - u32::try_from(n).ok()?);
        rest = after;
    }
    let number = Number {
        whole: whole.parse().ok()?,
        nanos,
    };
    Some((number, rest))
}

impl Number {
    /// `self * factor`, rounded down.
    fn times(&self, factor: u64) -> Option<u64> {
        let fraction = u128::from(self.nanos) * u128::from(factor) / 1_000_000_000;
        self.whole
            .checked_mul(factor)?
            .checked_add(u64::try_from(fraction).ok()?)
    }

    fn as_f64(&self) -> f64 {
        // Both parts are below 10^9, so exact.
        self.whole as f64 + self.nanos as f64 / 1e9
    }
}

impl Duration {
    /// Reads `15ms`, `2s`, `1m30s`, ...
    pub fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, u64); 7] = [
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
            ("d", 86_400_000_000_000),
        ];
        if text.is_empty() || text.len() > DURATION.max_length {
            return None;
        }
        let mut rest = text;
        let mut total = std::time::Duration::ZERO;
        while !rest.is_empty() {
            let (value, after) = number(rest, 9)?;
            let length = after
                .find(|c: char| !c.is_ascii_lowercase())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(length);
            let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
            // At most 10^9 days, in nanoseconds beyond 64 bits.
            let nanos = u128::from(value.whole) * u128::from(*nanos)
                + u128::from(value.nanos) * u128::from(*nanos) / 1_000_000_000;
            let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
            let below = u32::try_from(nanos % 1_000_000_000).ok()?;
            total = total.checked_add(std::time::Duration::new(seconds, below))?;
            rest = after;
        }
        Some(Self(total))
    }
}

impl Size {
    /// Reads `512B`, `64MiB`, ...
    pub fn parse(text: &str) -> Option<Self> {
        let (value, unit) = number(text, 3)?;
        let factor = match unit {
            "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        value.times(factor).map(Self)
    }
}

impl Rate {
    /// Reads `10/s`, `600/min`, ...
    pub fn parse(text: &str) -> Option<Self> {
        let (value, unit) = number(text, 3)?;
        let seconds = match unit {
            "/s" => 1.0,
            "/min" => 60.0,
            "/h" => 3600.0,
            _ => return None,
        };
        Some(Self(value.as_f64() / seconds))
    }
}

impl Percent {
    /// Reads `0.5%`, ...
    pub fn parse(text: &str) -> Option<Self> {
        let (value, unit) = number(text, 6)?;
        let whole_digits = text.find(|c: char| !c.is_ascii_digit())?;
        let fits = match value.whole {
            0..=99 => whole_digits <= 2,
            100 => value.nanos == 0,
            _ => false,
        };
        (fits && unit == "%").then(|| Self(value.as_f64() / 100.0))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, divisor) = match nanos {
            0 => ("s", 1_000_000_000),
            n if n % 1_000_000_000 == 0 => ("s", 1_000_000_000),
            n if n % 1_000_000 == 0 => ("ms", 1_000_000),
            n if n % 1_000 == 0 => ("us", 1_000),
            _ => ("ns", 1),
        };
        write!(f, "{}{unit}", nanos / divisor)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift))
            .unwrap_or(("B", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// Text that is not a value with its unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, such as `{example}`")]
pub struct UnitError {
    expected: &'static str,
    example: &'static str,
}

macro_rules! unit {
    ($type:ident, $unit:ident) => {
        impl std::str::FromStr for $type {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                Self::parse(text).ok_or(UnitError {
                    expected: $unit.description,
                    example: $unit.examples[0],
                })
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $unit.deserialize(deserializer, Self::parse)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $unit.name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $unit.schema()
            }
        }
    };
}

unit!(Duration, DURATION);
unit!(Size, SIZE);
unit!(Rate, RATE);
unit!(Percent, PERCENT);

impl From<Duration> for std::time::Duration {
    fn from(value: Duration) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration(std::time::Duration::from_millis(n))
    }

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        assert_eq!(Duration::parse("15ms"), Some(ms(15)));
        assert_eq!(Duration::parse("1m30s"), Some(ms(90_000)));
        assert_eq!(Duration::parse("1.5h"), Some(ms(5_400_000)));
        assert_eq!(Duration::parse("0s"), Some(ms(0)));
        for bad in [
            "", "15", "15 ms", "ms", "-1s", "1.s", "1e3s", "1y", "1Ms", "１s", "1s ",
        ] {
            assert_eq!(Duration::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_know_binary_and_decimal_units() {
        assert_eq!(Size::parse("64MiB"), Some(Size(64 << 20)));
        assert_eq!(Size::parse("1.5KiB"), Some(Size(1536)));
        assert_eq!(Size::parse("2GB"), Some(Size(2_000_000_000)));
        assert_eq!(
            Size::parse("999999999.999GiB").map(|s| s.0 >> 30),
            Some(999_999_999)
        );
        for bad in ["64", "64M", "64mib", "MiB", "1 GB", "-1B"] {
            assert_eq!(Size::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rates_and_percentages() {
        assert_eq!(Rate::parse("600/min"), Some(Rate(10.0)));
        assert_eq!(Rate::parse("10"), None);
        assert_eq!(Percent::parse("0.5%"), Some(Percent(0.005)));
        assert_eq!(Percent::parse("100%"), Some(Percent(1.0)));
        assert_eq!(Percent::parse("100.1%"), None);
        assert_eq!(Percent::parse("101%"), None);
        assert_eq!(Percent::parse("005%"), None);
    }

    #[test]
    fn a_bare_number_is_refused_with_an_example() {
        let error = serde_json::from_str::<Duration>("15").unwrap_err().to_string();
        assert!(error.contains("a duration with its unit"), "{error}");
        assert!(error.contains("15ms"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in 0..10u64.pow(17), bytes in 0..10u64.pow(9)) {
            let duration = Duration(std::time::Duration::from_nanos(nanos));
            if let Some(read) = Duration::parse(&duration.to_string()) {
                prop_assert_eq!(read, duration);
            } else {
                // Only a number of more than nine digits is refused.
                prop_assert!(duration.to_string().len() > 10);
            }
            prop_assert_eq!(Size::parse(&Size(bytes).to_string()), Some(Size(bytes)));
        }

        #[test]
        fn patterns_and_parsers_agree(text in r"[0-9]{0,11}(\.[0-9]{0,10})?(ns|us|ms|s|m|h|d|B|kB|KiB|GB|/s|/min|%|x)?([0-9]{1,2}s)?") {
            for (unit, parsed) in [
                (&DURATION, Duration::parse(&text).is_some()),
                (&SIZE, Size::parse(&text).is_some()),
                (&RATE, Rate::parse(&text).is_some()),
                (&PERCENT, Percent::parse(&text).is_some()),
            ] {
                let pattern = regex::Regex::new(unit.pattern).unwrap();
                prop_assert_eq!(parsed, pattern.is_match(&text), "{} {}", unit.name, text);
            }
        }
    }
}
