//! Paths of keys, such as `stages.detect.inputs[0].queue`.

use std::fmt;

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// A place in a sequence, from 0.
    Index(usize),
}

/// A path of keys and indices from some value downwards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct KeyPath(Vec<Segment>);

impl KeyPath {
    /// The empty path.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path and one more key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Key(key.to_owned()));
        path
    }

    /// This path and one more index.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    /// The steps.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether it is the empty path.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path without its last step.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// Reads `a.b[0].c`; `None` if it is not of that form. Keys hold no `.`, `[` or `]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = Vec::new();
        for part in text.split('.') {
            let key_end = part.find('[').unwrap_or(part.len());
            let (key, mut indices) = part.split_at(key_end);
            // An index may stand first only at the very start.
            if key.is_empty() && (indices.is_empty() || !segments.is_empty()) || key.contains(']') {
                return None;
            }
            if !key.is_empty() {
                segments.push(Segment::Key(key.to_owned()));
            }
            while !indices.is_empty() {
                let (index, rest) = indices.strip_prefix('[')?.split_once(']')?;
                segments.push(Segment::Index(index.parse().ok()?));
                indices = rest;
            }
        }
        Some(Self(segments))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if i == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_paths_are_refused() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a[",
            "a[]",
            "a[x]",
            "a[1",
            "a]1[",
            "a[1]b",
            "a.[0]",
            "a[99999999999999999999]",
        ] {
            assert_eq!(KeyPath::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in r"[a-z_-]{1,5}(\[[0-9]\]){0,2}(\.[a-z]{1,3}(\[[0-9]\])?){0,3}") {
            prop_assert_eq!(KeyPath::parse(&text).unwrap().to_string(), text);
        }
    }
}
