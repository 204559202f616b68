//! Codes of sources, decoding and processing of media (E05xx).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
