//! H.264 headers: NAL units, sequence parameter sets, slice headers as far as access units need them.
//!
//! Section numbers are those of ITU-T H.264 (08/2021).

use flow_frame::{ColorSpace, Matrix, Range};

/// Slice of a picture that refers to others.
pub(crate) const SLICE: u8 = 1;
/// Slice of a picture at which decoding can begin.
pub(crate) const IDR: u8 = 5;
/// Supplemental information.
pub(crate) const SEI: u8 = 6;
/// Sequence parameter set.
pub(crate) const SPS: u8 = 7;
/// Picture parameter set.
pub(crate) const PPS: u8 = 8;
/// Access unit delimiter.
pub(crate) const AUD: u8 = 9;

/// Largest frame of the highest level (6.2) in macroblocks of 16 x 16 pixels, table A-1.
const MAX_MACROBLOCKS: u64 = 139_264;

/// `nal_unit_type` of a NAL unit without start code; `None` for an empty or invalid one.
pub(crate) fn nal_type(nal: &[u8]) -> Option<u8> {
    let header = *nal.first()?;
    (header & 0x80 == 0).then_some(header & 0x1F)
}

/// Offset of the first `00 00 01` at or after `from`.
pub(crate) fn find_start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut i = from;
    // The third byte of a window decides how far the window can move.
    while let Some(&third) = bytes.get(i + 2) {
        match third {
            0 => i += 1,
            1 if bytes[i] == 0 && bytes[i + 1] == 0 => return Some(i),
            _ => i += 3,
        }
    }
    None
}

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros (annex B.1).
pub(crate) fn nal_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = find_start_code(bytes, 0);
    std::iter::from_fn(move || {
        let start = next? + 3;
        next = find_start_code(bytes, start);
        let nal = &bytes[start..next.unwrap_or(bytes.len())];
        let used = nal.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        Some(&nal[..used])
    })
}

/// Whether an access unit holds a slice at which decoding can begin.
pub(crate) fn has_idr(access_unit: &[u8]) -> bool {
    nal_units(access_unit).any(|nal| nal_type(nal) == Some(IDR))
}

/// Reads bits of a NAL unit's payload, stepping over emulation prevention bytes (7.4.1).
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    zeros: u8,
    current: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    fn new(payload: &'a [u8]) -> Self {
        Self {
            bytes: payload,
            at: 0,
            zeros: 0,
            current: 0,
            left: 0,
        }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            let mut byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if self.zeros >= 2 && byte == 3 {
                byte = *self.bytes.get(self.at)?;
                self.at += 1;
                self.zeros = 0;
            }
            self.zeros = if byte == 0 {
                self.zeros.saturating_add(1)
            } else {
                0
            };
            (self.current, self.left) = (byte, 8);
        }
        self.left -= 1;
        Some(u32::from(self.current >> self.left & 1))
    }

    fn bits(&mut self, n: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..n {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.bit()? == 1)
    }

    /// Unsigned Exp-Golomb code (9.1).
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// Signed Exp-Golomb code (9.1.1).
    fn se(&mut self) -> Option<i32> {
        let k = i64::from(self.ue()?);
        let value = if k % 2 == 1 { (k + 1) / 2 } else { -(k / 2) };
        i32::try_from(value).ok()
    }
}

/// `first_mb_in_slice` of a slice (7.3.3); 0 begins a picture.
pub(crate) fn first_macroblock(nal: &[u8]) -> Option<u32> {
    Bits::new(nal.get(1..)?).ue()
}

/// What a sequence parameter set says about its pictures (7.3.2.1.1 and E.1.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sps {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// From the VUI where it says so, else guessed from the height.
    pub(crate) color: ColorSpace,
    /// Frames per second, where the VUI says so.
    pub(crate) fps: Option<f64>,
    /// Whether pictures may be stored as two fields.
    pub(crate) interlaced: bool,
    /// 1 is 4:2:0.
    pub(crate) chroma_format: u32,
    /// Bits of a luma sample.
    pub(crate) depth: u32,
}

