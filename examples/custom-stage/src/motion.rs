//! `type: motion`: lets through frames in which something moved.

use std::collections::HashMap;
use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{FRAME, Frame};
use schemars::JsonSchema;
use serde::Deserialize;

/// Drops frames that look like the last frame that was let through.
///
/// Two frames differ by the mean absolute difference of the samples of their first plane: luma of YUV and grey
/// frames, all channels of RGB and BGR frames.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MotionConfig {
    /// Frames that differ by less than this are dropped, in sample steps from 0 to 255.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 0.0, max = 255.0))]
    pub threshold: f64,
}

fn default_threshold() -> f64 {
    2.0
}

impl Config for MotionConfig {}

/// Registers the kind.
pub fn register(registry: &mut Registry) {
    let info = KindInfo {
        name: "motion",
        summary: "Drops frames in which nothing moved",
        ports: Ports {
            takes: &[FRAME],
            gives: &[FRAME],
        },
        // Each frame is compared with an earlier one, so one instance must see the whole stream.
        replication: Replication::PerStream,
    };
    registry.stage::<MotionConfig>(info, prepare);
}

fn prepare(config: &MotionConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let threshold = config.threshold;
    Ok(Prepared::new(move |_replica| {
        Ok(Box::new(Motion::new(threshold)) as Box<dyn Stage>)
    }))
}

/// Code of: a packet carries something else than a frame.
const NO_FRAME: Code = Code("X0001");

struct Motion {
    threshold: f64,
    /// The last frame let through, by stream. Sharing it costs a handle, not a copy.
    last: HashMap<StreamId, Arc<Frame>>,
}

impl Motion {
    fn new(threshold: f64) -> Self {
        Self {
            threshold,
            last: HashMap::new(),
        }
    }
}

impl Stage for Motion {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(frame) = packet.shared_payload::<Frame>() else {
            return Err(StageError::packet(NO_FRAME, "expected a frame"));
        };
        let stream = &packet.header.id.stream;
        let still = self
            .last
            .get(stream)
            .and_then(|last| difference(last, &frame))
            .is_some_and(|difference| difference < self.threshold);
        if still {
            out.drop_packet(&packet.header, "still");
        } else {
            self.last.insert(stream.clone(), frame);
            out.emit(packet);
        }
        Ok(())
    }

    /// Also called where a stream starts anew: its first frame is then let through.
    fn flush(&mut self, stream: &StreamId, _: &mut dyn Emitter) -> Result<(), StageError> {
        self.last.remove(stream);
        Ok(())
    }
}

/// Mean absolute difference of the samples of the first planes, 0 to 255; `None` where sizes or formats differ.
pub fn difference(a: &Frame, b: &Frame) -> Option<f64> {
    let kind = |f: &Frame| (f.width(), f.height(), f.format());
    if kind(a) != kind(b) {
        return None;
    }
    let plane = a.plane_layout(0);
    let sum: u64 = (0..plane.rows)
        .flat_map(|row| a.row(0, row).iter().zip(b.row(0, row)))
        .map(|(&x, &y)| u64::from(x.abs_diff(y)))
        .sum();
    Some(sum as f64 / (plane.rows * plane.row_bytes) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::packet::{Header, PacketId};
    use flow_frame::{Buffer, ColorSpace, PixelFormat};

    fn frame(width: u32, samples: &[u8]) -> Arc<Frame> {
        let height = samples.len() as u32 / width;
        let data = Buffer::copy_of(samples);
        Arc::new(Frame::packed(width, height, PixelFormat::Gray, ColorSpace::JPEG, data).unwrap())
    }

    fn packet(stream: &str, seq: u64, frame: &Arc<Frame>) -> Packet {
        let header = Header {
            id: PacketId {
                stream: stream.into(),
                epoch: 0,
                seq,
            },
            captured: std::time::Instant::now(),
            pts: None,
        };
        Packet::new(header, frame.clone())
    }

    /// Notes what became of each packet.
    #[derive(Default)]
    struct Outcomes(Vec<&'static str>);

    impl Emitter for Outcomes {
        fn emit(&mut self, _: Packet) {
            self.0.push("emitted");
        }
        fn drop_packet(&mut self, _: &Header, reason: &'static str) {
            self.0.push(reason);
        }
        fn fail(&mut self, _: &Header, _: StageError) {
            self.0.push("failed");
        }
    }

    #[test]
    fn the_difference_is_the_mean_over_all_samples() {
        let a = frame(2, &[10, 20, 30, 40]);
        assert_eq!(difference(&a, &frame(2, &[12, 20, 26, 40])), Some(1.5));
        assert_eq!(difference(&a, &frame(4, &[10, 20, 30, 40])), None);
    }

    #[test]
    fn slow_motion_adds_up_until_a_frame_is_let_through() {
        let mut stage = Motion::new(2.0);
        let mut out = Outcomes::default();
        for (seq, level) in [100, 101, 102, 103].into_iter().enumerate() {
            let packet = packet("a", seq as u64, &frame(2, &[level; 4]));
            stage.process(packet, &mut out).unwrap();
        }
        assert_eq!(out.0, ["emitted", "still", "emitted", "still"]);
    }

    #[test]
    fn streams_do_not_mix_and_a_new_start_forgets() {
        let mut stage = Motion::new(2.0);
        let mut out = Outcomes::default();
        let (dark, light) = (frame(2, &[0; 4]), frame(2, &[200; 4]));
        for (stream, frame) in [("a", &dark), ("b", &light), ("a", &dark), ("b", &light)] {
            stage.process(packet(stream, 0, frame), &mut out).unwrap();
        }
        stage.discontinuity(&"a".into(), &mut out).unwrap();
        stage.process(packet("a", 0, &dark), &mut out).unwrap();
        assert_eq!(out.0, ["emitted", "emitted", "still", "still", "emitted"]);
    }
}
