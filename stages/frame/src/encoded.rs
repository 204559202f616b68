//! Encoded access units, as a demuxer hands them to a decoder.

use std::sync::Arc;

use flow::packet::{Packet, Payload, PayloadFile};
use flow::ports::PortType;

use crate::{Buffer, ENCODED};

/// How the bytes of an [`Encoded`] unit are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 in Annex B form: NAL units with start codes.
    H264,
    /// One JPEG picture.
    Jpeg,
    /// One PNG picture.
    Png,
    /// One BMP picture.
    Bmp,
    /// One PNM picture (P5 or P6).
    Pnm,
}

impl Codec {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Bmp => "bmp",
            Self::Pnm => "pnm",
        }
    }
}

/// One access unit: the bytes of exactly one picture.
#[derive(Debug)]
pub struct Encoded {
    /// The codec.
    pub codec: Codec,
    /// The bytes.
    pub data: Buffer,
    /// True if decoding can begin here.
    pub keyframe: bool,
    /// Name of the file the unit is from, for messages and file names; empty where it does not matter.
    pub origin: Arc<str>,
}

impl Payload for Encoded {
    fn port_type(&self) -> PortType {
        ENCODED
    }
    fn bytes(&self) -> usize {
        self.data.len()
    }
    fn files(&self, _: &Packet) -> Vec<PayloadFile> {
        vec![crate::files::encoded(self)]
    }
}
