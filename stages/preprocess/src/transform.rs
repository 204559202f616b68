//! One pass from a frame to the input of a network.

use std::sync::Arc;

use flow::error::{Code, StageError};
use flow::packet::Packet;
use flow::recycle::Recycler;
use flow::registry::Prepared;
use flow::stage::{Emitter, Stage};
use flow_frame::{Buffer, ColorOrder, DType, Frame, Geometry, Layout, Pool, Tensor};

use crate::color::{RowReader, channels, luma_of};
use crate::letterbox::{Align, Placement};
use crate::normalize::{Map, SampleMap, Unchanged};
use crate::resample::{Filter, Resampler, RowOrder};
use crate::target::Target;

/// Why a frame could not be turned into a tensor.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The YUV conversion refused the frame.
    #[error("a {format} frame of {width}x{height} could not be converted: {reason}")]
    Color {
        /// Arrangement of the frame's samples.
        format: &'static str,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the conversion said.
        reason: String,
    },
}

/// Where the scaled picture goes in the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fit {
    /// It fills the tensor.
    Stretch,
    /// It keeps its proportions; what it does not cover has the colour `pad` (red, green, blue).
    Letterbox { align: Align, pad: [u8; 3] },
}

/// Turns frames into tensors: scales, converts colour, normalises and lays out in one pass, keeping its tables
/// from frame to frame.
pub struct FrameToTensor {
    target: Target,
    filter: Filter,
    fit: Fit,
    pool: Pool,
    scratch: Vec<u8>,
    plan: Option<Plan>,
}

/// What depends on the size and order of the source.
struct Plan {
    source: (u32, u32),
    order: ColorOrder,
    placement: Placement,
    resampler: Resampler,
}

impl FrameToTensor {
    /// Frames are stretched to the whole target. Tensors come from `pool`.
    pub fn stretching(target: Target, filter: Filter, pool: Pool) -> Self {
        Self::new(target, filter, Fit::Stretch, pool)
    }

    /// Frames keep their proportions; the rest of the target has the colour `pad` (red, green, blue).
    pub fn letterboxing(target: Target, filter: Filter, align: Align, pad: [u8; 3], pool: Pool) -> Self {
        Self::new(target, filter, Fit::Letterbox { align, pad }, pool)
    }

    fn new(target: Target, filter: Filter, fit: Fit, pool: Pool) -> Self {
        Self {
            target,
            filter,
            fit,
            pool,
            scratch: Vec::new(),
            plan: None,
        }
    }

    /// The tensor of `frame`, and the way from tensor pixels back to frame pixels.
    pub fn run(&mut self, frame: &Frame) -> Result<(Tensor, Geometry), TransformError> {
        let mut tensor = self.blank();
        let geometry = self.run_into(frame, &mut tensor)?;
        Ok((tensor, geometry))
    }

    /// A tensor of the target with unspecified elements.
    fn blank(&self) -> Tensor {
        let target = &self.target;
        let (width, height) = (target.size.0 as usize, target.size.1 as usize);
        let depth = channels(target.color);
        let dtype = target.dtype();
        Tensor {
            dtype,
            shape: match target.layout {
                Layout::Nhwc => vec![1, height, width, depth],
                Layout::Nchw | Layout::Other => vec![1, depth, height, width],
            },
            layout: target.layout,
            data: self.pool.take(width * height * depth * dtype.bytes()),
        }
    }

    /// As [`run`](Self::run), into a tensor that held another one before, or nothing.
    fn run_into(&mut self, frame: &Frame, tensor: &mut Tensor) -> Result<Geometry, TransformError> {
        if tensor.is_empty() {
            *tensor = self.blank();
        }
        let source = (frame.width(), frame.height());
        let order = RowReader::order_of(frame.format(), self.target.color);
        let stale = |p: &Plan| p.source != source || p.order != order;
        if self.plan.as_ref().is_some_and(stale) {
            self.plan = None;
        }
        let Self {
            target,
            filter,
            fit,
            scratch,
            plan,
            ..
        } = self;
        let plan = plan.get_or_insert_with(|| Plan::new(source, order, target, *filter, *fit));

        let (width, height) = (target.size.0 as usize, target.size.1 as usize);
        let depth = channels(target.color);
        let data = &mut tensor.data;
        let mut reader = RowReader::new(frame, target.color, scratch);
        let pad = match fit {
            Fit::Stretch => [0; 3],
            Fit::Letterbox { pad, .. } => in_order(*pad, target.color),
        };
        let mut canvas = Canvas {
            width,
            height,
            depth,
            layout: target.layout,
            source_depth: channels(order),
            swap: order != target.color && channels(order) == 3,
            placement: plan.placement,
        };
        match &target.map {
            SampleMap::Float(map) => {
                canvas.fill(bytemuck::cast_slice_mut(data), map, pad, plan, &mut reader);
            }
            SampleMap::Codes(map) => canvas.fill(data, &**map, pad, plan, &mut reader),
            SampleMap::Copy => canvas.fill(data, &Unchanged, pad, plan, &mut reader),
        }
        if let Some(e) = reader.failure() {
            return Err(TransformError::Color {
                format: frame.format().name(),
                width: frame.width(),
                height: frame.height(),
                reason: e.to_string(),
            });
        }
        Ok(plan.placement.geometry(source, target.size))
    }
}

