//! Configuration values that several kinds share.

use flow::error::Code;
use flow::registry::ConfigIssue;
use flow_frame::{ColorOrder, Frame};
use schemars::JsonSchema;
use serde::Deserialize;

/// Size of a tensor or frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected `[width, height]` in pixels, each at least 1, or `model`"
)]
pub enum Size {
    /// Width and height in pixels.
    Pixels(#[schemars(range(min = 1, max = 16384))] [u32; 2]),
    /// As the consumer wants it.
    Model(ModelWord),
}

impl Default for Size {
    fn default() -> Self {
        Self::Model(ModelWord::Model)
    }
}

/// The word `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelWord {
    /// As the consumer wants it.
    Model,
}

/// Order of the colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColorKey {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
    /// One channel.
    Gray,
    /// As the consumer says; where it says nothing, `gray` for one channel and `rgb` for three.
    #[default]
    Model,
}

impl ColorKey {
    /// The order, unless it is the consumer's.
    pub fn order(self) -> Option<ColorOrder> {
        match self {
            Self::Rgb => Some(ColorOrder::Rgb),
            Self::Bgr => Some(ColorOrder::Bgr),
            Self::Gray => Some(ColorOrder::Gray),
            Self::Model => None,
        }
    }
}

/// Order of the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayoutKey {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
    /// As the consumer says; where it says nothing, `nchw`.
    #[default]
    Model,
}

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DTypeKey {
    /// Unsigned 8 bit.
    U8,
    /// 32-bit float.
    F32,
    /// As the consumer says; where it says nothing, `f32`.
    #[default]
    Model,
}

/// Whether a network's own input quantization is applied here, in one table with the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tables {
    /// Where the consumer quantizes its input: exact, and a quarter of the memory.
    #[default]
    Auto,
    /// Never: the consumer gets `f32`.
    Off,
}

/// One value for all channels, or one each.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, or a list of three numbers")]
pub enum PerChannel {
    /// All channels.
    All(f32),
    /// One each, in the order of the tensor's channels.
    Each([f32; 3]),
}

impl PerChannel {
    /// The value of each of three channels.
    pub fn values(self) -> [f32; 3] {
        match self {
            Self::All(v) => [v; 3],
            Self::Each(v) => v,
        }
    }
}

/// Faults of a size.
pub(crate) fn check_size(size: Size) -> Vec<ConfigIssue> {
    let Size::Pixels(sides) = size else {
        return Vec::new();
    };
    sides
        .iter()
        .enumerate()
        .filter(|(_, side)| !(1..=Frame::MAX_SIDE).contains(*side))
        .map(|(i, side)| ConfigIssue {
            code: Code("E0140"),
            key: format!("size[{i}]"),
            message: format!("a side of {side} pixels"),
            help: Some(format!("use 1 to {} pixels", Frame::MAX_SIDE)),
        })
        .collect()
}

/// Faults of mean and scale.
pub(crate) fn check_normalization(mean: PerChannel, scale: PerChannel, color: ColorKey) -> Vec<ConfigIssue> {
    let mut issues = Vec::new();
    let mut issue = |key: &str, message: String, help: &str| {
        issues.push(ConfigIssue {
            code: Code("E0141"),
            key: key.into(),
            message,
            help: Some(help.into()),
        });
    };
    if mean.values().iter().any(|v| !v.is_finite()) {
        issue(
            "mean",
            "the mean is not a finite number".into(),
            "use a number in sample units, such as 127.5",
        );
    }
    if scale.values().iter().any(|v| !v.is_finite() || *v == 0.0) {
        issue(
            "scale",
            "the scale divides, so it must be a finite number other than 0".into(),
            "value = (sample - mean) / scale; leave `scale` out for 1",
        );
    }
    if color == ColorKey::Gray {
        for (key, value) in [("mean", mean), ("scale", scale)] {
            if matches!(value, PerChannel::Each(_)) {
                issue(
                    key,
                    "three values for a grey tensor of one channel".into(),
                    "give one number",
                );
            }
        }
    }
    issues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_lists_or_the_word_model() {
        let read = |s: &str| serde_json::from_str::<Size>(s);
        assert_eq!(read("[320, 240]").unwrap(), Size::Pixels([320, 240]));
        assert_eq!(read("\"model\"").unwrap(), Size::default());
        for bad in ["\"modl\"", "[1]", "[1, 2, 3]", "320", "[-1, 2]"] {
            let e = read(bad).unwrap_err().to_string();
            assert!(e.contains("[width, height]"), "{e}");
        }
    }

    #[test]
    fn zero_sides_and_zero_scales_are_refused_with_their_key() {
        assert_eq!(check_size(Size::Pixels([320, 0]))[0].key, "size[1]");
        let issues = check_normalization(
            PerChannel::All(0.0),
            PerChannel::Each([1.0, 0.0, 1.0]),
            ColorKey::Gray,
        );
        let keys: Vec<_> = issues.iter().map(|i| i.key.as_str()).collect();
        assert_eq!(keys, ["scale", "scale"]);
    }
}
