//! Stage kind `decode`: encoded packets to frames.

#[cfg(feature = "h264")]
mod h264;

use std::sync::Arc;

use flow::error::{PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{Codec, ENCODED, Encoded, FRAME, Frame, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::E_UNSUPPORTED;
use crate::picture::decode_picture;

/// Frames that wait in queues and stages at once; more are allocated when more are on their way.
const POOLED: usize = 16;

/// Decodes H.264, JPEG, PNG, BMP and PNM to frames; frames pass unchanged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecodeConfig {}

impl Config for DecodeConfig {}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<DecodeConfig>(
        KindInfo {
            name: "decode",
            summary: "Decodes H.264, JPEG, PNG, BMP and PNM to frames; frames pass unchanged",
            ports: Ports {
                takes: &[ENCODED, FRAME],
                gives: &[FRAME],
            },
            replication: Replication::PerStream,
        },
        prepare,
    );
}

fn prepare(_: &DecodeConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    Ok(Prepared::<dyn Stage>::new(|_| Ok(Box::new(Decode::new()))))
}

/// The stage. H.264 has a decoder for each stream; pictures need no state.
pub(crate) struct Decode {
    pool: Pool,
    #[cfg(feature = "h264")]
    h264: std::collections::HashMap<StreamId, h264::H264Stream>,
}

impl Decode {
    pub(crate) fn new() -> Self {
        Self {
            pool: Pool::new(POOLED),
            #[cfg(feature = "h264")]
            h264: std::collections::HashMap::new(),
        }
    }

    #[cfg(feature = "h264")]
    fn access_unit(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let stream = packet.header.id.stream.clone();
        let decoder = match self.h264.entry(stream) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(h264::H264Stream::new()?),
        };
        decoder.process(packet, &self.pool, out)
    }

    #[cfg(not(feature = "h264"))]
    fn access_unit(&mut self, _: Packet, _: &mut dyn Emitter) -> Result<(), StageError> {
        Err(StageError::fatal(
            E_UNSUPPORTED,
            "this build cannot decode H.264: it was made without the cargo feature `h264`; read the input \
             with `type: ffmpeg`",
        ))
    }
}

impl Stage for Decode {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        if packet.payload::<Frame>().is_some() {
            out.emit(packet);
            return Ok(());
        }
        let Some(encoded) = packet.payload::<Encoded>() else {
            return Err(StageError::packet(
                E_UNSUPPORTED,
                format!(
                    "expected an encoded packet or a frame, found `{}`",
                    packet.raw_payload().port_type()
                ),
            ));
        };
        if encoded.codec == Codec::H264 {
            return self.access_unit(packet, out);
        }
        let frame = decode_picture(encoded.codec, &encoded.data, &self.pool)
            .map_err(|e| StageError::packet(e.code(), e.clone().in_stage(&encoded.origin).message))?
            .from_origin(encoded.origin.clone());
        out.emit(packet.with_payload(Arc::new(frame)));
        Ok(())
    }

    #[cfg(feature = "h264")]
    fn flush(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        match self.h264.remove(stream) {
            Some(mut decoder) => decoder.drain(&self.pool, out),
            None => Ok(()),
        }
    }
}
