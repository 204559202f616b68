//! Pools, requantization, quantization, tables and copies.

use proptest::prelude::*;

use super::guard::Guarded;
use super::reference::{Image, Rng, epilogue, tap};
use super::tables;
use crate::kernels::*;

/// A dense image in a guarded buffer.
fn guarded<T: Plain>(image: &Image<T>) -> (Guarded<T>, Layout) {
    let mut buffer = Guarded::new(image.data.len(), true);
    buffer.copy_from_slice(&image.data);
    (buffer, Layout::dense(image.h, image.w, image.c))
}

fn pool_case() -> impl Strategy<Value = (Window, Image<u8>, [usize; 2])> {
    (
        any::<u64>(),
        [1..=12_usize, 1..=12],
        prop::sample::select(vec![1, 5, 16, 33, 64, 100]),
        [1..=5_usize, 1..=5],
        [1..=3_usize, 1..=3],
        [0..=4_usize, 0..=4],
    )
        .prop_map(|(seed, size, channels, kernel, stride, pad)| {
            let mut rng = Rng(seed);
            let image = Image::from_fn(size[0], size[1], channels, || rng.below(256) as u8);
            let pad_begin = [pad[0].min(kernel[0] - 1), pad[1].min(kernel[1] - 1)];
            let window = Window {
                kernel,
                stride,
                dilation: [1, 1],
                pad_begin,
            };
            let out = [0, 1].map(|a| (size[a] + pad_begin[a] - 1) / stride[a] + 1);
            (window, image, out)
        })
}

