//! Stage `crop`: a rectangle of each frame.

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::recycle::Recycler;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{FRAME, Frame, Geometry, PixelFormat, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{POOLED, frame_of, trace_back};

/// Cuts a rectangle out of each frame. Results found in it still come out in the coordinates of the whole
/// frame.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CropConfig {
    /// `[x, y, width, height]`: in pixels, or as fractions of the frame where no number is above 1. The
    /// rectangle is cut down to the frame. Where chroma is subsampled, x and y are rounded down to even.
    pub rect: [f32; 4],
}

/// Code of: a rectangle that cannot be cut.
const BAD_RECT: Code = Code("E0142");

impl Config for CropConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let [x, y, w, h] = self.rect;
        let message = if self.rect.iter().any(|v| !v.is_finite()) {
            "the rectangle has a number that is not finite"
        } else if w <= 0.0 || h <= 0.0 {
            "the rectangle is empty"
        } else if x < 0.0 || y < 0.0 {
            "the rectangle begins outside of the frame"
        } else {
            return Vec::new();
        };
        vec![ConfigIssue {
            code: BAD_RECT,
            key: "rect".into(),
            message: message.into(),
            help: Some(
                "`rect: [x, y, width, height]`, such as [0.25, 0, 0.5, 1] or [320, 0, 640, 720]".into(),
            ),
        }]
    }
}

/// A rectangle in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl CropConfig {
    /// The rectangle of a frame of that size and format; `None` if it lies outside.
    pub fn rect_in(&self, width: u32, height: u32, format: PixelFormat) -> Option<Rect> {
        let [x, y, w, h] = self.rect;
        let (ux, uy) = if self.rect.iter().all(|v| *v <= 1.0) {
            (width as f32, height as f32)
        } else {
            (1.0, 1.0)
        };
        let (step_x, step_y) = match format {
            PixelFormat::I420 | PixelFormat::Nv12 => (2, 2),
            PixelFormat::I422 => (2, 1),
            _ => (1, 1),
        };
        let span = |from: f32, length: f32, unit: f32, side: u32, step: u32| {
            let begin = (from * unit).round() as u32;
            let begin = begin - begin % step;
            let end = ((from + length) * unit).round().min(side as f32) as u32;
            (end > begin).then(|| (begin, end - begin))
        };
        let (x, width) = span(x, w, ux, width, step_x)?;
        let (y, height) = span(y, h, uy, height, step_y)?;
        Some(Rect { x, y, width, height })
    }
}

/// Copies a rectangle of `frame`, which must lie inside and begin on a chroma sample, into a frame from
/// `pool`.
pub fn crop(frame: &Frame, rect: Rect, pool: &Pool) -> Result<Frame, flow_frame::FrameError> {
    let format = frame.format();
    let data = pool.take(format.frame_bytes(rect.width, rect.height));
    let mut out = Frame::packed(rect.width, rect.height, format, frame.color(), data)?
        .from_origin(frame.origin().clone());
    for plane in 0..out.plane_count() {
        let layout = out.plane_layout(plane);
        // Bytes per pixel column, and pixel columns and rows per sample, of this plane.
        let (bytes, step_x, step_y) = match (format, plane) {
            (PixelFormat::I420, 1..) => (1, 2, 2),
            (PixelFormat::I422, 1..) => (1, 2, 1),
            (PixelFormat::Nv12, 1..) => (2, 2, 2),
            (PixelFormat::Rgb | PixelFormat::Bgr, _) => (3, 1, 1),
            _ => (1, 1, 1),
        };
        let left = rect.x as usize / step_x * bytes;
        let top = rect.y as usize / step_y;
        for (y, row) in out.plane_mut(plane).chunks_mut(layout.stride).enumerate() {
            let row = &mut row[..layout.row_bytes];
            row.copy_from_slice(&frame.row(plane, top + y)[left..left + layout.row_bytes]);
        }
    }
    Ok(out)
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<CropConfig>(
        KindInfo {
            name: "crop",
            summary: "Cuts a rectangle out of each frame",
            ports: Ports {
                takes: &[FRAME],
                gives: &[FRAME],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &CropConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let (config, pool) = (config.clone(), Pool::new(POOLED));
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Crop {
            config: config.clone(),
            pool: pool.clone(),
            ways: Recycler::new(POOLED),
            frames: Recycler::new(POOLED),
        }) as Box<dyn Stage>)
    }))
}

