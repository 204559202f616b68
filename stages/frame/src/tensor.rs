//! Tensors into and out of a network.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use flow::packet::{Packet, Payload, PayloadFile};
use flow::ports::{PortDetail, PortType};

use crate::{Buffer, TENSOR, TENSORS};

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// Unsigned 8 bit.
    U8,
    /// Signed 8 bit.
    I8,
    /// Signed 32 bit.
    I32,
    /// Signed 64 bit.
    I64,
    /// 32-bit float.
    F32,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I32 | Self::F32 => 4,
            Self::I64 => 8,
        }
    }
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
        }
    }
}

/// Order of the axes of an image tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
    /// Not an image.
    Other,
}

impl Layout {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
            Self::Other => "other",
        }
    }
}

/// Order of the colour channels of an image tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColorOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
    /// One channel.
    Gray,
}

impl ColorOrder {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        }
    }
}

/// A dense, row-major tensor; payload of `tensor` ports.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Axis lengths.
    pub shape: Vec<usize>,
    /// Meaning of the axes.
    pub layout: Layout,
    /// Elements, little endian; at least `shape.product() * dtype.bytes()` bytes, 64-byte aligned.
    pub data: Buffer,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The elements as `f32`, if that is their type.
    pub fn f32s(&self) -> Option<&[f32]> {
        self.elements(DType::F32)
    }
    /// The elements as `u8`, if that is their type.
    pub fn u8s(&self) -> Option<&[u8]> {
        self.elements(DType::U8)
    }
    /// The elements as `i64`, if that is their type.
    pub fn i64s(&self) -> Option<&[i64]> {
        self.elements(DType::I64)
    }
    /// The elements as `i32`, if that is their type.
    pub fn i32s(&self) -> Option<&[i32]> {
        self.elements(DType::I32)
    }
    fn elements<T: bytemuck::Pod>(&self, dtype: DType) -> Option<&[T]> {
        let bytes = self.data.get(..self.len() * self.dtype.bytes())?;
        if self.dtype == dtype {
            bytemuck::try_cast_slice(bytes).ok()
        } else {
            None
        }
    }
    /// The elements converted to `f32`, whatever their type.
    pub fn to_f32(&self) -> Vec<f32> {
        let n = self.len();
        let bytes = self.data.get(..n * self.dtype.bytes()).unwrap_or_default();
        match self.dtype {
            DType::U8 => bytes.iter().map(|&v| f32::from(v)).collect(),
            DType::I8 => bytes.iter().map(|&v| f32::from(v as i8)).collect(),
            DType::I32 => bytemuck::cast_slice::<_, i32>(bytes)
                .iter()
                .map(|&v| v as f32)
                .collect(),
            DType::I64 => bytemuck::cast_slice::<_, i64>(bytes)
                .iter()
                .map(|&v| v as f32)
                .collect(),
            DType::F32 => bytemuck::cast_slice(bytes).to_vec(),
        }
    }
}

impl Payload for Tensor {
    fn port_type(&self) -> PortType {
        TENSOR
    }
    fn bytes(&self) -> usize {
        self.data.len()
    }
    fn shape_key(&self) -> u64 {
        let kind = [self.dtype as u64, self.layout as u64];
        flow::packet::shape_key(kind.into_iter().chain(self.shape.iter().map(|n| *n as u64)))
    }
    fn files(&self, packet: &Packet) -> Vec<PayloadFile> {
        let own = crate::files::tensor("tensor", self);
        own.into_iter().chain(crate::files::attached(packet)).collect()
    }
}

/// The outputs of a network, in Result order, each with its name.
#[derive(Debug, Clone, Default)]
pub struct Tensors {
    /// Name and value of each output.
    pub items: Vec<(Arc<str>, Tensor)>,
}

impl Payload for Tensors {
    fn port_type(&self) -> PortType {
        TENSORS
    }
    fn bytes(&self) -> usize {
        self.items.iter().map(|(_, t)| t.data.len()).sum()
    }
    fn files(&self, packet: &Packet) -> Vec<PayloadFile> {
        let own = self.items.iter().enumerate();
        let own = own.filter_map(|(n, (name, tensor))| crate::files::tensor(&format!("{n}-{name}"), tensor));
        own.chain(crate::files::attached(packet)).collect()
    }
}

