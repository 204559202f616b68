//! Values so near the middle between two codes that the model's own f32 arithmetic may round them the other way.
//!
//! An [`Epilogue`](super::Epilogue) with [`Ties`] rounds as without, and notes a [`Doubt`] for each vector of 16
//! channels in which some value lies nearer to a tie than a margin; [`Literal`](super::literal::Literal) evaluates those
//! again.

use super::{AlignedVec, Epilogue};

/// Channels that are evaluated again together.
pub(crate) const LANES: usize = 16;

/// A vector of [`LANES`] channels of an output pixel to evaluate again; `channel` is a multiple of [`LANES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// Its first channel.
    pub channel: u32,
    /// Its output row.
    pub row: u32,
    /// Its output column.
    pub column: u32,
    /// The [share](Share) of the largest data from which on it is in doubt.
    pub share: Share,
}

/// A number from 0 on: the size of the data of a sum (the root of the sum of squares), as a share of the largest that it
/// could have. Ordered as the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Of any data.
    pub const ANY: Self = Self(0);

    /// A share; less than 0 and NaN count as 0.
    pub(crate) fn new(share: f32) -> Self {
        Self(share.max(0.0).to_bits())
    }

    pub(crate) fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl Doubt {
    /// Row and column.
    #[inline(always)]
    pub(super) fn pixel(&self) -> [usize; 2] {
        [self.row as usize, self.column as usize]
    }

    fn place(&self) -> [u32; 3] {
        [self.channel, self.row, self.column]
    }
}

/// Doubts of a layer, some perhaps more than once.
pub type Doubts = Vec<Doubt>;

/// How far from a whole number a value may lie before it is in doubt. Per channel, padded to whole blocks: values of
/// channels that do not exist are never in doubt.
#[derive(Debug, Clone)]
pub(crate) struct Ties {
    /// For the last rounding.
    pub near: AlignedVec<f32>,
    /// For the inner rounding; empty where there is none.
    pub mid_near: AlignedVec<f32>,
    /// The lowest and highest code: values beyond are in no doubt.
    pub low: AlignedVec<f32>,
    pub high: AlignedVec<f32>,
    /// What narrows a doubt down, for sums of products whose first rounding is the model's next one.
    pub refined: Option<Refined>,
}

/// The error of a sum and of its rounding to codes, in units of `2^-23` codes, made of what is known once the sum is:
/// `fixed + of_bias * |bias| + of_sum * |sum| + spread * share`, with the [`Share`] of the data.
///
/// Roundings of single values are counted in full. Those of the additions mostly cancel: `of_sum` and `spread` are twice what
/// the largest errors found need, over 764 codes that came out otherwise in six networks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refined {
    /// Per channel.
    pub fixed: Vec<f32>,
    /// Per channel.
    pub spread: Vec<f32>,
    pub of_bias: f32,
    pub of_sum: f32,
}

impl Refined {
    /// From which share of the data on a value `sum + bias` of channel `c` is in doubt; `None` if from none.
    fn least_share(&self, sum: f32, bias: f32, value: f32, c: usize) -> Option<Share> {
        let distance = (0.5 - off(value)) / f32::EPSILON;
        let rest = distance - self.fixed[c] - self.of_bias * bias.abs() - self.of_sum * sum.abs();
        let share = rest / self.spread[c];
        // What is not known (NaN) is in doubt.
        let apart = rest > 0.0 && share > 1.0;
        (!apart).then(|| Share::new(share))
    }
}

impl Ties {
    /// `margin` and `mid_margin` are distances from a tie, in codes, per channel.
    pub(super) fn new(
        channels: usize,
        margin: &[f32],
        mid_margin: Option<&[f32]>,
        [low, high]: [&[f32]; 2],
    ) -> Self {
        let near = |margin: &[f32]| {
            let mut out = AlignedVec::zeroed(low.len());
            out.fill(1.0);
            (0..channels).for_each(|c| out[c] = 0.5 - margin[c]);
            out
        };
        let rounded = |limits: &[f32]| {
            let codes: Vec<f32> = limits.iter().map(|l| l.round_ties_even()).collect();
            AlignedVec::from_slice(&codes)
        };
        Self {
            near: near(margin),
            mid_near: mid_margin.map_or_else(|| AlignedVec::zeroed(0), near),
            low: rounded(low),
            high: rounded(high),
            refined: None,
        }
    }

    /// Whether the last rounding of `f` in channel `c` is in doubt.
    #[inline(always)]
    pub(super) fn in_doubt(&self, f: f32, c: usize) -> bool {
        off(super::epilogue::clamp(f, self.low[c], self.high[c])) > self.near[c]
    }

    /// Whether the inner rounding of `f`, clamped, in channel `c` is in doubt.
    #[inline(always)]
    pub(super) fn in_doubt_inside(&self, f: f32, c: usize) -> bool {
        off(f) > self.mid_near[c]
    }
}

