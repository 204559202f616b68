//! Still pictures: JPEG, PNG, BMP and PNM bytes to frames.

pub(crate) mod jpeg;
mod png;

use flow_frame::{Codec, Frame, Pool};

use crate::error::MediaError;
use crate::{bmp, pnm};

/// Decodes one picture into a frame of `pool`.
///
/// JPEG gives RGB or grey, turned upright as its EXIF orientation says; PNG gives RGB or grey with 8 bits,
/// alpha left out; BMP gives BGR; PNM gives grey or RGB. A picture that is cut short is an error, never a
/// frame with made-up parts. Pictures larger than [`crate::MAX_PIXELS`] are refused before memory is taken.
///
/// # Errors
/// [`MediaError::Picture`], [`MediaError::Unsupported`] or [`MediaError::Limit`]; also for
/// [`Codec::H264`], whose access units are no pictures of their own.
pub fn decode_picture(codec: Codec, bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    match codec {
        Codec::Jpeg => jpeg::decode(bytes, pool),
        Codec::Png => png::decode(bytes, pool),
        Codec::Bmp => bmp::decode(bytes, pool),
        Codec::Pnm => pnm::decode(bytes, pool),
        Codec::H264 => Err(MediaError::Unsupported(
            "an H.264 access unit is no still picture; use the `decode` stage".into(),
        )),
    }
}
