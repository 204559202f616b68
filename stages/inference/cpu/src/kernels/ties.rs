//! Values so near the middle between two codes that the model's own f32 arithmetic may round them the other way.
//!
//! An [`Epilogue`](super::Epilogue) with [`Ties`] rounds as without, and notes a [`Doubt`] for each value that lies nearer
//! to a tie than it may be off; [`Literal`](super::literal::Literal) evaluates those again.

use super::{AlignedVec, Epilogue};

/// Values that are evaluated again together.
pub(crate) const LANES: usize = 16;

/// A value to evaluate again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// Its channel.
    pub channel: u32,
    /// Its output row.
    pub row: u32,
    /// Its output column.
    pub column: u32,
}

impl Doubt {
    /// Row and column.
    #[inline(always)]
    pub(super) fn pixel(&self) -> [usize; 2] {
        [self.row as usize, self.column as usize]
    }
}

/// Doubts of a layer, some perhaps more than once.
pub type Doubts = Vec<Doubt>;

/// Notes a value of pixel `(row, column)`.
#[inline(always)]
pub(super) fn note(doubts: &mut Doubts, (row, column): (usize, usize), channel: usize) {
    doubts.push(Doubt {
        channel: channel as u32,
        row: row as u32,
        column: column as u32,
    });
}

/// How far from a whole number a value may lie before it is in doubt. Per channel, padded to whole blocks: values of
/// channels that do not exist are never in doubt.
#[derive(Debug, Clone)]
pub(crate) struct Ties {
    /// For the last rounding.
    pub near: AlignedVec<f32>,
    /// For the inner rounding; empty where there is none.
    pub mid_near: AlignedVec<f32>,
    /// What the first rounding's limit rises by with sums whose data are small, times 1 less the size of the data as a
    /// share of the largest that they could have. Zeros where nothing is known of data.
    pub spread: AlignedVec<f32>,
    /// What the first rounding's limit falls by with the sum.
    pub slope: f32,
    /// The lowest and highest code: values beyond are in no doubt.
    pub low: AlignedVec<f32>,
    pub high: AlignedVec<f32>,
    /// The least of the lowest codes.
    pub lowest: f32,
    /// Whether every code is between the limits, in every channel.
    pub any_code: bool,
}

/// The error of a sum and of its rounding to codes, in units of `2^-23` codes, made of what is known once the sum is:
/// `fixed + of_bias * |bias| + of_sum * |sum| + spread * share`. The share is the size of the data of a sum (the root of the
/// sum of squares), as a share of the largest that it could have.
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

impl Ties {
    /// For the channels of `e`. `margin` and `mid_margin` are distances from a tie, in codes, per channel; what is refined
    /// replaces that of the first rounding.
    pub(super) fn new(
        e: &Epilogue,
        margin: &[f32],
        mid_margin: Option<&[f32]>,
        refined: Option<&Refined>,
    ) -> Self {
        let padded = |of: &dyn Fn(usize) -> f32, padding: f32| {
            let mut out = AlignedVec::zeroed(e.low.len());
            out.fill(padding);
            (0..e.channels).for_each(|c| out[c] = of(c));
            out
        };
        let near = |margin: &[f32]| padded(&|c| 0.5 - margin[c], 1.0);
        let first = |refined: &Refined| {
            let near = |c: usize| {
                let units = refined.fixed[c] + refined.of_bias * e.bias[c].abs() + refined.spread[c];
                let near = 0.5 - units * f32::EPSILON;
                // What is not known (NaN) is in doubt.
                if near.is_finite() { near } else { -1.0 }
            };
            padded(&near, 1.0)
        };
        let spread = |refined: &Refined| {
            let of = |c: usize| refined.spread[c] * f32::EPSILON;
            padded(&|c| if of(c).is_finite() { of(c) } else { 0.0 }, 0.0)
        };
        let rounded = |limits: &[f32]| {
            let codes: Vec<f32> = limits.iter().map(|l| l.round_ties_even()).collect();
            AlignedVec::from_slice(&codes)
        };
        let of_first = |margin: &[f32]| refined.map_or_else(|| near(margin), first);
        Self {
            near: match mid_margin {
                Some(_) => near(margin),
                None => of_first(margin),
            },
            mid_near: mid_margin.map_or_else(|| AlignedVec::zeroed(0), of_first),
            spread: refined.map_or_else(|| padded(&|_| 0.0, 0.0), spread),
            slope: refined.map_or(0.0, |refined| refined.of_sum * f32::EPSILON),
            lowest: e.low[..e.channels]
                .iter()
                .fold(f32::INFINITY, |l, v| l.min(*v))
                .round_ties_even(),
            any_code: (0..e.channels).all(|c| e.low_code[c] == 0 && e.high_code[c] == u8::MAX),
            low: rounded(&e.low),
            high: rounded(&e.high),
        }
    }

    /// [`near`](Self::near) for values without inner rounding or second operand, where [`slope`](Self::slope) is
    /// multiplied to the value instead of the sum: that is at most the value and the bias.
    pub(super) fn near_values(&self, bias: &[f32]) -> AlignedVec<f32> {
        let mut near = self.near.clone();
        for (near, bias) in near.iter_mut().zip(bias) {
            *near -= self.slope * bias.abs();
        }
        near
    }

    /// Whether the value `f` of channel `c`, before the last rounding, of that sum is in doubt for it.
    #[inline(always)]
    fn last(&self, f: f32, c: usize, slope: f32, sum: f32, rest: f32) -> bool {
        let limit = self.near[c] + self.spread[c] * rest;
        off(super::epilogue::clamp(f, self.low[c], self.high[c])) + slope * sum.abs() > limit
            && self.between(f, c)
    }

