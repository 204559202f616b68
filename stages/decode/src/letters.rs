//! Source kind `dead_letters`: the packets that earlier runs set aside, given again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::error::PrepareError;
use flow::ports::Ports;
use flow::registry::{Config, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Source, StopFlag};
use flow_frame::{Codec, ENCODED, Encoded, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{E_NO_VIDEO, E_READ, MediaError};
use crate::input::Input;
use crate::media::{DEFAULT_FPS, picture_codec, time_of};
use crate::playback::{Item, Looping, Medium, Pace, Player};
use crate::still::read_whole;

/// Largest `letter.json` that is read.
const MAX_LETTER: u64 = 1 << 20;

/// Gives the pictures of dead letters (`on_error: {action: dead_letter, folder: ...}`) again, oldest first, with their
/// times: put it in the place of the source that they came from. A letter of a stage behind the decoder gives the frame that
/// its packet was made of, as a PNG picture.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LettersConfig {
    /// The folder.
    #[schemars(length(min = 1))]
    path: PathBuf,
    /// Only letters of this stage.
    #[serde(default)]
    stage: Option<String>,
    /// Only letters of this stream.
    #[serde(default)]
    stream: Option<String>,
}

impl Config for LettersConfig {}

pub(crate) fn register(registry: &mut Registry) {
    registry.source::<LettersConfig>(
        KindInfo {
            name: "dead_letters",
            summary: "Gives packets again that earlier runs set aside as dead letters",
            ports: Ports {
                takes: &[],
                gives: &[ENCODED],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

/// What a letter says, as far as it is needed here.
#[derive(Deserialize)]
struct Letter {
    stage: String,
    stream: String,
    pts_ns: Option<u64>,
}

fn prepare(config: &LettersConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Source>, PrepareError> {
    let folder = cx.resolve(&config.path);
    let unreadable = |e: std::io::Error| {
        let message = format!("cannot list the folder {}: {e}", config.path.display());
        PrepareError::new(E_READ, "path", message)
            .help("it is the one that `on_error: {action: dead_letter, folder: ...}` of an earlier run named")
    };
    let mut letters = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !path.join("letter.json").is_file() {
            continue;
        }
        // One that cannot be read is the matter of one packet.
        let wanted = read_letter(&path).is_none_or(|letter| {
            config.stage.as_ref().is_none_or(|stage| *stage == letter.stage)
                && config
                    .stream
                    .as_ref()
                    .is_none_or(|stream| *stream == letter.stream)
        });
        if wanted {
            letters.push(path);
        }
    }
    if letters.is_empty() {
        let message = format!("{}: there are no such dead letters", config.path.display());
        return Err(PrepareError::new(E_NO_VIDEO, "path", message)
            .help("each is a folder with a `letter.json`; `stage` and `stream` narrow them down"));
    }
    letters.sort();
    let (letters, name): (Arc<[PathBuf]>, _) = (letters.into(), config.path.display().to_string());
    let count = letters.len() as u64;
    Ok(Prepared::<dyn Source>::new(move |_| {
        let letters = letters.clone();
        let opener = move |_: &StopFlag| -> Result<Box<dyn Medium>, MediaError> {
            Ok(Box::new(Letters {
                letters: letters.clone(),
                index: 0,
                pool: Pool::new(8),
            }))
        };
        let looping = Looping::default();
        let player = Player::new(name.clone(), Box::new(opener), looping, Pace::Asap, Some(count));
        Ok(Box::new(player))
    }))
}

fn read_letter(folder: &Path) -> Option<Letter> {
    let path = folder.join("letter.json");
    let small = path.metadata().is_ok_and(|meta| meta.len() <= MAX_LETTER);
    let text = small.then(|| std::fs::read(path).ok()).flatten()?;
    serde_json::from_slice(&text).ok()
}

struct Letters {
    letters: Arc<[PathBuf]>,
    index: usize,
    pool: Pool,
}

impl Medium for Letters {
    fn next(&mut self) -> Result<Option<Item>, MediaError> {
        let Some(folder) = self.letters.get(self.index) else {
            return Ok(None);
        };
        let before = time_of(self.index as u64, DEFAULT_FPS);
        self.index += 1;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let failed = |what: String| MediaError::Packet {
            at: 0,
            what: format!("dead letter {name}: {what}"),
        };
        let letter = read_letter(folder).ok_or_else(|| failed("its letter.json cannot be read".into()))?;
        let (file, known) = playable(folder).map_err(failed)?;
        let bytes = Input::open(&file)
            .map_err(|e| e.to_string())
            .and_then(|mut input| read_whole(&mut input).map_err(|e| e.to_string()))
            .map_err(failed)?;
        // What was damaged stays so: its ending says what it was meant to be.
        let codec = picture_codec(&bytes).unwrap_or(known);
        let mut data = self.pool.take(bytes.len());
        data.copy_from_slice(&bytes);
        Ok(Some(Item {
            pts: letter
                .pts_ns
                .and_then(|pts| i64::try_from(pts).ok())
                .unwrap_or(before),
            payload: Arc::new(Encoded {
                codec,
                data,
                keyframe: true,
                origin: Arc::from(&*name),
            }),
        }))
    }
}

/// The file of a letter that can be given to a decoder, and how it is coded.
fn playable(folder: &Path) -> Result<(PathBuf, Codec), String> {
    let known = [
        ("picture.jpg", Codec::Jpeg),
        ("picture.png", Codec::Png),
        ("picture.bmp", Codec::Bmp),
        ("picture.pnm", Codec::Pnm),
        ("keyframe.h264", Codec::H264),
        ("frame.png", Codec::Png),
    ];
    let mut files = known.iter().map(|(name, codec)| (folder.join(name), *codec));
    files.find(|(path, _)| path.is_file()).ok_or_else(|| {
        if folder.join("unit.h264").is_file() {
            "this access unit of H.264 can only be decoded with those before it".into()
        } else {
            "it holds no picture".into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::jpeg::tests::encode;
    use crate::playback::tests::play;
    use std::collections::BTreeMap;

    fn give(path: &Path, stage: Option<&str>) -> Result<crate::playback::tests::Collected, PrepareError> {
        let models = BTreeMap::new();
        let cx = PrepareContext {
            name: "again",
            folder: Path::new("."),
            models: &models,
            downstream: &[],
            streams: &[],
            replicas: 1,
            threads: 1,
            batch: None,
        };
        let config = LettersConfig {
            path: path.to_path_buf(),
            stage: stage.map(str::to_owned),
            stream: None,
        };
        let mut source = (prepare(&config, &cx)?.build)(0).unwrap();
        Ok(play(&mut *source))
    }

    fn letter(folder: &Path, name: &str, stage: &str, pts: &str, files: &[(&str, &[u8])]) {
        let letter = folder.join(name);
        std::fs::create_dir_all(&letter).unwrap();
        let text = format!(r#"{{"stage": "{stage}", "stream": "cam", "pts_ns": {pts}, "errors": ["oops"]}}"#);
        std::fs::write(letter.join("letter.json"), text).unwrap();
        for (name, bytes) in files {
            std::fs::write(letter.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn letters_are_given_in_order_with_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let jpeg = encode(8, 8, &[90; 192], None);
        letter(
            folder.path(),
            "3",
            "decode",
            "3000000000",
            &[("picture.jpg", b"broken")],
        );
        letter(
            folder.path(),
            "1",
            "decode",
            "1000000000",
            &[("picture.jpg", &jpeg)],
        );
        letter(
            folder.path(),
            "2",
            "infer",
            "null",
            &[("tensor.npy", b"..."), ("frame.png", b"\x89PNG\r\n\x1a\n")],
        );
        letter(folder.path(), "4", "infer", "null", &[("tensor.npy", b"...")]);
        letter(folder.path(), "5", "decode", "null", &[("unit.h264", b"...")]);
        letter(
            folder.path(),
            ".part-6",
            "decode",
            "null",
            &[("picture.jpg", &jpeg)],
        );
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let played = give(folder.path(), None).unwrap();
        let given: Vec<_> = played
            .packets
            .iter()
            .map(|p| {
                let unit = p.payload::<Encoded>().unwrap();
                (
                    unit.origin.to_string(),
                    unit.codec,
                    p.header.pts.unwrap().as_millis(),
                )
            })
            .collect();
        let given: Vec<_> = given
            .iter()
            .map(|(name, codec, pts)| (name.as_str(), *codec, *pts))
            .collect();
        assert_eq!(
            given,
            [
                ("1", Codec::Jpeg, 1000),
                ("2", Codec::Png, 40),
                ("3", Codec::Jpeg, 3000)
            ]
        );
        let failed: Vec<_> = played.failed.iter().map(ToString::to_string).collect();
        assert!(
            failed[0].contains("dead letter 4: it holds no picture"),
            "{failed:?}"
        );
        assert!(
            failed[1].contains("only be decoded with those before it"),
            "{failed:?}"
        );
        assert_eq!(give(folder.path(), Some("infer")).unwrap().packets.len(), 1);
        let none = give(folder.path(), Some("track")).err().unwrap();
        assert_eq!((none.code, none.key.as_str()), (E_NO_VIDEO, "path"));
        let none = give(&folder.path().join("nowhere"), None).err().unwrap();
        assert_eq!((none.code, none.key.as_str()), (E_READ, "path"));
    }

    #[test]
    fn a_letter_too_long_to_be_one_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("null{}", " ".repeat(MAX_LETTER as usize));
        letter(folder.path(), "1", "decode", &long, &[("picture.jpg", b"...")]);
        letter(folder.path(), "2", "decode", "null", &[("picture.jpg", b"...")]);
        let played = give(folder.path(), None).unwrap();
        assert_eq!((played.packets.len(), played.failed.len()), (1, 1));
        assert!(played.failed[0].to_string().contains("letter.json"));
    }
}
