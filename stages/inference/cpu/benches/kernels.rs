//! Speed of the kernels on the layer shapes of ResNet-50 and MobileNet, as a share of the machine's peak.
//!
//! `cargo bench -p flow-cpu --bench kernels [-- FILTER]`: one line per layer whose name contains FILTER. The
//! peak is the best so far of a register-only `vpdpbusd` loop, measured between the layers of the same run; times
//! are the best of several runs of 3 ms or more.

use std::hint::black_box;
use std::time::{Duration, Instant};

use flow_cpu::kernels::*;

/// Best seconds per call, over `rounds` batches of at least 3 ms.
fn best(mut call: impl FnMut(), rounds: usize) -> f64 {
    call();
    let start = Instant::now();
    call();
    let one = start.elapsed().as_secs_f64().max(1e-7);
    let batch = (0.003 / one).ceil().max(1.0) as usize;
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..batch {
            call();
        }
        best = best.min(start.elapsed().as_secs_f64() / batch as f64);
    }
    best
}

/// GMAC/s of 16 independent chains of the widest dot product; 0 where the machine has none.
fn dot_rate() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if Isa::Avx512Vnni.is_supported() {
        const STEPS: usize = 100_000;
        // SAFETY: the features are present.
        let seconds = best(|| unsafe { dots(STEPS) }, 5);
        return (STEPS * 16 * 64) as f64 / seconds / 1e9;
    }
    0.0
}

/// # Safety
/// AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dots(steps: usize) {
    use core::arch::x86_64::*;
    let a = black_box(_mm512_set1_epi8(3));
    let mut acc = [_mm512_setzero_si512(); 16];
    for _ in 0..steps {
        for acc in &mut acc {
            *acc = _mm512_dpbusd_epi32(*acc, a, a);
        }
    }
    black_box(acc);
}

#[derive(Clone, Copy)]
enum Tail {
    /// Requantize.
    Codes,
    /// Inner rounding, residual, requantize.
    Literal,
    /// Residual, requantize.
    Residual,
}

struct Layer {
    name: &'static str,
    /// Output side.
    side: usize,
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    tail: Tail,
    depthwise: bool,
}

const fn conv(
    name: &'static str,
    side: usize,
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
) -> Layer {
    Layer {
        name,
        side,
        input,
        output,
        kernel,
        stride,
        tail: Tail::Codes,
        depthwise: false,
    }
}

const fn with(layer: Layer, tail: Tail) -> Layer {
    Layer { tail, ..layer }
}

const fn depthwise(name: &'static str, side: usize, channels: usize, kernel: usize, stride: usize) -> Layer {
    Layer {
        depthwise: true,
        ..conv(name, side, channels, channels, kernel, stride)
    }
}

const LAYERS: &[Layer] = &[
    conv("resnet stem 7x7s2 3->64 @112", 112, 3, 64, 7, 2),
    conv("resnet 1x1 64->64 @56", 56, 64, 64, 1, 1),
    conv("resnet 3x3 64->64 @56", 56, 64, 64, 3, 1),
    conv("resnet 1x1 64->256 @56", 56, 64, 256, 1, 1),
    with(
        conv("resnet 1x1 64->256 @56 residual", 56, 64, 256, 1, 1),
        Tail::Residual,
    ),
    with(
        conv("resnet 1x1 64->256 @56 literal", 56, 64, 256, 1, 1),
        Tail::Literal,
    ),
    conv("resnet 1x1 256->64 @56", 56, 256, 64, 1, 1),
    conv("resnet 3x3s2 128->128 @28", 28, 128, 128, 3, 2),
    conv("resnet 3x3 128->128 @28", 28, 128, 128, 3, 1),
    with(
        conv("resnet 1x1 128->512 @28 literal", 28, 128, 512, 1, 1),
        Tail::Literal,
    ),
    conv("resnet 1x1 1024->256 @14", 14, 1024, 256, 1, 1),
    with(
        conv("resnet 1x1 256->1024 @14 literal", 14, 256, 1024, 1, 1),
        Tail::Literal,
    ),
    conv("resnet 3x3 256->256 @14", 14, 256, 256, 3, 1),
    conv("resnet 1x1s2 1024->2048 @7", 7, 1024, 2048, 1, 2),
    conv("resnet 3x3 512->512 @7", 7, 512, 512, 3, 1),
    conv("resnet 1x1 2048->512 @7", 7, 2048, 512, 1, 1),
    with(
        conv("resnet 1x1 512->2048 @7 literal", 7, 512, 2048, 1, 1),
        Tail::Literal,
    ),
    conv("resnet fc 2048->1000", 1, 2048, 1000, 1, 1),
    conv("mobilenet 1x1 16->96 @112", 112, 16, 96, 1, 1),
    conv("mobilenet 1x1 32->32 @112", 112, 32, 32, 1, 1),
    conv("mobilenet 1x1 24->144 @56", 56, 24, 144, 1, 1),
    conv("mobilenet 1x1 32->192 @28", 28, 32, 192, 1, 1),
    conv("mobilenet 1x1 64->384 @14", 14, 64, 384, 1, 1),
    conv("mobilenet 1x1 384->64 @14", 14, 384, 64, 1, 1),
    conv("mobilenet 1x1 160->960 @7", 7, 160, 960, 1, 1),
    conv("mobilenet 1x1 960->320 @7", 7, 960, 320, 1, 1),
    depthwise("depthwise 3x3 192 @56", 56, 192, 3, 1),
    depthwise("depthwise 3x3s2 96 @56", 56, 96, 3, 2),
    depthwise("depthwise 3x3 144 @56", 56, 144, 3, 1),
    depthwise("depthwise 3x3 192 @28", 28, 192, 3, 1),
    depthwise("depthwise 3x3 384 @14", 14, 384, 3, 1),
    depthwise("depthwise 3x3 960 @7", 7, 960, 3, 1),
    depthwise("depthwise 5x5 240 @14", 14, 240, 5, 1),
];

