//! Clips from source to frames, as a pipeline runs them.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/harness.rs"]
mod harness;

use std::path::{Path, PathBuf};

use flow::error::StageError;
use flow_frame::{Encoded, Frame, Matrix, PixelFormat, Range};
use harness::{decode, source, take};
use serde_json::json;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn file(path: &Path) -> serde_json::Value {
    json!({"path": path})
}

/// Adler-32 with initial value 0 over all planes: what `ffmpeg -f framecrc` prints.
fn framecrc(frame: &Frame) -> u32 {
    let (mut a, mut b) = (0u32, 0u32);
    for plane in 0..frame.plane_count() {
        for row in 0..frame.plane_layout(plane).rows {
            for &byte in frame.row(plane, row) {
                a = (a + u32::from(byte)) % 65521;
                b = (b + a) % 65521;
            }
        }
    }
    b << 16 | a
}

fn millis(outcomes: &harness::Outcomes) -> Vec<u128> {
    outcomes
        .packets()
        .iter()
        .map(|p| p.header.pts.expect("frames have times").as_millis())
        .collect()
}

const BASELINE_CRC: [u32; 12] = [
    0xed0f_502c,
    0x2d74_4ed4,
    0x679d_4b38,
    0xdd32_4e98,
    0x0c53_4e46,
    0x01c3_4bc5,
    0x118f_5543,
    0xee49_5186,
    0xf4fd_5403,
    0x9f09_5379,
    0x300c_3e52,
    0xd794_44c3,
];

#[test]
fn a_baseline_clip_decodes_to_the_bits_of_ffmpeg() {
    let mut source = source("file", &file(&data("baseline.mp4"))).unwrap();
    assert_eq!(source.size_hint(), Some(12));
    let out = decode(take(&mut *source));
    let found: Vec<u32> = out
        .packets()
        .iter()
        .map(|p| framecrc(p.payload::<Frame>().unwrap()))
        .collect();
    assert_eq!(found, BASELINE_CRC);
    assert_eq!(millis(&out), (0..12).map(|i| i * 100).collect::<Vec<_>>());
}

#[test]
fn pictures_that_refer_forwards_come_in_display_order() {
    // Without an edit list the times of the fragmented clip begin with the delay of reordering.
    for (name, begin) in [("fragmented.mp4", 80), ("bframes.h264", 0)] {
        let out = decode(take(&mut *source("file", &file(&data(name))).unwrap()));
        let expected: Vec<u128> = (0..20).map(|i| begin + i * 40).collect();
        assert_eq!(millis(&out), expected, "{name}");
        // The test picture's seconds digit and gradients make each frame its own.
        let mut sums: Vec<u32> = out
            .packets()
            .iter()
            .map(|p| framecrc(p.payload::<Frame>().unwrap()))
            .collect();
        sums.dedup();
        assert_eq!(sums.len(), 20, "{name}");
    }
}

#[test]
fn colour_comes_from_the_stream() {
    let out = decode(take(&mut *source("file", &file(&data("bframes.h264"))).unwrap()));
    let packets = out.packets();
    let frame = packets[0].payload::<Frame>().unwrap();
    assert_eq!((frame.width(), frame.height()), (126, 94));
    assert_eq!(frame.format(), PixelFormat::I420);
    assert_eq!(frame.color().matrix, Matrix::Bt709);
    assert_eq!(frame.color().range, Range::Full);
}

#[test]
fn avi_pictures_decode() {
    let out = decode(take(&mut *source("file", &file(&data("mjpeg.avi"))).unwrap()));
    assert_eq!(millis(&out), [0, 100, 200, 300]);
    assert_eq!(
        out.packets()[0].payload::<Frame>().unwrap().format(),
        PixelFormat::Rgb
    );
}

#[test]
fn a_loop_with_discontinuity_begins_epochs_and_decodes_alike() {
    let config = json!({"path": data("fragmented.mp4"), "loop": 2});
    let out = decode(take(&mut *source("file", &config).unwrap()));
    let sums: Vec<u32> = out
        .packets()
        .iter()
        .map(|p| framecrc(p.payload::<Frame>().unwrap()))
        .collect();
    assert_eq!(sums.len(), 40);
    assert_eq!(sums[..20], sums[20..]);
    assert_eq!(out.emitted[20], (1, 0));
}

#[test]
fn a_cut_clip_gives_what_is_whole_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(data("fragmented.mp4")).unwrap();
    let cut = folder.path().join("cut.mp4");
    std::fs::write(&cut, &whole[..whole.len() * 3 / 4]).unwrap();
    let out = decode(take(&mut *source("file", &file(&cut)).unwrap()));
    let errors = out.errors();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].code.0, "E0506");
    assert!(
        errors[0]
            .to_string()
            .contains("samples of the last fragment are missing")
    );
    assert!((10..20).contains(&out.packets().len()));
}