struct Crop {
    config: CropConfig,
    pool: Pool,
    ways: Recycler<Geometry>,
    frames: Recycler<Frame>,
}

impl Stage for Crop {
    fn process(&mut self, mut packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let frame = frame_of(&packet)?;
        let (width, height) = (frame.width(), frame.height());
        let rect = self
            .config
            .rect_in(width, height, frame.format())
            .ok_or_else(|| {
                StageError::packet(
                    Code("E0442"),
                    format!(
                        "the rectangle {:?} of `rect` lies outside of a frame of {width}x{height} pixels",
                        self.config.rect
                    ),
                )
            })?;
        let cut = crop(&frame, rect, &self.pool)
            .map_err(|e| StageError::packet(Code("E0441"), e.to_string()).caused_by(e))?;
        let step = Geometry {
            offset_x: rect.x as f32,
            offset_y: rect.y as f32,
            input: (rect.width, rect.height),
            ..Geometry::identity(width, height)
        };
        trace_back(&mut packet, frame, step, &mut self.ways);
        out.emit(packet.with_payload(self.frames.put(cut)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_frame::{Buffer, ColorSpace};
    use proptest::prelude::*;

    const FORMATS: [PixelFormat; 7] = [
        PixelFormat::I420,
        PixelFormat::I422,
        PixelFormat::I444,
        PixelFormat::Nv12,
        PixelFormat::Gray,
        PixelFormat::Rgb,
        PixelFormat::Bgr,
    ];

    proptest! {
        #[test]
        fn every_sample_of_the_cut_is_the_one_beneath_it(
            w in 1u32..20, h in 1u32..20, x in 0f32..20.0, y in 0f32..20.0, cw in 1.5f32..20.0, ch in 1.5f32..20.0,
            format in prop::sample::select(&FORMATS[..]),
        ) {
            let bytes: Vec<u8> = (0..format.frame_bytes(w, h)).map(|i| (i * 7) as u8).collect();
            let frame = Frame::packed(w, h, format, ColorSpace::JPEG, Buffer::copy_of(&bytes)).unwrap();
            let config = CropConfig { rect: [x, y, cw, ch] };
            if let Some(r) = config.rect_in(w, h, format) {
                prop_assert!(r.x + r.width <= w && r.y + r.height <= h);
                let cut = crop(&frame, r, &Pool::new(1)).unwrap();
                let per_pixel = frame.plane_layout(0).row_bytes / w as usize;
                for row in 0..r.height as usize {
                    let from = r.x as usize * per_pixel;
                    prop_assert_eq!(
                        cut.row(0, row),
                        &frame.row(0, r.y as usize + row)[from..from + r.width as usize * per_pixel]
                    );
                }
            }
        }
    }

    #[test]
    fn fractions_are_of_the_frame_and_subsampled_chroma_stays_in_step() {
        let config = CropConfig {
            rect: [0.25, 0.0, 0.5, 1.0],
        };
        let r = config.rect_in(300, 100, PixelFormat::I420).unwrap();
        assert_eq!((r.x, r.y, r.width, r.height), (74, 0, 151, 100));
        let mut frame = Frame::packed(8, 4, PixelFormat::I420, ColorSpace::JPEG, Buffer::zeroed(48)).unwrap();
        frame.plane_mut(1).copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let rect = Rect {
            x: 2,
            y: 2,
            width: 5,
            height: 2,
        };
        let cut = crop(&frame, rect, &Pool::new(1)).unwrap();
        assert_eq!(cut.row(1, 0), [5, 6, 7]);
    }

    #[test]
    fn empty_and_negative_rectangles_are_refused() {
        for rect in [
            [0.0, 0.0, 0.0, 1.0],
            [-1.0, 0.0, 5.0, 5.0],
            [f32::NAN, 0.0, 1.0, 1.0],
        ] {
            assert_eq!(CropConfig { rect }.check()[0].key, "rect");
        }
        let outside = CropConfig {
            rect: [50.0, 0.0, 5.0, 5.0],
        };
        assert_eq!(outside.rect_in(40, 40, PixelFormat::Rgb), None);
    }
}
