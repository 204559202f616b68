//! File names with placeholders.

use std::path::{Path, PathBuf};

use flow::error::{Code, PrepareError};
use flow::packet::PacketId;
use flow::registry::ConfigIssue;

use crate::file::check_writable;

/// A file name with placeholders: `{stream}`, `{epoch}`, `{seq}` (`{seq:06}`: at least six digits) and
/// `{origin}`, the name of the file a picture is from, without folder and ending. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Stream,
    Epoch(usize),
    Seq(usize),
    Origin,
}

impl Pattern {
    /// Reads a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    literal.push(c);
                }
                '{' => {
                    let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(placeholder(&inside)?);
                }
                '}' => return Err("a `}` without `{`; write `}}` for a brace".into()),
                c => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Checks before a run that the files can be written.
    pub(crate) fn check_writable(&self) -> Result<(), PrepareError> {
        let fixed = match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        };
        check_writable(Path::new(fixed), self.parts.len() == 1 && !fixed.is_empty())
    }

    /// Whether every stream has names of its own.
    pub fn tells_streams(&self) -> bool {
        self.parts.contains(&Part::Stream)
    }

    /// Whether every packet of a stream has a name of its own.
    pub fn tells_packets(&self) -> bool {
        self.parts
            .iter()
            .any(|p| matches!(p, Part::Seq(_) | Part::Origin))
    }

    /// The file name for a packet.
    pub fn path(&self, id: &PacketId, origin: &str) -> PathBuf {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Stream => name.push_str(&tame(&id.stream)),
                Part::Epoch(width) => name.push_str(&format!("{:0width$}", id.epoch)),
                Part::Seq(width) => name.push_str(&format!("{:0width$}", id.seq)),
                Part::Origin => {
                    let stem = Path::new(origin).file_stem().unwrap_or_default();
                    match &*stem.to_string_lossy() {
                        "" => name.push_str(&format!("{:06}", id.seq)),
                        stem => name.push_str(&tame(stem)),
                    }
                }
            }
        }
        name.into()
    }
}

/// Nothing from outside may lead to another folder.
fn tame(name: &str) -> String {
    let safe = |c: char| !(c.is_control() || matches!(c, '/' | '\\' | ':'));
    let name: String = name.chars().map(|c| if safe(c) { c } else { '_' }).collect();
    if name.chars().all(|c| c == '.') {
        "_".into()
    } else {
        name
    }
}

fn placeholder(text: &str) -> Result<Part, String> {
    let (name, width) = match text.split_once(':') {
        None => (text, 0),
        Some((name, width)) => match width.parse() {
            Ok(width @ 1..=20) => (name, width),
            _ => {
                return Err(format!(
                    "`{{{text}}}`: the width goes from 1 to 20, such as `{{seq:06}}`"
                ));
            }
        },
    };
    match name {
        "stream" if width == 0 => Ok(Part::Stream),
        "origin" if width == 0 => Ok(Part::Origin),
        "epoch" => Ok(Part::Epoch(width)),
        "seq" => Ok(Part::Seq(width)),
        _ => Err(format!(
            "unknown placeholder `{{{text}}}`; there are {{stream}}, {{epoch}}, {{seq}}, {{seq:06}} and {{origin}}"
        )),
    }
}

/// Faults of the key `path`: a bad pattern, or `{seq}` and the like where one file holds many packets.
pub(crate) fn check_path(path: &str, one_file_per_packet: bool) -> Vec<ConfigIssue> {
    let issue = |message: String, help: &str| {
        vec![ConfigIssue {
            code: Code("E0160"),
            key: "path".into(),
            message,
            help: Some(help.into()),
        }]
    };
    if path.is_empty() {
        return issue("the path is empty".into(), "give the name of a file");
    }
    match Pattern::parse(path) {
        Err(why) => issue(why, "write `{{` and `}}` for braces in a file name"),
        Ok(p) if one_file_per_packet && !p.tells_packets() => issue(
            "every picture would overwrite the one before".into(),
            "put `{seq:06}` or `{origin}` into the path",
        ),
        Ok(p)
            if !one_file_per_packet
                && (p.tells_packets() || p.parts.iter().any(|p| matches!(p, Part::Epoch(_)))) =>
        {
            issue(
                "one file holds many packets here, so its name cannot depend on one of them".into(),
                "use `{stream}` alone",
            )
        }
        Ok(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(stream: &str, seq: u64) -> PacketId {
        PacketId {
            stream: stream.into(),
            epoch: 2,
            seq,
        }
    }

    #[test]
    fn placeholders_are_filled() {
        let p = Pattern::parse("out/{stream}-{epoch}-{seq:06}{{x}}.jpg").unwrap();
        assert_eq!(
            p.path(&id("cam", 42), ""),
            PathBuf::from("out/cam-2-000042{x}.jpg")
        );
        let p = Pattern::parse("{origin}.png").unwrap();
        assert_eq!(
            p.path(&id("cam", 1), "folder/cat.v2.jpg"),
            PathBuf::from("cat.v2.png")
        );
        assert_eq!(p.path(&id("cam", 1), ""), PathBuf::from("000001.png"));
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(Pattern::parse("{sequence}").unwrap_err().contains("{seq:06}"));
        assert!(Pattern::parse("{seq:x}").unwrap_err().contains("width"));
        assert!(Pattern::parse("a}b").unwrap_err().contains("}}"));
        assert!(check_path("out.jpg", true)[0].message.contains("overwrite"));
        assert_eq!(check_path("{seq}.avi", false)[0].key, "path");
        assert!(check_path("{stream}.avi", false).is_empty());
    }

    proptest! {
        #[test]
        fn names_from_outside_stay_in_their_folder(stream in ".*", origin in ".*") {
            let p = Pattern::parse("out/{stream}/x").unwrap().path(&id(&stream, 0), "");
            prop_assert!(!stream.is_empty() && p.components().count() == 3 || stream.is_empty());
            prop_assert!(p.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            let p = Pattern::parse("out/{origin}").unwrap().path(&id("s", 0), &origin);
            prop_assert!(p.components().all(|c| matches!(c, std::path::Component::Normal(_))));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = Pattern::parse(&text);
        }
    }
}
