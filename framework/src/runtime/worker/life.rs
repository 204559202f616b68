//! The life of an instance: building, flushing, failing, closing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Instance, Worker};
use crate::config::plan::OnError;
use crate::error::{Code, StageError};
use crate::registry::{PreparedComponent, Role};
use crate::runtime::component::guard;
use crate::runtime::event;

impl Worker {
    /// Makes the instance settle what it holds back of a stream.
    pub(super) fn settle(&mut self, stream: usize) {
        if !self.desk.has_stream(stream) {
            return;
        }
        let name = self.component.stream(stream);
        let outcome = self.call("flush", |instance, out| match instance {
            Instance::Stage(stage) => stage.flush(&name, out),
            Instance::Sink(_) => Ok(()),
        });
        self.flushed(stream, outcome);
    }

    /// The stream has ended.
    pub(super) fn flush(&mut self, stream: usize) {
        let name = self.component.stream(stream);
        let outcome = self.call("flush", |instance, out| match instance {
            Instance::Stage(stage) => stage.flush(&name, out),
            Instance::Sink(sink) => sink.end_of_stream(&name),
        });
        self.flushed(stream, outcome);
        self.desk.unflushed.fetch_sub(1, Ordering::AcqRel);
        if self.component.stream_flushed(stream) {
            self.component.exit.end(&self.core, stream);
        }
    }

    pub(super) fn flushed(&mut self, stream: usize, outcome: Result<(), StageError>) {
        while let Some(holding) = self.desk.take_stream(stream) {
            let mut out = self.out();
            match &outcome {
                Err(error) => out.fail_holding(holding, error, 1),
                Ok(()) => out.lose_holding(holding),
            }
        }
        if let Err(error) = outcome {
            self.stream_call_failed(error);
        }
    }

    /// A call that concerned no single packet has failed.
    pub(super) fn stream_call_failed(&mut self, error: StageError) {
        if self.component.role == Role::Sink || self.component.on_error == OnError::Fail {
            // What the sink has written of the stream may be incomplete.
            self.ended(&error);
        } else {
            tracing::error!(
                component = &*self.component.name,
                replica = self.replica,
                code = error.code.0,
                "Flush failed: {error}"
            );
            self.core.warn(format!("`{}`: {error}", self.component.name));
        }
        if !error.recoverable {
            self.fail_instance(error);
        }
    }

    /// The instance cannot go on: what it held back is lost with it, and it is rebuilt within the budget. A sink is
    /// not: its output would start over and look whole.
    pub(super) fn fail_instance(&mut self, error: StageError) {
        self.discard();
        for holding in self.desk.take_all() {
            let message = format!("`{}` was rebuilt while it held the packet", self.component.name);
            let mut lost = StageError::packet(Code("E0403"), message);
            lost.source = Some(Arc::new(error.clone()));
            self.out().fail_holding(holding, &lost, 1);
        }
        self.rebuild(error);
    }

    /// Builds the instance anew, within the budget.
    pub(super) fn rebuild(&mut self, error: StageError) {
        if self.component.role == Role::Sink {
            return self.die(error);
        }
        let mut error = error;
        loop {
            let now = self.core.clock.now();
            let Some(wait) = self.component.may_restart(now) else {
                let spent = self.component.budget_spent(&error);
                return self.die(spent);
            };
            event::Restarting {
                component: &self.component.name,
                replica: self.replica,
                error: &error,
            }
            .emit(&self.component.restarts);
            let until = now.checked_add(wait).filter(|_| !wait.is_zero());
            if until.is_some_and(|until| !self.core.wait_until_or_stop(until)) {
                self.dead = Some(error);
                return;
            }
            match self.build() {
                Ok(()) => return,
                Err(again) => error = again,
            }
        }
    }

    /// From now on every packet fails.
    pub(super) fn die(&mut self, error: StageError) {
        self.discard();
        self.ended(&error);
        self.dead = Some(error);
    }

    pub(super) fn ended(&self, error: &StageError) {
        let ended = event::Ended {
            component: &self.component.name,
            error,
        };
        if !self.component.required {
            ended.emit_optional(&self.core);
        } else if self.component.per_stream && self.component.role == Role::Stage {
            ended.emit_streams(&self.core, &self.streams);
        } else {
            ended.emit(&self.core);
        }
    }

    pub(super) fn build(&mut self) -> Result<(), StageError> {
        let name = &*self.component.name;
        let replica = self.replica;
        let mut instance = guard(name, "build", || match &self.component.part {
            PreparedComponent::Stage(part) => (part.build)(replica).map(Instance::Stage),
            PreparedComponent::Sink(part) => (part.build)(replica).map(Instance::Sink),
            PreparedComponent::Source(_) => unreachable!("sources have workers of their own"),
        })?;
        let cx = &self.cx;
        let opened = guard(name, "open", || match &mut instance {
            Instance::Stage(stage) => stage.open(cx),
            Instance::Sink(sink) => sink.open(cx),
        });
        self.instance = Some(instance);
        if opened.is_err() {
            self.discard();
        }
        opened
    }

    /// Drops the instance, whatever it does meanwhile.
    pub(super) fn discard(&mut self) {
        if let Some(instance) = self.instance.take() {
            let dropped = guard(&self.component.name, "drop", || {
                drop(instance);
                Ok(())
            });
            if let Err(error) = dropped {
                self.core.warn(error.message);
            }
        }
    }

    pub(super) fn close(&mut self) {
        let closed = match &mut self.instance {
            None => return,
            Some(instance) => guard(&self.component.name, "close", || match instance {
                Instance::Stage(stage) => stage.close(),
                Instance::Sink(sink) => sink.close(),
            }),
        };
        self.discard();
        if let Err(error) = closed {
            match self.component.role {
                Role::Sink => self.ended(&error),
                _ => self.core.warn(format!("`{}`: {error}", self.component.name)),
            }
        }
    }
}
