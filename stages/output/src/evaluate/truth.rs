//! Files of true boxes: JSON lines as sink `jsonl` writes them, or COCO's annotations.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use flow::error::{Code, PrepareError};
use flow_frame::{BBox, Detection};
use serde::Deserialize;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// Largest file of annotations that is read, in bytes: those of COCO's training pictures have 450 MB.
const MAX_ANNOTATIONS: u64 = 1 << 30;

#[derive(Deserialize)]
struct Line {
    seq: Option<u64>,
    origin: Option<String>,
    detections: Vec<Box4>,
}

#[derive(Deserialize)]
struct Box4 {
    class: u32,
    #[serde(default)]
    label: String,
    #[serde(default = "whole")]
    score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    track: Option<u64>,
}

fn whole() -> f32 {
    1.0
}

/// <https://cocodataset.org/#format-data>
#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoBox>,
    #[serde(default)]
    categories: Vec<CocoCategory>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct CocoBox {
    image_id: u64,
    category_id: u64,
    /// Left, top, width, height.
    bbox: [f32; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct CocoCategory {
    id: u64,
    name: String,
}

/// True boxes of frames, in pixels of the frame.
#[derive(Debug, Default)]
pub struct TrueBoxes {
    places: HashMap<u64, Arc<[Detection]>>,
    files: HashMap<String, Arc<[Detection]>>,
}

impl TrueBoxes {
    /// Reads a file: JSON lines with `detections` and `seq`, `origin` or both, or COCO's annotations. Classes of COCO are
    /// numbered as its categories stand in the file, and bear their names.
    ///
    /// # Errors
    /// If the file cannot be read, or names the line that is not as it should be.
    pub fn read(path: &Path) -> Result<Self, PrepareError> {
        let fail =
            |what: String| PrepareError::new(Code("E0709"), "truth", format!("{}: {what}", path.display()));
        let mut file = File::open(path).map_err(|e| fail(e.to_string()))?;
        let mut first = Vec::new();
        BufReader::new(&mut file)
            .take(MAX_LINE)
            .read_until(b'\n', &mut first)
            .map_err(|e| fail(e.to_string()))?;
        file.rewind().map_err(|e| fail(e.to_string()))?;
        let start: String = String::from_utf8_lossy(&first)
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(1)
            .collect();
        let annotations = serde_json::from_slice::<serde::de::IgnoredAny>(&first).is_err() && start == "{"
            || first.windows(13).any(|w| w == b"\"annotations\"");
        if annotations {
            return Self::annotations(file).map_err(fail);
        }
        Self::lines(file).map_err(fail)
    }

    fn lines(file: File) -> Result<Self, String> {
        let mut reader = BufReader::new(file);
        let mut boxes = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut limited = Read::take(&mut reader, MAX_LINE);
            let read = limited.read_until(b'\n', &mut line);
            if read.map_err(|e| format!("line {number}: {e}"))? == 0 {
                break;
            }
            let parsed: Line = serde_json::from_slice(&line).map_err(|e| format!("line {number}: {e}"))?;
            if parsed.seq.is_none() && parsed.origin.is_none() {
                return Err(format!(
                    "line {number}: expected `seq` or `origin`, which say of what frame it is"
                ));
            }
            let found: Arc<[Detection]> = parsed.detections.into_iter().map(detection).collect();
            if let Some(seq) = parsed.seq {
                boxes.places.insert(seq, found.clone());
            }
            if let Some(origin) = parsed.origin {
                boxes.files.insert(last(&origin).to_owned(), found);
            }
        }
        Ok(boxes)
    }

    fn annotations(file: File) -> Result<Self, String> {
        let reader = BufReader::new(file).take(MAX_ANNOTATIONS);
        let coco: Coco = serde_json::from_reader(reader)
            .map_err(|e| format!("{e}; expected JSON lines with `detections`, or COCO's annotations"))?;
        let categories: HashMap<u64, (u32, Arc<str>)> = (0u32..)
            .zip(&coco.categories)
            .map(|(class, c)| (c.id, (class, Arc::from(&*c.name))))
            .collect();
        let mut images: HashMap<u64, Vec<Detection>> = HashMap::new();
        for found in coco.annotations.iter().filter(|a| a.iscrowd == 0) {
            let [x1, y1, width, height] = found.bbox;
            let numbered = || {
                (
                    u32::try_from(found.category_id).unwrap_or(u32::MAX),
                    Arc::from(""),
                )
            };
            let (class, label) = categories
                .get(&found.category_id)
                .cloned()
                .unwrap_or_else(numbered);
            images.entry(found.image_id).or_default().push(Detection {
                bbox: BBox {
                    x1,
                    y1,
                    x2: x1 + width,
                    y2: y1 + height,
                },
                class,
                label,
                score: 1.0,
                track: None,
            });
        }
        let files = coco.images.iter().map(|image| {
            let found = images.remove(&image.id).unwrap_or_default();
            (last(&image.file_name).to_owned(), Arc::from(found))
        });
        Ok(Self {
            files: files.collect(),
            places: HashMap::new(),
        })
    }

    /// The boxes of the frame at that place of its stream.
    pub fn of_place(&self, seq: u64) -> Option<&[Detection]> {
        self.places.get(&seq).map(|found| &**found)
    }

    /// The boxes of the picture in that file; folders do not count.
    pub fn of_file(&self, name: &str) -> Option<&[Detection]> {
        self.files.get(last(name)).map(|found| &**found)
    }
}

/// The last part of a path.
fn last(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
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

    fn read(text: &str) -> Result<TrueBoxes, PrepareError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.jsonl");
        std::fs::write(&path, text).unwrap();
        TrueBoxes::read(&path)
    }

    #[test]
    fn lines_of_the_jsonl_sink_are_read() {
        let frames = read(
            "{\"stream\":\"s\",\"seq\":4,\"detections\":[{\"class\":1,\"label\":\"crate\",\"score\":0.5,\"box\":[1,2,3,4]}]}\n\
             {\"origin\":\"a/b.jpg\",\"detections\":[]}\n",
        )
        .unwrap();
        let found = frames.of_place(4).unwrap();
        assert_eq!((found[0].bbox.y2, &*found[0].label), (4.0, "crate"));
        assert!(frames.of_place(5).is_none());
        assert_eq!(frames.of_file("c/b.jpg").unwrap().len(), 0);
    }

    #[test]
    fn annotations_of_coco_are_read() {
        for space in ["", "\n  "] {
            let text = format!(
                "{{{space}\"images\":[{{\"id\":7,\"file_name\":\"a.jpg\"}},{{\"id\":8,\"file_name\":\"b.jpg\"}}],{space}\
                 \"annotations\":[{{\"image_id\":7,\"category_id\":18,\"bbox\":[1,2,3,4]}},\
                 {{\"image_id\":7,\"category_id\":18,\"bbox\":[0,0,9,9],\"iscrowd\":1}}],\
                 \"categories\":[{{\"id\":1,\"name\":\"person\"}},{{\"id\":18,\"name\":\"dog\"}}]}}"
            );
            let boxes = read(&text).unwrap();
            let found = boxes.of_file("val/a.jpg").unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(
                (found[0].class, &*found[0].label, found[0].bbox.x2),
                (1, "dog", 4.0)
            );
            assert_eq!(boxes.of_file("b.jpg").unwrap().len(), 0);
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read("{\"seq\":0,\"detections\":[]}\n{\"seq\":1}\n").unwrap_err();
        assert!(
            error.message.contains("line 2") && error.message.contains("detections"),
            "{error}"
        );
        let error = read("{\"detections\":[]}\n").unwrap_err();
        assert!(error.message.contains("`origin`"), "{error}");
    }
}
