//! A command that scores a model.

use std::path::{Path, PathBuf};

use flow_model::Graph;
use flow_quantize::{Metric, QuantizeError};
use tempfile::TempDir;

use crate::commands::whole::folder;
use crate::failure::Failure;

/// Runs a shell command with `MODEL` naming the model to score; the last word it prints is the score.
pub struct Command {
    text: String,
    folder: TempDir,
}

impl Command {
    /// Models to score are written beside `output`.
    pub fn new(text: &str, output: &Path) -> Result<Self, Failure> {
        let beside = folder(output);
        let folder = tempfile::Builder::new()
            .prefix(".flowrun-")
            .tempdir_in(beside)
            .map_err(|e| Failure::file("write to", beside, e))?;
        Ok(Self {
            text: text.to_owned(),
            folder,
        })
    }

    fn run(&self, graph: &Graph) -> Result<f64, QuantizeError> {
        let fault = |message: String| QuantizeError::Metric {
            metric: format!("`{}`", self.text),
            message,
        };
        let model: PathBuf = self.folder.path().join("model.xml");
        flow_model::ir::write(graph, &model)?;
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(&self.text)
            .env("MODEL", &model)
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(|e| fault(e.to_string()))?;
        if !output.status.success() {
            return Err(fault(format!(
                "it ended with {}; expected top1, agreement, nmse, map, map50, or a command that prints a number for the \
                 model at $MODEL",
                output.status
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.split_whitespace().last().unwrap_or_default();
        match last.parse::<f64>() {
            Ok(score) if score.is_finite() => Ok(score),
            _ => Err(fault(format!("it printed `{last}` last; expected a number"))),
        }
    }
}

impl Metric for Command {
    fn name(&self) -> String {
        self.text.clone()
    }

    fn score(&mut self, graph: &Graph) -> Result<f64, QuantizeError> {
        self.run(graph)
    }

    fn reference(&mut self, graph: &Graph) -> Result<f64, QuantizeError> {
        self.run(graph)
    }
}
