//! Changes to a pipeline that runs: what differs, whether it can be had without a new run, and the stages it concerns.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::document::{self, Options};
use super::plan::Pipeline;
use super::prepare::{Details, prepare_again};
use super::{check, load};
use crate::diagnostics::Diagnostics;
use crate::registry::{Prepared, PreparedComponent, Registry, Role};
use crate::stage::{Source, Stage};

/// Why a change is refused; the pipeline goes on as it was.
#[derive(Debug)]
pub enum Refusal {
    /// The changed pipeline has faults.
    Faults(Diagnostics),
    /// It needs a new run; each line says what and why.
    NewRun(Vec<String>),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Faults(faults) => f.write_str(&faults.render(false)),
            Self::NewRun(reasons) => {
                writeln!(f, "this needs a new run:")?;
                reasons.iter().try_for_each(|reason| writeln!(f, "  {reason}"))
            }
        }
    }
}

/// A change that can be had.
pub struct Change {
    /// Paths of the values that differ.
    pub paths: Vec<String>,
    /// The stages it concerns: their names, and what their instances are built from now on.
    pub stages: Vec<(String, Prepared<dyn Stage>)>,
    /// The sources it concerns, in the same way.
    pub sources: Vec<(String, Prepared<dyn Source>)>,
    next: State,
}

/// What the pipeline at work is made from.
#[derive(Clone)]
struct State {
    bytes: Vec<u8>,
    set: Vec<String>,
    json: Json,
}

/// Makes changes to the file and the overrides that a running pipeline came from.
pub struct Editor {
    registry: Registry,
    file: PathBuf,
    state: State,
    /// What the last change began from.
    before: Option<State>,
    details: Details,
}

impl Editor {
    /// An editor for the pipeline that came from `file` with these overrides, whose components have these details.
    ///
    /// # Errors
    /// When the file cannot be read again, as one from standard input cannot.
    pub fn new(
        registry: Registry,
        file: &Path,
        set: &[String],
        details: Details,
    ) -> Result<Self, Diagnostics> {
        let options = Options {
            set,
            ..Options::default()
        };
        let document = load(file, &options)?;
        Ok(Self {
            registry,
            file: file.to_path_buf(),
            state: State {
                bytes: document.sources.text(0).as_bytes().to_vec(),
                set: set.to_vec(),
                json: document.root.to_json(),
            },
            before: None,
            details,
        })
    }

    /// One value more is overridden, as with `--set PATH=VALUE`.
    ///
    /// # Errors
    /// When the pipeline would have faults, or needs a new run.
    pub fn set(&self, argument: &str) -> Result<Change, Refusal> {
        let mut next = self.state.clone();
        next.set.push(argument.to_owned());
        self.change(next)
    }

    /// The file is read again.
    ///
    /// # Errors
    /// When the pipeline would have faults, or needs a new run.
    pub fn reload(&self) -> Result<Change, Refusal> {
        let options = Options {
            set: &self.state.set,
            ..Options::default()
        };
        let document = load(&self.file, &options).map_err(Refusal::Faults)?;
        let mut next = self.state.clone();
        next.bytes = document.sources.text(0).as_bytes().to_vec();
        self.change(next)
    }

    /// The change has been made: later ones begin from it.
    pub fn made(&mut self, change: Change) {
        self.before = Some(std::mem::replace(&mut self.state, change.next));
    }

    /// The last change has been taken back: later ones begin from what was before it.
    pub fn taken_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.state = before;
        }
    }

    fn change(&self, mut next: State) -> Result<Change, Refusal> {
        let options = Options {
            set: &next.set,
            ..Options::default()
        };
        let name = self.file.display().to_string();
        let document = document::parse(&name, &next.bytes, &options).map_err(Refusal::Faults)?;
        let pipeline = check(&document, &self.registry)
            .map_err(Refusal::Faults)?
            .pipeline;
        next.json = document.root.to_json();
        let mut paths = Vec::new();
        differences(&self.state.json, &next.json, &mut Vec::new(), &mut paths);
        let mut indices = Vec::new();
        let mut reasons = Vec::new();
        for path in &paths {
            match self.component_of(&pipeline, path) {
                Ok(index) if indices.contains(&index) => {}
                Ok(index) => indices.push(index),
                Err(reason) => reasons.push(format!("{}: {reason}", path.join("."))),
            }
        }
        if !reasons.is_empty() {
            return Err(Refusal::NewRun(reasons));
        }
        let (mut stages, mut sources) = (Vec::new(), Vec::new());
        for index in indices {
            let part =
                prepare_again(&pipeline, &self.registry, index, &self.details).map_err(Refusal::Faults)?;
            let Some(component) = pipeline.components.get(index) else {
                continue;
            };
            match part {
                PreparedComponent::Stage(part) => stages.push((component.name.to_string(), part)),
                PreparedComponent::Source(part) => sources.push((component.name.to_string(), part)),
                PreparedComponent::Sink(_) => {}
            }
        }
        Ok(Change {
            paths: paths.iter().map(|path| path.join(".")).collect(),
            stages,
            sources,
            next,
        })
    }

    /// The stage or source that a changed value belongs to, if building its instances anew is all that it takes.
    fn component_of(&self, pipeline: &Pipeline, path: &[String]) -> Result<usize, &'static str> {
        let section = path.first().map_or("", String::as_str);
        let (Some(name), Some(key)) = (path.get(1), path.get(2)) else {
            return Err(match section {
                "sources" | "stages" | "sinks" => {
                    "components cannot be added, removed or replaced while a pipeline runs; stop it, which drains it, and run the \
                     file anew"
                }
                _ => "it concerns the run as a whole",
            });
        };
        let role = match section {
            "stages" => Role::Stage,
            "sources" => Role::Source,
            "sinks" => return Err("the output of a sink would start over"),
            _ => return Err("it concerns the run as a whole"),
        };
        let (index, component) = pipeline.component(name).ok_or("there is no such component")?;
        let kind = self
            .registry
            .get(role, component.kind)
            .ok_or("there is no such kind")?;
        let own = kind.schema.as_value().get("properties").and_then(Json::as_object);
        if own.is_some_and(|own| own.contains_key(key)) {
            Ok(index)
        } else {
            Err("it changes the graph, the queues or the workers")
        }
    }
}

/// Paths at which two documents differ, as deep as mappings go.
fn differences(old: &Json, new: &Json, at: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match (old, new) {
        (Json::Object(a), Json::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                at.push(key.clone());
                match (a.get(key), b.get(key)) {
                    (Some(old), Some(new)) => differences(old, new, at, found),
                    _ => found.push(at.clone()),
                }
                at.pop();
            }
        }
        (old, new) if old != new => found.push(at.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named_by_their_paths() {
        let old =
            json!({"version": 1, "stages": {"a": {"type": "x", "threshold": 0.5, "size": [1, 2]}, "b": {}}});
        let new =
            json!({"version": 1, "stages": {"a": {"type": "x", "threshold": 0.6, "size": [1, 3], "iou": 1}}});
        let mut found = Vec::new();
        differences(&old, &new, &mut Vec::new(), &mut found);
        let found: Vec<String> = found.iter().map(|path| path.join(".")).collect();
        assert_eq!(
            found,
            ["stages.a.threshold", "stages.a.size", "stages.a.iou", "stages.b"]
        );
    }
}
