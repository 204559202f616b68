//! Operations that pick, place, count or order elements by index.

mod cum_sum;
mod embedding_bag;
mod eye;
mod gather_elements;
mod gather_tree;
mod non_zero;
mod one_hot;
mod range;
mod reverse;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod search;
mod segment_max;
mod slice_scatter;
mod tile;
mod unique;

use super::Family;

/// How the operations here are read.
pub(super) const FAMILIES: &[Family] = &[
    cum_sum::parse,
    embedding_bag::parse,
    eye::parse,
    gather_elements::parse,
    gather_tree::parse,
    non_zero::parse,
    one_hot::parse,
    range::parse,
    reverse::parse,
    scatter::parse,
    scatter_elements::parse,
    scatter_nd::parse,
    search::parse,
    segment_max::parse,
    slice_scatter::parse,
    tile::parse,
    unique::parse,
];
