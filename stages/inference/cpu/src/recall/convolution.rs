//! Elements of a convolution: vectors of output channels, several pixels side by side.

use super::demand::{Table, distinct};
use super::evaluate::{Reader, chain};
use super::places::{image, pixel};
use crate::kernels::literal::{LANES, Products, SIDE};

pub(super) struct Convolution<'a> {
    pub reader: &'a Reader<'a>,
    pub tables: &'a [Table],
    pub input: usize,
    pub products: &'a Products,
    /// Of the result.
    pub shape: &'a [usize],
}

impl Convolution<'_> {
    /// Puts the wanted elements into `values`, and with them others of their pixels.
    pub fn evaluate(
        &self,
        wanted: &[u32],
        values: &mut [f32],
        (keys, columns): (&mut Vec<u64>, &mut Vec<f32>),
    ) {
        let [channels, height, width] = image(self.shape);
        let length = self.products.length();
        let place = |n: usize, c: usize, y: usize, x: usize| ((n * channels + c) * height + y) * width + x;
        let outputs = self.products.outputs();
        if !outputs.is_multiple_of(LANES) && outputs < channels {
            return self.one_by_one(wanted, values, columns);
        }
        // Vector by vector within a pixel, so that neighbours share a column.
        let vectors = channels.div_ceil(LANES);
        distinct(
            keys,
            wanted.iter().map(|&at| {
                let [n, c, y, x] = pixel(self.shape, at as usize);
                ((n * height + y) * width + x) * vectors + c / LANES
            }),
        );
        columns.clear();
        columns.resize(length * SIDE, 0.0);
        for some in keys.chunks(SIDE) {
            // What each side computes: picture, first channel, row, column; and which column it reads.
            let (mut sides, mut reads) = ([[0; 4]; SIDE], [0; SIDE]);
            let mut last = None;
            for (side, &key) in some.iter().enumerate() {
                let (at, c) = (key as usize / vectors, key as usize % vectors * LANES);
                let [n, y, x] = [at / (height * width), at / width % height, at % width];
                sides[side] = [n, c, y, x];
                reads[side] = side;
                let group = c / outputs;
                match last {
                    Some((pixel, of_group, column)) if (pixel, of_group) == (at, group) => {
                        reads[side] = column
                    }
                    _ => {
                        self.column(group, [n, y, x], &mut columns[side * length..][..length]);
                        last = Some((at, group, side));
                    }
                }
            }
            let sums = self.sums(some.len(), &sides, &reads, columns);
            for (sums, [n, c, y, x]) in sums.iter().zip(sides).take(some.len()) {
                for (lane, &sum) in sums.iter().enumerate().take(channels - c) {
                    values[place(n, c + lane, y, x)] = sum;
                }
            }
        }
    }

    /// The sums of some vectors, one per side.
    fn sums(
        &self,
        count: usize,
        sides: &[[usize; 4]; SIDE],
        reads: &[usize; SIDE],
        columns: &[f32],
    ) -> [[f32; LANES]; SIDE] {
        let length = self.products.length();
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let mut start = 0;
        while start < length {
            let terms = self.products.block().min(length - start);
            let side = |side: usize| side.min(count - 1);
            let lines = std::array::from_fn(|i| {
                self.products
                    .weights()
                    .line(sides[side(i)][1], length, start, terms)
            });
            let parts = std::array::from_fn(|i| &columns[reads[side(i)] * length + start..][..terms]);
            let mut part = [[0.0_f32; LANES]; SIDE];
            (self.reader.kernels.chain)(&mut part, terms, lines, parts);
            for (sum, part) in sums.as_flattened_mut().iter_mut().zip(part.as_flattened()) {
                *sum += part;
            }
            start += terms;
        }
        sums
    }

    /// What a pixel of a group reads, term by term; taps in the padding add nothing.
    fn column(&self, group: usize, [n, y, x]: [usize; 3], to: &mut [f32]) {
        let [channels, height, width] = image(&self.reader.expressions[self.input].shape);
        let inputs = self.products.inputs();
        to.fill(0.0);
        let first = n * channels + group * inputs;
        self.products.taps().visit([height, width], [y, x], |tap, y, x| {
            let at = (first * height + y) * width + x;
            let to = &mut to[tap * inputs..][..inputs];
            self.reader.channels(self.tables, self.input, at, to);
        });
    }

    /// Groups of a few channels.
    fn one_by_one(&self, wanted: &[u32], values: &mut [f32], columns: &mut Vec<f32>) {
        let (length, block) = (self.products.length(), self.products.block());
        columns.clear();
        columns.resize(length, 0.0);
        for &at in wanted {
            let [n, c, y, x] = pixel(self.shape, at as usize);
            self.column(c / self.products.outputs(), [n, y, x], columns);
            let line = self.products.weights().line(c / LANES * LANES, length, 0, length);
            let terms = columns.iter().enumerate();
            values[at as usize] = chain(terms.map(|(k, &v)| (k / block, v, line.at(k, c % LANES))));
        }
    }
}
