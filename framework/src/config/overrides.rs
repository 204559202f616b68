//! `--set a.b=c`: values given on the command line in place of those of the file.

use super::path::{KeyPath, Segment};
use super::suggest::{did_you_mean, list};
use super::tree::{Entry, Node, Value};
use super::yaml;
use crate::codes;
use crate::diagnostics::{Diagnostic, Span};

/// The keys of a pipeline file.
pub const SECTIONS: [&str; 8] = [
    "version", "name", "runtime", "defaults", "models", "sources", "stages", "sinks",
];

/// Sets the value that `argument`, of the form `path=value`, names. The value is read as YAML. Missing keys
/// are added, but a model, source, stage or sink must be in the file already. `source` is the index of the
/// argument's text among the [sources](crate::diagnostics::Sources).
pub fn apply(root: &mut Node, argument: &str, source: usize, found: &mut Vec<Diagnostic>) {
    if let Err(error) = try_apply(root, argument, source, found) {
        found.push(*error);
    }
}

fn try_apply(
    root: &mut Node,
    argument: &str,
    source: usize,
    found: &mut Vec<Diagnostic>,
) -> Result<(), Box<Diagnostic>> {
    let place = |start: usize, end: usize| Span {
        source,
        start,
        end,
        line: 1,
        column: argument[..start].chars().count() + 1,
    };
    let malformed = |message: String| {
        let error = Diagnostic::error(codes::BAD_OVERRIDE, place(0, argument.len()), message)
            .help("write for example `--set stages.detect.threshold=0.5`");
        Box::new(error)
    };
    let Some((path_text, _)) = argument.split_once('=') else {
        return Err(malformed("`--set` takes `path=value`, found no `=`".into()));
    };
    let Some(path) = KeyPath::parse(path_text) else {
        return Err(malformed(format!("\"{path_text}\" is not a path of keys")));
    };
    // Blanks in place of the path keep the places of the value right.
    let blanks = " ".repeat(path_text.len() + 1);
    let padded = format!("{blanks}{}", &argument[path_text.len() + 1..]);
    let value = yaml::parse(&padded, source, found)?;
    let path_span = place(0, path_text.len());
    let at = At {
        path: &path,
        span: path_span,
        done: KeyPath::root(),
    };
    set(root, path.segments(), value, &at)
}

struct At<'p> {
    path: &'p KeyPath,
    span: Span,
    done: KeyPath,
}

impl At<'_> {
    fn error(&self, message: String) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(codes::BAD_OVERRIDE, self.span, message))
    }
}

fn set(node: &mut Node, rest: &[Segment], value: Node, at: &At<'_>) -> Result<(), Box<Diagnostic>> {
    let Some((segment, rest)) = rest.split_first() else {
        *node = value;
        return Ok(());
    };
    match segment {
        Segment::Key(key) => {
            let below = At {
                path: at.path,
                span: at.span,
                done: at.done.key(key),
            };
            // The short form of an input gains its long form.
            if let ([.., Segment::Index(_)], Value::String(_)) = (at.done.segments(), &node.value) {
                let name = node.clone();
                node.value = Value::Mapping(vec![Entry {
                    key: "from".into(),
                    key_span: name.span,
                    value: name,
                }]);
            }
            if let Value::Null = node.value {
                node.value = Value::Mapping(Vec::new());
            }
            check_known(node, key, at)?;
            let found = node.describe();
            let Value::Mapping(entries) = &mut node.value else {
                return Err(at.error(format!(
                    "cannot set `{}`: `{}` is {found}, not a mapping",
                    at.path, at.done
                )));
            };
            let index = match entries.iter().position(|e| e.key == *key) {
                Some(index) => index,
                None => {
                    entries.push(Entry {
                        key: key.clone(),
                        key_span: at.span,
                        value: Node::empty_mapping(at.span),
                    });
                    entries.len() - 1
                }
            };
            set(&mut entries[index].value, rest, value, &below)
        }
        Segment::Index(index) => {
            let found = node.describe();
            let Value::Sequence(items) = &mut node.value else {
                return Err(at.error(format!(
                    "cannot set `{}`: `{}` is {found}, not a list",
                    at.path, at.done
                )));
            };
            let count = items.len();
            let Some(item) = items.get_mut(*index) else {
                return Err(at.error(format!(
                    "cannot set `{}`: `{}` has {count} items, counted from 0",
                    at.path, at.done
                )));
            };
            let below = At {
                path: at.path,
                span: at.span,
                done: at.done.index(*index),
            };
            set(item, rest, value, &below)
        }
    }
}

