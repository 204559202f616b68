//! Random layers of convolutions, and what they give by definition.

use proptest::prelude::*;

use super::reference::{Image, Rng, epilogue, in_doubt, tap};
use crate::kernels::ties::{Doubt, Doubts, Refined};
use crate::kernels::*;

/// One random layer. Values come from `seed`.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub out: [usize; 2],
    pub window: Window,
    pub groups: usize,
    pub group_in: usize,
    pub group_out: usize,
    pub extra_stride: usize,
    pub data_zero_point: i32,
    /// 0: i8 symmetric, 1: i8 with zero points, 2: u8 with zero points, 3: u8 with zero point 0.
    pub weights: usize,
    /// 0: random, 1: all 255 x extremes.
    pub extreme: bool,
    /// Bits: mid, residual, f32, table, values far outside an i32.
    pub epilogue: usize,
    pub at_end: bool,
}

fn window() -> impl Strategy<Value = Window> {
    (
        prop::sample::select(vec![
            [1, 1],
            [3, 3],
            [1, 3],
            [5, 5],
            [7, 7],
            [2, 2],
            [3, 1],
            [4, 6],
        ]),
        [1..=3_usize, 1..=3],
        prop::sample::select(vec![[1, 1], [1, 1], [2, 2], [1, 3]]),
        [0..=3_usize, 0..=3],
    )
        .prop_map(|(kernel, stride, dilation, pad_begin)| Window {
            kernel,
            stride,
            dilation,
            pad_begin,
        })
}

pub fn case() -> impl Strategy<Value = Case> {
    (
        any::<u64>(),
        [1..=9_usize, 1..=33],
        window(),
        prop::sample::select(vec![1, 1, 1, 2, 3]),
        prop::sample::select(vec![1, 2, 3, 4, 7, 8, 16, 20, 32, 64]),
        prop::sample::select(vec![1, 3, 8, 16, 17, 24, 32, 33, 48, 64, 80]),
        prop::sample::select(vec![0, 0, 1, 13]),
        prop::sample::select(vec![0, 128, 255, 77]),
        (0..4_usize, prop::bool::weighted(0.2), 0..32_usize, any::<bool>()),
    )
        .prop_map(
            |(seed, out, window, groups, group_in, group_out, extra_stride, data_zero_point, rest)| Case {
                seed,
                out,
                window,
                groups,
                group_in,
                group_out,
                extra_stride,
                data_zero_point,
                weights: rest.0,
                extreme: rest.1,
                epilogue: rest.2,
                at_end: rest.3,
            },
        )
}

/// Values of a layer, and its expected result.
pub struct Layer {
    pub input: Image<u8>,
    pub residual: Image<u8>,
    pub i8_codes: Vec<i8>,
    pub u8_codes: Vec<u8>,
    pub zero_points: Vec<i32>,
    pub data_zero_points: Vec<i32>,
    pub spec: EpilogueSpec,
    pub expected: Vec<(f32, u8)>,
    /// Distances from a tie below which values are in doubt, per channel: of the last rounding and of the inner one.
    pub margins: [Vec<f32>; 2],
    /// What replaces the margin of the first rounding, in half of the cases.
    pub refined: Option<Refined>,
    /// What the size of the data of each output pixel falls short of the largest.
    pub rests: Vec<f32>,
    /// What is in doubt for certain, and what may be, in order: sets of instructions differ in last bits.
    pub doubts: [Doubts; 2],
}

fn spec(case: &Case, channels: usize, taps: usize, rng: &mut Rng) -> EpilogueSpec {
    let far = if case.epilogue & 16 != 0 { 1e12 } else { 1.0 };
    let scale = far / (taps as f32).sqrt() / 60.0;
    let each = |rng: &mut Rng, a: f32, b: f32| (0..channels).map(|_| a + b * rng.unit()).collect::<Vec<_>>();
    let output = if case.epilogue & 4 != 0 {
        OutputKind::F32
    } else {
        OutputKind::U8
    };
    let table = (case.epilogue & 8 != 0 && output == OutputKind::U8).then(|| {
        let mut table = Box::new([0; 256]);
        table.iter_mut().for_each(|t| *t = rng.below(256) as u8);
        table
    });
    EpilogueSpec {
        scale: each(rng, scale, scale / 2.0),
        bias: each(rng, 100.0, 60.0),
        mid: (case.epilogue & 1 != 0).then(|| MidSpec {
            rounds: case.seed & 2 != 0,
            low: -3.0,
            high: 200.0,
            scale: each(rng, 1.0, 0.5),
            offset: each(rng, 0.0, 20.0 * far),
        }),
        residual: (case.epilogue & 2 != 0).then(|| ResidualSpec {
            scale: each(rng, 0.3, 0.2),
            offset: each(rng, -30.0, 20.0),
        }),
        low: each(rng, 10.0, 10.0),
        high: vec![240.0],
        output,
        table,
    }
}

