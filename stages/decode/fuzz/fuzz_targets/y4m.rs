#![no_main]

mod reader;

use flow_decode::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| reader::read(bytes, Format::Y4m));
