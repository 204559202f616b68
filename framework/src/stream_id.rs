//! Names of streams.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use serde::{Serialize, Serializer};

use crate::ledger::lock;

/// All names that there have been.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Name of a stream: the source it comes from, unique in a pipeline.
///
/// Every packet bears one from thread to thread, so that a clone must not count who holds it: the text of each name is
/// kept once, for as long as the process runs.
#[derive(Clone)]
pub struct StreamId(&'static str);

impl StreamId {
    /// The name with that text.
    pub fn new(name: &str) -> Self {
        let mut names = lock(&NAMES);
        if let Some(known) = names.get(name) {
            return Self(known);
        }
        let kept: &'static str = Box::leak(Box::from(name));
        names.insert(kept);
        Self(kept)
    }

    /// The text.
    pub fn as_str(&self) -> &'static str {
        self.0
    }
}

impl Default for StreamId {
    /// The empty name, of no stream.
    fn default() -> Self {
        Self("")
    }
}

impl PartialEq for StreamId {
    fn eq(&self, other: &Self) -> bool {
        // One text for each name; the empty one may be that of `default`.
        std::ptr::eq(self.0, other.0) || (self.0.is_empty() && other.0.is_empty())
    }
}

impl Eq for StreamId {}

impl PartialOrd for StreamId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(other.0)
    }
}

impl std::hash::Hash for StreamId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // As a `str`, which it may be looked up as.
        self.0.hash(state);
    }
}

impl Deref for StreamId {
    type Target = str;
    fn deref(&self) -> &str {
        self.0
    }
}

impl Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        self.0
    }
}

impl AsRef<str> for StreamId {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl From<&str> for StreamId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for StreamId {
    fn from(name: String) -> Self {
        Self::new(&name)
    }
}

impl From<Arc<str>> for StreamId {
    fn from(name: Arc<str>) -> Self {
        Self::new(&name)
    }
}

impl From<&Arc<str>> for StreamId {
    fn from(name: &Arc<str>) -> Self {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn names_are_equal_as_their_texts_are() {
        let cam = StreamId::from("cam");
        assert_eq!(cam, StreamId::from(String::from("cam")));
        assert_ne!(cam, StreamId::from("cams"));
        assert_eq!(StreamId::default(), StreamId::from(""));
        assert!(StreamId::from("a") < StreamId::from("b"));
        assert_eq!(format!("{cam:>5} {cam:?}"), "  cam \"cam\"");
    }

    #[test]
    fn a_name_is_found_by_its_text() {
        let map = HashMap::from([(StreamId::from("cam"), 1)]);
        assert_eq!(map.get("cam"), Some(&1));
    }
}
