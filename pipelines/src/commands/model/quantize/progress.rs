//! A progress bar for each phase.

use std::io::IsTerminal;
use std::sync::Mutex;

use flow_quantize::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bars on stderr, if that is a terminal.
pub struct Bars {
    shown: bool,
    bar: Mutex<ProgressBar>,
}

impl Bars {
    pub fn new(quiet: bool) -> Self {
        Self {
            shown: !quiet && std::io::stderr().is_terminal(),
            bar: Mutex::new(ProgressBar::hidden()),
        }
    }

    fn with(&self, act: impl FnOnce(&mut ProgressBar)) {
        act(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn phase(&self, name: &str, steps: usize) {
        if !self.shown {
            return;
        }
        self.with(|bar| {
            bar.finish_and_clear();
            let style = ProgressStyle::with_template("{msg:18} [{bar:32}] {pos}/{len}  {eta}");
            let target = ProgressDrawTarget::stderr_with_hz(10);
            *bar = ProgressBar::with_draw_target(Some(steps as u64), target).with_message(name.to_owned());
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
        });
    }

    fn step(&self) {
        if self.shown {
            self.with(|bar| bar.inc(1));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.with(|bar| bar.finish_and_clear());
    }
}
