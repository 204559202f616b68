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
