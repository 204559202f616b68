//! Stage `overlay`: results drawn on the frame they were found in.

mod canvas;
mod font;
mod palette;

use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{
    CLASSES, Classes, ColorSpace, DETECTIONS, Detections, FRAME, Frame, KEY_POINTS, KeyPoints, PixelFormat,
    Pool,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::pixels::to_rgb;
use canvas::Canvas;
use font::{FIGURE_SPACE, Font};
pub use palette::color_of;

/// Draws boxes, classes or key points on the frame they were found in, and gives that frame as RGB. Lines and
/// letters grow with the frame.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayConfig {
    /// Whether boxes bear the name of their class.
    #[serde(default = "yes")]
    pub labels: bool,
    /// Whether names are followed by the score.
    #[serde(default = "yes")]
    pub scores: bool,
    /// Key points with a lower score are not drawn.
    #[serde(default = "default_threshold")]
    pub threshold: f32,
    /// Size of lines and letters against the usual.
    #[serde(default = "default_scale")]
    pub scale: f32,
}

fn yes() -> bool {
    true
}

fn default_threshold() -> f32 {
    0.3
}

fn default_scale() -> f32 {
    1.0
}

impl Config for OverlayConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        [
            ("threshold", self.threshold, 0.0..=1.0),
            ("scale", self.scale, 0.1..=10.0),
        ]
        .into_iter()
        .filter(|(_, value, range)| !range.contains(value))
        .map(|(key, value, range)| ConfigIssue {
            code: Code("E0161"),
            key: key.into(),
            message: format!("{key} is {value}"),
            help: Some(format!("use a number from {} to {}", range.start(), range.end())),
        })
        .collect()
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<OverlayConfig>(
        KindInfo {
            name: "overlay",
            summary: "Draws boxes, classes or key points on the frame they were found in",
            ports: Ports {
                takes: &[DETECTIONS, CLASSES, KEY_POINTS],
                gives: &[FRAME],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

/// Free frames that are kept for reuse, over all replicas.
const POOLED: usize = 16;

fn prepare(config: &OverlayConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let (config, pool) = (config.clone(), Pool::new(POOLED));
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Overlay {
            painter: Painter::new(config.clone()),
            pool: pool.clone(),
        }) as Box<dyn Stage>)
    }))
}

struct Overlay {
    painter: Painter,
    pool: Pool,
}

impl Stage for Overlay {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let source = packet.attachment::<Frame>().ok_or_else(|| {
            StageError::packet(
                Code("E0708"),
                "the packet does not carry the frame it was made from (attachment Frame); `resize`, `letterbox` and \
                 `crop` attach it",
            )
        })?;
        let failed = |why: String| {
            let (w, h) = (source.width(), source.height());
            StageError::packet(
                Code("E0708"),
                format!("a frame of {w}x{h} cannot be drawn on: {why}"),
            )
        };
        let (width, height) = (source.width(), source.height());
        let mut data = self.pool.take(PixelFormat::Rgb.frame_bytes(width, height));
        to_rgb(&source, &mut data).map_err(failed)?;
        let frame = Frame::packed(width, height, PixelFormat::Rgb, ColorSpace::JPEG, data)
            .map_err(|e| failed(e.to_string()))?;
        let mut frame = frame.from_origin(source.origin().clone());
        if let Some(detections) = packet.payload::<Detections>() {
            self.painter.detections(&mut frame, detections);
        } else if let Some(classes) = packet.payload::<Classes>() {
            self.painter.classes(&mut frame, classes);
        } else if let Some(key_points) = packet.payload::<KeyPoints>() {
            self.painter.key_points(&mut frame, key_points);
        } else {
            let found = packet.raw_payload().port_type();
            return Err(StageError::packet(
                Code("E0704"),
                format!("`overlay` draws detections, classes and key points, the packet carries {found}"),
            ));
        }
        out.emit(packet.with_payload(Arc::new(frame)));
        Ok(())
    }
}

/// Draws results on RGB frames; keeps its letters from frame to frame.
pub struct Painter {
    config: OverlayConfig,
    /// Large and small letters.
    fonts: [Option<Font>; 2],
}

