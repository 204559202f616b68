//! Sources and decoders: container and codec parsers, files, folders, subprocesses, synthetic scenes.
//!
//! [`register`] adds the kinds `file`, `images`, `ffmpeg`, `dead_letters` and `synthetic` (sources) and `decode`
//! (stage). Beneath them, and usable alone, are [`MediaReader`], which reads the packets of one input, and
//! [`decode_picture`]:
//!
//! ```
//! use flow_decode::{decode_picture, picture_codec};
//!
//! let bytes = b"P6 2 1 255\n\xff\x00\x00\x00\x00\xff"; // a red and a blue pixel
//! let codec = picture_codec(bytes).ok_or("no picture")?;
//! let frame = decode_picture(codec, bytes, &flow_frame::Pool::new(1))?;
//! assert_eq!((frame.width(), frame.height()), (2, 1));
//! assert_eq!(frame.row(0, 0), [255, 0, 0, 0, 0, 255]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod annexb;
mod avcc;
mod avi;
mod bmp;
mod decode;
mod error;
mod ffmpeg;
mod file;
mod frames;
mod h264;
mod images;
mod input;
mod letters;
mod media;
mod mjpeg;
mod mp4;
mod picture;
mod pipe;
mod playback;
mod pnm;
mod still;
pub mod synthetic;
mod y4m;

use flow::registry::Registry;

pub use error::{
    E_DAMAGED, E_FFMPEG, E_LIMIT, E_NO_FFMPEG, E_NO_KEYFRAME, E_NO_PICTURE, E_NO_VIDEO, E_NOT_SEEKABLE,
    E_PACKET, E_PICTURE, E_READ, E_TRUNCATED, E_UNRECOGNISED, E_UNSUPPORTED, E_VALUE, MediaError,
};
pub use frames::{FrameError, FrameReader};
pub use input::Input;
pub use media::{Format, MAX_PACKET, MAX_PIXELS, MediaReader, Sample, Unit, picture_codec};
pub use picture::decode_picture;
pub use playback::Preroll;

/// Registers every kind of this crate.
pub fn register(registry: &mut Registry) {
    file::register(registry);
    images::register(registry);
    letters::register(registry);
    ffmpeg::register(registry);
    decode::register(registry);
    synthetic::register(registry);
}
