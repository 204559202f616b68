//! Element types and constant tensors.

use std::sync::Arc;

use half::{bf16, f16};

use crate::storage::SharedBytes;

/// Element type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of OpenVINO's element types")]
pub enum ElementType {
    Boolean,
    F16,
    Bf16,
    F32,
    F64,
    I4,
    I8,
    I16,
    I32,
    I64,
    U1,
    U4,
    U8,
    U16,
    U32,
    U64,
}

/// Every element type with its width in bits, its name in attributes and its name on ports.
const TYPES: [(ElementType, usize, &str, &str); 16] = [
    (ElementType::Boolean, 8, "boolean", "BOOL"),
    (ElementType::F16, 16, "f16", "FP16"),
    (ElementType::Bf16, 16, "bf16", "BF16"),
    (ElementType::F32, 32, "f32", "FP32"),
    (ElementType::F64, 64, "f64", "FP64"),
    (ElementType::I4, 4, "i4", "I4"),
    (ElementType::I8, 8, "i8", "I8"),
    (ElementType::I16, 16, "i16", "I16"),
    (ElementType::I32, 32, "i32", "I32"),
    (ElementType::I64, 64, "i64", "I64"),
    (ElementType::U1, 1, "u1", "BIN"),
    (ElementType::U4, 4, "u4", "U4"),
    (ElementType::U8, 8, "u8", "U8"),
    (ElementType::U16, 16, "u16", "U16"),
    (ElementType::U32, 32, "u32", "U32"),
    (ElementType::U64, 64, "u64", "U64"),
];

impl ElementType {
    fn row(self) -> (ElementType, usize, &'static str, &'static str) {
        TYPES[self as usize]
    }

    /// Width of an element in bits; below 8 for packed types.
    pub fn bits(self) -> usize {
        self.row().1
    }

    /// Name in IR attributes: `f32`, `i8`, `boolean`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Name on IR ports: `FP32`, `I8`, `BOOL`.
    pub fn precision(self) -> &'static str {
        self.row().3
    }

    /// The type with that name in IR attributes (`bool` is accepted for `boolean`).
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "bool" {
            return Some(Self::Boolean);
        }
        TYPES.iter().find(|t| t.2 == name).map(|t| t.0)
    }

    /// The type with that name on IR ports.
    pub fn from_precision(name: &str) -> Option<Self> {
        match name {
            "BOOLEAN" => Some(Self::Boolean),
            "U1" => Some(Self::U1),
            _ => TYPES.iter().find(|t| t.3 == name).map(|t| t.0),
        }
    }

    /// Whether it is a floating point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// Whether it is an integer type; booleans are not.
    pub fn is_integer(self) -> bool {
        !self.is_float() && self != Self::Boolean
    }

    /// Lowest and highest value of an integer type; `None` for floats and booleans.
    pub fn range(self) -> Option<(i128, i128)> {
        let bits = self.bits() as u32;
        match self {
            Self::I4 | Self::I8 | Self::I16 | Self::I32 | Self::I64 => {
                Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
            }
            Self::U1 | Self::U4 | Self::U8 | Self::U16 | Self::U32 | Self::U64 => Some((0, (1 << bits) - 1)),
            _ => None,
        }
    }

    /// Bytes that `count` packed elements take; `None` on overflow.
    pub fn byte_len(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Number of elements of a shape; `None` on overflow of `isize`.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| isize::try_from(n).is_ok())
}

/// Why a tensor could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape's element count is too large to address.
    #[error("shape {0:?} has more elements than memory can hold")]
    TooLarge(Vec<usize>),
    /// The data are not what the shape asks for.
    #[error("shape {shape:?} of {element_type} needs {expected} bytes, found {found}")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// The element type.
        element_type: ElementType,
        /// Bytes the shape needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

/// Rust types that are elements of tensors as they are.
pub trait Element: Copy + Sized {
    /// The element type.
    const TYPE: ElementType;
    /// Reads one element from its little-endian bytes; zero if there are too few.
    fn read(bytes: &[u8]) -> Self;
    /// Appends the little-endian bytes.
    fn append(self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($rust:ty => $name:ident),*) => { $(
        impl Element for $rust {
            const TYPE: ElementType = ElementType::$name;
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap_or_default())
            }
            fn append(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}
elements!(f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, f16 => F16, bf16 => Bf16);

/// The packed bytes of typed values.
fn pack<T: Element>(values: impl ExactSizeIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * size_of::<T>());
    values.for_each(|v| v.append(&mut bytes));
    bytes
}

/// A dense, row-major, little-endian tensor. Clones share the bytes.
///
/// 4-bit elements lie two to a byte, the first in the low half; 1-bit elements eight to a byte, the first in
/// the highest bit, as in OpenVINO. Bytes may have any alignment.
#[derive(Clone)]
pub struct Tensor {
    element_type: ElementType,
    shape: Vec<usize>,
    owner: SharedBytes,
    start: usize,
    len: usize,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?}", self.element_type, self.shape)?;
        if self.len() <= 16 {
            write!(f, " {:?}", self.to_f64())?;
        }
        f.write_str(")")
    }
}

