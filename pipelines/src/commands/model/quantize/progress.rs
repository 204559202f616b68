//! A progress bar for each phase, and what stops the work.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use flow_quantize::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// Bars on stderr, if that is a terminal. The first SIGINT or SIGTERM stops the work where that is safe, the second at
/// once.
pub struct Bars {
    shown: bool,
    bar: Mutex<ProgressBar>,
    stopped: Arc<AtomicBool>,
}

impl Bars {
    pub fn new(quiet: bool) -> Result<Self, Failure> {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset, and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, stopped.clone())
                .and_then(|_| flag::register(signal, stopped.clone()))
                .map_err(Failure::failed)?;
        }
        Ok(Self {
            shown: !quiet && std::io::stderr().is_terminal(),
            bar: Mutex::new(ProgressBar::hidden()),
            stopped,
        })
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

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.with(|bar| bar.finish_and_clear());
    }
}
