//! Frame to tensor: resize, letterbox, crop, colour conversion, normalisation and layout.
//!
//! Stage kinds: [`resize`] and [`letterbox`] make the input of a network from a frame in one pass; [`crop`]
//! and [`convert`] turn frames into frames. The work under the kinds is plain functions and types that need
//! no pipeline: [`Resampler`] scales, [`RowReader`] converts colour, [`FrameToTensor`] joins both with
//! normalisation and layout.
//!
//! ```
//! use flow_frame::{Buffer, ColorOrder, ColorSpace, Frame, Layout, PixelFormat, Pool};
//! use flow_preprocess::{Filter, FrameToTensor, Normalization, SampleMap, Target};
//!
//! let target = Target {
//!     size: (1, 1),
//!     color: ColorOrder::Rgb,
//!     layout: Layout::Nchw,
//!     map: SampleMap::float(Normalization { mean: [127.0; 3], scale: [128.0; 3] }),
//!     quantization: None,
//! };
//! let mut transform = FrameToTensor::stretching(target, Filter::Area, Pool::new(2));
//! let pixels = Buffer::copy_of(&[255, 127, 0, 255, 127, 0]); // two equal pixels
//! let frame = Frame::packed(2, 1, PixelFormat::Rgb, ColorSpace::JPEG, pixels)?;
//! let (tensor, _back_to_the_frame) = transform.run(&frame)?;
//! assert_eq!(tensor.f32s(), Some(&[1.0, 0.0, -127.0 / 128.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
