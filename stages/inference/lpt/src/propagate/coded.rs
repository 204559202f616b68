//! Values that are known as functions of 8-bit codes.

use std::sync::Arc;

use flow_model::graph::Value;
use flow_model::op::{Dequantize, Quantize};
use flow_model::tensor::ElementType;

use crate::dequantization::at;

/// The value of each code, indexed by the code as an unsigned byte.
pub(super) type Table = [f32; 256];

/// A value of the old graph that is a function of codes of the new graph.
#[derive(Debug, Clone)]
pub(super) struct Coded {
    /// The codes in the new graph.
    pub(super) codes: Value,
    /// U8 or I8.
    pub(super) element_type: ElementType,
    /// Lowest and highest code that occurs.
    pub(super) range: (i32, i32),
    /// What the codes mean.
    pub(super) meaning: Meaning,
}

/// What codes mean.
#[derive(Debug, Clone)]
pub(super) enum Meaning {
    /// `(q - zero_point) * scale`.
    Affine(Arc<Dequantize>),
    /// A table that is no such line, per tensor.
    Function {
        /// The values.
        table: Arc<Table>,
        /// What the codes meant before the first operation of the function.
        grid: Arc<Dequantize>,
        /// Names of the operations in the table, first to last.
        absorbed: Vec<Arc<str>>,
    },
}

impl Coded {
    /// The numeric value of a code given as a byte.
    pub(super) fn number(element_type: ElementType, byte: u8) -> i32 {
        match element_type {
            ElementType::I8 => i32::from(byte as i8),
            _ => i32::from(byte),
        }
    }

    /// Lowest and highest code of a type.
    pub(super) fn full_range(element_type: ElementType) -> (i32, i32) {
        match element_type {
            ElementType::I8 => (-128, 127),
            _ => (0, 255),
        }
    }

    /// How far the codes that occur lie from a zero point at most.
    pub(super) fn distance(&self, zero_point: i32) -> i64 {
        let (low, high) = self.range;
        let from = |q: i32| (i64::from(q) - i64::from(zero_point)).abs();
        from(low).max(from(high))
    }

    /// The codes that occur, as bytes.
    pub(super) fn occurring(&self) -> impl Iterator<Item = u8> + use<> {
        let (low, high) = self.range;
        (low..=high).map(|q| q as u8)
    }

    /// The dequantization, if the meaning is one.
    pub(super) fn affine(&self) -> Option<&Arc<Dequantize>> {
        match &self.meaning {
            Meaning::Affine(dequantize) => Some(dequantize),
            Meaning::Function { .. } => None,
        }
    }

    /// The value of each code, if it is the same for all elements.
    pub(super) fn table(&self) -> Option<Arc<Table>> {
        match &self.meaning {
            Meaning::Function { table, .. } => Some(table.clone()),
            Meaning::Affine(dequantize) => dequantize
                .axis
                .is_none()
                .then(|| Arc::new(table_of(dequantize, 0, self.element_type))),
        }
    }

    /// Whether larger codes never mean smaller values.
    pub(super) fn is_increasing(&self) -> bool {
        match &self.meaning {
            Meaning::Affine(dequantize) => dequantize.scale.iter().all(|&s| s > 0.0),
            Meaning::Function { table, .. } => {
                let (low, high) = self.range;
                (low..high).all(|q| table[usize::from(q as u8)] <= table[usize::from((q + 1) as u8)])
            }
        }
    }

    /// The same meaning for other codes, of the same type and range.
    pub(super) fn moved(&self, codes: Value) -> Self {
        Self {
            codes,
            ..self.clone()
        }
    }
}

/// The values of the codes at index `i` of the axis.
pub(super) fn table_of(dequantize: &Dequantize, i: usize, element_type: ElementType) -> Table {
    let (scale, zero_point) = (at(&dequantize.scale, i), at(&dequantize.zero_point, i));
    std::array::from_fn(|byte| (Coded::number(element_type, byte as u8) as f32 - zero_point) * scale)
}

/// The code, as a byte, that a quantization gives to each value: the level by one multiplication and one
/// addition in f32, as plugins compute it in their epilogues.
pub(super) fn quantized(table: &Table, quantize: &Quantize, i: usize) -> [u8; 256] {
    let (low, high) = (at(&quantize.input_low, i), at(&quantize.input_high, i));
    let last = (quantize.levels - 1) as f32;
    let scale = last / (high - low);
    let shift = -low * scale;
    table.map(|x| {
        let level = if x <= low.min(high) {
            0.0
        } else if x > low.max(high) {
            last
        } else {
            (x * scale + shift).round_ties_even()
        };
        (quantize.low + level as i32) as u8
    })
}

/// Whether a table of codes changes none of the codes that occur.
pub(super) fn is_identity(table: &[u8; 256], coded: &Coded) -> bool {
    coded.occurring().all(|byte| table[usize::from(byte)] == byte)
}
