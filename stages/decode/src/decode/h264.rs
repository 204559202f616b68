//! H.264 access units through OpenH264.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flow::error::StageError;
use flow::packet::Packet;
use flow::stage::Emitter;
use flow_frame::{ColorSpace, Encoded, Frame, PixelFormat, Pool};
use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;

use crate::error::{E_NO_KEYFRAME, E_NO_PICTURE, E_PICTURE, E_UNSUPPORTED};
use crate::h264::{SPS, Sps, has_idr, nal_type, nal_units};
use crate::playback::Preroll;

/// Pictures a decoder may hold back for reordering (16, A.3.1), with room to spare.
const MAX_PENDING: usize = 32;

/// Decodes one stream.
///
/// Packets come in decoding order and frames leave in display order; so the frames take the ids of the
/// packets in the order of `seq`, and their presentation times in rising order. Each id gets one outcome.
pub(super) struct H264Stream {
    decoder: Decoder,
    /// Packets taken and not settled, by `seq`.
    pending: VecDeque<Packet>,
    /// Their presentation times in nanoseconds; negative: not to be shown.
    times: Vec<i64>,
    sps: Option<Sps>,
    /// Why pictures cannot be decoded before the next keyframe.
    waiting: Option<&'static str>,
    next_seq: Option<u64>,
}

fn new_decoder() -> Result<Decoder, StageError> {
    // Flushing after each access unit would break the order of streams with B pictures.
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    Decoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|e| StageError::fatal(E_PICTURE, format!("the H.264 decoder cannot start: {e}")))
}

/// Presentation time in nanoseconds.
fn time(packet: &Packet) -> Option<i64> {
    match packet.attachment::<Preroll>() {
        Some(preroll) => Some(-i64::try_from(preroll.before.as_nanos()).unwrap_or(i64::MAX)),
        None => packet
            .header
            .pts
            .map(|pts| i64::try_from(pts.as_nanos()).unwrap_or(i64::MAX)),
    }
}

impl H264Stream {
    pub(super) fn new() -> Result<Self, StageError> {
        Ok(Self {
            decoder: new_decoder()?,
            pending: VecDeque::new(),
            times: Vec::new(),
            sps: None,
            waiting: Some("the stream does not begin with a keyframe"),
            next_seq: None,
        })
    }

    pub(super) fn process(
        &mut self,
        packet: Packet,
        pool: &Pool,
        out: &mut dyn Emitter,
    ) -> Result<(), StageError> {
        let Some(encoded) = packet.shared_payload::<Encoded>() else {
            return Err(StageError::packet(E_UNSUPPORTED, "expected an encoded packet"));
        };
        let seq = packet.header.id.seq;
        if self.next_seq.is_some_and(|expected| expected != seq) {
            self.restart("packets before it were lost", pool, out)?;
        }
        self.next_seq = Some(seq + 1);
        if let Some(why) = self.waiting
            && !(encoded.keyframe || has_idr(&encoded.data))
        {
            return Err(StageError::packet(
                E_NO_KEYFRAME,
                format!("the picture cannot be decoded before the next keyframe: {why}"),
            ));
        }
        if let Err(e) = self.read_parameters(&encoded.data, pool, out) {
            self.restart("a parameter set before it was refused", pool, out)?;
            return Err(e);
        }
        self.waiting = None;
        let own_time = time(&packet);
        self.pending.push_back(packet);
        self.times.extend(own_time);
        let decoded = match self.decoder.decode(&encoded.data) {
            Ok(None) => None,
            Ok(Some(picture)) => Some(to_frame(&picture, self.sps, pool)),
            Err(e) => Some(Err(StageError::packet(
                E_PICTURE,
                format!(
                    "cannot decode the h264 picture: {} (OpenH264 state {:#x})",
                    explain(e.native_code()),
                    e.native_code()
                ),
            ))),
        };
        match decoded {
            None if self.pending.len() > MAX_PENDING => {
                self.fail_oldest(out);
                Ok(())
            }
            None => Ok(()),
            Some(Ok(frame)) => {
                self.settle(frame, out);
                Ok(())
            }
            Some(Err(e)) => {
                self.pending.pop_back();
                if let Some(place) = self.times.iter().position(|&t| Some(t) == own_time) {
                    self.times.swap_remove(place);
                }
                self.restart("an earlier picture was damaged", pool, out)?;
                Err(e)
            }
        }
    }

    /// Gives out what the decoder still holds. Packets without a picture fail.
    pub(super) fn drain(&mut self, pool: &Pool, out: &mut dyn Emitter) -> Result<(), StageError> {
        let mut frames = Vec::new();
        if !self.pending.is_empty() {
            // What an unwilling decoder keeps is counted below.
            for picture in self.decoder.flush_remaining().unwrap_or_default() {
                frames.extend(to_frame(&picture, self.sps, pool));
            }
        }
        for frame in frames {
            self.settle(frame, out);
        }
        while !self.pending.is_empty() {
            self.fail_oldest(out);
        }
        self.times.clear();
        Ok(())
    }