/// Equal element type, shape and bits.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.element_type == other.element_type && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl Tensor {
    /// A tensor of packed bytes.
    ///
    /// # Errors
    /// If `bytes` has not exactly the length that shape and type ask for.
    pub fn new(
        element_type: ElementType,
        shape: Vec<usize>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Self, TensorError> {
        let bytes = bytes.into();
        let len = bytes.len();
        Self::shared(element_type, shape, Arc::new(bytes), 0, len)
    }

    /// A tensor over the `len` bytes of `owner` from `start`, which it shares.
    ///
    /// # Errors
    /// If the range does not lie in the owner's bytes or has not the length that shape and type ask for.
    pub fn shared(
        element_type: ElementType,
        shape: Vec<usize>,
        owner: SharedBytes,
        start: usize,
        len: usize,
    ) -> Result<Self, TensorError> {
        check_length(element_type, &shape, len)?;
        let available = owner.bytes().len();
        if start.checked_add(len).is_none_or(|end| end > available) {
            return Err(TensorError::Length {
                shape,
                element_type,
                expected: len,
                found: available.saturating_sub(start),
            });
        }
        Ok(Self {
            element_type,
            shape,
            owner,
            start,
            len,
        })
    }

    /// [`Storage::give_back`](crate::storage::Storage::give_back) of what holds its bytes and those of others.
    pub fn give_back(&self) {
        self.owner.give_back();
    }

    /// A tensor of typed values in row-major order.
    ///
    /// # Errors
    /// If the number of values is not the number of elements of the shape.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Result<Self, TensorError> {
        Self::new(T::TYPE, shape.to_vec(), pack(values.iter().copied()))
    }

    /// A tensor without axes.
    pub fn scalar<T: Element>(value: T) -> Self {
        let bytes = pack(std::iter::once(value));
        Self {
            element_type: T::TYPE,
            shape: Vec::new(),
            start: 0,
            len: bytes.len(),
            owner: Arc::new(bytes),
        }
    }

    /// A tensor of any type from floating point values, each rounded to the nearest value of the type
    /// (integers: truncated towards zero and saturated; booleans: nonzero is true).
    ///
    /// # Errors
    /// If the number of values is not the number of elements of the shape.
    pub fn from_f64(element_type: ElementType, shape: &[usize], values: &[f64]) -> Result<Self, TensorError> {
        macro_rules! make {
            ($convert:expr) => {
                Self::new(
                    element_type,
                    shape.to_vec(),
                    pack(values.iter().map($convert)),
                )
            };
        }
        match element_type {
            ElementType::F64 => make!(|&v| v),
            ElementType::F32 => make!(|&v| v as f32),
            ElementType::F16 => make!(|&v| f16::from_f64(v)),
            ElementType::Bf16 => make!(|&v| bf16::from_f64(v)),
            ElementType::Boolean => make!(|&v| u8::from(v != 0.0)),
            _ => {
                let (low, high) = element_type.range().unwrap_or((0, 0));
                let integers: Vec<i128> = values.iter().map(|&v| (v as i128).clamp(low, high)).collect();
                Self::from_i128(element_type, shape, &integers)
            }
        }
    }

    /// A tensor of any type from integers; integer types wrap as a C cast does, booleans are true where the
    /// value is not zero.
    ///
    /// # Errors
    /// If the number of values is not the number of elements of the shape.
    pub fn from_i128(
        element_type: ElementType,
        shape: &[usize],
        values: &[i128],
    ) -> Result<Self, TensorError> {
        macro_rules! make {
            ($type:ty) => {
                Self::new(
                    element_type,
                    shape.to_vec(),
                    pack(values.iter().map(|&v| v as $type)),
                )
            };
        }
        match element_type {
            ElementType::I8 => make!(i8),
            ElementType::I16 => make!(i16),
            ElementType::I32 => make!(i32),
            ElementType::I64 => make!(i64),
            ElementType::U8 => make!(u8),
            ElementType::U16 => make!(u16),
            ElementType::U32 => make!(u32),
            ElementType::U64 => make!(u64),
            ElementType::I4 | ElementType::U4 => {
                let nibble = |v: &i128| (*v & 15) as u8;
                let bytes: Vec<u8> = values
                    .chunks(2)
                    .map(|c| nibble(&c[0]) | c.get(1).map_or(0, nibble) << 4)
                    .collect();
                check_count(element_type, shape, values.len())?;
                Self::new(element_type, shape.to_vec(), bytes)
            }
            ElementType::U1 => {
                let bytes: Vec<u8> = values
                    .chunks(8)
                    .map(|c| {
                        c.iter()
                            .enumerate()
                            .fold(0, |byte, (i, &v)| byte | ((v & 1) as u8) << (7 - i))
                    })
                    .collect();
                check_count(element_type, shape, values.len())?;
                Self::new(element_type, shape.to_vec(), bytes)
            }
            ElementType::Boolean
            | ElementType::F16
            | ElementType::Bf16
            | ElementType::F32
            | ElementType::F64 => {
                let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
                Self::from_f64(element_type, shape, &floats)
            }
        }
    }

    /// Element type.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// Axis lengths; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The packed bytes, of any alignment.
    pub fn bytes(&self) -> &[u8] {
        &self.owner.bytes()[self.start..self.start + self.len]
    }

    /// The same bytes under another shape of as many elements.
    ///
    /// # Errors
    /// If the element counts differ.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self, TensorError> {
        check_count(self.element_type, shape, self.len())?;
        Ok(Self {
            shape: shape.to_vec(),
            ..self.clone()
        })
    }

    /// The values, if `T` is the element type; copied, so that alignment does not matter.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        (self.element_type == T::TYPE).then(|| self.read(|v: T| v))
    }

    fn read<T: Element, U>(&self, convert: impl Fn(T) -> U) -> Vec<U> {
        self.bytes()
            .chunks_exact(size_of::<T>())
            .map(|c| convert(T::read(c)))
            .collect()
    }

    /// The values as `f64`: exact but for 64-bit integers, which are rounded. Booleans are 0 and 1.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.element_type {
            ElementType::F64 => self.read(|v: f64| v),
            ElementType::F32 => self.read(|v: f32| f64::from(v)),
            ElementType::F16 => self.read(|v: f16| v.to_f64()),
            ElementType::Bf16 => self.read(|v: bf16| v.to_f64()),
            ElementType::I8 => self.read(|v: i8| f64::from(v)),
            ElementType::U8 => self.read(|v: u8| f64::from(v)),
            ElementType::I32 => self.read(|v: i32| f64::from(v)),
            _ => self.to_i128().into_iter().map(|v| v as f64).collect(),
        }
    }

    /// The values as `f32`, each rounded to nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.element_type {
            ElementType::F32 => self.read(|v: f32| v),
            ElementType::F16 => self.read(|v: f16| v.to_f32()),
            ElementType::Bf16 => self.read(|v: bf16| v.to_f32()),
            ElementType::I8 => self.read(|v: i8| f32::from(v)),
            ElementType::U8 => self.read(|v: u8| f32::from(v)),
            _ => self.to_f64().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// The values as `i64`: floats truncated towards zero, values out of range saturated, NaN 0.
    pub fn to_i64(&self) -> Vec<i64> {
        match self.element_type {
            ElementType::I64 => self.read(|v: i64| v),
            ElementType::I32 => self.read(|v: i32| i64::from(v)),
            ElementType::I8 => self.read(|v: i8| i64::from(v)),
            ElementType::U8 => self.read(|v: u8| i64::from(v)),
            _ => self
                .to_i128()
                .into_iter()
                .map(|v| v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
                .collect(),
        }
    }

    /// The values as `i128`: floats truncated towards zero, infinities saturated, NaN 0.
    pub fn to_i128(&self) -> Vec<i128> {
        match self.element_type {
            ElementType::Boolean => self.read(|v: u8| i128::from(v != 0)),
            ElementType::I8 => self.read(|v: i8| i128::from(v)),
            ElementType::I16 => self.read(|v: i16| i128::from(v)),
            ElementType::I32 => self.read(|v: i32| i128::from(v)),
            ElementType::I64 => self.read(|v: i64| i128::from(v)),
            ElementType::U8 => self.read(|v: u8| i128::from(v)),
            ElementType::U16 => self.read(|v: u16| i128::from(v)),
            ElementType::U32 => self.read(|v: u32| i128::from(v)),
            ElementType::U64 => self.read(|v: u64| i128::from(v)),
            ElementType::I4 | ElementType::U4 => {
                let signed = self.element_type == ElementType::I4;
                let bytes = self.bytes();
                (0..self.len())
                    .map(|i| {
                        let nibble = (bytes[i / 2] >> (4 * (i % 2))) & 15;
                        i128::from(nibble) - if signed && nibble > 7 { 16 } else { 0 }
                    })
                    .collect()
            }
            ElementType::U1 => {
                let bytes = self.bytes();
                (0..self.len())
                    .map(|i| i128::from((bytes[i / 8] >> (7 - i % 8)) & 1))
                    .collect()
            }
            ElementType::F16 | ElementType::Bf16 | ElementType::F32 | ElementType::F64 => {
                self.to_f64().into_iter().map(|v| v as i128).collect()
            }
        }
    }
}

