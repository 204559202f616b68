//! Element types and constant tensors.

use std::sync::Arc;

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

/// A dense, row-major tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    element_type: ElementType,
    shape: Vec<usize>,
    data: Arc<[u8]>,
}

impl Tensor {
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
        self.len() == 0
    }
    /// The packed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }
}
