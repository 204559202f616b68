//! Network outputs to classes, boxes and key points in source-frame coordinates.
#![deny(missing_docs)]
