//! Errors of readers and decoders, with their stable codes.

use std::io;
use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};

/// The input cannot be opened or read.
pub const E_READ: Code = Code("E0501");
/// The content is of no known format.
pub const E_UNRECOGNISED: Code = Code("E0502");
/// There is no picture or video track in the input.
pub const E_NO_VIDEO: Code = Code("E0503");
/// The format is known, but not this variant of it.
pub const E_UNSUPPORTED: Code = Code("E0504");
/// The container is damaged where it cannot be read on.
pub const E_DAMAGED: Code = Code("E0505");
/// The input ends before everything it declares.
pub const E_TRUNCATED: Code = Code("E0506");
/// One packet is damaged; reading goes on behind it.
pub const E_PACKET: Code = Code("E0507");
/// The input is a pipe, but its layout wants seeking.
pub const E_NOT_SEEKABLE: Code = Code("E0508");
/// The input declares something larger than the limit.
pub const E_LIMIT: Code = Code("E0509");
/// The `ffmpeg` program is not installed.
pub const E_NO_FFMPEG: Code = Code("E0510");
/// The `ffmpeg` program failed.
pub const E_FFMPEG: Code = Code("E0511");
/// One picture cannot be decoded.
pub const E_PICTURE: Code = Code("E0512");
/// A picture that refers to lost ones: decoding waits for the next keyframe.
pub const E_NO_KEYFRAME: Code = Code("E0513");
/// The decoder gave no picture for an access unit.
pub const E_NO_PICTURE: Code = Code("E0514");
/// A value of a source's configuration is out of its range.
pub const E_VALUE: Code = Code("E0515");

/// Why media cannot be read or decoded. Places are byte offsets from the start of the input.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MediaError {
    /// Opening failed.
    #[error("cannot be opened: {0}")]
    Open(Arc<io::Error>),
    /// Reading failed.
    #[error("cannot read at byte {at}: {source}")]
    Read {
        /// Offset.
        at: u64,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The content is of no known format.
    #[error(
        "{found}; expected MP4/MOV, AVI, Y4M, H.264 Annex B, JPEG or MJPEG, PNG, BMP or PNM; \
         for anything else use `type: ffmpeg`"
    )]
    Unrecognised {
        /// What the input begins with.
        found: String,
    },
    /// There is no picture or video track.
    #[error("{0}")]
    NoVideo(String),
    /// A variant that is not supported; says what would be.
    #[error("{0}")]
    Unsupported(String),
    /// The container cannot be read on.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// Offset.
        at: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// The input ends early; everything whole has been or will be delivered.
    #[error("the input is cut short: {0}")]
    Truncated(String),
    /// One packet is damaged; the next call goes on behind it.
    #[error("damaged packet at byte {at}: {what}")]
    Packet {
        /// Offset.
        at: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// The layout wants seeking, the input cannot.
    #[error("{0}")]
    NotSeekable(String),
    /// Something larger than the limit.
    #[error("{what} is {value}, the limit is {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Declared value.
        value: u64,
        /// Largest value taken.
        limit: u64,
    },
    /// A picture cannot be decoded.
    #[error("cannot decode the {codec} picture: {what}")]
    Picture {
        /// Lower-case name of the codec.
        codec: &'static str,
        /// What was expected and what was found.
        what: String,
    },
    /// The `ffmpeg` program failed.
    #[error("ffmpeg failed: {0}")]
    Ffmpeg(String),
    /// The pipeline was asked to stop while the reader waited for input.
    #[error("stopped while waiting for input")]
    Stopped,
}

impl MediaError {
    /// Its stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Open(_) | Self::Read { .. } | Self::Stopped => E_READ,
            Self::Unrecognised { .. } => E_UNRECOGNISED,
            Self::NoVideo(_) => E_NO_VIDEO,
            Self::Unsupported(_) => E_UNSUPPORTED,
            Self::Damaged { .. } => E_DAMAGED,
            Self::Truncated(_) => E_TRUNCATED,
            Self::Packet { .. } => E_PACKET,
            Self::NotSeekable(_) => E_NOT_SEEKABLE,
            Self::Limit { .. } => E_LIMIT,
            Self::Picture { .. } => E_PICTURE,
            Self::Ffmpeg(_) => E_FFMPEG,
        }
    }

    /// Whether the reader can be asked for the next packet after this error.
    pub fn recoverable(&self) -> bool {
        matches!(
            self,
            Self::Truncated(_) | Self::Packet { .. } | Self::Picture { .. }
        )
    }

    /// The error of a stage that met it in the input called `name`.
    pub fn in_stage(self, name: &str) -> StageError {
        let message = if name.is_empty() {
            self.to_string()
        } else {
            format!("{name}: {self}")
        };
        let error = match self.recoverable() {
            true => StageError::packet(self.code(), message),
            false => StageError::fatal(self.code(), message),
        };
        error.caused_by(self)
    }

    /// The error of preparing a source whose key `key` names the input.
    pub fn in_prepare(&self, key: &str, name: &str) -> PrepareError {
        PrepareError::new(self.code(), key, format!("{name}: {self}"))
    }
}
