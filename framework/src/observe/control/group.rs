//! Changes that are made together or not at all.

use std::sync::Mutex;

use crate::ledger::lock;

type Undo = Box<dyn FnOnce(&str) + Send>;

/// Changes that are made together: where one of them cannot be had, all are taken back.
#[derive(Default)]
pub struct Group {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    undo: Vec<(String, Undo)>,
    /// No more changes are added.
    sealed: bool,
    /// Why the changes are taken back, from when that is known.
    why: Option<String>,
}

impl Group {
    /// Adds a change to the component `name`, and how it is taken back, for which it is given the reason.
    pub(super) fn add(&self, name: String, undo: impl FnOnce(&str) + Send + 'static) {
        lock(&self.state).undo.push((name, Box::new(undo)));
    }

    /// All changes have been asked for. One that was refused in the meantime takes back the others now.
    pub fn seal(&self) {
        let mut state = lock(&self.state);
        state.sealed = true;
        if let Some(why) = state.why.clone() {
            let changes = std::mem::take(&mut state.undo);
            drop(state);
            undo(changes, &why);
        }
    }

    /// Takes all changes back; `false`: that has been done before, or is done when all have been asked for.
    pub(super) fn take_back(&self, why: &str) -> bool {
        let mut state = lock(&self.state);
        if state.why.is_some() {
            return false;
        }
        state.why = Some(why.to_owned());
        if !state.sealed {
            return false;
        }
        let changes = std::mem::take(&mut state.undo);
        drop(state);
        undo(changes, why);
        true
    }

    /// Whether the changes are taken back.
    pub fn was_taken_back(&self) -> bool {
        lock(&self.state).why.is_some()
    }
}

fn undo(changes: Vec<(String, Undo)>, why: &str) {
    let names: Vec<&str> = changes.iter().map(|(name, _)| name.as_str()).collect();
    tracing::warn!("The change is taken back for {}: {why}", names.join(", "));
    let why = format!("taken back: {why}");
    for (_, undo) in changes {
        undo(&why);
    }
}