/// Makes packet `place` an error, as a damaged sample is.
fn lose(taken: &mut harness::Taken, place: usize) {
    taken.items[place].1 = Err(StageError::packet(flow_decode::E_PACKET, "lost"));
}

#[test]
fn after_a_loss_decoding_waits_for_the_next_keyframe() {
    let mut taken = take(&mut *source("file", &file(&data("baseline.mp4"))).unwrap());
    lose(&mut taken, 2);
    let out = decode(taken);
    assert_eq!(out.emitted, [0, 1, 6, 7, 8, 9, 10, 11].map(|seq| (0, seq)));
    let codes: Vec<&str> = out.errors().iter().map(|e| e.code.0).collect();
    assert_eq!(codes, ["E0507", "E0513", "E0513", "E0513"]);
    // What follows the keyframe is right to the bit again.
    let sums: Vec<u32> = out
        .packets()
        .iter()
        .map(|p| framecrc(p.payload::<Frame>().unwrap()))
        .collect();
    assert_eq!(sums[2..], BASELINE_CRC[6..]);
}

#[test]
fn a_damaged_picture_is_counted_and_decoding_goes_on() {
    let mut taken = take(&mut *source("file", &file(&data("baseline.mp4"))).unwrap());
    let Ok(packet) = &taken.items[3].1 else {
        panic!("the clip is whole")
    };
    let encoded = packet.payload::<Encoded>().unwrap();
    let damaged = flow_frame::Buffer::copy_of(&encoded.data[..encoded.data.len() / 2]);
    let unit = Encoded {
        codec: encoded.codec,
        data: damaged,
        keyframe: encoded.keyframe,
        origin: encoded.origin.clone(),
    };
    taken.items[3].1 = Ok(packet.clone().with_payload(std::sync::Arc::new(unit)));
    let out = decode(taken);
    assert_eq!(out.errors()[0].code.0, "E0512", "{:?}", out.errors());
    assert!(out.emitted.ends_with(&[6, 7, 8, 9, 10, 11].map(|seq| (0, seq))));
}

#[test]
fn what_stands_before_an_edit_is_decoded_and_not_shown() {
    let mut bytes = std::fs::read(data("baseline.mp4")).unwrap();
    // The first entry of the edit list: after size, kind, version, count and duration its media time.
    let elst = bytes
        .windows(4)
        .position(|w| w == b"elst")
        .expect("it has an edit list");
    let media_time = elst + 4 + 4 + 4 + 4;
    let mdhd = bytes
        .windows(4)
        .position(|w| w == b"mdhd")
        .expect("it has a media header");
    let timescale = u32::from_be_bytes(bytes[mdhd + 16..mdhd + 20].try_into().unwrap());
    bytes[media_time..media_time + 4].copy_from_slice(&(timescale * 3 / 10).to_be_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edited.mp4");
    std::fs::write(&path, bytes).unwrap();
    let out = decode(take(&mut *source("file", &file(&path)).unwrap()));
    assert_eq!(out.dropped("before_start"), 3);
    assert_eq!(millis(&out), (0..9).map(|i| i * 100).collect::<Vec<_>>());
    assert_eq!(
        framecrc(out.packets()[0].payload::<Frame>().unwrap()),
        BASELINE_CRC[3]
    );
}

#[test]
fn what_cannot_be_read_is_refused_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let cases = [
        (folder.path().join("none.mp4"), "E0501"),
        (write("text.mp4", b"this is no clip"), "E0502"),
        (write("empty.mp4", b""), "E0502"),
        (write("bare.mp4", b"\0\0\0\x08moov"), "E0503"),
        (write("clip.webm", &[0x1A, 0x45, 0xDF, 0xA3]), "E0504"),
    ];
    for (path, code) in cases {
        let e = source("file", &file(&path)).err().unwrap();
        assert_eq!((e.code.0, e.key.as_str()), (code, "path"), "{e}");
        assert!(e.to_string().contains(&*path.to_string_lossy()), "{e}");
    }
}

#[test]
fn a_folder_given_to_file_is_read_as_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("f10.pgm", 3u8), ("f9.pgm", 2), ("f1.pgm", 1)] {
        let picture = [b"P5 1 1 255\n".as_slice(), &[value]].concat();
        std::fs::write(folder.path().join(name), picture).unwrap();
    }
    let out = decode(take(&mut *source("file", &file(folder.path())).unwrap()));
    let seen: Vec<(u8, String)> = out
        .packets()
        .iter()
        .map(|p| p.payload::<Frame>().unwrap())
        .map(|f| (f.row(0, 0)[0], f.origin().to_string()))
        .collect();
    let expected = [(1, "f1.pgm"), (2, "f9.pgm"), (3, "f10.pgm")];
    assert_eq!(seen, expected.map(|(v, n)| (v, n.to_owned())));
}
