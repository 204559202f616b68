//! How a picture becomes the input of a network: the keys of a `resize` or `letterbox` stage.

use std::path::Path;

use flow::registry::AnyConfig;
use flow_frame::{ColorOrder, Layout, Pool};
use flow_model::{ElementType, OutputInfo};
use flow_preprocess::keys::{LayoutKey, PerChannel};
use flow_preprocess::letterbox::{LetterboxConfig, Pad};
use flow_preprocess::resize::ResizeConfig;
use flow_preprocess::{FrameToTensor, Normalization, SampleMap, Target};

use super::keys::{Keys, configured};
use crate::failure::Failure;

/// From a picture to a tensor.
#[derive(Debug, Clone)]
pub struct Preprocess {
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    Resize(ResizeConfig),
    Letterbox(LetterboxConfig),
}

impl Stage {
    /// The stage with that configuration, if it is one of a kind that makes tensors.
    fn of(config: &AnyConfig) -> Option<Self> {
        let resize = config.downcast_ref::<ResizeConfig>().cloned();
        let letterbox = || config.downcast_ref::<LetterboxConfig>().cloned();
        resize
            .map(Self::Resize)
            .or_else(|| letterbox().map(Self::Letterbox))
    }
}

impl Preprocess {
    /// Reads the keys from a mapping, a file that holds one, or the stage that feeds `model` in a pipeline file; without
    /// any, pictures are stretched and their samples taken as they are.
    pub fn read(argument: Option<&str>, model: &Path) -> Result<Self, Failure> {
        let argument = argument.unwrap_or("{type: resize}");
        let fault = |what: String| Failure::usage(format!("--preprocess {argument}: {what}"));
        let config = match Keys::read("--preprocess", argument, model)? {
            Keys::Pipeline(around) => around.before(model),
            Keys::Mapping(keys) => configured(keys, &["resize", "letterbox"], "resize"),
        };
        match Stage::of(&config.map_err(fault)?) {
            Some(stage) => Ok(Self { stage }),
            None => Err(fault("expected `resize` or `letterbox`".to_owned())),
        }
    }

    /// The transform to an input of that type and shape.
    pub fn transform(&self, input: &str, info: &OutputInfo) -> Result<FrameToTensor, Failure> {
        let shape = info.static_shape().unwrap_or_default();
        let fault = |what: &str| {
            Failure::usage(format!(
                "input `{input}` ({} {shape:?}): {what}",
                info.element_type
            ))
        };
        let (color, layout, mean, scale) = match &self.stage {
            Stage::Resize(c) => (c.color, c.layout, c.mean, c.scale),
            Stage::Letterbox(c) => (c.color, c.layout, c.mean, c.scale),
        };
        let [1, second, third, last] = shape[..] else {
            return Err(fault(
                "pictures need an input of one picture with 4 axes; give samples as .npy",
            ));
        };
        let planar = match layout {
            LayoutKey::Nchw => true,
            LayoutKey::Nhwc => false,
            LayoutKey::Model => matches!(second, 1 | 3),
        };
        let (depth, height, width) = if planar {
            (second, third, last)
        } else {
            (last, second, third)
        };
        let color = match (color.order(), depth) {
            (Some(order), _) => order,
            (None, 1) => ColorOrder::Gray,
            (None, 3) => ColorOrder::Rgb,
            _ => return Err(fault("expected 1 or 3 channels; give samples as .npy")),
        };
        if (color == ColorOrder::Gray) != (depth == 1) {
            return Err(fault("`color` does not fit the number of channels"));
        }
        let normalization = Normalization {
            mean: PerChannel::values(mean),
            scale: PerChannel::values(scale),
        };
        let map = match info.element_type {
            ElementType::F32 => SampleMap::float(normalization),
            ElementType::U8 => SampleMap::rounded(normalization),
            _ => return Err(fault("a picture becomes f32 or u8; give samples as .npy")),
        };
        let side = |n: usize| u32::try_from(n).map_err(|_| fault("it is too large"));
        let target = Target {
            size: (side(width)?, side(height)?),
            color,
            layout: if planar { Layout::Nchw } else { Layout::Nhwc },
            map,
            quantization: None,
        };
        Ok(match &self.stage {
            Stage::Resize(c) => FrameToTensor::stretching(target, c.filter, Pool::new(1)),
            Stage::Letterbox(c) => {
                let pad = match c.pad {
                    Pad::Gray(v) => [v; 3],
                    Pad::Rgb(v) => v,
                };
                FrameToTensor::letterboxing(target, c.filter, c.align, pad, Pool::new(1))
            }
        })
    }
}

impl Preprocess {
    /// The values that samples 0 and 255 become, if every value between is one of 256 levels with zero among them.
    pub fn levels(&self) -> Option<(f32, f32)> {
        let (mean, scale) = match &self.stage {
            Stage::Resize(c) => (c.mean.values(), c.scale.values()),
            Stage::Letterbox(c) => (c.mean.values(), c.scale.values()),
        };
        let (first, by) = (mean[0], scale[0]);
        let alike = mean == [first; 3] && scale == [by; 3] && by > 0.0;
        let level = first.fract() == 0.0 && (0.0..=255.0).contains(&first);
        (alike && level).then_some(((0.0 - first) / by, (255.0 - first) / by))
    }
}
