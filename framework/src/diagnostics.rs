//! Errors and warnings about a pipeline file, each with its place, its code and what to do.

/// A place in a pipeline file. The default stands for no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
    /// Line, from 1; 0: no place.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}
