//! How much memory and work a model may ask for. Models come from outside: a file of a few bytes can ask for
//! terabytes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that the values of one evaluation, or the activations of one request, may take where nothing else is
/// said, in bytes.
pub const DEFAULT_MEMORY: usize = 16 << 30;

/// Products that folding one operation on constants may take.
const MAX_FOLD_WORK: usize = 1 << 28;
/// Bytes that a folded constant may have whatever it is made of.
const MAX_FOLD_BYTES: usize = 1 << 20;

/// Elements of inputs up to which an operation folds whose outputs have open axes.
const MAX_OPEN: usize = 4096;

/// The limit; 0 until it is asked for.
static MEMORY: AtomicUsize = AtomicUsize::new(0);

/// Memory that the values of one evaluation, or the activations of one request, may take, in bytes: what
/// [`set_memory`] said, else what the environment variable `FLOW_MEMORY_LIMIT` says in bytes (`K`, `M` and `G` are
/// powers of 1024), else [`DEFAULT_MEMORY`].
pub fn memory() -> usize {
    match MEMORY.load(Ordering::Relaxed) {
        0 => {
            let stated = std::env::var("FLOW_MEMORY_LIMIT")
                .ok()
                .and_then(|text| bytes(&text));
            let limit = stated.unwrap_or(DEFAULT_MEMORY).max(1);
            MEMORY.store(limit, Ordering::Relaxed);
            limit
        }
        limit => limit,
    }
}

/// Sets the limit of the process.
pub fn set_memory(bytes: usize) {
    MEMORY.store(bytes.max(1), Ordering::Relaxed);
}

fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, unit) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 1 << 10),
        b'M' | b'm' => (&text[..text.len() - 1], 1 << 20),
        b'G' | b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.trim().parse::<usize>().ok()?.checked_mul(unit)
}

/// Most elements that evaluation makes of one tensor, or keeps on the way to it: they are computed in f64 and
/// copied.
pub fn max_elements() -> usize {
    (memory() / 16).clamp(1, crate::ops::MAX_ELEMENTS)
}

/// Whether an operation on constants may be computed before the network runs: what comes out is not much larger
/// than what goes in, and takes little work.
pub(crate) fn may_fold(op: &crate::Op, inputs: &[crate::ops::Input], outputs: &[crate::OutputInfo]) -> bool {
    use crate::tensor::element_count;
    let size = |element_type: crate::ElementType, shape: &[Option<usize>]| {
        let shape: Option<Vec<usize>> = shape.iter().copied().collect();
        let count = element_count(&shape?)?;
        Some((count, element_type.byte_len(count)?))
    };
    let given = sum(inputs.iter().map(|i| size(i.element_type, i.shape)));
    let made = sum(outputs.iter().map(|o| size(o.element_type, &o.shape)));
    let Some((taken, given)) = given else {
        return false;
    };
    let Some((count, made)) = made else {
        // What an axis is long only the values say: little comes of little.
        return taken <= MAX_OPEN;
    };
    let axis = |input: usize, at: usize| {
        let shape = inputs.get(input).map(|i| i.shape).unwrap_or_default();
        shape.get(at).copied().flatten().unwrap_or(1)
    };
    let weights = |channels: usize| {
        let all = inputs.get(1).and_then(|i| size(i.element_type, i.shape));
        all.map_or(taken, |(count, _)| count) / channels.max(1)
    };
    let per_output = match op {
        crate::Op::Standard(operation) if !operation.moves_values() => taken.saturating_mul(16),
        crate::Op::Convolution(_) => weights(axis(1, 0)),
        crate::Op::GroupConvolution(_) => weights(axis(1, 0).saturating_mul(axis(1, 1))),
        crate::Op::MatMul { .. } => {
            let rank = inputs.first().map_or(0, |i| i.shape.len());
            axis(0, rank.wrapping_sub(1)).max(axis(0, rank.wrapping_sub(2)))
        }
        crate::Op::MaxPool(_) | crate::Op::AvgPool { .. } | crate::Op::Interpolate(_) => taken,
        _ => 1,
    };
    let work = count.saturating_mul(per_output).saturating_add(taken);
    made <= given.saturating_mul(8).max(MAX_FOLD_BYTES) && (work <= MAX_FOLD_WORK || per_output == 1)
}

/// Elements and bytes of several tensors; `None` where one is not known, or too many.
fn sum(mut sizes: impl Iterator<Item = Option<(usize, usize)>>) -> Option<(usize, usize)> {
    sizes.try_fold((0usize, 0usize), |(count, bytes), size| {
        let (more, more_bytes) = size?;
        Some((count.checked_add(more)?, bytes.checked_add(more_bytes)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(bytes("512"), Some(512));
        assert_eq!(bytes(" 4G "), Some(4 << 30));
        assert_eq!(bytes("x"), None);
        assert_eq!(bytes("99999999999G"), None);
    }
}
