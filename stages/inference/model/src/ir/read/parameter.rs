//! The shape of a Parameter: fixed axes, open ones, and bounds of open ones.

use super::{Layer, REEXPORT, Reader};
use crate::error::ModelError;
use crate::graph::{Bounds, Dim};

/// An axis of a Parameter as model files spell it: `3`, `-1`, `?`, `1..8`, `32..`, `..640`.
pub fn axis(text: &str) -> Option<(Dim, Bounds)> {
    let text = text.trim();
    if matches!(text, "-1" | "?") {
        return Some((None, Bounds::default()));
    }
    if let Some((low, high)) = text.split_once("..") {
        let number = |t: &str| t.trim().parse::<usize>().ok();
        let low = if low.trim().is_empty() { 0 } else { number(low)? };
        let high = match high.trim() {
            "" => None,
            high => Some(number(high)?),
        };
        if high.is_some_and(|high| high < low) {
            return None;
        }
        let fixed = high.filter(|&high| high == low);
        return Some((fixed, Bounds { low, high }));
    }
    let length = text.parse().ok()?;
    Some((
        Some(length),
        Bounds {
            low: length,
            high: Some(length),
        },
    ))
}

impl Reader<'_> {
    /// The bounds of each axis of a Parameter, checked against its output port.
    pub(super) fn bounds(&self, layer: &Layer) -> Result<Vec<Bounds>, ModelError> {
        let source = &self.source;
        let wrong = |message: String| source.error(layer.line, layer.place(), message, REEXPORT);
        let [output] = layer.outputs.as_slice() else {
            return Err(wrong(format!(
                "expected one output, found {}",
                layer.outputs.len()
            )));
        };
        let said = layer.attributes.iter().find(|(name, _)| *name == "shape");
        let Some(text) = said.map(|(_, text)| text.trim()) else {
            return Ok(vec![Bounds::default(); output.info.shape.len()]);
        };
        let axes: Option<Vec<(Dim, Bounds)>> = match text {
            "" => Some(Vec::new()),
            text => text.split(',').map(axis).collect(),
        };
        let Some(axes) = axes else {
            return Err(wrong(format!(
                "attribute `shape`: expected axes such as 3, ?, 1..8 or 32.., separated by commas, found \"{text}\""
            )));
        };
        let fits =
            |((axis, _), port): (&(Dim, Bounds), &Dim)| axis.is_none() || port.is_none() || axis == port;
        if axes.len() != output.info.shape.len() || !axes.iter().zip(&output.info.shape).all(fits) {
            return Err(wrong(format!(
                "attribute `shape` is \"{text}\", its output port is {}",
                crate::text::describe(&output.info)
            )));
        }
        Ok(axes.into_iter().map(|(_, bounds)| bounds).collect())
    }
}
