//! Operations that state everything about themselves in one file.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::ops::Input;
use crate::tensor::Tensor;

/// A standard operation that passes and plugins need not know by name: what it is called, how it is written,
/// what comes out of it and what it computes.
///
/// [`Op::Standard`](crate::Op::Standard) holds one. An operation that a pass or a plugin treats in a way of its
/// own is a variant of [`Op`](crate::Op) instead.
pub trait Operation: fmt::Debug + Send + Sync {
    /// Name of the operation as model files spell it.
    fn type_name(&self) -> &'static str;

    /// The operation set whose definition the attributes follow: 8 of `opset8`.
    fn opset(&self) -> u32;

    /// The attributes as a model file spells them; none by default.
    fn attributes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Numbers of inputs it may have.
    fn input_count(&self) -> RangeInclusive<usize>;

    /// Types and shapes of the outputs, without names. The number of inputs was checked. An axis whose length
    /// depends on values that are not known is open (`None`).
    ///
    /// # Errors
    /// If types, shapes or values of the inputs do not fit.
    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError>;

    /// Computes the outputs. `outputs` is what [`Operation::infer`] said for these inputs, its fixed shapes
    /// bounded by [`MAX_ELEMENTS`](crate::ops::MAX_ELEMENTS); axes still open are for the operation to find.
    ///
    /// # Errors
    /// If a value makes no sense, such as an index outside its axis.
    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError>;

    /// Whether each element of the outputs is an element of the first input, at a place that depends on shapes
    /// and on the other inputs alone. Such an operation works on codes as it does on values.
    fn moves_values(&self) -> bool {
        false
    }

    /// Whether values decide the lengths of axes that [`Operation::infer`] leaves open although every input is
    /// fixed, so that a length that a model file states for one may be too long.
    fn decides_lengths(&self) -> bool {
        false
    }

    /// Whether each element of the one output is a function of the element of the first input at the same place and
    /// of the other inputs, which are scalars. On 8-bit codes such an operation becomes a table.
    fn maps_values(&self) -> bool {
        false
    }
}
