//! Frame to tensor: resize, letterbox, crop, colour conversion, normalisation and layout.
//!
//! Stage kinds: [`resize`] and [`letterbox`] make the input of a network from a frame in one pass; [`crop`]
//! and [`convert`] turn frames into frames. The work under the kinds is plain functions and types that need
//! no pipeline: [`Resampler`] scales, [`RowReader`] converts colour, [`FrameToTensor`] joins both with
//! normalisation and layout.
//!
//! Pixel results are exact and the same on every machine up to the YUV conversion: `bilinear` equals
//! OpenCV's `INTER_LINEAR` and `nearest` its `INTER_NEAREST` bit for bit, `area` is the box average rounded
//! once.
#![deny(missing_docs)]

mod color;
pub mod convert;
pub mod crop;
pub mod keys;
pub mod letterbox;
mod normalize;
mod resample;
pub mod resize;
mod target;
mod transform;

pub use color::{RowReader, luma_of};
pub use keys::{ColorKey, DTypeKey, LayoutKey, PerChannel, Size, Tables};
pub use letterbox::{Align, Placement};
pub use normalize::{Normalization, SampleMap};
pub use resample::{Filter, Resampler, RowOrder, Rows};
pub use target::{Target, TargetKeys};
pub use transform::{FrameToTensor, TransformError};

use flow::registry::Registry;

/// Registers the stage kinds `resize`, `letterbox`, `crop` and `convert`.
pub fn register(registry: &mut Registry) {
    resize::register(registry);
    letterbox::register(registry);
    crop::register(registry);
    convert::register(registry);
}