impl Plan {
    fn new(source: (u32, u32), order: ColorOrder, target: &Target, filter: Filter, fit: Fit) -> Self {
        let placement = match fit {
            Fit::Stretch => Placement::whole(target.size),
            Fit::Letterbox { align, .. } => Placement::letterbox(source, target.size, align),
        };
        let row_order = match target.layout {
            Layout::Nhwc => RowOrder::Interleaved,
            Layout::Nchw | Layout::Other => RowOrder::Planar,
        };
        let size = (placement.width, placement.height);
        Self {
            source,
            order,
            placement,
            resampler: Resampler::new(source, size, channels(order), filter, row_order),
        }
    }
}

/// The tensor being written.
struct Canvas {
    width: usize,
    height: usize,
    depth: usize,
    layout: Layout,
    source_depth: usize,
    swap: bool,
    placement: Placement,
}

impl Canvas {
    fn fill<T: Copy>(
        &mut self,
        out: &mut [T],
        map: &impl Map<T>,
        pad: [u8; 3],
        plan: &mut Plan,
        reader: &mut RowReader<'_>,
    ) {
        let out = &mut out[..self.width * self.height * self.depth];
        self.pad(out, map, pad);
        plan.resampler.run(reader, |y, row| match self.layout {
            Layout::Nhwc => self.interleaved(out, map, y, row),
            Layout::Nchw | Layout::Other => self.planar(out, map, y, row),
        });
    }

    /// Channel of the source row that channel `c` of the tensor takes.
    fn source_channel(&self, c: usize) -> usize {
        match (self.source_depth, self.swap) {
            (1, _) => 0,
            (_, true) => 2 - c,
            (_, false) => c,
        }
    }

    fn planar<T: Copy>(&self, out: &mut [T], map: &impl Map<T>, y: usize, row: &[u8]) {
        let (p, width) = (self.placement, self.placement.width as usize);
        for c in 0..self.depth {
            let at = (c * self.height + p.top as usize + y) * self.width + p.left as usize;
            let samples = &row[self.source_channel(c) * width..][..width];
            map.run(c, samples, &mut out[at..at + width]);
        }
    }

    fn interleaved<T: Copy>(&self, out: &mut [T], map: &impl Map<T>, y: usize, row: &[u8]) {
        let p = self.placement;
        let at = ((p.top as usize + y) * self.width + p.left as usize) * self.depth;
        let out = &mut out[at..at + p.width as usize * self.depth];
        if self.depth == 1 {
            map.run(0, row, out);
            return;
        }
        let pixels = out.chunks_exact_mut(3);
        match (self.source_depth, self.swap) {
            (1, _) => {
                for (o, &v) in pixels.zip(row) {
                    o.copy_from_slice(&[map.one(0, v), map.one(1, v), map.one(2, v)]);
                }
            }
            (_, true) => {
                for (o, v) in pixels.zip(row.chunks_exact(3)) {
                    o.copy_from_slice(&[map.one(0, v[2]), map.one(1, v[1]), map.one(2, v[0])]);
                }
            }
            (_, false) => {
                for (o, v) in pixels.zip(row.chunks_exact(3)) {
                    o.copy_from_slice(&[map.one(0, v[0]), map.one(1, v[1]), map.one(2, v[2])]);
                }
            }
        }
    }

