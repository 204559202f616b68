//! Sums of a convolution as products of tiles (AMX): up to 2 x 16 pixels x 2 x 16 output channels in four tile registers.
//!
//! A tile of pixels has rows of up to 64 bytes, of the same place in the windows of up to 16 pixels that lie evenly
//! spaced in memory; it is loaded from the image as it is. A tile of weights is a step of the packed panel, which is in
//! the order that `tdpbusd` wants. Sums go through a buffer in the L1 cache to the epilogue.

use core::arch::asm;
use std::mem::{MaybeUninit, offset_of};
use std::ops::Range;

use super::{Pixels, Tile, Tiles, Walk};
use crate::kernels::conv::Panel;
use crate::kernels::ties::Doubts;

/// Maps up to this wide have panels in the outer loop, and tiles that may go on in the next row.
pub(super) const SMALL_MAP: usize = 28;

/// Rows of a tile, and columns of 32 bits.
const SIDE: usize = 16;

/// The time of a product of tiles does not go below that of so many pixels.
const LEAST_COST: usize = 10;

/// Most steps of a sum; layers with more take the vector kernels.
const MAX_STEPS: usize = 1024;

/// Maps of fewer pixels take the vector kernels.
const LEAST_PIXELS: usize = 4;

/// Which pixels the tiles of a layer cover, and the configuration of the tile registers while it lives.
pub(super) struct Grid {
    /// Pixels of a tile.
    pixels: usize,
    /// Pixels of a row.
    width: usize,
    /// Positions from the start of a row to that of the next, where tiles go on from row to row: those that lie behind
    /// the end of a row are computed and dropped. 0 where each row has its own tiles.
    next_row: usize,
    /// Quads of a step.
    step: usize,
    steps: usize,
    /// Bytes from a window's first to the bytes of each step.
    offsets: [MaybeUninit<i32>; MAX_STEPS],
    /// Whether sums start from anything but 0.
    starts: bool,
}

/// Pixels of a tile: the first position in its row (or in all rows), and how many of them the tile before has covered.
#[derive(Clone, Copy)]
struct Place {
    y: usize,
    position: usize,
    covered: usize,
}

/// Neighbouring pixels of a row whose sums lie together from sum `at` on.
#[derive(Clone, Copy)]
struct Span {
    y: usize,
    x: usize,
    count: usize,
    at: usize,
}

/// Sums of two tiles of pixels x two of channels: `[pixel][vector][16]`.
#[repr(C, align(64))]
struct Sums([MaybeUninit<[i32; 2 * SIDE]>; 2 * SIDE]);

/// Operands of [`multiply`]. Lengths in bytes.
#[repr(C)]
struct Operands {
    /// First pixel's window.
    input: *const u8,
    /// From the first tile's pixels to those of the second.
    second: usize,
    pixel_step: usize,
    offsets: *const i32,
    steps: usize,
    weights: *const i8,
    quad: usize,
    step: usize,
    /// Where sums start, for each channel; null for 0.
    init: *const i32,
    sums: *mut i32,
    pixel_sums: usize,
    tile_sums: usize,
}

impl Grid {
    /// Configures the tile registers of this thread for a band of `rows` rows, or returns `None` where tiles do not pay.
    pub(super) fn new(walk: &Walk<'_>, width: usize, rows: usize, tiles: &Tiles) -> Option<Self> {
        let conv = walk.conv;
        if !tiles.products || width.saturating_mul(rows) < LEAST_PIXELS || rows == 0 {
            return None;
        }
        // A tile has evenly spaced pixels: it can go on in the next row where rows are whole pixels apart.
        let per_row = width.div_ceil(SIDE);
        let mut pixels = width.div_ceil(per_row);
        let mut next_row = 0;
        let from_row = walk.segment_step / walk.pixel_step;
        if rows > 1
            && width <= SMALL_MAP
            && from_row * walk.pixel_step == walk.segment_step
            && from_row >= width
        {
            let positions = (rows - 1) * from_row + width;
            let separate = rows * per_row * pixels.max(LEAST_COST);
            let (count, joined) = even(positions);
            if count * joined.max(LEAST_COST) < separate {
                (pixels, next_row) = (joined, from_row);
            }
        }
        let mut grid = Self {
            pixels,
            width,
            next_row,
            step: conv.step,
            steps: 0,
            offsets: [MaybeUninit::uninit(); MAX_STEPS],
            starts: walk.lanes.init.iter().any(|&sum| sum != 0),
        };
        let mut quads = conv.offsets.iter();
        for (segment, &count) in conv.counts[..walk.rows * walk.runs].iter().enumerate() {
            let start = segment / walk.runs * walk.row_step + segment % walk.runs * walk.run_step;
            for step in quads.as_slice()[..count as usize].chunks_exact(conv.step) {
                let offset = i32::try_from(start + step[0] as usize).ok()?;
                grid.offsets.get_mut(grid.steps)?.write(offset);
                grid.steps += 1;
            }
            quads = quads.as_slice()[count as usize..].iter();
        }
        configure(pixels, conv.step);
        Some(grid)
    }

