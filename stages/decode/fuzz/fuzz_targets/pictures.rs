#![no_main]

mod reader;

use flow_decode::{Format, decode_picture, picture_codec};
use flow_frame::Pool;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(codec) = picture_codec(bytes) {
        let _ = decode_picture(codec, bytes, &Pool::new(1));
    }
    for format in [Format::Jpeg, Format::Pnm, Format::Png, Format::Bmp] {
        reader::read(bytes, format);
    }
});
