//! Stage `convert`: frames in another colour order.

use flow::error::{PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::recycle::Recycler;
use flow::registry::{Config, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{ColorOrder, ColorSpace, FRAME, Frame, PixelFormat, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::TransformError;
use crate::color::{RowReader, channels};
use crate::resample::Rows;
use crate::transform::{POOLED, conversion_failed, frame_of};

/// Turns frames into RGB, BGR or grey frames.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvertConfig {
    /// What the frames become.
    pub color: FrameColor,
}

/// Colour order of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrameColor {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
    /// Luma only.
    Gray,
}

impl Config for ConvertConfig {}

/// `frame` in another colour order, its memory from `pool`. `scratch` is working memory kept from frame to
/// frame.
pub fn convert(
    frame: &Frame,
    color: FrameColor,
    scratch: &mut Vec<u8>,
    pool: &Pool,
) -> Result<Frame, TransformError> {
    let (format, wanted) = match color {
        FrameColor::Rgb => (PixelFormat::Rgb, ColorOrder::Rgb),
        FrameColor::Bgr => (PixelFormat::Bgr, ColorOrder::Bgr),
        FrameColor::Gray => (PixelFormat::Gray, ColorOrder::Gray),
    };
    let failed = |reason: String| TransformError::Color {
        format: frame.format().name(),
        width: frame.width(),
        height: frame.height(),
        reason,
    };
    let data = pool.take(format.frame_bytes(frame.width(), frame.height()));
    let mut out = Frame::packed(frame.width(), frame.height(), format, ColorSpace::JPEG, data)
        .map_err(|e| failed(e.to_string()))?
        .from_origin(frame.origin().clone());
    let row_bytes = out.plane_layout(0).row_bytes;
    let mut reader = RowReader::new(frame, wanted, scratch);
    let given = reader.order();
    for (y, to) in out.plane_mut(0).chunks_exact_mut(row_bytes).enumerate() {
        let from = reader.row(y);
        if given == wanted {
            to.copy_from_slice(from);
        } else if channels(given) == 1 {
            for (t, &v) in to.chunks_exact_mut(3).zip(from) {
                t.fill(v);
            }
        } else {
            for (t, f) in to.chunks_exact_mut(3).zip(from.chunks_exact(3)) {
                t.copy_from_slice(&[f[2], f[1], f[0]]);
            }
        }
    }
    match reader.failure() {
        Some(e) => Err(failed(e.to_string())),
        None => Ok(out),
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<ConvertConfig>(
        KindInfo {
            name: "convert",
            summary: "Turns frames into RGB, BGR or grey frames",
            ports: Ports {
                takes: &[FRAME],
                gives: &[FRAME],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &ConvertConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let (color, pool) = (config.color, Pool::new(POOLED));
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Convert {
            color,
            pool: pool.clone(),
            scratch: Vec::new(),
            frames: Recycler::new(POOLED),
        }) as Box<dyn Stage>)
    }))
}

struct Convert {
    color: FrameColor,
    pool: Pool,
    scratch: Vec<u8>,
    frames: Recycler<Frame>,
}

impl Stage for Convert {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let frame = frame_of(&packet)?;
        let converted =
            convert(&frame, self.color, &mut self.scratch, &self.pool).map_err(conversion_failed)?;
        out.emit(packet.with_payload(self.frames.put(converted)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_frame::Buffer;

    #[test]
    fn rgb_to_bgr_and_back_is_the_same_picture() {
        let bytes: Vec<u8> = (0..5 * 3 * 3).map(|i| (i * 11) as u8).collect();
        let frame = Frame::packed(5, 3, PixelFormat::Rgb, ColorSpace::JPEG, Buffer::copy_of(&bytes)).unwrap();
        let (pool, mut scratch) = (Pool::new(2), Vec::new());
        let bgr = convert(&frame, FrameColor::Bgr, &mut scratch, &pool).unwrap();
        assert_eq!((bgr.format(), bgr.row(0, 0)[0]), (PixelFormat::Bgr, bytes[2]));
        let back = convert(&bgr, FrameColor::Rgb, &mut scratch, &pool).unwrap();
        assert_eq!(back.plane(0), frame.plane(0));
    }

    #[test]
    fn grey_becomes_three_equal_channels() {
        let frame = Frame::packed(
            2,
            1,
            PixelFormat::Gray,
            ColorSpace::JPEG,
            Buffer::copy_of(&[7, 9]),
        )
        .unwrap();
        let rgb = convert(&frame, FrameColor::Rgb, &mut Vec::new(), &Pool::new(1)).unwrap();
        assert_eq!(rgb.plane(0), [7, 7, 7, 9, 9, 9]);
    }
}
