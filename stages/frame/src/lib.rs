//! What the stages of a pipeline hand to each other.
//!
//! Each type here is a [`flow::packet::Payload`] or an attachment of a packet:
//! [`Encoded`] access units, decoded [`Frame`]s, [`Tensor`]s into and out of a network,
//! [`Detections`], [`Classes`] and [`KeyPoints`] in the coordinates of the source frame, the [`Geometry`]
//! that leads from network input back to the source frame, and [`GroundTruth`]. Their memory is a [`Buffer`] of a
//! [`Pool`], to which it returns.
//!
//! ```
//! use flow_frame::{ColorSpace, Frame, PixelFormat, Pool};
//!
//! let pool = Pool::new(4);
//! let mut data = pool.take(PixelFormat::I420.frame_bytes(4, 2));
//! data.fill(16);
//! let frame = Frame::packed(4, 2, PixelFormat::I420, ColorSpace::guess(2), data)?;
//! assert_eq!(frame.row(0, 1), [16; 4]);
//! assert_eq!(frame.plane_count(), 3);
//! # Ok::<(), flow_frame::FrameError>(())
//! ```
#![deny(missing_docs)]

mod buffer;
mod encoded;
mod files;
mod frame;
mod geometry;
mod picture;
mod results;
mod tensor;
mod yuv_to_rgb;

pub use buffer::{Buffer, Pool};
pub use encoded::{Codec, Encoded};
pub use frame::{ColorSpace, Frame, FrameError, Matrix, PixelFormat, PlaneLayout, Range};
pub use geometry::Geometry;
pub use picture::{packed_samples, to_png, to_rgb};
pub use results::{BBox, Class, Classes, Detection, Detections, GroundTruth, KeyPoint, KeyPoints, Pose};
pub use tensor::{ColorOrder, DType, InputQuantization, Layout, Tensor, TensorSpec, Tensors};
pub use yuv_to_rgb::{YuvToRgbError, yuv_to_rgb};

use flow::ports::PortType;

/// Encoded access units.
pub const ENCODED: PortType = PortType("encoded");
/// Decoded frames.
pub const FRAME: PortType = PortType("frame");
/// One tensor: the input of a network.
pub const TENSOR: PortType = PortType("tensor");
/// The outputs of a network.
pub const TENSORS: PortType = PortType("tensors");
/// Labelled boxes.
pub const DETECTIONS: PortType = PortType("detections");
/// Classes of a whole picture.
pub const CLASSES: PortType = PortType("classes");
/// Key points of bodies.
pub const KEY_POINTS: PortType = PortType("key_points");
