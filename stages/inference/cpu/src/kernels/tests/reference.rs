//! References written from the definitions, on plain arrays.

use crate::kernels::{EpilogueSpec, OutputKind, Window};

/// A dense image `[h][w][c]`.
#[derive(Debug, Clone)]
pub struct Image<T> {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub data: Vec<T>,
}

impl<T: Copy> Image<T> {
    pub fn from_fn(h: usize, w: usize, c: usize, mut f: impl FnMut() -> T) -> Self {
        Self {
            h,
            w,
            c,
            data: (0..h * w * c).map(|_| f()).collect(),
        }
    }

    /// `None` outside.
    pub fn get(&self, y: isize, x: isize, c: usize) -> Option<T> {
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < self.h && x < self.w).then(|| self.data[(y * self.w + x) * self.c + c])
    }
}

/// Input coordinates of tap `(ky, kx)` of output `(y, x)`.
pub fn tap(w: &Window, (y, x): (usize, usize), (ky, kx): (usize, usize)) -> (isize, isize) {
    (
        (y * w.stride[0] + ky * w.dilation[0]) as isize - w.pad_begin[0] as isize,
        (x * w.stride[1] + kx * w.dilation[1]) as isize - w.pad_begin[1] as isize,
    )
}

fn pick(values: &[f32], c: usize) -> f32 {
    values[if values.len() == 1 { 0 } else { c }]
}

/// One output of the documented epilogue: the f32, and its code.
pub fn epilogue(spec: &EpilogueSpec, acc: i32, divisor: usize, c: usize, residual: u8) -> (f32, u8) {
    let mut f = acc as f32 * (pick(&spec.scale, c) / divisor as f32);
    f += pick(&spec.bias, c);
    if let Some(mid) = &spec.mid {
        f = f.clamp(mid.low, mid.high);
        if mid.rounds {
            f = f.round_ties_even();
        }
        f *= pick(&mid.scale, c);
        f += pick(&mid.offset, c);
    }
    if let Some(r) = &spec.residual {
        let mut v = f32::from(residual) * pick(&r.scale, c);
        v += pick(&r.offset, c);
        f += v;
    }
    f = f.clamp(pick(&spec.low, c), pick(&spec.high, c));
    let code = match spec.output {
        OutputKind::F32 => 0,
        OutputKind::U8 => {
            let q = f.round_ties_even() as u8;
            spec.table.as_ref().map_or(q, |t| t[usize::from(q)])
        }
    };
    (f, code)
}

/// Whether the inner or the last rounding of [`epilogue`] lies nearer to a tie than these margins of the last and of the
/// inner rounding. What the limits clip is in no doubt; behind an inner rounding, single roundings are all there is.
pub fn in_doubt(
    spec: &EpilogueSpec,
    acc: i32,
    c: usize,
    residual: u8,
    [margin, mid_margin]: [f32; 2],
) -> bool {
    let near = |f: f32, low: f32, high: f32, margin: f32| {
        (f - f.round_ties_even()).abs() > 0.5 - margin && low < f && f < high
    };
    let mut before = EpilogueSpec {
        low: vec![f32::NEG_INFINITY],
        high: vec![f32::INFINITY],
        output: OutputKind::F32,
        ..spec.clone()
    };
    let (last, _) = epilogue(&before, acc, 1, c, residual);
    let [low, high] = [&spec.low, &spec.high].map(|limits| pick(limits, c).round_ties_even());
    (before.mid, before.residual) = (None, None);
    let (first, _) = epilogue(&before, acc, 1, c, residual);
    let Some(mid) = spec.mid.as_ref().filter(|mid| mid.rounds) else {
        return near(last, low, high, margin);
    };
    let mut terms = vec![
        first.clamp(mid.low, mid.high).round_ties_even() * pick(&mid.scale, c),
        pick(&mid.offset, c),
    ];
    if let Some(r) = &spec.residual {
        terms.extend([f32::from(residual) * pick(&r.scale, c), pick(&r.offset, c)]);
    }
    let roundings = (32.0 + 4.0 * terms.iter().map(|term| term.abs()).sum::<f32>()) * f32::EPSILON;
    near(last, low, high, margin.min(roundings)) || near(first, mid.low, mid.high, mid_margin)
}

/// A small generator: the same numbers on every machine for a seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let x = self.0 ^ (self.0 >> 33);
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 20
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// -1 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() % 2_000_001) as f32 / 1e6 - 1.0
    }
}