pub fn layer(case: &Case) -> Layer {
    let mut rng = Rng(case.seed);
    let w = &case.window;
    let (ic, oc) = (case.groups * case.group_in, case.groups * case.group_out);
    let taps = w.taps() * case.group_in;
    let side = |axis: usize| {
        let reach = (case.out[axis] - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1;
        reach
            .saturating_sub(w.pad_begin[axis] + rng_pad(case.seed, axis, w.kernel[axis]))
            .max(1)
    };
    let (h, wd) = (side(0), side(1));
    let extreme = case.extreme;
    let input = Image::from_fn(h, wd, ic, || if extreme { 255 } else { rng.below(256) as u8 });
    let residual = Image::from_fn(case.out[0], case.out[1], oc, || rng.below(256) as u8);
    let count = oc * taps;
    let code = |rng: &mut Rng| match (extreme, rng.below(2)) {
        (true, 0) => 0,
        (true, _) => 255,
        (false, _) => rng.below(256),
    };
    let u8_codes: Vec<u8> = (0..count).map(|_| code(&mut rng) as u8).collect();
    let i8_codes: Vec<i8> = u8_codes.iter().map(|&c| (i32::from(c) - 128) as i8).collect();
    let zero_points: Vec<i32> = match case.weights {
        0 => vec![0],
        1 => (0..oc).map(|_| rng.below(256) as i32 - 128).collect(),
        2 => (0..oc).map(|_| rng.below(256) as i32).collect(),
        _ => vec![0],
    };
    let data_zero_points = vec![case.data_zero_point];
    let spec = spec(case, oc, taps, &mut rng);
    let mut margins = [(); 2].map(|()| (0..oc).map(|_| rng.unit().abs() * 0.02).collect::<Vec<f32>>());
    margins[0][0] = 0.4;
    let refined = (case.seed & 4 != 0).then(|| Refined {
        fixed: (0..oc).map(|_| rng.unit().abs() * 4e4).collect(),
        spread: (0..oc).map(|_| rng.unit().abs() * 4e5).collect(),
        of_bias: 30.0,
        of_sum: 200.0,
    });
    let pixels = case.out[0] * case.out[1];
    let rests: Vec<f32> = match case.groups == ic {
        true => vec![0.0; pixels],
        false => (0..pixels).map(|_| rng.unit().abs()).collect(),
    };
    let (mut expected, mut doubts) = (Vec::new(), [Doubts::new(), Doubts::new()]);
    for y in 0..case.out[0] {
        for x in 0..case.out[1] {
            for o in 0..oc {
                let group = o / case.group_out;
                let mut acc = 0_i64;
                for i in 0..case.group_in {
                    for ky in 0..w.kernel[0] {
                        for kx in 0..w.kernel[1] {
                            let (iy, ix) = tap(w, (y, x), (ky, kx));
                            let Some(q) = input.get(iy, ix, group * case.group_in + i) else {
                                continue;
                            };
                            let at = ((o * case.group_in + i) * w.kernel[0] + ky) * w.kernel[1] + kx;
                            let z = zero_points[if zero_points.len() == 1 { 0 } else { o }];
                            let v = if case.weights < 2 {
                                i32::from(i8_codes[at])
                            } else {
                                i32::from(u8_codes[at])
                            };
                            acc += i64::from((i32::from(q) - case.data_zero_point) * (v - z));
                        }
                    }
                }
                let at = (y * case.out[1] + x) * oc + o;
                let acc = i32::try_from(acc).unwrap();
                expected.push(epilogue(&spec, acc, 1, o, residual.data[at]));
                let mut near = [margins[0][o], margins[1][o]];
                if let Some(refined) = &refined {
                    let value = |values: &[f32]| values[if values.len() == 1 { 0 } else { o }];
                    let units = refined.fixed[o]
                        + refined.of_bias * value(&spec.bias).abs()
                        + refined.of_sum * (acc as f32 * value(&spec.scale)).abs()
                        + refined.spread[o] * (1.0 - rests[y * case.out[1] + x]);
                    let first = usize::from(spec.mid.as_ref().is_some_and(|mid| mid.rounds));
                    near[first] = units * f32::EPSILON;
                }
                for (doubts, off) in doubts.iter_mut().zip([-1e-4_f32, 1e-4]) {
                    let near = near.map(|margin| margin * (1.0 + off) + off);
                    if in_doubt(&spec, acc, o, residual.data[at], near) {
                        doubts.push(Doubt {
                            channel: o as u32,
                            row: y as u32,
                            column: x as u32,
                        });
                    }
                }
            }
        }
    }
    Layer {
        input,
        residual,
        i8_codes,
        u8_codes,
        zero_points,
        data_zero_points,
        spec,
        expected,
        margins,
        refined,
        rests,
        doubts: doubts.map(sorted),
    }
}

pub fn sorted(mut doubts: Doubts) -> Doubts {
    doubts.sort_unstable();
    doubts.dedup();
    doubts
}

/// Padding after the image, from the seed.
fn rng_pad(seed: u64, axis: usize, kernel: usize) -> usize {
    Rng(seed ^ axis as u64).below(kernel)
}