/// Valid codes under each output window.
fn windows(window: &Window, image: &Image<u8>, at: (usize, usize), c: usize) -> Vec<u8> {
    let [kh, kw] = window.kernel;
    (0..kh)
        .flat_map(|ky| (0..kw).map(move |kx| (ky, kx)))
        .filter_map(|t| {
            let (y, x) = tap(window, at, t);
            image.get(y, x, c)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn max_pool_equals_its_definition((window, image, out) in pool_case()) {
        let (input, layout) = guarded(&image);
        for table in tables() {
            let out_layout = Layout::dense(out[0], out[1], image.c);
            let mut output = Guarded::<u8>::new(out[0] * out[1] * image.c, true);
            let input = View::new(&input, layout).unwrap();
            let mut args = MaxPoolArgs::new(window, input, ViewMut::new(&mut output, out_layout).unwrap()).unwrap();
            table.max_pool_u8(&mut args, 0..out[0]);
            for (n, &found) in output.iter().enumerate() {
                let at = (n / image.c / out[1], n / image.c % out[1]);
                let expected = *windows(&window, &image, at, n % image.c).iter().max().unwrap();
                prop_assert_eq!(found, expected, "{} {:?}", table.isa(), at);
            }
        }
    }

    #[test]
    fn average_pool_equals_its_definition((window, image, out) in pool_case(), all: bool, divided: bool, real: bool) {
        let (input, layout) = guarded(&image);
        let over = match (divided, all) {
            (false, _) => AverageOver::Nothing,
            (true, true) => AverageOver::All { pad_code: 77 },
            (true, false) => AverageOver::Valid,
        };
        let spec = if real {
            EpilogueSpec::dequantize(vec![0.37], vec![-3.0])
        } else {
            EpilogueSpec::requantize(vec![0.9], vec![7.25])
        };
        let e = Epilogue::new(image.c, &spec).unwrap();
        for table in tables() {
            let out_layout = Layout::dense(out[0], out[1], image.c);
            let len = out[0] * out[1] * image.c;
            let (mut codes, mut reals) = (Guarded::<u8>::new(len, true), Guarded::<f32>::new(len, true));
            let output = if real {
                Output::F32(ViewMut::new(&mut reals, out_layout).unwrap())
            } else {
                Output::U8(ViewMut::new(&mut codes, out_layout).unwrap())
            };
            let input = View::new(&input, layout).unwrap();
            let mut args = AvgPoolArgs::new(window, over, &e, input, output).unwrap();
            table.avg_pool_u8(&mut args, 0..out[0]);
            for n in 0..len {
                let at = (n / image.c / out[1], n / image.c % out[1]);
                let codes_in = windows(&window, &image, at, n % image.c);
                let mut sum: i32 = codes_in.iter().map(|&q| i32::from(q)).sum();
                let mut count = codes_in.len();
                if !divided {
                    count = 1;
                } else if all {
                    sum += (window.taps() - count) as i32 * 77;
                    count = window.taps();
                }
                let (f, q) = epilogue(&spec, sum, count, 0, 0);
                if real {
                    prop_assert_eq!(reals[n].to_bits(), f.to_bits());
                } else {
                    prop_assert_eq!(codes[n], q);
                }
            }
        }
    }

    #[test]
    fn requantization_and_addition_equal_their_definition(
        seed: u64,
        size in [1..4_usize, 1..9, 1..150],
        add: bool,
        real: bool,
        mid: bool,
    ) {
        let mut rng = Rng(seed);
        let [h, w, c] = size;
        let a = Image::from_fn(h, w, c, || rng.below(256) as u8);
        let b = Image::from_fn(h, w, c, || rng.below(256) as u8);
        let base = if real {
            EpilogueSpec::dequantize(vec![0.61], vec![-3.0])
        } else {
            EpilogueSpec::requantize(vec![0.61], vec![12.5])
        };
        let spec = EpilogueSpec {
            scale: (0..c).map(|_| rng.unit()).collect(),
            mid: mid.then(|| MidSpec { rounds: real, low: 0.0, high: 100.0, scale: vec![1.25], offset: vec![-1.0] }),
            residual: add.then(|| ResidualSpec { scale: vec![0.47], offset: vec![-8.0] }),
            ..base
        };
        let e = Epilogue::new(c, &spec).unwrap();
        let ((a_buffer, layout), (b_buffer, _)) = (guarded(&a), guarded(&b));
        for table in tables() {
            let len = h * w * c;
            let (mut codes, mut reals) = (Guarded::<u8>::new(len, true), Guarded::<f32>::new(len, true));
            let output = if real {
                Output::F32(ViewMut::new(&mut reals, layout).unwrap())
            } else {
                Output::U8(ViewMut::new(&mut codes, layout).unwrap())
            };
            let second = add.then(|| View::new(&b_buffer, layout).unwrap());
            let mut args = AffineU8Args::new(&e, View::new(&a_buffer, layout).unwrap(), second, output).unwrap();
            table.affine_u8(&mut args, 0..h);
            for n in 0..len {
                let (f, q) = epilogue(&spec, i32::from(a.data[n]), 1, n % c, b.data[n]);
                if real {
                    prop_assert_eq!(reals[n].to_bits(), f.to_bits());
                } else {
                    prop_assert_eq!(codes[n], q);
                }
            }
        }
    }

    #[test]
    fn quantization_follows_fake_quantize(
        seed: u64,
        size in [1..4_usize, 1..9, 1..40],
        limits in [-2.0..2.0_f32, -2.0..2.0],
        levels in prop::sample::select(vec![2_u32, 16, 255, 256]),
    ) {
        prop_assume!(limits[0] != limits[1]);
        let mut rng = Rng(seed);
        let [h, w, c] = size;
        let mut image = Image::from_fn(h, w, c, || rng.unit() * 3.0);
        image.data[0] = f32::INFINITY;
        let base = (256 - levels) as u8;
        let quantizer = Quantizer::new(c, &limits[..1], &limits[1..], levels, base).unwrap();
        let (input, layout) = guarded(&image);
        for table in tables() {
            let mut output = Guarded::<u8>::new(h * w * c, true);
            let view = ViewMut::new(&mut output, layout).unwrap();
            let mut args = QuantizeArgs::new(&quantizer, View::new(&input, layout).unwrap(), view).unwrap();
            table.quantize(&mut args, 0..h);
            let [il, ih] = limits;
            for (&found, &x) in output.iter().zip(&image.data) {
                let x = x.max(il.min(ih)).min(il.max(ih));
                let step = ((x - il) / (ih - il) * (levels - 1) as f32).round_ties_even();
                prop_assert_eq!(i32::from(found), step as i32 + i32::from(base));
            }
        }
    }

    #[test]
    fn copies_and_tables_move_every_element(
        seed: u64,
        size in [1..5_usize, 1..7, 1..70],
        factor in [1..4_usize, 1..4],
        extra in 0..2_usize,
    ) {
        let mut rng = Rng(seed);
        let [h, w, c] = size;
        let image = Image::from_fn(h, w, c, || rng.below(256) as u8);
        let mut lookup = [0; 256];
        lookup.iter_mut().for_each(|t| *t = rng.below(256) as u8);
        let (input, layout) = guarded(&image);
        for table in tables() {
            let out_layout = Layout::with_halo(h * factor[0], w * factor[1], c, c + extra, Halo::uniform(extra)).unwrap();
            let mut output = Guarded::<u8>::new(out_layout.required_len().unwrap(), true);
            let view = ViewMut::new(&mut output, out_layout).unwrap();
            let mut args = CopyArgs::new(factor, View::new(&input, layout).unwrap(), view).unwrap();
            table.copy_u8(&mut args, 0..h * factor[0]);
            let copied = View::new(&output, out_layout).unwrap();
            for y in 0..h * factor[0] {
                for x in 0..w * factor[1] {
                    for ch in 0..c {
                        let from = image.get((y / factor[0]) as isize, (x / factor[1]) as isize, ch);
                        prop_assert_eq!(Some(copied.at(y as isize, x as isize, ch)), from);
                    }
                }
            }
            let mut mapped = Guarded::<u8>::new(h * w * c, true);
            let view = ViewMut::new(&mut mapped, layout).unwrap();
            let mut args = LookupArgs::new(&lookup, View::new(&input, layout).unwrap(), view).unwrap();
            table.lookup_u8(&mut args, 0..h);
            for (&found, &q) in mapped.iter().zip(&image.data) {
                prop_assert_eq!(found, lookup[usize::from(q)]);
            }
        }
    }
}