    /// Drains, and begins anew at the next keyframe.
    fn restart(&mut self, why: &'static str, pool: &Pool, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.drain(pool, out)?;
        if self.waiting.is_none() {
            self.decoder = new_decoder()?;
            self.waiting = Some(why);
        }
        Ok(())
    }

    /// Reads the parameter sets of an access unit before the decoder does, and refuses what it cannot do.
    fn read_parameters(&mut self, unit: &[u8], pool: &Pool, out: &mut dyn Emitter) -> Result<(), StageError> {
        for nal in nal_units(unit).filter(|nal| nal_type(nal) == Some(SPS)) {
            let Some(sps) = Sps::parse(nal) else {
                return Err(StageError::packet(
                    E_PICTURE,
                    "the H.264 sequence parameter set is damaged, or its pictures are larger than level 6.2 \
                     allows",
                ));
            };
            let refused = match sps {
                Sps { interlaced: true, .. } => Some("interlaced pictures".to_owned()),
                Sps { depth, .. } if depth != 8 => Some(format!("{depth} bits a sample")),
                Sps { chroma_format, .. } if chroma_format > 1 => {
                    Some("a chroma format other than 4:2:0".to_owned())
                }
                _ => None,
            };
            if let Some(what) = refused {
                return Err(StageError::packet(
                    E_UNSUPPORTED,
                    format!("H.264 with {what} is not supported; use `type: ffmpeg`"),
                ));
            }
            let before = self.sps.replace(sps);
            if before.is_some_and(|b| (b.width, b.height) != (sps.width, sps.height)) {
                // Pictures of the old size leave with the old colours and size.
                self.sps = before;
                self.drain(pool, out)?;
                self.sps = Some(sps);
                self.decoder = new_decoder()?;
            }
        }
        Ok(())
    }

    /// Settles the oldest packet with a frame.
    fn settle(&mut self, frame: Frame, out: &mut dyn Emitter) {
        let first = self
            .times
            .iter()
            .enumerate()
            .min_by_key(|(_, time)| **time)
            .map(|(place, _)| place);
        let time = first.map(|place| self.times.swap_remove(place));
        let Some(mut packet) = self.pending.pop_front() else {
            // A picture without a packet would be one too many; the decoder gives at most one for each.
            return;
        };
        match time {
            Some(time) if time < 0 => return out.drop_packet(&packet.header, "before_start"),
            Some(time) => packet.header.pts = Some(Duration::from_nanos(time as u64)),
            None => {}
        }
        let origin = packet.payload::<Encoded>().map(|e| e.origin.clone());
        let frame = match origin {
            Some(origin) => frame.from_origin(origin),
            None => frame,
        };
        out.emit(packet.with_payload(Arc::new(frame)));
    }

    fn fail_oldest(&mut self, out: &mut dyn Emitter) {
        if let Some(packet) = self.pending.pop_front() {
            if let Some(place) = self.times.iter().position(|&t| Some(t) == time(&packet)) {
                self.times.swap_remove(place);
            }
            let error = StageError::packet(
                E_NO_PICTURE,
                "the H.264 decoder gave no picture for this access unit",
            );
            out.fail(&packet.header, error);
        }
    }
}

/// What the bits of OpenH264's `DECODING_STATE` mean, the first that is set.
fn explain(state: i64) -> &'static str {
    [
        (0x02, "a picture it refers to is lost"),
        (0x04, "the bitstream is damaged"),
        (0x10, "its parameter sets are missing"),
        (0x40, "a picture it refers to is lost"),
        (0x4000, "the decoder is out of memory"),
    ]
    .into_iter()
    .find_map(|(bit, meaning)| (state & bit != 0).then_some(meaning))
    .unwrap_or("the decoder refused it")
}

fn to_frame(picture: &DecodedYUV<'_>, sps: Option<Sps>, pool: &Pool) -> Result<Frame, StageError> {
    let failed =
        |what: String| StageError::packet(E_PICTURE, format!("cannot decode the h264 picture: {what}"));
    let (width, height) = picture.dimensions();
    let (width32, height32) = (width as u32, height as u32);
    let color = sps.map_or_else(|| ColorSpace::guess(height32), |sps| sps.color);
    let format = PixelFormat::I420;
    let mut data = pool.take(format.frame_bytes(width32, height32));
    let (stride_y, stride_u, stride_v) = picture.strides();
    let planes = [
        (picture.y(), stride_y),
        (picture.u(), stride_u),
        (picture.v(), stride_v),
    ];
    let mut rest = &mut data[..];
    for ((rows, row), (from, stride)) in format.planes(width32, height32).zip(planes) {
        let (plane, after) = rest.split_at_mut(rows * row);
        rest = after;
        for (y, out) in plane.chunks_exact_mut(row).enumerate() {
            let stored = from.get(y * stride..).and_then(|line| line.get(..row));
            out.copy_from_slice(stored.ok_or_else(|| failed("its planes are too small".into()))?);
        }
    }
    Frame::packed(width32, height32, format, color, data).map_err(|e| failed(e.to_string()))
}
