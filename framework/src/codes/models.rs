//! Codes of models, inference and outputs (E06xx, E07xx).

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
