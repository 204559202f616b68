//! Files that hold one picture, read whole.

use flow_frame::{Codec, Pool};

use crate::error::MediaError;
use crate::input::Input;
use crate::media::{Demuxer, MAX_PACKET, Sample, Unit};

pub(crate) struct Still {
    codec: Codec,
    read: bool,
}

impl Still {
    pub(crate) fn open(codec: Codec) -> Self {
        Self { codec, read: false }
    }
}

/// Reads the rest of the input, which may not be larger than [`MAX_PACKET`].
pub(crate) fn read_whole(input: &mut Input) -> Result<Vec<u8>, MediaError> {
    let limit = MAX_PACKET;
    let too_large = |value| MediaError::Limit {
        what: "the size of a picture file in bytes",
        value,
        limit,
    };
    if let Some(left) = input.remaining().filter(|&left| left > limit) {
        return Err(too_large(left));
    }
    let mut bytes = Vec::new();
    let want = input.remaining().unwrap_or(limit + 1) as usize;
    if input.read_vec(want, &mut bytes)? && bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

impl Demuxer for Still {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(None);
        }
        let bytes = read_whole(input)?;
        let mut data = pool.take(bytes.len());
        data.copy_from_slice(&bytes);
        Ok(Some(Sample {
            pts: 0,
            unit: Unit::Encoded {
                codec: self.codec,
                data,
                keyframe: true,
            },
        }))
    }

    fn declared(&self) -> Option<u64> {
        Some(1)
    }
}
