//! Stage `letterbox`: a frame scaled with its proportions kept, the rest padded.

use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::{error::PrepareError, ports::Ports, stage::Stage};
use flow_frame::{FRAME, Geometry, TENSOR};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::keys::{ColorKey, DTypeKey, LayoutKey, PerChannel, Size, Tables, check_normalization, check_size};
use crate::target::TargetKeys;
use crate::transform::{Fit, prepare_transform};
use crate::{Filter, normalize};

/// Scales frames into a size with their proportions kept, pads the rest, and makes tensors of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LetterboxConfig {
    /// Width and height of the tensor in pixels, or `model`: what the consumer wants.
    #[serde(default)]
    pub size: Size,
    /// Colour of the padding: one value, or red, green and blue; each from 0 to 255.
    #[serde(default)]
    pub pad: Pad,
    /// Where the picture lies.
    #[serde(default)]
    pub align: Align,
    /// How pixels are interpolated.
    #[serde(default)]
    pub filter: Filter,
    /// Order of the colour channels.
    #[serde(default)]
    pub color: ColorKey,
    /// Order of the axes.
    #[serde(default)]
    pub layout: LayoutKey,
    /// Element type.
    #[serde(default)]
    pub dtype: DTypeKey,
    /// Subtracted from each sample: `value = (sample - mean) / scale`, samples from 0 to 255.
    #[serde(default = "normalize::no_mean")]
    pub mean: PerChannel,
    /// Divides what is left.
    #[serde(default = "normalize::no_scale")]
    pub scale: PerChannel,
    /// Whether the consumer's own input quantization is applied here.
    #[serde(default)]
    pub tables: Tables,
}

/// Colour of padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a value from 0 to 255, or a list of three: red, green, blue"
)]
pub enum Pad {
    /// A grey.
    Gray(u8),
    /// Red, green and blue.
    Rgb([u8; 3]),
}

impl Default for Pad {
    /// 114, what the YOLO family pads with.
    fn default() -> Self {
        Self::Gray(114)
    }
}

/// Where the scaled picture lies in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// In the middle.
    #[default]
    Center,
    /// In the top left corner.
    TopLeft,
}

impl Config for LetterboxConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = check_size(self.size);
        issues.extend(check_normalization(self.mean, self.scale, self.color));
        issues
    }
}

/// The rectangle of a tensor that the picture covers, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Left edge.
    pub left: u32,
    /// Top edge.
    pub top: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

impl Placement {
    /// The whole of a tensor.
    pub fn whole((width, height): (u32, u32)) -> Self {
        Self {
            left: 0,
            top: 0,
            width,
            height,
        }
    }

    /// The largest rectangle of `target` with the proportions of `source` (width, height), each side rounded
    /// to whole pixels. Where the free space is odd, the right or lower margin is the wider one.
    pub fn letterbox(source: (u32, u32), target: (u32, u32), align: Align) -> Self {
        let scale =
            (f64::from(target.0) / f64::from(source.0)).min(f64::from(target.1) / f64::from(source.1));
        let side = |from: u32, room: u32| ((f64::from(from) * scale).round() as u32).clamp(1, room);
        let (width, height) = (side(source.0, target.0), side(source.1, target.1));
        let (left, top) = match align {
            Align::Center => ((target.0 - width) / 2, (target.1 - height) / 2),
            Align::TopLeft => (0, 0),
        };
        Self {
            left,
            top,
            width,
            height,
        }
    }

    /// The way from pixels of a `target`-sized tensor back to pixels of the `source` picture lying here.
    pub fn geometry(&self, source: (u32, u32), target: (u32, u32)) -> Geometry {
        let scale_x = source.0 as f32 / self.width as f32;
        let scale_y = source.1 as f32 / self.height as f32;
        Geometry {
            scale_x,
            scale_y,
            offset_x: -(self.left as f32) * scale_x,
            offset_y: -(self.top as f32) * scale_y,
            input: target,
            source,
        }
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<LetterboxConfig>(
        KindInfo {
            name: "letterbox",
            summary: "Scales frames into the input of a network with their proportions kept, and pads the rest",
            ports: Ports {
                takes: &[FRAME],
                gives: &[TENSOR],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &LetterboxConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let keys = TargetKeys {
        size: config.size,
        color: config.color,
        layout: config.layout,
        dtype: config.dtype,
        mean: config.mean,
        scale: config.scale,
        tables: config.tables,
    };
    let pad = match config.pad {
        Pad::Gray(v) => [v; 3],
        Pad::Rgb(v) => v,
    };
    let fit = Fit::Letterbox {
        align: config.align,
        pad,
    };
    Ok(prepare_transform(keys.resolve(cx)?, config.filter, fit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_picture_lies_inside_and_its_corners_lead_back(
            sw in 1u32..4000, sh in 1u32..4000, tw in 1u32..1000, th in 1u32..1000, center: bool,
        ) {
            let align = if center { Align::Center } else { Align::TopLeft };
            let p = Placement::letterbox((sw, sh), (tw, th), align);
            prop_assert!(p.width >= 1 && p.height >= 1);
            prop_assert!(p.left + p.width <= tw && p.top + p.height <= th);
            prop_assert!(p.width == tw || p.height == th);
            let g = p.geometry((sw, sh), (tw, th));
            let near = |a: (f32, f32), b: (f32, f32)| (a.0 - b.0).abs() < 0.05 && (a.1 - b.1).abs() < 0.05;
            prop_assert!(near(g.to_source_unclamped(p.left as f32, p.top as f32), (0.0, 0.0)));
            let corner = g.to_source_unclamped((p.left + p.width) as f32, (p.top + p.height) as f32);
            prop_assert!(near(corner, (sw as f32, sh as f32)), "{corner:?}");
        }
    }

    #[test]
    fn a_wide_frame_gets_bars_above_and_below() {
        let p = Placement::letterbox((768, 432), (640, 640), Align::Center);
        assert_eq!((p.left, p.top, p.width, p.height), (0, 140, 640, 360));
        let p = Placement::letterbox((768, 432), (640, 640), Align::TopLeft);
        assert_eq!((p.left, p.top), (0, 0));
    }
}