impl Epilogue {
    /// From which [`Share`] of the data on a sum is in doubt, if it is.
    pub(super) fn doubt(&self, acc: i32, c: usize, residual: u8) -> Option<Share> {
        let ties = self.ties.as_ref()?;
        let mut noting = false;
        self.apply_noting(acc, self.scale[c], c, || residual, &mut noting);
        if !noting {
            return None;
        }
        let Some(refined) = &ties.refined else {
            return Some(Share::ANY);
        };
        let sum = acc as f32 * self.scale[c];
        let value = sum + self.bias[c];
        let Some(mid) = self.mid.as_ref().filter(|mid| mid.rounds) else {
            return refined.least_share(sum, self.bias[c], value, c);
        };
        let inner = super::epilogue::clamp(value, mid.low, mid.high);
        let level = inner.round_ties_even();
        // Behind the inner rounding there are single values, each rounded a few times.
        let mut terms = [level * mid.scale[c], mid.offset[c], 0.0, 0.0];
        if let Some(r) = &self.residual {
            (terms[2], terms[3]) = (f32::from(residual) * r.scale[c], r.offset[c]);
        }
        let last: f32 = terms.iter().sum();
        let error = 32.0 + 4.0 * terms.iter().map(|term| term.abs()).sum::<f32>();
        let apart = (0.5 - off(last)) / f32::EPSILON > error;
        if !apart && ties.in_doubt(last, c) {
            return Some(Share::ANY);
        }
        let inside = ties.in_doubt_inside(inner, c);
        inside
            .then(|| refined.least_share(sum, self.bias[c], inner, c))
            .flatten()
    }
}

/// Distance from a whole number, for |f| < 2^22.
fn off(f: f32) -> f32 {
    (f - (f + ROUNDING - ROUNDING)).abs()
}

/// Added and taken away again, it rounds to whole numbers, ties to even: 1.5 * 2^23.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// Notes the vectors that hold the channels of `doubts`, each with its share.
#[cold]
#[inline(never)]
pub(super) fn note(
    doubts: &mut Doubts,
    (row, column): (usize, usize),
    channels: impl Iterator<Item = (usize, Share)>,
) {
    for (channel, share) in channels {
        let doubt = Doubt {
            channel: (channel / LANES * LANES) as u32,
            row: row as u32,
            column: column as u32,
            share,
        };
        match doubts.last_mut() {
            Some(last) if last.place() == doubt.place() => last.share = last.share.min(share),
            _ => doubts.push(doubt),
        }
    }
}

/// Leaves one of several doubts about a vector, in order.
pub(super) fn unite(doubts: &mut Doubts) {
    doubts.sort_unstable();
    // The first has the least share.
    doubts.dedup_by_key(|doubt| doubt.place());
}

/// The bits of a mask.
pub(super) fn bits(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |i| mask >> i & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{EpilogueSpec, MidSpec, ResidualSpec};

    /// An error of 100 whatever the value, and of up to 1000 with the data.
    fn refined(spec: &EpilogueSpec) -> Epilogue {
        let margin = [2000.0 * f32::EPSILON];
        Epilogue::new(1, spec)
            .unwrap()
            .with_ties(&margin, &margin)
            .with_refined(Some(Refined {
                fixed: vec![100.0],
                spread: vec![1000.0],
                of_bias: 3.0,
                of_sum: 4.0,
            }))
    }

    /// The share from which on a sum of 20 and a bias that puts it `distance` from a tie are in doubt.
    fn share(distance: f32) -> Option<f32> {
        let spec = EpilogueSpec::requantize(vec![1.0], vec![0.5 + distance * f32::EPSILON]);
        refined(&spec).doubt(20, 0, 0).map(Share::get)
    }

    #[test]
    fn what_lies_farther_from_a_tie_is_in_doubt_only_of_large_data() {
        // Known errors: 100, 3 * 0.5 for the bias and 4 * 20 for the sum.
        assert_eq!(share(0.0), Some(0.0));
        assert_eq!(share(160.0), Some(0.0));
        let half = share(688.0).unwrap();
        assert!((half - 0.5).abs() < 0.02, "{half}");
        assert_eq!(share(1600.0), None);
    }

    #[test]
    fn a_value_that_a_limit_decides_is_in_no_doubt() {
        let spec = EpilogueSpec::requantize(vec![1.0], vec![-30.5]);
        assert_eq!(refined(&spec).doubt(20, 0, 0), None);
    }

    #[test]
    fn behind_an_inner_rounding_only_single_roundings_count() {
        let spec = |offset: f32| EpilogueSpec {
            mid: Some(MidSpec {
                rounds: true,
                low: 0.0,
                high: 255.0,
                scale: vec![1.0],
                offset: vec![offset],
            }),
            residual: Some(ResidualSpec {
                scale: vec![0.25],
                offset: vec![0.0],
            }),
            ..EpilogueSpec::requantize(vec![1.0], vec![0.25])
        };
        // 20 + 10 + 0.5 and a hair: the inner rounding is certain, the last one is not.
        let of = |hair: f32| refined(&spec(0.5 + hair * f32::EPSILON)).doubt(20, 0, 40);
        assert_eq!(of(0.0), Some(Share::ANY));
        assert_eq!(of(1500.0), None);
    }

    #[test]
    fn doubts_about_one_vector_become_the_widest() {
        let mut doubts = Doubts::new();
        note(
            &mut doubts,
            (1, 2),
            [(17, Share::new(0.5)), (18, Share::new(0.25))].into_iter(),
        );
        note(&mut doubts, (0, 2), [(3, Share::ANY)].into_iter());
        note(&mut doubts, (1, 2), [(30, Share::new(0.4))].into_iter());
        unite(&mut doubts);
        let found: Vec<_> = doubts.iter().map(|d| (d.channel, d.row, d.share.get())).collect();
        assert_eq!(found, [(0, 0, 0.0), (16, 1, 0.25)]);
    }
}
