//! Bilinear interpolation in fixed point, equal to OpenCV's `INTER_LINEAR` for 8-bit samples
//! (`modules/imgproc/src/resize.cpp`): 11-bit weights, horizontal pass first, truncation of the intermediate.

use super::{RowOrder, Rows};

const WEIGHT_BITS: u32 = 11;
const ONE: f32 = (1 << WEIGHT_BITS) as f32;

/// Two neighbours along a row and their weights, which add up to `1 << 11`.
#[derive(Clone, Copy)]
struct Tap {
    left: usize,
    right: usize,
    weight_left: u16,
    weight_right: u16,
}

/// The same along a column.
#[derive(Clone, Copy)]
struct RowTap {
    top: usize,
    bottom: usize,
    weight_top: u16,
    weight_bottom: u16,
}

pub(super) struct Bilinear {
    channels: usize,
    order: RowOrder,
    taps: Vec<Tap>,
    row_taps: Vec<RowTap>,
    /// Two source rows after the horizontal pass, 15 bits a sample, with their row numbers.
    cache: [(Option<usize>, Vec<u16>); 2],
}

impl Bilinear {
    pub(super) fn new(source: (u32, u32), target: (u32, u32), channels: usize, order: RowOrder) -> Self {
        let last = source.0 as usize - 1;
        let taps = axis(source.0, target.0)
            .map(|(at, fraction)| {
                // Outside the picture the border pixel counts alone.
                let (at, fraction) = match usize::try_from(at) {
                    Err(_) => (0, 0.0),
                    Ok(at) if at >= last => (last, 0.0),
                    Ok(at) => (at, fraction),
                };
                Tap {
                    left: at * channels,
                    right: (at + 1).min(last) * channels,
                    weight_left: weight(1.0 - fraction),
                    weight_right: weight(fraction),
                }
            })
            .collect();
        let last = i64::from(source.1) - 1;
        let row_taps = axis(source.1, target.1)
            .map(|(at, fraction)| RowTap {
                top: at.clamp(0, last) as usize,
                bottom: (at + 1).clamp(0, last) as usize,
                weight_top: weight(1.0 - fraction),
                weight_bottom: weight(fraction),
            })
            .collect();
        let samples = target.0 as usize * channels;
        Self {
            channels,
            order,
            taps,
            row_taps,
            cache: [(None, vec![0; samples]), (None, vec![0; samples])],
        }
    }

    /// Forgets the rows of the picture before.
    pub(super) fn begin(&mut self) {
        self.cache[0].0 = None;
        self.cache[1].0 = None;
    }

    pub(super) fn row(&mut self, rows: &mut dyn Rows, y: usize, out: &mut [u8]) {
        let tap = self.row_taps[y];
        if self.cache[1].0 == Some(tap.top) {
            self.cache.swap(0, 1);
        }
        for (slot, wanted) in [(0, tap.top), (1, tap.bottom)] {
            if self.cache[slot].0 != Some(wanted) {
                let source = rows.row(wanted);
                let (held, samples) = &mut self.cache[slot];
                horizontal(source, &self.taps, self.channels, self.order, samples);
                *held = Some(wanted);
            }
        }
        let (top, bottom) = (&self.cache[0].1, &self.cache[1].1);
        let (wt, wb) = (u32::from(tap.weight_top), u32::from(tap.weight_bottom));
        for ((o, &t), &b) in out.iter_mut().zip(top).zip(bottom) {
            let t = ((u32::from(t) * wt) >> 16) as u16;
            let b = ((u32::from(b) * wb) >> 16) as u16;
            *o = ((t + b + 2) >> 2) as u8;
        }
    }
}

fn horizontal(source: &[u8], taps: &[Tap], channels: usize, order: RowOrder, out: &mut [u16]) {
    match (channels, order) {
        (1, _) => {
            for (o, tap) in out.iter_mut().zip(taps) {
                *o = mix(source[tap.left], source[tap.right], tap);
            }
        }
        (_, RowOrder::Interleaved) => {
            for (o, tap) in out.chunks_exact_mut(3).zip(taps) {
                let (l, r) = (&source[tap.left..][..3], &source[tap.right..][..3]);
                o[0] = mix(l[0], r[0], tap);
                o[1] = mix(l[1], r[1], tap);
                o[2] = mix(l[2], r[2], tap);
            }
        }
        (_, RowOrder::Planar) => {
            let (p0, rest) = out.split_at_mut(taps.len());
            let (p1, p2) = rest.split_at_mut(taps.len());
            for (((tap, o0), o1), o2) in taps.iter().zip(p0).zip(p1).zip(p2) {
                let (l, r) = (&source[tap.left..][..3], &source[tap.right..][..3]);
                *o0 = mix(l[0], r[0], tap);
                *o1 = mix(l[1], r[1], tap);
                *o2 = mix(l[2], r[2], tap);
            }
        }
    }
}

/// Weighted mean of two samples in 15 bits: 8 of the sample, 7 below.
#[inline(always)]
fn mix(left: u8, right: u8, tap: &Tap) -> u16 {
    let sum = u32::from(left) * u32::from(tap.weight_left) + u32::from(right) * u32::from(tap.weight_right);
    (sum >> 4) as u16
}

fn weight(fraction: f32) -> u16 {
    (fraction * ONE).round_ties_even() as u16
}

/// For each target pixel the source pixel left of (above) it, which may be -1, and the fraction towards the
/// next. Pixel centres map to pixel centres.
fn axis(source: u32, target: u32) -> impl Iterator<Item = (i64, f32)> {
    let scale = 1.0 / (f64::from(target) / f64::from(source));
    (0..target).map(move |i| {
        let place = ((f64::from(i) + 0.5) * scale - 0.5) as f32;
        let floor = place.floor();
        (floor as i64, place - floor)
    })
}