    /// Fills what the picture does not cover; `pad` is in the order of the tensor's channels.
    fn pad<T: Copy>(&self, out: &mut [T], map: &impl Map<T>, pad: [u8; 3]) {
        let p = self.placement;
        let (left, top) = (p.left as usize, p.top as usize);
        let (right, bottom) = (left + p.width as usize, top + p.height as usize);
        if (left, top, right, bottom) == (0, 0, self.width, self.height) {
            return;
        }
        let colour: [T; 3] = std::array::from_fn(|c| map.one(c, pad[c]));
        // An interleaved tensor is one plane of whole pixels, a planar one `depth` planes of one sample each.
        let (planes, samples) = match self.layout {
            Layout::Nhwc => (1, self.depth),
            Layout::Nchw | Layout::Other => (self.depth, 1),
        };
        for (c, plane) in out
            .chunks_exact_mut(self.width * self.height * samples)
            .enumerate()
            .take(planes)
        {
            let pixel = &colour[c..c + samples];
            for (y, row) in plane.chunks_exact_mut(self.width * samples).enumerate() {
                if (top..bottom).contains(&y) {
                    repeat(&mut row[..left * samples], pixel);
                    repeat(&mut row[right * samples..], pixel);
                } else {
                    repeat(row, pixel);
                }
            }
        }
    }
}

/// Free tensors and frames that a stage keeps for reuse, over all its replicas.
pub(crate) const POOLED: usize = 32;

/// A stage that runs a [`FrameToTensor`] on each packet.
///
/// The packet keeps the frame it came in with as attachment [`Frame`], for those downstream that draw on it
/// or measure it, and gets the way back to it as attachment [`Geometry`]; both lead to the frame before any
/// `crop`, where there was one.
pub(crate) fn prepare_transform(target: Target, filter: Filter, fit: Fit) -> Prepared<dyn Stage> {
    let spec = target.spec();
    let pool = Pool::new(POOLED);
    Prepared::new(move |_| {
        let transform = FrameToTensor::new(target.clone(), filter, fit, pool.clone());
        Ok(Box::new(TransformStage {
            transform,
            tensors: Recycler::new(POOLED),
            ways: Recycler::new(POOLED),
        }) as Box<dyn Stage>)
    })
    .gives(Arc::new(spec))
}

/// A tensor without elements.
fn empty() -> Tensor {
    Tensor {
        dtype: DType::U8,
        shape: vec![0],
        layout: Layout::Other,
        data: Buffer::zeroed(0),
    }
}

struct TransformStage {
    transform: FrameToTensor,
    tensors: Recycler<Tensor>,
    ways: Recycler<Geometry>,
}

impl Stage for TransformStage {
    fn process(&mut self, mut packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let frame = frame_of(&packet)?;
        let mut step = Geometry::identity(frame.width(), frame.height());
        let (transform, tensors) = (&mut self.transform, &mut self.tensors);
        let tensor = tensors.try_share(empty, |tensor| {
            step = transform.run_into(&frame, tensor)?;
            Ok(())
        });
        let tensor = tensor.map_err(conversion_failed)?;
        trace_back(&mut packet, frame, step, &mut self.ways);
        out.emit(packet.with_payload(tensor));
        Ok(())
    }
}

/// The frame that a packet carries.
pub(crate) fn frame_of(packet: &Packet) -> Result<Arc<Frame>, StageError> {
    packet.shared_payload::<Frame>().ok_or_else(|| {
        let found = packet.raw_payload().port_type();
        StageError::packet(
            Code("E0440"),
            format!("this stage takes frames, the packet carries {found}"),
        )
    })
}

/// The error of a packet whose frame could not be converted.
pub(crate) fn conversion_failed(e: TransformError) -> StageError {
    StageError::packet(Code("E0441"), e.to_string()).caused_by(e)
}

/// Attaches the source frame and the way back to it, behind the steps taken before.
pub(crate) fn trace_back(
    packet: &mut Packet,
    frame: Arc<Frame>,
    step: Geometry,
    ways: &mut Recycler<Geometry>,
) {
    let whole = match packet.attachment::<Geometry>() {
        Some(before) if before.input == step.source => before.then(&step),
        _ => step,
    };
    packet.attach(ways.put(whole));
    if packet.attachment::<Frame>().is_none() {
        packet.attach(frame);
    }
}

fn repeat<T: Copy>(out: &mut [T], pixel: &[T]) {
    for o in out.chunks_exact_mut(pixel.len()) {
        o.copy_from_slice(pixel);
    }
}

fn in_order(rgb: [u8; 3], order: ColorOrder) -> [u8; 3] {
    let [r, g, b] = rgb;
    match order {
        ColorOrder::Rgb => rgb,
        ColorOrder::Bgr => [b, g, r],
        ColorOrder::Gray => [luma_of(rgb); 3],
    }
}

impl Target {
    /// Element type of the tensor.
    pub fn dtype(&self) -> DType {
        match self.map {
            SampleMap::Float(_) => DType::F32,
            SampleMap::Codes(_) | SampleMap::Copy => DType::U8,
        }
    }
}
