//! Tiny clips and pictures.

use std::path::{Path, PathBuf};

/// An uncompressed 4:2:0 clip in YUV4MPEG2 form; each frame is a moving ramp. Even sizes only.
pub fn y4m(width: usize, height: usize, frames: usize) -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n").into_bytes();
    for frame in 0..frames {
        bytes.extend_from_slice(b"FRAME\n");
        for y in 0..height {
            bytes.extend((0..width).map(|x| (x * 3 + y * 2 + frame * 7) as u8));
        }
        for plane in 0..2 {
            for y in 0..height / 2 {
                bytes.extend((0..width / 2).map(|x| (96 + x + y * (1 + plane) + frame) as u8));
            }
        }
    }
    bytes
}

/// A picture in PPM form.
pub fn ppm(width: usize, height: usize) -> Vec<u8> {
    let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
    for y in 0..height {
        for x in 0..width {
            bytes.extend_from_slice(&[(x * 5) as u8, (y * 7) as u8, (x + y) as u8]);
        }
    }
    bytes
}

/// A clip from the tests of the decoders: `baseline.mp4`, `bframes.h264`, `fragmented.mp4`, `mjpeg.avi`.
pub fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../stages/decode/tests/data")
        .join(name)
}
