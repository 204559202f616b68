//! Files of true boxes: JSON lines with `seq` and `detections`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flow::error::{Code, PrepareError};
use flow_frame::{BBox, Detection};
use serde::Deserialize;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    seq: u64,
    detections: Vec<Box4>,
}

#[derive(Deserialize)]
struct Box4 {
    class: u32,
    #[serde(default)]
    label: String,
    score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    track: Option<u64>,
}

/// The true boxes of each frame, by `seq`.
pub(super) fn read(path: &Path) -> Result<HashMap<u64, Vec<Detection>>, PrepareError> {
    let fail =
        |what: String| PrepareError::new(Code("E0709"), "truth", format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut reader = BufReader::new(file);
    let mut frames = HashMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE);
        let read = limited.read_until(b'\n', &mut line);
        if read.map_err(|e| fail(format!("line {number}: {e}")))? == 0 {
            break;
        }
        let parsed: Line = serde_json::from_slice(&line).map_err(|e| fail(format!("line {number}: {e}")))?;
        frames.insert(parsed.seq, parsed.detections.into_iter().map(detection).collect());
    }
    Ok(frames)
}

fn detection(b: Box4) -> Detection {
    let [x1, y1, x2, y2] = b.bbox;
    Detection {
        bbox: BBox { x1, y1, x2, y2 },
        class: b.class,
        label: b.label.into(),
        score: b.score,
        track: b.track,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_jsonl_sink_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.jsonl");
        std::fs::write(
            &path,
            "{\"stream\":\"s\",\"seq\":4,\"detections\":[{\"class\":1,\"label\":\"crate\",\"score\":0.5,\"box\":[1,2,3,4]}]}\n",
        )
        .unwrap();
        let frames = read(&path).unwrap();
        assert_eq!(frames[&4][0].bbox.y2, 4.0);
        assert_eq!(&*frames[&4][0].label, "crate");
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.jsonl");
        std::fs::write(&path, "{\"seq\":0,\"detections\":[]}\n{\"seq\":1}\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(
            error.message.contains("line 2") && error.message.contains("detections"),
            "{error}"
        );
    }
}
