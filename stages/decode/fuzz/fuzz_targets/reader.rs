// Shared by the targets of containers: reads an input of one format to its end, as a file and as a pipe.

use flow_decode::{Format, Input, MediaReader};

/// Reads `bytes` if they are of `format`.
pub fn read(bytes: &[u8], format: Format) {
    let inputs = [
        Input::from_bytes("file", bytes.to_vec()),
        Input::from_stream("pipe", std::io::Cursor::new(bytes.to_vec())),
    ];
    for input in inputs {
        let Ok(mut reader) = MediaReader::open(input, None) else {
            continue;
        };
        if reader.format() != format {
            return;
        }
        let mut steps = 0;
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(e) if e.recoverable() => {}
                Err(_) => break,
            }
            steps += 1;
            assert!(steps <= bytes.len() + 2, "more packets than bytes");
        }
    }
}
