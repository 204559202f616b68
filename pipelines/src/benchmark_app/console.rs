//! What the tool prints: numbered steps and lines with their level, on stdout as OpenVINO's does.

use std::io::Write;

/// The names of the steps.
const STEPS: [&str; 11] = [
    "Parsing and validating input arguments",
    "Loading the runtime",
    "Setting device configuration",
    "Reading model files",
    "Resizing model to match image sizes and given batch",
    "Configuring input of the model",
    "Loading the model to the device",
    "Querying optimal runtime parameters",
    "Creating infer requests and preparing input tensors",
    "Measuring performance",
    "Dumping statistics report",
];

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    silent: bool,
}

impl Console {
    /// To stdout.
    pub fn new() -> Self {
        Self { silent: false }
    }

    /// Nowhere.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self { silent: true }
    }

    /// A line as it is. A closed pipe is no fault.
    pub fn line(&self, text: &str) {
        if !self.silent {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
    }

    /// The heading of a step, from 1 on.
    pub fn step(&self, number: usize, more: &str) {
        let name = STEPS[number - 1];
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(" ({more})")
        };
        self.line(&format!("[Step {number}/{}] {name}{more}", STEPS.len()));
    }

    /// What is so.
    pub fn info(&self, text: &str) {
        self.line(&format!("[ INFO ] {text}"));
    }

    /// What may not be as expected.
    pub fn warning(&self, text: &str) {
        self.line(&format!("[ WARNING ] {text}"));
    }
}