    /// Rows `rows` of a panel; all rows of the band where tiles go on from row to row.
    ///
    /// # Safety
    /// The grid configured the tile registers of this thread; `tile_at` gives the tile that begins at an output pixel,
    /// and all reads and writes of these rows lie in their buffers.
    pub(super) unsafe fn run(
        &self,
        walk: &Walk<'_>,
        panel: &Panel,
        rows: Range<usize>,
        tile_at: impl Fn(usize, usize) -> Tile,
        doubts: &mut Doubts,
    ) {
        let mut sums = Sums([MaybeUninit::uninit(); 2 * SIDE]);
        let sums: *mut i32 = sums.0.as_mut_ptr().cast();
        let vectors = panel.lanes / SIDE;
        let count = self.tiles(&rows);
        let input = |place: &Place| {
            tile_at(place.y, 0)
                .input
                .wrapping_add(place.position * walk.pixel_step)
        };
        let lane_bytes = panel.lanes * 4;
        for first in (0..count).step_by(2) {
            let places = [
                self.place(first, &rows),
                self.place((first + 1).min(count - 1), &rows),
            ];
            let pair = first + 1 < count;
            let start = input(&places[0]);
            let operands = Operands {
                input: start,
                second: input(&places[1]).addr().wrapping_sub(start.addr()),
                pixel_step: walk.pixel_step,
                offsets: self.offsets.as_ptr().cast(),
                steps: self.steps,
                weights: tile_at(rows.start, 0).weights,
                quad: lane_bytes,
                step: self.step * lane_bytes,
                init: if self.starts {
                    walk.lanes.init[panel.arrays..].as_ptr()
                } else {
                    std::ptr::null()
                },
                sums,
                pixel_sums: lane_bytes,
                tile_sums: self.pixels * lane_bytes,
            };
            // SAFETY: windows of the pixels, and what lies between them, are inside the buffer by the caller's contract;
            // weights and starts are those of the panel; `sums` holds two tiles of pixels x two vectors.
            unsafe {
                match (pair, vectors) {
                    (true, 1) => multiply::pixels2_vectors1(&operands),
                    (true, _) => multiply::pixels2_vectors2(&operands),
                    (false, 1) => multiply::pixels1_vectors1(&operands),
                    (false, _) => multiply::pixels1_vectors2(&operands),
                }
            }
            let finish = |span: &Span| {
                let pixels = Pixels {
                    count: span.count,
                    per_row: span.count,
                };
                let tile = tile_at(span.y, span.x);
                // SAFETY: the caller's contract; the sums of the span were just written.
                unsafe { (walk.finish)(walk, &tile, sums.add(span.at * panel.lanes), pixels, doubts) };
            };
            self.spans(&places[..1 + usize::from(pair)], rows.start, finish);
        }
    }

    /// Tiles that cover `rows`.
    fn tiles(&self, rows: &Range<usize>) -> usize {
        if self.next_row > 0 {
            self.positions(rows).div_ceil(self.pixels)
        } else {
            rows.len() * self.width.div_ceil(self.pixels)
        }
    }

    fn positions(&self, rows: &Range<usize>) -> usize {
        (rows.len() - 1) * self.next_row + self.width
    }

    /// Where tile `tile` of `rows` lies. The last one of a row (or of all) begins earlier rather than end behind it.
    fn place(&self, tile: usize, rows: &Range<usize>) -> Place {
        let (y, tile, end) = if self.next_row > 0 {
            (rows.start, tile, self.positions(rows))
        } else {
            let per_row = self.width.div_ceil(self.pixels);
            (rows.start + tile / per_row, tile % per_row, self.width)
        };
        let position = (tile * self.pixels).min(end - self.pixels);
        Place {
            y,
            position,
            covered: tile * self.pixels - position,
        }
    }