fn epilogue(layer: &Layer) -> Result<Epilogue, ArgError> {
    let mut spec = EpilogueSpec::requantize(vec![1e-4], vec![100.0]);
    if !matches!(layer.tail, Tail::Codes) {
        spec.residual = Some(ResidualSpec {
            scale: vec![0.5],
            offset: vec![-3.0],
        });
    }
    if matches!(layer.tail, Tail::Literal) {
        spec.mid = Some(MidSpec {
            rounds: true,
            low: 0.0,
            high: 255.0,
            scale: vec![0.7],
            offset: vec![-30.0],
        });
    }
    Epilogue::new(layer.output, &spec)
}

/// Seconds of one run of `layer`.
fn measure(table: &KernelTable, layer: &Layer) -> Result<f64, ArgError> {
    let (k, s) = (layer.kernel, layer.stride);
    let window = Window {
        kernel: [k, k],
        stride: [s, s],
        dilation: [1, 1],
        pad_begin: [k / 2, k / 2],
    };
    let side = layer.side * s;
    let stride = if layer.input == 3 {
        3
    } else {
        layer.input.next_multiple_of(16)
    };
    let halo = window.halo(side, side, layer.side, layer.side)?;
    let input_layout = Layout::with_halo(side, side, layer.input, stride, halo)?;
    let mut input = AlignedVec::<u8>::zeroed(input_layout.allocation_len()?);
    for (i, q) in input.iter_mut().enumerate() {
        *q = (i * 131 % 251) as u8;
    }
    let out_layout = Layout::with_halo(
        layer.side,
        layer.side,
        layer.output,
        layer.output.next_multiple_of(16),
        Halo::uniform(1),
    )?;
    let mut output = AlignedVec::<u8>::zeroed(out_layout.allocation_len()?);
    let residual = output.clone();
    let residual = match layer.tail {
        Tail::Codes => None,
        _ => Some(View::new(&residual, out_layout)?),
    };
    let per_output = if layer.depthwise {
        k * k
    } else {
        k * k * layer.input
    };
    let codes: Vec<i8> = (0..layer.output * per_output)
        .map(|i| (i * 37 % 255) as i8)
        .collect();
    let weights = Weights {
        codes: WeightCodes::I8(&codes),
        zero_point: &[0],
        data_zero_point: &[0],
    };
    let input = View::new(&input, input_layout)?;
    let output = Output::U8(ViewMut::new(&mut output, out_layout)?);
    if layer.depthwise {
        let conv = DepthwiseU8::new(table, window, &weights, epilogue(layer)?)?;
        let mut args = DepthwiseU8Args::new(&conv, input, residual, output)?;
        Ok(best(|| table.depthwise_u8(&mut args, 0..layer.side), 30))
    } else {
        let channels = Channels::dense(layer.input, layer.output);
        let conv = ConvU8::new(table, window, channels, &weights, epilogue(layer)?, stride)?;
        let mut args = ConvU8Args::new(&conv, input, residual, output)?;
        let whole = args.whole();
        Ok(best(|| table.conv_u8(&mut args, &whole), 30))
    }
}

#[allow(clippy::print_stdout, reason = "the figures are the product of a bench")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .unwrap_or_default();
    let table = KernelTable::select(None)?;
    let started = Instant::now();
    println!("instruction set {}", table.isa());
    println!(
        "{:36} {:>9} {:>9} {:>7} {:>12}",
        "layer", "us", "GMAC/s", "% peak", "cycles/16"
    );
    let mut peak = 0.0_f64;
    for layer in LAYERS.iter().filter(|l| l.name.contains(&filter)) {
        let seconds = measure(table, layer)?;
        let outputs = layer.side * layer.side * layer.output;
        let per_output = layer.kernel * layer.kernel * if layer.depthwise { 1 } else { layer.input };
        let rate = (outputs * per_output) as f64 / seconds / 1e9;
        peak = peak.max(dot_rate());
        // One cycle is one 64-product instruction.
        let cycles = seconds * peak * 1e9 / 64.0 / (outputs as f64 / 16.0);
        println!(
            "{:36} {:9.1} {:9.1} {:6.1}% {:12.2}",
            layer.name,
            seconds * 1e6,
            rate,
            100.0 * rate / peak,
            cycles
        );
        if started.elapsed() > Duration::from_secs(300) {
            println!("stopped after 300 s");
            break;
        }
    }
    Ok(())
}
