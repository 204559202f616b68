//! How the quads of a run are cut into the steps of a sum.

/// Most quads of a step of products of tiles: 64 bytes, a row of a tile.
const MOST: usize = 16;

/// The steps of a run: what one product adds.
#[derive(Debug)]
pub(crate) struct Steps {
    /// Quads of a step.
    pub length: usize,
    /// Quads of all steps in order, and whether their weights count.
    pub quads: Vec<(usize, bool)>,
}

impl Steps {
    /// A quad at a time.
    pub fn single(quads: usize) -> Self {
        Self {
            length: 1,
            quads: (0..quads).map(|quad| (quad, true)).collect(),
        }
    }

    /// As few steps of equal length as tiles hold. Where the length does not divide the quads, the last step begins
    /// before the end of the one before, with zeros for weights that it repeats: nothing is read beyond the run.
    pub fn tiles(quads: usize) -> Self {
        let steps = quads.div_ceil(MOST).max(1);
        let length = quads.div_ceil(steps);
        let last = quads - length;
        let of_step = |step: usize| {
            let first = (step * length).min(last);
            (first..first + length).map(move |quad| (quad, quad >= step * length))
        };
        Self {
            length,
            quads: (0..steps).flat_map(of_step).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_count_every_quad_once_and_leave_no_run() {
        for quads in 1..=200 {
            let steps = Steps::tiles(quads);
            assert!(steps.length <= MOST);
            assert_eq!(steps.quads.len(), quads.div_ceil(MOST) * steps.length);
            let counted: Vec<usize> = steps.quads.iter().filter(|q| q.1).map(|q| q.0).collect();
            assert_eq!(counted, Vec::from_iter(0..quads), "{quads}");
            for step in steps.quads.chunks(steps.length) {
                assert!(step.windows(2).all(|w| w[1].0 == w[0].0 + 1), "{quads}");
            }
        }
    }
}