fn check_length(element_type: ElementType, shape: &[usize], found: usize) -> Result<(), TensorError> {
    let expected = element_count(shape)
        .and_then(|n| element_type.byte_len(n))
        .ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
    if expected == found {
        Ok(())
    } else {
        Err(TensorError::Length {
            shape: shape.to_vec(),
            element_type,
            expected,
            found,
        })
    }
}

fn check_count(element_type: ElementType, shape: &[usize], count: usize) -> Result<(), TensorError> {
    match element_count(shape) {
        Some(n) if n == count => Ok(()),
        Some(n) => Err(TensorError::Length {
            shape: shape.to_vec(),
            element_type,
            expected: element_type.byte_len(n).unwrap_or(usize::MAX),
            found: element_type.byte_len(count).unwrap_or(usize::MAX),
        }),
        None => Err(TensorError::TooLarge(shape.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bit_values_lie_low_half_first() {
        let t = Tensor::new(ElementType::U4, vec![3], vec![0x21u8, 0x0f]).unwrap();
        assert_eq!(t.to_i64(), [1, 2, 15]);
        let t = Tensor::new(ElementType::I4, vec![3], vec![0x2fu8, 0x08]).unwrap();
        assert_eq!(t.to_i64(), [-1, 2, -8]);
        assert_eq!(Tensor::from_i128(ElementType::I4, &[3], &[-1, 2, -8]).unwrap(), t);
    }

    #[test]
    fn one_bit_values_lie_high_bit_first() {
        let t = Tensor::new(ElementType::U1, vec![9], vec![0b1010_0000u8, 0x80]).unwrap();
        assert_eq!(t.to_i64(), [1, 0, 1, 0, 0, 0, 0, 0, 1]);
        let again = Tensor::from_i128(ElementType::U1, &[9], &t.to_i128()).unwrap();
        assert_eq!(again, t);
    }

    #[test]
    fn lengths_are_checked() {
        assert!(Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0]).is_err());
        assert!(matches!(
            Tensor::new(ElementType::F32, vec![usize::MAX, 2], vec![0u8; 8]),
            Err(TensorError::TooLarge(_))
        ));
        assert!(Tensor::from_i128(ElementType::U4, &[4], &[1, 2, 3]).is_err());
        assert!(Tensor::scalar(1f32).reshaped(&[2]).is_err());
    }

    #[test]
    fn floats_become_integers_by_truncation_and_saturation() {
        let t = Tensor::from_f64(ElementType::U8, &[4], &[-3.0, 1.9, 300.0, f64::NAN]).unwrap();
        assert_eq!(t.to_i64(), [0, 1, 255, 0]);
        let t = Tensor::from_i128(ElementType::I8, &[1], &[200]).unwrap();
        assert_eq!(t.to_i64(), [-56]);
    }

    #[test]
    fn any_type_comes_back_through_wide_integers() {
        for (t, bits, ..) in TYPES {
            let values = [0i128, 1, 1, 0, 1];
            let tensor = Tensor::from_i128(t, &[5], &values).unwrap();
            assert_eq!(tensor.bytes().len(), (5 * bits).div_ceil(8));
            assert_eq!(tensor.to_i128(), values, "{t}");
            assert_eq!(ElementType::from_name(t.name()), Some(t));
            assert_eq!(ElementType::from_precision(t.precision()), Some(t));
        }
    }
}
