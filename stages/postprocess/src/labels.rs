//! Names of classes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow::error::{Code, PrepareError};
use flow::registry::PrepareContext;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::coco::COCO80;

/// Where the names of classes come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a file, the name of a built-in set (`coco80`), or a list of names"
)]
pub enum LabelsKey {
    /// A text file, or the built-in set `coco80`; empty text, as of `${LABELS:-}`, is no names. Each line of the file is one name, in the order of the
    /// classes; if every line begins with a number, that is the index of the class.
    Named(String),
    /// The names themselves.
    List(Vec<String>),
}

/// Names of classes by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    names: BTreeMap<u32, Arc<str>>,
    empty: Arc<str>,
}

/// Code of: a label file that cannot be used.
const BAD_LABELS: Code = Code("E0350");
/// Code of: a class that has no such name.
const UNKNOWN_CLASS: Code = Code("E0351");
/// Largest label file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// Largest class index that a label file may state.
const MAX_INDEX: u32 = 1 << 20;

impl Labels {
    /// Loads the names that the key `labels` states; no key, no names.
    pub fn load(key: Option<&LabelsKey>, cx: &PrepareContext<'_>) -> Result<Self, PrepareError> {
        match key {
            None => Ok(Self::default()),
            Some(LabelsKey::List(names)) => Ok(names.iter().map(String::as_str).collect()),
            Some(LabelsKey::Named(name)) if name.is_empty() => Ok(Self::default()),
            Some(LabelsKey::Named(name)) if name == "coco80" => Ok(COCO80.into_iter().collect()),
            Some(LabelsKey::Named(file)) => {
                let path = cx.resolve(Path::new(file));
                Self::parse(&read(&path)?).map_err(|why| {
                    PrepareError::new(BAD_LABELS, "labels", format!("{}: {why}", path.display()))
                        .help("write one name per line, or `index name` on every line")
                })
            }
        }
    }

    /// Reads the text of a label file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text
            .trim_start_matches('\u{feff}')
            .trim_end()
            .lines()
            .map(str::trim)
            .collect();
        if lines.iter().all(|line| line.is_empty()) {
            return Err("the file names no class".into());
        }
        let numbered: Option<Vec<(u32, &str)>> = lines
            .iter()
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (index, name) = line.split_once(|c: char| c.is_whitespace() || c == ':')?;
                Some((index.parse().ok()?, name.trim_start_matches([':', ' ', '\t'])))
            })
            .collect();
        let Some(numbered) = numbered else {
            return Ok(lines.into_iter().collect());
        };
        let mut names = BTreeMap::new();
        for (index, name) in numbered {
            if index > MAX_INDEX {
                return Err(format!("class index {index}; the largest is {MAX_INDEX}"));
            }
            if names.insert(index, Arc::from(name)).is_some() {
                return Err(format!("class {index} is named twice"));
            }
        }
        Ok(Self {
            names,
            ..Self::default()
        })
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Name of class `index`; empty where it has none.
    pub fn name(&self, index: u32) -> Arc<str> {
        self.names.get(&index).unwrap_or(&self.empty).clone()
    }

    /// The classes that bear `name`.
    pub fn indices<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        self.names
            .iter()
            .filter(move |(_, n)| n.as_ref() == name)
            .map(|(i, _)| *i)
    }

    /// The classes that the key `classes` names; each must have a label.
    pub fn filter(&self, classes: &[String]) -> Result<Vec<u32>, PrepareError> {
        let mut wanted = Vec::new();
        for (i, name) in classes.iter().enumerate() {
            let before = wanted.len();
            wanted.extend(self.indices(name));
            if wanted.len() == before {
                let (message, help) = if self.is_empty() {
                    (
                        format!("class `{name}` cannot be found without labels"),
                        "name the classes: `labels: FILE` or `labels: coco80`".to_owned(),
                    )
                } else {
                    let some: Vec<_> = self.names.values().take(8).map(|n| format!("`{n}`")).collect();
                    (
                        format!("no label is `{name}`"),
                        format!("the {} labels are {}, ...", self.len(), some.join(", ")),
                    )
                };
                return Err(PrepareError::new(UNKNOWN_CLASS, format!("classes[{i}]"), message).help(help));
            }
        }
        Ok(wanted)
    }

    /// The same names with each index raised by one from `index` on: for lists that leave the background out.
    pub(crate) fn skipping(&self, index: u32) -> Self {
        let names = self
            .names
            .iter()
            .map(|(&i, name)| (if i >= index { i + 1 } else { i }, name.clone()))
            .collect();
        Self {
            names,
            empty: self.empty.clone(),
        }
    }
}