    /// Calls `f` for the pixels of one or two tiles that lie in the image and were not covered.
    fn spans(&self, places: &[Place], first_row: usize, mut f: impl FnMut(&Span)) {
        let mut open: Option<Span> = None;
        for (tile, place) in places.iter().enumerate() {
            let mut i = place.covered;
            while i < self.pixels {
                let at = place.position + i;
                let (y, x) = match at.checked_div(self.next_row) {
                    Some(row) => (first_row + row, at % self.next_row),
                    None => (place.y, at),
                };
                if x >= self.width {
                    i += self.next_row - x;
                    continue;
                }
                let count = (self.width - x).min(self.pixels - i);
                let at = tile * self.pixels + i;
                i += count;
                match &mut open {
                    Some(span) if span.y == y && span.x + span.count == x && span.at + span.count == at => {
                        span.count += count;
                    }
                    _ => {
                        let next = Span { y, x, count, at };
                        if let Some(done) = open.replace(next) {
                            f(&done);
                        }
                    }
                }
            }
        }
        if let Some(done) = open {
            f(&done);
        }
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        release();
    }
}

/// Loads the shapes of the tile registers for `pixels` pixels and steps of `quads` quads, at most 16 each: 0..4 sums, 4 and
/// 5 pixels, 6 and 7 weights. All hold zeros then.
fn configure(pixels: usize, quads: usize) {
    #[repr(C, align(64))]
    struct Config([u8; 64]);
    let mut config = Config([0; 64]);
    // Palette 1: eight tiles of up to 16 rows of 64 bytes.
    config.0[0] = 1;
    for tile in 0..8 {
        let (rows, bytes) = match tile {
            0..4 => (pixels, 64),
            4 | 5 => (pixels, quads * 4),
            _ => (quads, 64),
        };
        config.0[16 + 2 * tile] = bytes as u8;
        config.0[48 + tile] = rows as u8;
    }
    // SAFETY: only the table of the instruction set with AMX comes here, and the process may use it; rows and bytes are
    // within 1..=16 and 4..=64.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            config = in(reg) &raw const config,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Clears the tile registers and their shapes, so that the system need not save them.
fn release() {
    // SAFETY: only the table of the instruction set with AMX comes here.
    unsafe {
        asm!(
            "tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// Runs `steps` products on each of four tiles of sums; returns the number of products of 8 bits.
///
/// # Safety
/// The processor has AMX, and the process may use it.
pub(in super::super::super) unsafe fn peak(steps: usize) -> u64 {
    configure(SIDE, SIDE);
    for _ in 0..steps {
        // SAFETY: the registers are configured.
        unsafe {
            asm!(
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem, preserves_flags),
            );
        }
    }
    release();
    (steps * 4 * SIDE * SIDE * 4 * SIDE) as u64
}

/// As few equal tiles as cover `pixels`: how many, and their pixels.
fn even(pixels: usize) -> (usize, usize) {
    let count = pixels.div_ceil(SIDE);
    (count, pixels.div_ceil(count))
}

/// Products of tiles. From the start to the store a sum stays in one block of instructions, so that no tile is expected
/// to outlive one.
mod multiply {
    use super::{Operands, asm, offset_of};

    /// Sums of one or two tiles of pixels x one or two of channels; tile registers as [`super::configure`] says.
    macro_rules! product {
        (
            $name:ident, start [$($start:literal)*], zero [$($zero:literal)*], second pixels [$($pixels:literal)*],
            second weights [$($weights:literal)*], store [$($store:literal)*]
        ) => {
            /// # Safety
            /// The tile registers are configured; steps are at least 1; what the operands describe is readable, and
            /// writable where it is sums.
            #[inline(always)]
            pub(super) unsafe fn $name(operands: &Operands) {
                // SAFETY: the caller's contract.
                unsafe {
                    asm!(
                        "mov {at}, [{o} + {init}]",
                        "test {at}, {at}",
                        "jz 3f",
                        "xor {count:e}, {count:e}",
                        $($start,)*
                        "jmp 4f",
                        "3:",
                        $($zero,)*
                        "4:",
                        "mov {input}, [{o} + {input_at}]",
                        "mov {offset}, [{o} + {offsets}]",
                        "mov {count}, [{o} + {steps}]",
                        "mov {weight}, [{o} + {weights}]",
                        "mov {pixel}, [{o} + {pixel_step}]",
                        "mov {quad}, [{o} + {quad_at}]",
                        "2:",
                        "movsxd {at}, dword ptr [{offset}]",
                        "add {offset}, 4",
                        "add {at}, {input}",
                        "tileloadd tmm6, [{weight} + {quad}*1]",
                        "tileloadd tmm4, [{at} + {pixel}*1]",
                        "tdpbusd tmm0, tmm4, tmm6",
                        $($pixels,)*
                        $($weights,)*
                        "add {weight}, [{o} + {step}]",
                        "dec {count}",
                        "jnz 2b",
                        "mov {at}, [{o} + {sums}]",
                        "mov {quad}, [{o} + {pixel_sums}]",
                        $($store,)*
                        "/* {second} {tile_sums} */",
                        o = in(reg) operands,
                        at = out(reg) _,
                        input = out(reg) _,
                        offset = out(reg) _,
                        count = out(reg) _,
                        weight = out(reg) _,
                        pixel = out(reg) _,
                        quad = out(reg) _,
                        init = const offset_of!(Operands, init),
                        input_at = const offset_of!(Operands, input),
                        offsets = const offset_of!(Operands, offsets),
                        steps = const offset_of!(Operands, steps),
                        weights = const offset_of!(Operands, weights),
                        pixel_step = const offset_of!(Operands, pixel_step),
                        quad_at = const offset_of!(Operands, quad),
                        step = const offset_of!(Operands, step),
                        sums = const offset_of!(Operands, sums),
                        pixel_sums = const offset_of!(Operands, pixel_sums),
                        second = const offset_of!(Operands, second),
                        tile_sums = const offset_of!(Operands, tile_sums),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        };
    }

    product!(
        pixels1_vectors1,
        start ["tileloadd tmm0, [{at} + {count}*1]"],
        zero ["tilezero tmm0"],
        second pixels [],
        second weights [],
        store ["tilestored [{at} + {quad}*1], tmm0"]
    );
    product!(
        pixels1_vectors2,
        start ["tileloadd tmm0, [{at} + {count}*1]" "tileloadd tmm1, [{at} + {count}*1 + 64]"],
        zero ["tilezero tmm0" "tilezero tmm1"],
        second pixels [],
        second weights ["tileloadd tmm7, [{weight} + {quad}*1 + 64]" "tdpbusd tmm1, tmm4, tmm7"],
        store ["tilestored [{at} + {quad}*1], tmm0" "tilestored [{at} + {quad}*1 + 64], tmm1"]
    );
    product!(
        pixels2_vectors1,
        start ["tileloadd tmm0, [{at} + {count}*1]" "tileloadd tmm2, [{at} + {count}*1]"],
        zero ["tilezero tmm0" "tilezero tmm2"],
        second pixels [
            "add {at}, [{o} + {second}]"
            "tileloadd tmm5, [{at} + {pixel}*1]"
            "tdpbusd tmm2, tmm5, tmm6"
        ],
        second weights [],
        store [
            "tilestored [{at} + {quad}*1], tmm0"
            "add {at}, [{o} + {tile_sums}]"
            "tilestored [{at} + {quad}*1], tmm2"
        ]
    );
    product!(
        pixels2_vectors2,
        start [
            "tileloadd tmm0, [{at} + {count}*1]"
            "tileloadd tmm2, [{at} + {count}*1]"
            "tileloadd tmm1, [{at} + {count}*1 + 64]"
            "tileloadd tmm3, [{at} + {count}*1 + 64]"
        ],
        zero ["tilezero tmm0" "tilezero tmm2" "tilezero tmm1" "tilezero tmm3"],
        second pixels [
            "add {at}, [{o} + {second}]"
            "tileloadd tmm5, [{at} + {pixel}*1]"
            "tdpbusd tmm2, tmm5, tmm6"
        ],
        second weights [
            "tileloadd tmm7, [{weight} + {quad}*1 + 64]"
            "tdpbusd tmm1, tmm4, tmm7"
            "tdpbusd tmm3, tmm5, tmm7"
        ],
        store [
            "tilestored [{at} + {quad}*1], tmm0"
            "tilestored [{at} + {quad}*1 + 64], tmm1"
            "add {at}, [{o} + {tile_sums}]"
            "tilestored [{at} + {quad}*1], tmm2"
            "tilestored [{at} + {quad}*1 + 64], tmm3"
        ]
    );
}
