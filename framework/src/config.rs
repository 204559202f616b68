//! Pipeline files: from text to a checked plan, and from a checked plan to prepared components.

pub mod plan;
