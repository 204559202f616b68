//! JSON lines, overlays, video and image writers, statistics.
#![deny(missing_docs)]
