//! Integer convolutions, bit for bit.

use proptest::prelude::*;

use super::guard::Guarded;
use super::layer::{Case, case, layer, sorted};
use super::reference::{Image, Rng, epilogue};
use super::tables;
use crate::kernels::ties::{Doubt, Doubts};
use crate::kernels::*;

/// Copies a dense image into a guarded buffer of `layout`, halo filled with `halo`.
fn place<T: Plain>(
    image: &Image<T>,
    layout: Layout,
    len: usize,
    at_end: bool,
    halo: T,
    rest: T,
) -> Guarded<T> {
    let mut buffer = Guarded::new(len, at_end);
    buffer.fill(rest);
    let mut view = ViewMut::new(&mut buffer, layout).unwrap();
    view.fill_halo(halo);
    for y in 0..image.h {
        for x in 0..image.w {
            for c in 0..image.c {
                // SAFETY: inside the checked view.
                unsafe { *view.pixel(y, x).add(c) = image.data[(y * image.w + x) * image.c + c] };
            }
        }
    }
    buffer
}

/// Checks written elements and that all others keep the sentinel.
fn check<T: Plain + PartialEq + std::fmt::Debug>(
    what: &str,
    buffer: &[T],
    layout: Layout,
    sentinel: T,
    expected: impl Fn(usize) -> Option<T>,
) {
    let mut rest = buffer.to_vec();
    let mut n = 0;
    for y in 0..layout.height {
        for x in 0..layout.width {
            for c in 0..layout.channels {
                let at = layout.origin + y * layout.row_pitch + x * layout.pixel_stride + c;
                if let Some(expected) = expected(n) {
                    assert_eq!(buffer[at], expected, "{what}: output ({y}, {x}, {c})");
                }
                rest[at] = sentinel;
                n += 1;
            }
        }
    }
    assert!(
        rest.iter().all(|&v| v == sentinel),
        "{what}: wrote outside the output"
    );
}

enum Packed {
    Conv(Box<ConvU8>),
    Depthwise(Box<DepthwiseU8>),
}

