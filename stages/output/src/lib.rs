//! JSON lines, overlays, video and image writers, statistics, and an evaluation against the truth.
//!
//! Sink kinds: [`jsonl`], [`video`], [`images`], [`stats`], [`evaluate`] and [`null`]; stage kind: [`overlay`]. Files
//! appear whole: they are written under their name with `.part` behind it and renamed when they are complete.
//! Only `jsonl` writes under the final name, a whole line at a time, so that it can be followed. The path `-` of `jsonl` and
//! `video` is standard output.
//!
//! The writers need no pipeline:
//!
//! ```no_run
//! use flow_frame::{Buffer, ColorSpace, Frame, PixelFormat};
//! use flow_output::Y4mWriter;
//!
//! let grey = Frame::packed(64, 48, PixelFormat::Gray, ColorSpace::JPEG, Buffer::zeroed(64 * 48))?;
//! let mut clip = Y4mWriter::create("grey.y4m".as_ref(), &grey)?;
//! clip.write(&grey)?;
//! clip.finish((25, 1))?; // 25 frames per second; only now the file has its name
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod avi;
pub mod evaluate;
mod file;
pub mod images;
pub mod jsonl;
pub mod null;
pub mod overlay;
mod pattern;
mod pipe;
mod pixels;
mod rate;
mod record;
pub mod stats;
pub mod video;
mod y4m;

pub use avi::AviWriter;
pub use file::{OutputError, PartFile};
pub use pattern::Pattern;
pub use pixels::jpeg;
pub use rate::FrameRate;
pub use record::Record;
pub use y4m::Y4mWriter;

use flow::registry::Registry;

/// Registers the sinks `jsonl`, `video`, `images`, `stats`, `evaluate` and `null`, and the stage `overlay`.
pub fn register(registry: &mut Registry) {
    jsonl::register(registry);
    video::register(registry);
    images::register(registry);
    stats::register(registry);
    evaluate::register(registry);
    null::register(registry);
    overlay::register(registry);
}
