//! Attributes of an operation as a model file spells them.

use crate::error::{OpError, bail};

/// The name of a value in a table of names.
pub(crate) fn word_of<T: PartialEq>(words: &[(&str, T)], value: &T) -> String {
    words
        .iter()
        .find(|w| w.1 == *value)
        .map_or("", |w| w.0)
        .to_owned()
}

/// The attributes of one layer's `data` element.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    /// Type of the operation.
    pub kind: &'a str,
    /// Number of the operation set: 8 of `opset8`.
    pub opset: u32,
    /// Names and values.
    pub pairs: Vec<(&'a str, &'a str)>,
    /// Number of inputs the layer has.
    pub inputs: usize,
}

impl<'a> Attributes<'a> {
    /// The text of an attribute.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.trim())
    }

    fn parse<T>(
        &self,
        name: &str,
        what: &str,
        default: Option<T>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, OpError> {
        match (self.get(name), default) {
            (Some(text), _) => match parse(text) {
                Some(value) => Ok(value),
                None => bail!("attribute `{name}`: expected {what}, found \"{text}\""),
            },
            (None, Some(default)) => Ok(default),
            (None, None) => bail!("attribute `{name}` is missing: expected {what}"),
        }
    }

    /// A signed integer.
    pub fn int(&self, name: &str, default: Option<i64>) -> Result<i64, OpError> {
        self.parse(name, "an integer", default, |t| t.parse().ok())
    }

    /// A non-negative integer.
    pub fn size(&self, name: &str, default: Option<usize>) -> Result<usize, OpError> {
        self.parse(name, "a non-negative integer", default, |t| t.parse().ok())
    }

    /// A finite number.
    pub fn float(&self, name: &str, default: Option<f32>) -> Result<f32, OpError> {
        self.parse(name, "a number", default, |t| {
            // Limits of Clamp may be written as an infinity.
            match t.to_ascii_lowercase().as_str() {
                "inf" | "infinity" => Some(f32::INFINITY),
                "-inf" | "-infinity" => Some(f32::NEG_INFINITY),
                _ => t.parse::<f32>().ok().filter(|v| !v.is_nan()),
            }
        })
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str, default: Option<bool>) -> Result<bool, OpError> {
        self.parse(name, "true or false", default, |t| {
            match t.to_ascii_lowercase().as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            }
        })
    }

    /// An element type.
    pub fn element_type(
        &self,
        name: &str,
        default: Option<crate::tensor::ElementType>,
    ) -> Result<crate::tensor::ElementType, OpError> {
        self.parse(
            name,
            "one of boolean, f16, bf16, f32, f64, i4..i64, u1..u64",
            default,
            crate::tensor::ElementType::from_name,
        )
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)], default: Option<T>) -> Result<T, OpError> {
        let what = words.iter().map(|w| w.0).collect::<Vec<_>>().join(", ");
        self.parse(name, &format!("one of {what}"), default, |t| {
            words.iter().find(|w| w.0.eq_ignore_ascii_case(t)).map(|w| w.1)
        })
    }

    /// A list of numbers separated by commas, empty for an empty text.
    pub fn list<T: std::str::FromStr + Clone>(
        &self,
        name: &str,
        default: Option<&[T]>,
    ) -> Result<Vec<T>, OpError> {
        self.parse(
            name,
            "integers separated by commas",
            default.map(<[T]>::to_vec),
            |t| {
                if t.is_empty() {
                    return Some(Vec::new());
                }
                t.split(',').map(|v| v.trim().parse().ok()).collect()
            },
        )
    }
}