/// What a tensor port gives or wants, as far as it is known before running.
///
/// A network's own knowledge ends at dtype, shape and layout; colour order is known only when the model file
/// or the pipeline says so.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Element type.
    pub dtype: DType,
    /// Axis lengths; `None` for an axis that is not fixed.
    pub shape: Vec<Option<usize>>,
    /// Order of the axes.
    pub layout: Layout,
    /// Order of the channels, where known.
    pub color: Option<ColorOrder>,
    /// How the consumer quantizes its f32 input first, where it does: it then takes `u8` codes as well.
    pub quantization: Option<InputQuantization>,
}

/// The FakeQuantize that a network applies to its f32 input before anything else, per tensor.
///
/// A producer may apply it instead and hand over `u8` codes; the network then skips its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputQuantization {
    /// Input low limit.
    pub low: f32,
    /// Input high limit, above `low`.
    pub high: f32,
    /// Number of levels, 2 to 256.
    pub levels: u32,
}

impl InputQuantization {
    /// The code of `value`, from 0 to `levels - 1`, after OpenVINO's FakeQuantize-1: ties to even.
    pub fn code(&self, value: f32) -> u8 {
        let steps = (self.levels - 1) as f32;
        if value <= self.low {
            0
        } else if value > self.high {
            steps as u8
        } else {
            ((value - self.low) / (self.high - self.low) * steps).round_ties_even() as u8
        }
    }
}

impl TensorSpec {
    /// Width and height of an image tensor, where fixed.
    pub fn size(&self) -> Option<(u32, u32)> {
        let (h, w) = match (self.layout, self.shape.as_slice()) {
            (Layout::Nchw, [_, _, h, w]) | (Layout::Nhwc, [_, h, w, _]) => ((*h)?, (*w)?),
            _ => return None,
        };
        Some((u32::try_from(w).ok()?, u32::try_from(h).ok()?))
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self
            .shape
            .iter()
            .map(|d| d.map_or("?".into(), |d| d.to_string()))
            .collect();
        write!(f, "{}[{}]", self.dtype.name(), dims.join(","))?;
        if self.layout != Layout::Other {
            write!(f, " {}", self.layout.name().to_uppercase())?;
        }
        if let Some(color) = self.color {
            write!(f, " {}", color.name().to_uppercase())?;
        }
        Ok(())
    }
}

impl PortDetail for TensorSpec {
    fn feeds(&self, wanted: &dyn PortDetail) -> Result<(), String> {
        let any: &dyn Any = wanted;
        let Some(wanted) = any.downcast_ref::<Self>() else {
            return Ok(());
        };
        let codes = self.dtype == DType::U8
            && self.quantization.is_some()
            && self.quantization == wanted.quantization;
        if self.dtype != wanted.dtype && !codes {
            return Err(format!(
                "the element types differ; set `dtype: {}` or `size: model`",
                wanted.dtype.name()
            ));
        }
        if self.layout != wanted.layout && wanted.layout != Layout::Other {
            return Err(format!(
                "the layouts differ; set `layout: {}` or `size: model`",
                wanted.layout.name()
            ));
        }
        let fits = self.shape.len() == wanted.shape.len()
            && self
                .shape
                .iter()
                .zip(&wanted.shape)
                .all(|(a, b)| a.is_none() || b.is_none() || a == b);
        if !fits {
            return Err(match wanted.size() {
                Some((w, h)) => format!("the shapes differ; set `size: [{w}, {h}]` or `size: model`"),
                None => "the shapes differ; set `size: model`".into(),
            });
        }
        match (self.color, wanted.color) {
            (Some(a), Some(b)) if a != b => {
                Err(format!("the colour orders differ; set `color: {}`", b.name()))
            }
            _ => Ok(()),
        }
    }
}
