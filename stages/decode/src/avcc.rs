//! H.264 as MP4 stores it (ISO/IEC 14496-15): the `avcC` record, and length-prefixed NAL units.

use nom::bytes::complete::{tag, take};
use nom::combinator::verify;
use nom::multi::{count, length_data};
use nom::number::complete::{be_u8, be_u16};
use nom::{IResult, Parser};

use crate::h264;

/// Decoder configuration of a track.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AvcConfig {
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    length_size: usize,
    /// Parameter sets in Annex B form.
    parameter_sets: Vec<u8>,
}

fn push_nal(out: &mut Vec<u8>, nal: &[u8]) {
    out.extend([0, 0, 0, 1]);
    out.extend(nal);
}

impl AvcConfig {
    /// Parses the body of an `avcC` box.
    pub(crate) fn parse(body: &[u8]) -> IResult<&[u8], Self> {
        let (rest, (_, _, length_size)) = (
            tag(&[1u8][..]),
            take(3usize),
            verify(be_u8.map(|b| usize::from(b & 3) + 1), |&n| n != 3),
        )
            .parse(body)?;
        let (rest, sps_count) = be_u8(rest)?;
        let (rest, sps) = count(length_data(be_u16), usize::from(sps_count & 31)).parse(rest)?;
        let (rest, pps_count) = be_u8(rest)?;
        let (rest, pps) = count(length_data(be_u16), usize::from(pps_count)).parse(rest)?;
        let mut parameter_sets = Vec::new();
        for nal in sps.into_iter().chain(pps) {
            push_nal(&mut parameter_sets, nal);
        }
        Ok((
            rest,
            Self {
                length_size,
                parameter_sets,
            },
        ))
    }

    /// Turns a sample into Annex B form in `out`, with the parameter sets in front if `key`. The error
    /// says at which byte of the sample a length points outside it.
    pub(crate) fn to_annexb(&self, sample: &[u8], key: bool, out: &mut Vec<u8>) -> Result<(), String> {
        out.clear();
        let mut body = sample;
        let in_band = self
            .nals(sample)
            .any(|nal| h264::nal_type(nal) == Some(h264::SPS));
        if key && !in_band {
            out.extend(&self.parameter_sets);
        }
        while !body.is_empty() {
            let at = sample.len() - body.len();
            let Some((nal, rest)) = self.split(body) else {
                return Err(format!(
                    "the NAL unit at byte {at} of the sample reaches past its end ({} bytes)",
                    sample.len()
                ));
            };
            if !nal.is_empty() {
                push_nal(out, nal);
            }
            body = rest;
        }
        Ok(())
    }

    fn split<'a>(&self, body: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (prefix, rest) = body.split_at_checked(self.length_size)?;
        let length = prefix.iter().fold(0usize, |sum, &b| sum << 8 | usize::from(b));
        rest.split_at_checked(length)
    }

    fn nals<'a>(&self, sample: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut body = sample;
        std::iter::from_fn(move || {
            let (nal, rest) = self.split(body)?;
            body = rest;
            Some(nal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: [u8; 15] = [1, 66, 0, 30, 0xFC | 1, 0xE1, 0, 2, 0x67, 1, 1, 0, 1, 0x68, 0];

    #[test]
    fn lengths_become_start_codes_and_parameter_sets_come_first() {
        let (_, config) = AvcConfig::parse(&RECORD).unwrap();
        let mut out = Vec::new();
        config
            .to_annexb(&[0, 1, 0x65, 0, 2, 0x41, 9], true, &mut out)
            .unwrap();
        let nals: Vec<&[u8]> = h264::nal_units(&out).collect();
        assert_eq!(nals, [&[0x67, 1][..], &[0x68], &[0x65], &[0x41, 9]]);
    }

    #[test]
    fn a_length_past_the_sample_is_an_error() {
        let (_, config) = AvcConfig::parse(&RECORD).unwrap();
        let e = config.to_annexb(&[0, 1, 0x65, 0, 9, 1], false, &mut Vec::new());
        assert!(e.unwrap_err().contains("byte 3"));
    }
}
