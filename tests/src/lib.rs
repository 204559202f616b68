//! Helpers of the end-to-end tests: running the `flowrun` binary, golden folders, tiny pictures and clips.
#![deny(missing_docs)]