impl Sps {
    /// Parses a sequence parameter set, `nal` with its header byte. `None`: it is damaged.
    pub(crate) fn parse(nal: &[u8]) -> Option<Self> {
        let mut r = Bits::new(nal.get(1..)?);
        let profile = r.bits(8)?;
        r.bits(16)?; // constraint flags, level
        r.ue()?; // seq_parameter_set_id
        let (mut chroma_format, mut depth, mut separate) = (1, 8, false);
        if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
            chroma_format = r.ue()?;
            if chroma_format == 3 {
                separate = r.flag()?;
            }
            depth = 8 + r.ue()?.min(8);
            r.ue()?; // bit_depth_chroma_minus8
            r.bit()?; // qpprime_y_zero_transform_bypass_flag
            if r.flag()? {
                let lists = if chroma_format == 3 { 12 } else { 8 };
                for i in 0..lists {
                    if r.flag()? {
                        skip_scaling_list(&mut r, if i < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        if chroma_format > 3 {
            return None;
        }
        r.ue()?; // log2_max_frame_num_minus4
        match r.ue()? {
            0 => {
                r.ue()?; // log2_max_pic_order_cnt_lsb_minus4
            }
            1 => {
                r.bit()?; // delta_pic_order_always_zero_flag
                r.se()?; // offset_for_non_ref_pic
                r.se()?; // offset_for_top_to_bottom_field
                let cycle = r.ue()?;
                if cycle > 255 {
                    return None;
                }
                for _ in 0..cycle {
                    r.se()?;
                }
            }
            _ => {}
        }
        r.ue()?; // max_num_ref_frames
        r.bit()?; // gaps_in_frame_num_value_allowed_flag
        let mb_width = u64::from(r.ue()?) + 1;
        let map_height = u64::from(r.ue()?) + 1;
        let progressive = r.flag()?;
        if !progressive {
            r.bit()?; // mb_adaptive_frame_field_flag
        }
        r.bit()?; // direct_8x8_inference_flag
        let mb_height = map_height * if progressive { 1 } else { 2 };
        if mb_width * mb_height > MAX_MACROBLOCKS || mb_width > 1055 || mb_height > 1055 {
            return None;
        }
        let (mut width, mut height) = (mb_width * 16, mb_height * 16);
        if r.flag()? {
            let (left, right, top, bottom) = (r.ue()?, r.ue()?, r.ue()?, r.ue()?);
            let array_type = if separate { 0 } else { chroma_format };
            let unit_x = if matches!(array_type, 1 | 2) { 2 } else { 1 };
            let unit_y = if array_type == 1 { 2 } else { 1 } * if progressive { 1 } else { 2 };
            let cut = |a, b, unit| (u64::from(a) + u64::from(b)) * unit;
            width = width.checked_sub(cut(left, right, unit_x)).filter(|&w| w > 0)?;
            height = height.checked_sub(cut(top, bottom, unit_y)).filter(|&h| h > 0)?;
        }
        let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let mut sps = Self {
            width,
            height,
            color: ColorSpace::guess(height),
            fps: None,
            interlaced: !progressive,
            chroma_format,
            depth,
        };
        if r.flag()? {
            // A VUI that is cut short still leaves the pictures decodable.
            let _ = sps.read_vui(&mut r);
        }
        Some(sps)
    }

    fn read_vui(&mut self, r: &mut Bits<'_>) -> Option<()> {
        if r.flag()? && r.bits(8)? == 255 {
            r.bits(32)?; // sar_width, sar_height
        }
        if r.flag()? {
            r.bit()?; // overscan_appropriate_flag
        }
        if r.flag()? {
            r.bits(3)?; // video_format
            self.color.range = if r.flag()? { Range::Full } else { Range::Limited };
            if r.flag()? {
                r.bits(16)?; // colour_primaries, transfer_characteristics
                match r.bits(8)? {
                    1 => self.color.matrix = Matrix::Bt709,
                    4..=7 => self.color.matrix = Matrix::Bt601,
                    _ => {}
                }
            }
        }
        if r.flag()? {
            r.ue()?; // chroma_sample_loc_type_top_field
            r.ue()?; // chroma_sample_loc_type_bottom_field
        }
        if r.flag()? {
            let (tick, scale) = (r.bits(32)?, r.bits(32)?);
            if tick > 0 && scale > 0 {
                // A frame lasts two ticks (E.2.1).
                let fps = f64::from(scale) / (2.0 * f64::from(tick));
                self.fps = (0.01..=1000.0).contains(&fps).then_some(fps);
            }
        }
        Some(())
    }
}

fn skip_scaling_list(r: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + i64::from(r.se()?)).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_of_both_lengths_split_nal_units() {
        let bytes = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 0, 1, 0x65];
        let found: Vec<&[u8]> = nal_units(&bytes).collect();
        assert_eq!(found, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65]]);
        assert!(has_idr(&bytes));
    }

    #[test]
    fn the_start_code_search_misses_none() {
        for gap in 0..9 {
            let mut bytes = vec![7; gap];
            bytes.extend([0, 0, 1, 9]);
            assert_eq!(find_start_code(&bytes, 0), Some(gap));
        }
        assert_eq!(find_start_code(&[0, 0, 0, 0, 1], 0), Some(2));
        assert_eq!(find_start_code(&[0, 0, 2, 0, 1], 0), None);
    }

    #[test]
    fn an_sps_tells_size_rate_and_colour() {
        // x264: 128x96 at 25 fps, --colormatrix bt709 --range full, High profile.
        let bytes = include_bytes!("../tests/data/bframes.h264");
        let nal = nal_units(bytes).find(|n| nal_type(n) == Some(SPS)).unwrap();
        let sps = Sps::parse(nal).unwrap();
        assert_eq!((sps.width, sps.height), (126, 94));
        assert_eq!(sps.fps, Some(25.0));
        assert_eq!(sps.color.matrix, Matrix::Bt709);
        assert_eq!(sps.color.range, Range::Full);
        assert_eq!((sps.chroma_format, sps.depth, sps.interlaced), (1, 8, false));
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        let mut r = Bits::new(&[0, 0, 3, 1]);
        assert_eq!(r.bits(24), Some(1));
        assert_eq!(r.bit(), None);
    }
}
