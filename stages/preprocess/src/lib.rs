//! Frame to tensor: resize, letterbox, crop, colour conversion, normalisation and layout.
#![deny(missing_docs)]