impl<'a> FromIterator<&'a str> for Labels {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        Self {
            names: (0..).zip(names.into_iter().map(Arc::from)).collect(),
            ..Self::default()
        }
    }
}

fn read(path: &PathBuf) -> Result<String, PrepareError> {
    let failed = |why: String| {
        PrepareError::new(BAD_LABELS, "labels", format!("{}: {why}", path.display()))
            .help("`labels` takes a text file, a list of names, or `coco80`")
    };
    let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(format!(
            "larger than {} MiB: not a label file",
            MAX_BYTES >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|_| failed("not UTF-8 text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn load(key: &LabelsKey) -> Result<Labels, PrepareError> {
        Labels::load(
            Some(key),
            &PrepareContext {
                name: "detect",
                folder: Path::new("."),
                models: &BTreeMap::new(),
                downstream: &[],
                streams: &[],
                replicas: 1,
                threads: 1,
                batch: None,
            },
        )
    }

    #[test]
    fn lines_are_names_in_order() {
        let labels = Labels::parse("\u{feff}background\r\ncat, tabby\r\n\r\n7 up\r\n").unwrap();
        assert_eq!(labels.name(1).as_ref(), "cat, tabby");
        assert_eq!(labels.name(2).as_ref(), "");
        assert_eq!(labels.name(3).as_ref(), "7 up");
        assert_eq!(labels.name(4).as_ref(), "");
    }

    #[test]
    fn numbered_lines_state_the_index() {
        let labels = Labels::parse("0  person\n2: car\n\n17 traffic light\n").unwrap();
        assert_eq!(labels.name(0).as_ref(), "person");
        assert_eq!(labels.name(1).as_ref(), "");
        assert_eq!(labels.name(2).as_ref(), "car");
        assert_eq!(labels.name(17).as_ref(), "traffic light");
        assert!(Labels::parse("1 a\n1 b").unwrap_err().contains("twice"));
    }

    #[test]
    fn bad_files_are_errors_at_the_key() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0xff, 0xfe, 0x00]).unwrap();
        let text = file.path().to_string_lossy().into_owned();
        for name in [text, "no-such-file.txt".into()] {
            let e = load(&LabelsKey::Named(name.clone())).unwrap_err();
            assert_eq!((e.code, e.key.as_str()), (BAD_LABELS, "labels"));
            assert!(e.message.contains(&name), "{e}");
        }
    }

    #[test]
    fn classes_are_found_by_name_or_refused_with_the_choice() {
        let labels = load(&LabelsKey::Named("coco80".into())).unwrap();
        assert_eq!(
            labels.filter(&["person".into(), "toothbrush".into()]).unwrap(),
            [0, 79]
        );
        let e = labels.filter(&["person".into(), "persn".into()]).unwrap_err();
        assert_eq!(e.key, "classes[1]");
        assert!(e.help.unwrap().contains("`person`"));
        assert!(Labels::default().filter(&["person".into()]).is_err());
    }

    #[test]
    fn names_step_over_the_background() {
        let labels: Labels = ["face"].into_iter().collect();
        assert_eq!(labels.skipping(0).name(1).as_ref(), "face");
        assert_eq!(labels.skipping(0).name(0).as_ref(), "");
    }
}
