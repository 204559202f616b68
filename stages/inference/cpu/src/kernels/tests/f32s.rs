//! f32 kernels: within rounding of an f64 reference, and the same bits on every instruction set.

use proptest::prelude::*;

use super::guard::Guarded;
use super::reference::{Image, Rng, tap};
use super::tables;
use crate::kernels::*;

#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    size: [usize; 2],
    window: Window,
    groups: usize,
    group_in: usize,
    group_out: usize,
    residual: bool,
    relu: bool,
}

fn case() -> impl Strategy<Value = Case> {
    (
        any::<u64>(),
        [1..=8_usize, 1..=32],
        (
            prop::sample::select(vec![[1, 1], [3, 3], [1, 5], [5, 2]]),
            [1..=2_usize, 1..=2],
            prop::sample::select(vec![[1, 1], [2, 2]]),
        ),
        1..=2_usize,
        prop::sample::select(vec![1, 3, 4, 16, 33]),
        prop::sample::select(vec![1, 3, 16, 20, 32, 50]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(seed, size, (kernel, stride, dilation), groups, group_in, group_out, residual, relu)| Case {
                seed,
                size,
                window: Window {
                    kernel,
                    stride,
                    dilation,
                    pad_begin: [kernel[0] / 2, kernel[1] / 2],
                },
                groups,
                group_in,
                group_out,
                residual,
                relu,
            },
        )
}

fn run(case: &Case, depthwise: bool) {
    let mut rng = Rng(case.seed);
    let w = &case.window;
    let (ic, oc) = (case.groups * case.group_in, case.groups * case.group_out);
    let taps = w.taps() * case.group_in;
    let [h, wd] = case.size;
    let input = Image::from_fn(h, wd, ic, || rng.unit());
    let out = [0, 1].map(|a| (case.size[a] - 1) / w.stride[a] + 1);
    let residual = Image::from_fn(out[0], out[1], oc, || rng.unit());
    let weights: Vec<f32> = (0..oc * taps).map(|_| rng.unit()).collect();
    let bias: Vec<f32> = (0..oc).map(|_| rng.unit()).collect();
    let low = [if case.relu { 0.0 } else { f32::NEG_INFINITY }];
    let high = [if case.relu { 6.0 } else { f32::INFINITY }];

    let halo = w.halo(h, wd, out[0], out[1]).unwrap();
    let layout = Layout::with_halo(h, wd, ic, ic, halo).unwrap();
    let mut buffer = Guarded::<f32>::new(layout.required_len().unwrap(), true);
    let view = ViewMut::new(&mut buffer, layout).unwrap();
    for (n, &v) in input.data.iter().enumerate() {
        // SAFETY: inside the checked view.
        unsafe { *view.pixel(n / ic / wd, n / ic % wd).add(n % ic) = v };
    }
    let out_layout = Layout::dense(out[0], out[1], oc);
    let mut first: Option<Vec<u32>> = None;
    for table in tables() {
        let e = EpilogueF32::new(oc, &bias, &low, &high).unwrap();
        let mut output = Guarded::<f32>::new(out[0] * out[1] * oc, true);
        let view = ViewMut::new(&mut output, out_layout).unwrap();
        let input_view = View::new(&buffer, layout).unwrap();
        let second = case
            .residual
            .then(|| View::new(&residual.data, out_layout).unwrap());
        if depthwise {
            let conv = DepthwiseF32::new(*w, &weights, e).unwrap();
            let mut args = DepthwiseF32Args::new(&conv, input_view, second, view).unwrap();
            table.depthwise_f32(&mut args, 0..out[0]);
        } else {
            let channels = Channels {
                input: ic,
                output: oc,
                groups: case.groups,
            };
            let conv = ConvF32::new(table, *w, channels, &weights, e).unwrap();
            let mut args = ConvF32Args::new(&conv, input_view, second, view).unwrap();
            let whole = args.whole();
            table.conv_f32(&mut args, &whole);
        }
        let bits: Vec<u32> = output.iter().map(|v| v.to_bits()).collect();
        assert!(
            first.get_or_insert_with(|| bits.clone()) == &bits,
            "{} differs",
            table.isa()
        );
        for (n, &found) in output.iter().enumerate() {
            let (y, x, o) = (n / oc / out[1], n / oc % out[1], n % oc);
            let group = o / case.group_out;
            let mut sum = f64::from(bias[o]);
            for i in 0..case.group_in {
                for ky in 0..w.kernel[0] {
                    for kx in 0..w.kernel[1] {
                        let (iy, ix) = tap(w, (y, x), (ky, kx));
                        let v = input.get(iy, ix, group * case.group_in + i).unwrap_or(0.0);
                        let at = ((o * case.group_in + i) * w.kernel[0] + ky) * w.kernel[1] + kx;
                        sum += f64::from(v) * f64::from(weights[at]);
                    }
                }
            }
            if case.residual {
                sum += f64::from(residual.data[n]);
            }
            let expected = sum.clamp(low[0].into(), high[0].into());
            let tolerance = 1e-6 * (taps as f64 + 2.0);
            assert!(
                (f64::from(found) - expected).abs() <= tolerance,
                "{} ({y}, {x}, {o}): {found} against {expected}",
                table.isa()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn f32_convolution_is_within_rounding(case in case()) {
        run(&case, false);
    }

    #[test]
    fn f32_depthwise_is_within_rounding(
        case in case(),
        channels in prop::sample::select(vec![1, 16, 19, 64]),
    ) {
        run(&Case { groups: channels, group_in: 1, group_out: 1, ..case }, true);
    }
}
