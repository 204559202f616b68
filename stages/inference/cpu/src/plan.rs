//! Memory planning: offsets of all tensors in one arena, from their lifetimes.

/// Alignment of every tensor: a cache line, and what 512-bit loads want.
pub(crate) const ALIGN: usize = 64;

/// What the planner knows of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Bytes.
    pub bytes: usize,
    /// Index of the step that writes it first.
    pub first: usize,
    /// Index of the last step that uses it.
    pub last: usize,
}

impl Lifetime {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Offsets of the buffers, and the size of the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Offset of each buffer, in the order given; multiples of [`ALIGN`].
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
}

/// Greedy by size: the largest buffer first, each at the lowest offset where it overlaps no buffer that is
/// alive at the same time. `None` if the sizes overflow.
pub(crate) fn plan(buffers: &[Lifetime]) -> Option<Plan> {
    let sizes = buffers
        .iter()
        .map(|b| b.bytes.max(1).checked_next_multiple_of(ALIGN))
        .collect::<Option<Vec<usize>>>()?;
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
    let mut bytes = 0;
    for i in order {
        let mut at = 0;
        // `placed` is sorted by offset: the first gap that is large enough is the lowest.
        for &j in placed.iter().filter(|&&j| buffers[i].meets(&buffers[j])) {
            if at + sizes[i] <= offsets[j] {
                break;
            }
            at = at.max(offsets[j] + sizes[j]);
        }
        offsets[i] = at;
        bytes = bytes.max(at.checked_add(sizes[i])?);
        let place = placed.partition_point(|&j| offsets[j] <= at);
        placed.insert(place, i);
    }
    Some(Plan { offsets, bytes })
}

/// For each buffer, whether no other buffer ever uses any of its bytes: what is written there once stays.
pub(crate) fn exclusive(buffers: &[Lifetime], plan: &Plan) -> Vec<bool> {
    let range = |i: usize| plan.offsets[i]..plan.offsets[i] + buffers[i].bytes;
    (0..buffers.len())
        .map(|i| {
            (0..buffers.len())
                .all(|j| i == j || range(i).end <= range(j).start || range(j).end <= range(i).start)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_needs_two_buffers() {
        let buffers: Vec<Lifetime> = (0..10)
            .map(|i| Lifetime {
                bytes: 100,
                first: i,
                last: i + 1,
            })
            .collect();
        assert_eq!(plan(&buffers).unwrap().bytes, 256);
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let huge = Lifetime {
            bytes: usize::MAX,
            first: 0,
            last: 0,
        };
        assert_eq!(plan(&[huge]), None);
    }

    proptest! {
        #[test]
        fn no_two_live_buffers_overlap(
            raw in prop::collection::vec((1usize..5000, 0usize..40, 0usize..10), 1..60)
        ) {
            let buffers: Vec<Lifetime> = raw
                .iter()
                .map(|&(bytes, first, length)| Lifetime { bytes, first, last: first + length })
                .collect();
            let plan = plan(&buffers).unwrap();
            for i in 0..buffers.len() {
                prop_assert_eq!(plan.offsets[i] % ALIGN, 0);
                prop_assert!(plan.offsets[i] + buffers[i].bytes <= plan.bytes);
                for j in 0..i {
                    if buffers[i].meets(&buffers[j]) {
                        let (a, b) = (plan.offsets[i], plan.offsets[j]);
                        prop_assert!(a + buffers[i].bytes <= b || b + buffers[j].bytes <= a);
                    }
                }
            }
            let live: usize = (0..60)
                .map(|t| buffers.iter().filter(|b| b.first <= t && t <= b.last).map(|b| b.bytes).sum())
                .max()
                .unwrap_or(0);
            prop_assert!(plan.bytes >= live);
        }
    }
}
