//! Laws of the readers for any input: an answer or an error, never a panic, never more than there is.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::sync::OnceLock;

use flow_decode::{Input, MediaReader, Unit, decode_picture};
use flow_frame::{Codec, Pool};
use proptest::collection::vec;
use proptest::prelude::*;

/// Valid inputs of every format.
fn corpus() -> &'static [Vec<u8>] {
    static CORPUS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let clips = ["baseline.mp4", "fragmented.mp4", "bframes.h264", "mjpeg.avi"];
        let mut all: Vec<Vec<u8>> = clips
            .iter()
            .map(|name| std::fs::read(folder.join(name)).expect("the clip is there"))
            .collect();
        all.push(b"YUV4MPEG2 W2 H2 F25:1 C420jpeg\nFRAME\nabcdefFRAME\nghijkl".to_vec());
        all.push(b"P5 2 1 255\nabP6 1 1 255\nabc".to_vec());
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, 80)
            .encode(&[120; 16 * 16 * 3], 16, 16, jpeg_encoder::ColorType::Rgb)
            .expect("a JPEG can be written");
        all.push([jpeg.clone(), jpeg].concat());
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
        encoder.set_color(png::ColorType::Rgb);
        encoder
            .write_header()
            .and_then(|mut w| w.write_image_data(&[9; 18]))
            .expect("a PNG can be written");
        all.push(bytes);
        let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
        bmp.resize(54, 0);
        bmp.extend([1, 2, 3, 4, 5, 6, 0, 0]);
        all.push(bmp);
        all
    })
}

/// Packets and errors of an input, whether read as a file or as a pipe. Pictures are decoded as well.
fn read(bytes: &[u8], pipe: bool) -> (usize, usize) {
    let input = match pipe {
        true => Input::from_stream("p", std::io::Cursor::new(bytes.to_vec())),
        false => Input::from_bytes("m", bytes.to_vec()),
    };
    let Ok(mut reader) = MediaReader::open(input, None) else {
        return (0, 1);
    };
    let pool = Pool::new(2);
    let (mut packets, mut errors, mut held) = (0, 0, 0u64);
    loop {
        match reader.next() {
            Ok(None) => break,
            Ok(Some(sample)) => {
                packets += 1;
                match sample.unit {
                    Unit::Encoded { codec, data, .. } => {
                        held = held.max(data.len() as u64);
                        if codec != Codec::H264 && packets < 4 {
                            let _ = decode_picture(codec, &data, &pool);
                        }
                    }
                    Unit::Frame(frame) => held = held.max(flow::packet::Payload::bytes(&frame) as u64),
                }
            }
            Err(e) => {
                errors += 1;
                if !e.recoverable() {
                    assert!(reader.next().expect("an ended reader is quiet").is_none());
                    break;
                }
            }
        }
        // Each packet or error takes input, or an entry of a table that is in the input.
        assert!(
            packets + errors <= bytes.len() + 2,
            "{packets} packets of {} bytes",
            bytes.len()
        );
        // Raw pictures grow at most by padding; parameter sets are put before keyframes.
        assert!(held <= 4 * bytes.len() as u64 + 4096);
    }
    if let Some(declared) = reader.declared() {
        let container = matches!(reader.format(), flow_decode::Format::Mp4);
        assert!(!container || packets as u64 <= declared);
    }
    (packets, errors)
}

#[test]
fn the_corpus_is_valid() {
    let expected = [12, 20, 20, 4, 2, 2, 2, 1, 1];
    for (bytes, packets) in corpus().iter().zip(expected) {
        // An MP4 file with its header behind the pictures cannot be read from a pipe.
        assert_eq!(read(bytes, false), (packets, 0));
        let piped = read(bytes, true);
        assert!(
            piped == (packets, 0) || piped == (0, 1) && packets == 12,
            "{piped:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400), pipe: bool) {
        read(&bytes, pipe);
    }

    #[test]
    fn any_bytes_behind_a_valid_beginning_are_read_or_refused(
        which in 0usize..9, keep in 4usize..64, tail in vec(any::<u8>(), 0..400), pipe: bool,
    ) {
        let valid = &corpus()[which];
        let mut bytes = valid[..keep.min(valid.len())].to_vec();
        bytes.extend(tail);
        read(&bytes, pipe);
    }

    #[test]
    fn any_change_of_a_valid_input_is_read_or_refused(
        which in 0usize..9, pipe: bool,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = corpus()[which].clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        read(&bytes, pipe);
    }

    #[test]
    fn large_numbers_in_headers_are_read_or_refused(
        which in 0usize..9, pipe: bool, place: prop::sample::Index,
        value in prop_oneof![Just(u32::MAX), Just(0x7FFF_FFFF), Just(0), Just(1), any::<u32>()],
    ) {
        let mut bytes = corpus()[which].clone();
        let place = place.index(bytes.len() - 3);
        bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
        read(&bytes, pipe);
    }

    #[test]
    fn a_cut_input_gives_no_more_than_the_whole(which in 0usize..9, at: prop::sample::Index, pipe: bool) {
        let whole = &corpus()[which];
        let cut = &whole[..at.index(whole.len())];
        let (packets, _) = read(cut, pipe);
        prop_assert!(packets <= read(whole, false).0);
    }

    #[test]
    fn any_picture_is_decoded_or_refused(
        which in 5usize..9, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut: prop::sample::Index,
    ) {
        let codec = [Codec::Pnm, Codec::Jpeg, Codec::Png, Codec::Bmp][which - 5];
        let mut bytes = corpus()[which].clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 2);
        let _ = decode_picture(codec, &bytes, &Pool::new(1));
    }
}
