//! Changes to a run over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::config::edit::{Change, Editor, Refusal};
use crate::observe::control::{Group, Replaceable, Switchable};
use crate::observe::http::{Request, Response};
use crate::runtime::RunHandle;

/// Changes to a run, for whoever has the token.
///
/// | request | what it does |
/// |---|---|
/// | `GET /control` | tells where replacements stand |
/// | `POST /control/restart?stage=NAME` | builds the instances of a stage anew, each between two packets |
/// | `POST /control/set`, content `stages.NAME.KEY=VALUE` | changes a value of a stage or source, as `--set` does |
/// | `POST /control/reload` | reads the pipeline file again and makes what differs so |
/// | `POST /control/pause?source=NAME` | closes a source; its stream waits, the others go on |
/// | `POST /control/start?source=NAME` | opens it again, with a new epoch |
/// | `POST /control/end?source=NAME` | ends a source; the others go on |
/// | `POST /control/stop` | ends the run as SIGTERM does |
///
/// All want `Authorization: Bearer TOKEN`. A change that has faults, or needs a new run, is refused and changes nothing.
/// What changes together is taken back together, where a new instance cannot be had.
pub struct Controls {
    token: String,
    stages: Vec<Replaceable>,
    sources: Vec<Switchable>,
    /// The last change.
    last: Option<Arc<Group>>,
    editor: Result<Editor, String>,
}

/// Fewest characters of a token.
const SHORTEST: usize = 16;

impl Controls {
    /// Controls for the stages that can be replaced and the sources that can be switched. `editor` may be missing for a reason.
    ///
    /// # Errors
    /// When the token is too short to be worth anything.
    pub fn new(
        token: String,
        stages: Vec<Replaceable>,
        sources: Vec<Switchable>,
        editor: Result<Editor, String>,
    ) -> Result<Self, String> {
        if token.chars().count() < SHORTEST {
            return Err(format!("a token has at least {SHORTEST} characters"));
        }
        Ok(Self {
            token,
            stages,
            sources,
            last: None,
            editor,
        })
    }

    pub(super) fn answer(&mut self, request: &Request, run: &RunHandle) -> Response {
        if !request
            .token
            .as_deref()
            .is_some_and(|given| same(given, &self.token))
        {
            return Response::text(
                401,
                "this wants `Authorization: Bearer TOKEN` with the token of the run\n",
            );
        }
        if self.last.as_ref().is_some_and(|group| group.was_taken_back()) {
            self.last = None;
            if let Ok(editor) = &mut self.editor {
                editor.taken_back();
            }
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/control") => Response::json(200, &self.states()),
            ("POST", "/control/restart") => self.restart(request),
            ("POST", "/control/set") => self.set(request),
            ("POST", "/control/reload") => match &self.editor {
                Ok(editor) => {
                    let change = editor.reload();
                    self.make(change)
                }
                Err(reason) => Response::text(409, format!("{reason}\n")),
            },
            ("POST", "/control/pause") => self.switch(request, "pausing", Switchable::pause),
            ("POST", "/control/start") => self.switch(request, "starting", Switchable::start),
            ("POST", "/control/end") => {
                let name = request.query_value("source").unwrap_or_default();
                match run.end_source(&name) {
                    true => Response::json(202, &json!({ "ending": name })),
                    false => Response::text(404, format!("there is no source `{name}`\n")),
                }
            }
            ("POST", "/control/stop") => {
                run.stop();
                Response::json(202, &json!({ "stopping": true }))
            }
            ("GET", _) => Response::text(405, "changes are made with POST\n"),
            (_, path) => Response::text(
                404,
                format!(
                    "there is no {path}; there are /control/restart, /set, /reload, /pause, /start, /end and /stop\n"
                ),
            ),
        }
    }

    fn states(&self) -> BTreeMap<&str, serde_json::Value> {
        let states = self
            .stages
            .iter()
            .map(|stage| (stage.name.as_str(), json!(stage.state())));
        let sources = self
            .sources
            .iter()
            .map(|source| (source.name.as_str(), json!(source.state())));
        states.chain(sources).collect()
    }

    fn switch(&self, request: &Request, doing: &str, switch: fn(&Switchable)) -> Response {
        let name = request.query_value("source").unwrap_or_default();
        match self.sources.iter().find(|source| source.name == name) {
            Some(source) => {
                switch(source);
                Response::json(202, &json!({ doing: name }))
            }
            None => {
                let names: Vec<&str> = self.sources.iter().map(|s| s.name.as_str()).collect();
                let names = names.join(", ");
                Response::text(404, format!("there is no source `{name}`; there are: {names}\n"))
            }
        }
    }

    fn restart(&self, request: &Request) -> Response {
        let name = request.query_value("stage").unwrap_or_default();
        match self.stages.iter().find(|stage| stage.name == name) {
            Some(stage) => {
                stage.restart();
                Response::json(202, &json!({ "restarting": name }))
            }
            None => {
                let names: Vec<&str> = self.stages.iter().map(|s| s.name.as_str()).collect();
                Response::text(
                    404,
                    format!("there is no stage `{name}`; there are: {}\n", names.join(", ")),
                )
            }
        }
    }

    fn set(&mut self, request: &Request) -> Response {
        let Ok(argument) = std::str::from_utf8(&request.body) else {
            return Response::text(400, "the content is not UTF-8\n");
        };
        match &self.editor {
            Ok(editor) => {
                let change = editor.set(argument.trim());
                self.make(change)
            }
            Err(reason) => Response::text(409, format!("{reason}\n")),
        }
    }

    fn make(&mut self, change: Result<Change, Refusal>) -> Response {
        let mut change = match change {
            Ok(change) => change,
            Err(refusal @ Refusal::Faults(_)) => return Response::text(400, refusal.to_string()),
            Err(refusal @ Refusal::NewRun(_)) => return Response::text(409, refusal.to_string()),
        };
        let mut names = Vec::new();
        let group = Arc::new(Group::default());
        for (name, part) in std::mem::take(&mut change.stages) {
            if let Some(stage) = self.stages.iter().find(|stage| stage.name == name) {
                stage.replace(part, &group);
            }
            names.push(name);
        }
        for (name, part) in std::mem::take(&mut change.sources) {
            if let Some(source) = self.sources.iter().find(|source| source.name == name) {
                source.replace(part, &group);
            }
            names.push(name);
        }
        group.seal();
        self.last = Some(group);
        let answer = Response::json(202, &json!({ "changed": change.paths, "replacing": names }));
        if let Ok(editor) = &mut self.editor {
            editor.made(change);
        }
        answer
    }
}

/// Compares in a time that does not tell how much is right.
fn same(given: &str, token: &str) -> bool {
    let (given, token) = (given.as_bytes(), token.as_bytes());
    let differs = given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == token.len() && differs == 0
}