/// Letters below this height, in pixels, cannot be read.
const SMALLEST_TEXT: u32 = 12;
/// Boxes that bear a name; more could not be told apart.
const MAX_TAGS: usize = 256;

/// Width of lines and height of letters in pixels.
struct Measures {
    line: f32,
    text: u32,
}

impl Painter {
    /// A painter with these settings.
    pub fn new(config: OverlayConfig) -> Self {
        Self {
            config,
            fonts: [None, None],
        }
    }

    fn measures(&self, frame: &Frame) -> Measures {
        let side = frame.width().min(frame.height()) as f32 * self.config.scale;
        Measures {
            line: (side / 270.0).round().max(1.0),
            text: ((side / 30.0).round() as u32).clamp(SMALLEST_TEXT, 256),
        }
    }

    /// Draws boxes with the names of their classes; where these would cover each other, the better box keeps its
    /// name. Small boxes have small letters.
    pub fn detections(&mut self, frame: &mut Frame, found: &Detections) {
        let measures = self.measures(frame);
        let [large, small] = &mut self.fonts;
        let large = font(large, measures.text);
        let small = font(small, (measures.text * 2 / 3).max(SMALLEST_TEXT));
        let mut canvas = Canvas::new(frame);
        for d in found.items.iter().rev() {
            canvas.frame(d.bbox, measures.line, color_of(d.class));
        }
        if !self.config.labels {
            return;
        }
        let mut taken = Vec::new();
        for d in found.items.iter().take(MAX_TAGS) {
            let mut text = match (&*d.label, d.track) {
                ("", None) => d.class.to_string(),
                (label, None) => label.to_owned(),
                (label, Some(track)) => format!("{label} #{track}"),
            };
            if self.config.scores {
                text = format!("{text} {:.0}%", d.score * 100.0);
            }
            let narrow = d.bbox.x2 - d.bbox.x1 < large.width(&text) as f32 / 2.0;
            let font = if narrow { small } else { large };
            canvas.tag(font, &text, d.bbox, color_of(d.class), &mut taken);
        }
    }

    /// Lists classes in the top left corner.
    pub fn classes(&mut self, frame: &mut Frame, found: &Classes) {
        let measures = self.measures(frame);
        let font = font(&mut self.fonts[0], measures.text * 5 / 4);
        let lines: Vec<String> = found
            .items
            .iter()
            .map(|c| {
                let name = match &*c.label {
                    "" => format!("class {}", c.class),
                    label => label.to_owned(),
                };
                if self.config.scores {
                    let score = format!("{:>5.1}%", c.score * 100.0);
                    format!(
                        "{} {name}",
                        score.replace(' ', FIGURE_SPACE.encode_utf8(&mut [0; 4]))
                    )
                } else {
                    name
                }
            })
            .collect();
        Canvas::new(frame).panel(font, &lines);
    }

    /// Draws the bones and joints of each pose.
    pub fn key_points(&mut self, frame: &mut Frame, found: &KeyPoints) {
        let measures = self.measures(frame);
        let mut canvas = Canvas::new(frame);
        for (i, pose) in found.poses.iter().enumerate().rev() {
            let seen = |i: usize| pose.points.get(i).filter(|p| p.score >= self.config.threshold);
            for &(a, b) in found.edges.iter() {
                if let (Some(a), Some(b)) = (seen(a), seen(b)) {
                    canvas.line((a.x, a.y), (b.x, b.y), measures.line * 1.5, color_of(i as u32));
                }
            }
            for p in (0..pose.points.len()).filter_map(seen) {
                canvas.dot((p.x, p.y), measures.line * 2.5, [20, 20, 20]);
                canvas.dot((p.x, p.y), measures.line * 1.8, [255, 255, 255]);
            }
        }
    }
}

/// The letters of that height, made anew if the height has changed.
fn font(slot: &mut Option<Font>, height: u32) -> &Font {
    if slot.as_ref().is_some_and(|f| f.height() != height) {
        *slot = None;
    }
    slot.get_or_insert_with(|| Font::new(height))
}

#[cfg(test)]
mod tests;
