//! Codes of preparing and running (E03xx, E04xx).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
