//! Where samples come from.

use flow_model::{Graph, Tensor};

use crate::error::QuantizeError;

/// Samples for the inputs of a network, read by index from several threads, more than once each.
pub trait Dataset: Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inputs of one sample, in Parameter order.
    ///
    /// # Errors
    /// What is wrong with it.
    fn inputs(&self, index: usize) -> Result<Vec<Tensor>, String>;

    /// What the sample is called in messages.
    fn name(&self, index: usize) -> String {
        format!("number {index}")
    }
}

/// Samples in memory.
#[derive(Debug, Clone, Default)]
pub struct InMemory(pub Vec<Vec<Tensor>>);

impl Dataset for InMemory {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn inputs(&self, index: usize) -> Result<Vec<Tensor>, String> {
        self.0
            .get(index)
            .cloned()
            .ok_or_else(|| "no such sample".to_owned())
    }
}

/// Some samples of a dataset.
pub struct Part<'a> {
    all: &'a dyn Dataset,
    indices: Vec<usize>,
}

impl<'a> Part<'a> {
    /// The samples at `indices`, in that order.
    pub fn new(all: &'a dyn Dataset, indices: Vec<usize>) -> Self {
        Self { all, indices }
    }

    /// `count` samples spread evenly over all, in order; all if there are no more.
    pub fn spread(all: &'a dyn Dataset, count: usize) -> Self {
        let indices = spread(all.len(), count);
        Self { all, indices }
    }
}

impl Dataset for Part<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn inputs(&self, index: usize) -> Result<Vec<Tensor>, String> {
        match self.indices.get(index) {
            Some(&at) => self.all.inputs(at),
            None => Err("no such sample".to_owned()),
        }
    }

    fn name(&self, index: usize) -> String {
        self.indices
            .get(index)
            .map_or_else(String::new, |&at| self.all.name(at))
    }
}

/// `count` places spread evenly over `all`.
pub fn spread(all: usize, count: usize) -> Vec<usize> {
    let count = count.min(all);
    (0..count)
        .map(|i| (i as u128 * all as u128 / count.max(1) as u128) as usize)
        .collect()
}

/// `count` places, one in each of as many even stretches of `all`: the first of each where `seed` is 0, else one that the
/// seed picks. The same seed picks the same places.
pub fn stratified(all: usize, count: usize, seed: u64) -> Vec<usize> {
    let starts = spread(all, count);
    if seed == 0 {
        return starts;
    }
    let ends = starts.iter().skip(1).copied().chain([all]).collect::<Vec<_>>();
    let pick = |(index, (start, end)): (usize, (&usize, usize))| {
        // SplitMix64, a step per stretch.
        let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        start + ((z ^ (z >> 31)) % (end - start).max(1) as u64) as usize
    };
    starts.iter().zip(ends).enumerate().map(pick).collect()
}

/// The inputs of one sample, checked against the network.
pub(crate) fn checked(graph: &Graph, data: &dyn Dataset, index: usize) -> Result<Vec<Tensor>, QuantizeError> {
    let fault = |message: String| QuantizeError::Sample {
        index,
        name: data.name(index),
        message,
    };
    let inputs = data.inputs(index).map_err(fault)?;
    for (at, &id) in graph.parameters.iter().enumerate() {
        let node = graph.node(id);
        let wanted = &node.outputs[0];
        let fits = inputs.get(at).is_some_and(|t| {
            t.element_type() == wanted.element_type && wanted.static_shape().as_deref() == Some(t.shape())
        });
        if !fits {
            let found = inputs.get(at).map_or("nothing".to_owned(), |t| {
                format!("{} {:?}", t.element_type(), t.shape())
            });
            return Err(fault(format!(
                "input \"{}\" takes {}, found {found}",
                node.name,
                flow_model::text::describe(wanted)
            )));
        }
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_evenly_and_never_repeat() {
        assert_eq!(spread(10, 5), [0, 2, 4, 6, 8]);
        assert_eq!(spread(3, 300), [0, 1, 2]);
        assert_eq!(spread(0, 5), [0usize; 0]);
        let many = spread(1394, 300);
        assert!(many.windows(2).all(|w| w[0] < w[1]) && many[299] < 1394);
    }

    #[test]
    fn a_seed_picks_one_place_of_each_stretch_and_always_the_same() {
        assert_eq!(stratified(10, 5, 0), spread(10, 5));
        let picked = stratified(1394, 300, 7);
        assert_eq!(picked, stratified(1394, 300, 7));
        assert_ne!(picked, stratified(1394, 300, 8));
        let starts = spread(1394, 300);
        for (i, place) in picked.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(1394);
            assert!((starts[i]..end).contains(place), "{place} in stretch {i}");
        }
        assert_eq!(stratified(3, 300, 9), [0, 1, 2]);
    }
}