    /// Whether `f` lies between the limits of the codes.
    #[inline(always)]
    fn between(&self, f: f32, c: usize) -> bool {
        // NaN counts as between.
        !(f <= self.low[c] || f >= self.high[c])
    }
}

impl Epilogue {
    /// Whether a sum is in doubt. `rest`: what the size of its data falls short of the largest, as a share of that; 0 where
    /// it is not known.
    #[inline(always)]
    pub(super) fn doubt(&self, acc: i32, c: usize, residual: u8, rest: f32) -> bool {
        self.doubt_scaled(acc, self.scale[c], c, residual, rest)
    }

    /// [`doubt`](Self::doubt) with another scale.
    #[inline(always)]
    pub(super) fn doubt_scaled(&self, acc: i32, scale: f32, c: usize, residual: u8, rest: f32) -> bool {
        let Some(ties) = &self.ties else {
            return false;
        };
        let sum = acc as f32 * scale;
        let mut f = sum + self.bias[c];
        let (mut inside, mut rounds) = (false, None);
        if let Some(mid) = &self.mid {
            let between = !(f <= mid.low || f >= mid.high);
            f = super::epilogue::clamp(f, mid.low, mid.high);
            if mid.rounds {
                inside =
                    between && off(f) + ties.slope * sum.abs() > ties.mid_near[c] + ties.spread[c] * rest;
                f = whole(f);
                rounds = Some([f * mid.scale[c], mid.offset[c]]);
            }
            f = f * mid.scale[c] + mid.offset[c];
        }
        let mut added = [0.0; 2];
        if let Some(r) = &self.residual {
            added = [f32::from(residual) * r.scale[c], r.offset[c]];
            f += added[0] + added[1];
        }
        let Some(inner) = rounds else {
            return ties.last(f, c, ties.slope, sum, rest);
        };
        // Behind the inner rounding there are single values, each rounded a few times.
        let terms = inner.into_iter().chain(added).map(f32::abs).sum::<f32>();
        let apart = (0.5 - off(f)) / f32::EPSILON > 32.0 + 4.0 * terms;
        inside || !apart && ties.near[c] < off(f) && ties.between(f, c)
    }
}

/// Distance from a whole number, for |f| < 2^22.
#[inline(always)]
fn off(f: f32) -> f32 {
    (f - whole(f)).abs()
}

/// The nearest whole number, ties to even, for |f| < 2^22; without a call where there is no instruction for it.
#[inline(always)]
pub(crate) fn whole(f: f32) -> f32 {
    f + ROUNDING - ROUNDING
}

/// Added and taken away again, it rounds to whole numbers, ties to even: 1.5 * 2^23.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// Leaves one of several doubts about a vector of channels, in order, and says of it where the vector begins.
pub(super) fn unite(doubts: &mut Doubts) {
    doubts
        .iter_mut()
        .for_each(|doubt| doubt.channel -= doubt.channel % LANES as u32);
    doubts.sort_unstable();
    doubts.dedup();
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
        let refined = Refined {
            fixed: vec![100.0],
            spread: vec![1000.0],
            of_bias: 3.0,
            of_sum: 4.0,
        };
        Epilogue::new(1, spec)
            .unwrap()
            .with_ties(&margin, &margin, Some(&refined))
    }

    /// Whether a sum of 20 and a bias that puts it `distance` from a tie are in doubt, of data so much smaller than the
    /// largest.
    fn in_doubt(distance: f32, rest: f32) -> bool {
        let spec = EpilogueSpec::requantize(vec![1.0], vec![0.5 + distance * f32::EPSILON]);
        refined(&spec).doubt(20, 0, 0, rest)
    }

    #[test]
    fn what_lies_farther_from_a_tie_is_in_doubt_only_of_large_data() {
        // Known errors: 100, 3 * 0.5 for the bias and 4 * 20 for the sum.
        assert!(in_doubt(0.0, 1.0));
        assert!(in_doubt(144.0, 1.0));
        assert!(!in_doubt(224.0, 1.0));
        assert!(in_doubt(656.0, 0.5) && !in_doubt(720.0, 0.5));
        assert!(in_doubt(1152.0, 0.0) && !in_doubt(1600.0, 0.0));
    }

    #[test]
    fn a_value_that_a_limit_decides_is_in_no_doubt() {
        for bias in [-30.5, 300.5] {
            let spec = EpilogueSpec::requantize(vec![1.0], vec![bias]);
            assert!(!refined(&spec).doubt(20, 0, 0, 0.0));
        }
    }

    #[test]
    fn an_error_that_is_not_known_leaves_every_value_in_doubt() {
        let spec = EpilogueSpec::requantize(vec![1.0], vec![0.25]);
        let refined = Refined {
            fixed: vec![f32::NAN],
            spread: vec![f32::INFINITY],
            of_bias: 3.0,
            of_sum: 4.0,
        };
        let e = Epilogue::new(1, &spec)
            .unwrap()
            .with_ties(&[0.0], &[0.0], Some(&refined));
        assert!(e.doubt(20, 0, 0, 1.0));
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
        let of = |hair: f32| refined(&spec(0.5 + hair * f32::EPSILON)).doubt(20, 0, 40, 0.0);
        assert!(of(0.0));
        assert!(!of(1500.0));
    }

    #[test]
    fn doubts_about_one_vector_become_one() {
        let mut doubts = Doubts::new();
        for (row, channel) in [(1, 17), (1, 18), (0, 3), (1, 30)] {
            note(&mut doubts, (row, 2), channel);
        }
        unite(&mut doubts);
        let found: Vec<_> = doubts.iter().map(|d| (d.channel, d.row)).collect();
        assert_eq!(found, [(0, 0), (16, 1)]);
    }
}
