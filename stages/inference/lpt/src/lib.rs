//! Low Precision Transformations: from FakeQuantize to 8-bit tensors and dequantizations.
#![deny(missing_docs)]
