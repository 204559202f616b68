//! The file: names places in errors.

use std::path::Path;

use roxmltree::Node as Xml;

use crate::error::ModelError;

/// The file: names places in errors.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub fn new(path: &'a Path, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self {
            path,
            line_starts: std::iter::once(0).chain(breaks.map(|(i, _)| i + 1)).collect(),
        }
    }

    pub fn line(&self, node: Xml) -> u32 {
        let start = node.range().start;
        self.line_starts.partition_point(|&s| s <= start) as u32
    }

    pub fn error(
        &self,
        line: u32,
        place: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ModelError {
        ModelError::Structure {
            path: self.path.to_path_buf(),
            line,
            place: place.into(),
            message: message.into(),
            help: help.into(),
        }
    }

    /// An attribute that must be there.
    pub fn required<'x>(&self, node: Xml<'x, '_>, name: &str) -> Result<&'x str, ModelError> {
        node.attribute(name).ok_or_else(|| {
            self.error(
                self.line(node),
                format!("<{}>", node.tag_name().name()),
                format!("attribute `{name}` is missing"),
                REEXPORT,
            )
        })
    }

    /// An attribute that must be a non-negative integer.
    pub fn number(&self, node: Xml, name: &str) -> Result<u64, ModelError> {
        let text = self.required(node, name)?;
        text.trim().parse().map_err(|_| {
            self.error(
                self.line(node),
                format!("<{}>", node.tag_name().name()),
                format!("attribute `{name}`: expected a non-negative integer, found \"{text}\""),
                REEXPORT,
            )
        })
    }
}

/// What to do with a damaged file.
pub(super) const REEXPORT: &str = "The file is damaged or not written by OpenVINO; export the model again";