/// Sections and components cannot be added by `--set`: a path that names an absent one is a slip.
fn check_known(node: &Node, key: &str, at: &At<'_>) -> Result<(), Box<Diagnostic>> {
    let known: Vec<&str> = match at.done.segments() {
        [] => SECTIONS.to_vec(),
        [Segment::Key(section)] if matches!(section.as_str(), "models" | "sources" | "stages" | "sinks") => {
            node.entries().iter().map(|e| e.key.as_str()).collect()
        }
        _ => return Ok(()),
    };
    if known.contains(&key) {
        return Ok(());
    }
    let place = if at.done.is_root() {
        "a pipeline file".to_owned()
    } else {
        format!("`{}`", at.done)
    };
    let mut error = Diagnostic::error(
        codes::BAD_OVERRIDE,
        at.span,
        format!("cannot set `{}`: {place} has no `{key}`", at.path),
    )
    .label(did_you_mean(key, known.iter().copied()));
    if error.label.is_empty() && !known.is_empty() {
        error = error.help(format!("it has {}", list(known, "and")));
    }
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = "stages:\n  detect: {type: infer, inputs: [prep], threshold: 0.4}\n";

    fn with(argument: &str) -> Result<serde_json::Value, (String, String)> {
        let mut found = Vec::new();
        let mut root = yaml::parse(FILE, 0, &mut found).unwrap();
        apply(&mut root, argument, 1, &mut found);
        match found.into_iter().next() {
            Some(error) => Err((error.message, error.label)),
            None => Ok(root.to_json()),
        }
    }

    #[test]
    fn values_are_replaced_and_added() {
        let detect = |argument: &str| with(argument).unwrap()["stages"]["detect"].clone();
        assert_eq!(detect("stages.detect.threshold=0.5")["threshold"], json!(0.5));
        assert_eq!(detect("stages.detect.labels=[a, b]")["labels"], json!(["a", "b"]));
        assert_eq!(detect("stages.detect.x=a=b")["x"], json!("a=b"));
        assert_eq!(
            detect("stages.detect.inputs[0].queue.capacity=9")["inputs"],
            json!([{"from": "prep", "queue": {"capacity": 9}}])
        );
        assert_eq!(
            with("runtime.drain_timeout=5s").unwrap()["runtime"],
            json!({"drain_timeout": "5s"})
        );
    }

    #[test]
    fn paths_that_make_no_sense_are_explained() {
        let error = |argument: &str| with(argument).unwrap_err();
        assert_eq!(error("stages.detct.threshold=1").1, "did you mean `detect`?");
        assert_eq!(error("stage.detect.threshold=1").1, "did you mean `stages`?");
        assert!(error("stages.detect.inputs[3]=a").0.contains("has 1 items"));
        assert!(error("stages.detect.threshold.x=1").0.contains("not a mapping"));
        assert!(error("stages.detect.threshold[0]=1").0.contains("not a list"));
        assert!(error("threshold").0.contains("found no `=`"));
        assert!(error("a..b=1").0.contains("not a path"));
        assert!(error("stages.detect.x=[1").0.contains("not valid YAML"));
    }

    #[test]
    fn places_point_into_the_argument() {
        let argument = "stages.detect.threshold=abc";
        let mut found = Vec::new();
        let mut root = yaml::parse(FILE, 0, &mut found).unwrap();
        apply(&mut root, argument, 1, &mut found);
        let span = root.span_at(&KeyPath::parse("stages.detect.threshold").unwrap());
        assert_eq!(
            (span.source, &argument[span.start..span.end], span.column),
            (1, "abc", 25)
        );
    }
}
