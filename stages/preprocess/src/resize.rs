//! Stage `resize`: a frame stretched to the input of a network.

use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::{error::PrepareError, ports::Ports, stage::Stage};
use flow_frame::{FRAME, TENSOR};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::keys::{ColorKey, DTypeKey, LayoutKey, PerChannel, Size, Tables, check_normalization, check_size};
use crate::target::TargetKeys;
use crate::transform::{Fit, prepare_transform};
use crate::{Filter, normalize};

/// Stretches frames to a size and makes tensors of them: colour, normalisation and layout in one pass.
/// Proportions are not kept; see `letterbox` for that.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeConfig {
    /// Width and height of the tensor in pixels, or `model`: what the consumer wants.
    #[serde(default)]
    pub size: Size,
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

impl Config for ResizeConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = check_size(self.size);
        issues.extend(check_normalization(self.mean, self.scale, self.color));
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<ResizeConfig>(
        KindInfo {
            name: "resize",
            summary: "Stretches frames to the input of a network: size, colour, normalisation, layout",
            ports: Ports {
                takes: &[FRAME],
                gives: &[TENSOR],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &ResizeConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let keys = TargetKeys {
        size: config.size,
        color: config.color,
        layout: config.layout,
        dtype: config.dtype,
        mean: config.mean,
        scale: config.scale,
        tables: config.tables,
    };
    Ok(prepare_transform(keys.resolve(cx)?, config.filter, Fit::Stretch))
}
