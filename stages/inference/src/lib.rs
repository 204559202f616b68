//! The `infer` stage: reads a model, applies low precision transformations and runs it on a device.
#![deny(missing_docs)]
