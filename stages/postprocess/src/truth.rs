//! Stage `truth`: what is truly in the frames of a synthetic source, as detections.

use std::sync::Arc;

use flow::error::{Code, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::registry::{Config, KindInfo, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{DETECTIONS, Detections, FRAME, Frame, GroundTruth};
use schemars::JsonSchema;
use serde::Deserialize;

/// Gives the true boxes of a synthetic frame as detections, so that they can be written, drawn, or used to train and
/// judge a network. The score of a box is the visible share of its object.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TruthConfig {}

impl Config for TruthConfig {}

pub(crate) fn register(registry: &mut Registry) {
    let info = KindInfo {
        name: "truth",
        summary: "The true boxes of a synthetic source's frames, as detections",
        ports: Ports {
            takes: &[FRAME],
            gives: &[DETECTIONS],
        },
        replication: Replication::Free,
    };
    registry.stage::<TruthConfig>(info, |_, _| {
        Ok(Prepared::new(|_| Ok(Box::new(Truth) as Box<dyn Stage>)))
    });
}

struct Truth;

impl Stage for Truth {
    fn process(&mut self, mut packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(truth) = packet.attachment::<GroundTruth>() else {
            return Err(StageError::packet(
                Code("E0706"),
                "the frame carries no truth; stage `truth` works behind a `synthetic` source",
            ));
        };
        if let Some(frame) = packet.shared_payload::<Frame>() {
            packet.attach(frame);
        }
        let items = truth.items.clone();
        out.emit(packet.with_payload(Arc::new(Detections { items })));
        Ok(())
    }
}