/// Runs the layer on every table, split into two bands, against the reference.
fn run(case: &Case, depthwise: bool) {
    let layer = layer(case);
    let (ic, oc) = (case.groups * case.group_in, case.groups * case.group_out);
    let codes = if case.weights < 2 {
        WeightCodes::I8(&layer.i8_codes)
    } else {
        WeightCodes::U8(&layer.u8_codes)
    };
    let weights = Weights {
        codes,
        zero_point: &layer.zero_points,
        data_zero_point: &layer.data_zero_points,
    };
    let (h, w) = (layer.input.h, layer.input.w);
    let halo = case.window.halo(h, w, case.out[0], case.out[1]).unwrap();
    let stride = ic + case.extra_stride;
    let input_layout = Layout::with_halo(h, w, ic, stride, halo).unwrap();
    // Bytes that convolutions may read past the last channel.
    let slack = if depthwise { 0 } else { 3 };
    let input_len = input_layout.required_len().unwrap() + slack;
    let input = place(
        &layer.input,
        input_layout,
        input_len,
        case.at_end,
        case.data_zero_point as u8,
        0xA5,
    );
    let residual_layout = Layout::dense(case.out[0], case.out[1], oc);
    let residual_len = residual_layout.required_len().unwrap();
    let residual = place(&layer.residual, residual_layout, residual_len, case.at_end, 0, 0);
    let out_layout = Layout::with_halo(
        case.out[0],
        case.out[1],
        oc,
        oc + case.extra_stride,
        Halo::uniform(1),
    )
    .unwrap();
    let out_len = out_layout.required_len().unwrap();
    for table in tables() {
        // Codes, and half of the time where they are in doubt.
        let notes = layer.spec.output == OutputKind::U8 && case.seed & 1 != 0;
        let mut e = Epilogue::new(oc, &layer.spec).unwrap();
        if notes {
            e = e.with_ties(&layer.margins[0], &layer.margins[1], layer.refined.as_ref());
        }
        let packed = if depthwise {
            Packed::Depthwise(Box::new(
                DepthwiseU8::new(table, case.window, &weights, e).unwrap(),
            ))
        } else {
            let channels = Channels {
                input: ic,
                output: oc,
                groups: case.groups,
            };
            Packed::Conv(Box::new(
                ConvU8::new(table, case.window, channels, &weights, e, stride).unwrap(),
            ))
        };
        let input = View::new(&input, input_layout).unwrap();
        let residual_view = layer
            .spec
            .residual
            .is_some()
            .then(|| View::new(&residual, residual_layout).unwrap());
        let go = |output: Output<'_>| match &packed {
            Packed::Conv(conv) => {
                let mut args = ConvU8Args::new(conv, input, residual_view, output).unwrap();
                let whole = args.whole();
                let (row, panel) = (whole.rows.end / 2, whole.panels.end / 2);
                for rows in [0..row, row..whole.rows.end] {
                    for panels in [0..panel, panel..whole.panels.end] {
                        let rows = rows.clone();
                        args.rests = &layer.rests[rows.start * case.out[1]..rows.end * case.out[1]];
                        table.conv_u8(&mut args, &Band { rows, panels });
                    }
                }
            }
            Packed::Depthwise(conv) => {
                let mut args = DepthwiseU8Args::new(conv, input, residual_view, output).unwrap();
                let half = case.out[0] / 2;
                table.depthwise_u8(&mut args, 0..half);
                table.depthwise_u8(&mut args, half..case.out[0]);
            }
        };
        let name = table.isa().name();
        if layer.spec.output == OutputKind::U8 {
            let mut out = Guarded::<u8>::new(out_len, case.at_end);
            out.fill(0x5A);
            let view = ViewMut::new(&mut out, out_layout).unwrap();
            if notes {
                let mut doubts = Doubts::new();
                go(Output::Noted(view, &mut doubts));
                let doubts = sorted(doubts);
                let [certain, possible] = &layer.doubts;
                let outside = |some: &Doubts, all: &Doubts| {
                    let all = |doubt: &&Doubt| all.binary_search(doubt).is_err();
                    some.iter().find(all).copied()
                };
                assert_eq!(outside(certain, &doubts), None, "{name}: not noted");
                assert_eq!(outside(&doubts, possible), None, "{name}: noted");
            } else {
                go(Output::U8(view));
            }
            // What may be in doubt is evaluated again if it is: until then its code may be either.
            let certain = |n: usize| {
                let (pixel, channel) = (n / oc, (n % oc) as u32);
                let [row, column] = [pixel / case.out[1], pixel % case.out[1]].map(|at| at as u32);
                let doubt = Doubt { channel, row, column };
                !notes || layer.doubts[1].binary_search(&doubt).is_err()
            };
            let expected = |n: usize| certain(n).then_some(layer.expected[n].1);
            check(name, &out, out_layout, 0x5A, expected);
        } else {
            let mut out = Guarded::<f32>::new(out_len, case.at_end);
            out.fill(-12345.0);
            go(Output::F32(ViewMut::new(&mut out, out_layout).unwrap()));
            check(name, &out, out_layout, -12345.0, |n| Some(layer.expected[n].0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn convolution_equals_its_definition_on_every_instruction_set(case in case()) {
        run(&case, false);
    }

    #[test]
    fn depthwise_equals_its_definition_on_every_instruction_set(
        case in case(),
        channels in prop::sample::select(vec![1, 3, 16, 31, 64, 65, 100, 128]),
    ) {
        let case = Case { groups: channels, group_in: 1, group_out: 1, ..case };
        run(&case, true);
    }

    /// Channels that fill blocks only in part, pixels without gaps, and epilogues with nothing special.
    #[test]
    fn depthwise_over_several_pixels_equals_its_definition(
        case in case(),
        channels in prop::sample::select(vec![2, 4, 8, 12, 16, 24, 40, 48, 72]),
    ) {
        let window = Window { stride: [case.window.stride[0], 1], ..case.window };
        let case = Case { groups: channels, group_in: 1, group_out: 1, window, extra_stride: 0, epilogue: case.epilogue & 16, ..case };
        run(&case, true);
    }
}

/// One pixel, 16 channels, a plain sum as f32.
fn sum(table: &'static KernelTable, q: u8, w: i8, zero: i32) -> f32 {
    let weights = [w; 16];
    let weights = Weights {
        codes: WeightCodes::I8(&weights),
        zero_point: &[0],
        data_zero_point: &[zero],
    };
    let e = Epilogue::new(1, &EpilogueSpec::dequantize(vec![1.0], vec![0.0])).unwrap();
    let conv = ConvU8::new(table, Window::POINT, Channels::dense(16, 1), &weights, e, 16).unwrap();
    let input = [q; 16];
    let mut out = [0.0];
    let layout = Layout::dense(1, 1, 1);
    let output = Output::F32(ViewMut::new(&mut out, layout).unwrap());
    let input = View::new(&input, Layout::dense(1, 1, 16)).unwrap();
    let mut args = ConvU8Args::new(&conv, input, None, output).unwrap();
    let whole = args.whole();
    table.conv_u8(&mut args, &whole);
    out[0]
}

#[test]
fn extreme_sums_do_not_saturate() {
    for table in tables() {
        assert_eq!(sum(table, 255, 127, 0), 518_160.0);
        assert_eq!(sum(table, 255, -128, 0), -522_240.0);
        assert_eq!(sum(table, 255, -128, 255), 0.0);
        assert_eq!(sum(table, 0, -128, 255), 522_240.0);
    }
}

#[test]
fn weights_are_split_where_a_pair_of_products_could_saturate_and_nowhere_else() {
    let percent = |table: &KernelTable, codes: &[i8]| {
        let weights = Weights {
            codes: WeightCodes::I8(codes),
            zero_point: &[0],
            data_zero_point: &[0],
        };
        let e = || Epilogue::new(16, &EpilogueSpec::dequantize(vec![1.0], vec![0.0])).unwrap();
        let channels = Channels::dense(codes.len() / 16, 16);
        let conv = ConvU8::new(table, Window::POINT, channels, &weights, e(), codes.len() / 16).unwrap();
        let window = Window {
            kernel: [1, codes.len() / 16],
            ..Window::POINT
        };
        let depthwise = DepthwiseU8::new(table, window, &weights, e()).unwrap();
        (conv.split_percent(), depthwise.split_percent() > 0)
    };
    for table in tables() {
        let pairs = table.adds_pairs();
        assert_eq!(percent(table, &[64; 16 * 4]), (0, false));
        assert_eq!(percent(table, &[-128, 0, 127, 1].repeat(16)), (0, false));
        let split = if pairs { 100 } else { 0 };
        assert_eq!(percent(table, &[127; 16 * 4]).0, split);
        assert_eq!(percent(table, &[-65, -64, 0, 0].repeat(16)).0, split);
        // One quad of four in every channel.
        let mut codes = [0; 16 * 16];
        codes.chunks_exact_mut(16).for_each(|c| c[4..6].fill(100));
        assert_eq!(percent(table, &codes), (split / 4, pairs));
    }
}

#[test]
fn a_missing_halo_or_slack_is_an_error_that_says_so() {
    let table = KernelTable::select(None).unwrap();
    let codes = [1_i8; 27];
    let weights = Weights {
        codes: WeightCodes::I8(&codes),
        zero_point: &[0],
        data_zero_point: &[0],
    };
    let window = Window {
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad_begin: [1, 1],
    };
    let e = Epilogue::new(1, &EpilogueSpec::dequantize(vec![1.0], vec![0.0])).unwrap();
    let conv = ConvU8::new(table, window, Channels::dense(3, 1), &weights, e, 3).unwrap();
    let mut out = [0.0; 16];
    let data = [0_u8; 1000];
    let mut attempt = |halo: Halo, slack: usize| {
        let layout = Layout::with_halo(4, 4, 3, 3, halo).unwrap();
        let len = layout.required_len().unwrap() + slack;
        let input = View::new(&data[..len], layout).unwrap();
        let output = Output::F32(ViewMut::new(&mut out, Layout::dense(4, 4, 1)).unwrap());
        ConvU8Args::new(&conv, input, None, output)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(attempt(Halo::uniform(1), 3), Ok(()));
    assert!(attempt(Halo::uniform(1), 2).unwrap_err().contains("slack"));
    let halo = Halo {
        right: 0,
        ..Halo::uniform(1)
    };
    assert!(attempt(halo, 64).unwrap_err().contains("halo right"));
}

#[test]
fn sums_that_could_overflow_are_refused() {
    let table = KernelTable::select(None).unwrap();
    let codes = vec![0_i8; MAX_TAPS + 1];
    let weights = Weights {
        codes: WeightCodes::I8(&codes),
        zero_point: &[0],
        data_zero_point: &[0],
    };
    let e = Epilogue::new(1, &EpilogueSpec::dequantize(vec![1.0], vec![0.0])).unwrap();
    let channels = Channels::dense(MAX_TAPS + 1, 1);
    let result = ConvU8::new(table, Window::POINT, channels, &weights, e, MAX_TAPS + 1);
    assert!(matches!(result, Err(ArgError::Accumulator { .. })));
}

/// Products that round, and biases that put the small rounded sum on a tie: a fused multiply-add, or another order,
/// ends on the other code for half of the channels.
#[test]
fn multiplication_rounds_before_addition_in_every_epilogue() {
    const OC: usize = 100;
    let mut rng = Rng(7);
    let codes: Vec<i8> = (0..OC).map(|_| 30 + rng.below(98) as i8).collect();
    let sums: Vec<i32> = codes.iter().map(|&w| i32::from(w) * 255).collect();
    let scale: Vec<f32> = sums
        .iter()
        .map(|&s| (90.0 + 20.0 * rng.unit()) / s as f32)
        .collect();
    let bias: Vec<f32> = (0..OC)
        .map(|c| 0.5 + (c % 2) as f32 - sums[c] as f32 * scale[c])
        .collect();
    let weights = Weights {
        codes: WeightCodes::I8(&codes),
        zero_point: &[0],
        data_zero_point: &[0],
    };
    let layout = Layout::dense(1, 14, OC);
    for parts in 0..4 {
        let spec = EpilogueSpec {
            mid: (parts & 1 != 0).then(|| MidSpec {
                rounds: true,
                low: 0.0,
                high: 255.0,
                scale: vec![1.0],
                offset: vec![0.0],
            }),
            residual: (parts & 2 != 0).then(|| ResidualSpec {
                scale: vec![0.0],
                offset: vec![0.0],
            }),
            ..EpilogueSpec::requantize(scale.clone(), bias.clone())
        };
        let e = Epilogue::new(OC, &spec).unwrap();
        let zeros = [0; 14 * OC];
        let residual = spec
            .residual
            .is_some()
            .then(|| View::new(&zeros, layout).unwrap());
        let expected: Vec<u8> = (0..14 * OC)
            .map(|n| epilogue(&spec, sums[n % OC], 1, n % OC, 0).1)
            .collect();
        for table in tables() {
            let one = [255; 14];
            let input = View::new(&one, Layout::dense(1, 14, 1)).unwrap();
            let conv = ConvU8::new(
                table,
                Window::POINT,
                Channels::dense(1, OC),
                &weights,
                e.clone(),
                1,
            )
            .unwrap();
            let mut padded = [255; 14 + 3];
            padded[14..].fill(0);
            let wide = View::new(&padded, Layout::dense(1, 14, 1)).unwrap();
            assert!(
                ConvU8Args::new(
                    &conv,
                    input,
                    residual,
                    Output::U8(view(&mut [0; 14 * OC], layout))
                )
                .is_err()
            );
            let mut out = [0; 14 * OC];
            let mut args =
                ConvU8Args::new(&conv, wide, residual, Output::U8(view(&mut out, layout))).unwrap();
            let whole = args.whole();
            table.conv_u8(&mut args, &whole);
            assert_eq!(out[..], expected, "convolution, {}, parts {parts}", table.isa());

            let many = [255; 14 * OC];
            let input = View::new(&many, layout).unwrap();
            let conv = DepthwiseU8::new(table, Window::POINT, &weights, e.clone()).unwrap();
            let mut out = [0; 14 * OC];
            let output = Output::U8(view(&mut out, layout));
            let mut args = DepthwiseU8Args::new(&conv, input, residual, output).unwrap();
            table.depthwise_u8(&mut args, 0..1);
            assert_eq!(out[..], expected, "depthwise, {}, parts {parts}", table.isa());
        }
    }
}

fn view(out: &mut [u8], layout: Layout) -> ViewMut<'_, u8> {
    ViewMut::new(out, layout).unwrap()
}
