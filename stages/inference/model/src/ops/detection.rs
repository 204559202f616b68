//! Heads of detection networks: boxes that start from a grid, that are refined, that suppress each other, and
//! features pooled from them. All compute in f32.

mod boxes;
mod deformable_psroi_pooling;
mod detection_output;
mod detectron_detection_output;
mod detectron_roi_features;
mod generate_proposals;
mod matrix_nms;
mod multiclass_nms;
mod nms;
mod nms_rotated;
mod prior_box;
mod prior_box_clustered;
mod prior_grid;
mod proposal;
mod psroi_pooling;
mod roi_align;
mod roi_pooling;
mod top_k_rois;
mod yolo;

use super::Family;
use super::support::{self, Input};
use crate::error::OpError;
use crate::graph::Dim;

/// How the operations here are read.
pub(super) const FAMILIES: &[Family] = &[
    deformable_psroi_pooling::parse,
    detection_output::parse,
    detectron_detection_output::parse,
    detectron_roi_features::parse,
    generate_proposals::parse,
    matrix_nms::parse,
    multiclass_nms::parse,
    nms::parse,
    nms_rotated::parse,
    prior_box::parse,
    prior_box_clustered::parse,
    prior_grid::parse,
    proposal::parse,
    psroi_pooling::parse,
    roi_align::parse,
    roi_pooling::parse,
    top_k_rois::parse,
    yolo::parse,
];

/// Channels of the features `[N, C, H, W]`, the first input, and the number of regions `[R, 5]`, the second: batch entry
/// and corners each.
fn channels_and_regions(inputs: &[Input]) -> Result<(Dim, Dim), OpError> {
    let [_, channels, _, _] = support::dims(&inputs[0], "the features")?;
    let [regions, five] = support::dims(&inputs[1], "the regions")?;
    support::floats(&inputs[0], "the features")?;
    support::same_type(&inputs[0], &inputs[1])?;
    support::same_dim(five, Some(5), "the numbers of a region")?;
    Ok((channels, regions))
}
