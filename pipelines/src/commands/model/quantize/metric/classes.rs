//! `top1` against true classes.

use std::collections::HashMap;
use std::path::Path;

use flow_model::Graph;

use super::by_outputs::Judge;
use crate::commands::model::quantize::samples::Samples;
use crate::commands::read_at_most;
use crate::failure::Failure;

/// Largest file of classes.
const MAX_BYTES: u64 = 256 << 20;

/// Share of samples whose best class is the true one.
pub struct TrueClasses {
    /// The true class of each sample that is measured on, by its place.
    classes: HashMap<usize, usize>,
    /// The output that holds the scores.
    output: usize,
    right: usize,
    seen: usize,
}

impl TrueClasses {
    /// Reads a file with a line per picture: its name, and the number of its class. Each sample that is measured on must
    /// have a line.
    pub fn read(file: &Path, original: &Graph, samples: &Samples, places: &[usize]) -> Result<Self, Failure> {
        let fault = |what: String| Failure::usage(format!("--truth {}: {what}", file.display()));
        let bytes = read_at_most(file, MAX_BYTES).map_err(|e| Failure::file("read", file, e))?;
        let text = String::from_utf8(bytes).map_err(|_| fault("it is not UTF-8 text".to_owned()))?;
        let output = (0..original.results.len())
            .find(|&i| {
                let value = original.node(original.results[i]).inputs[0];
                original.info(value).element_type.is_float()
            })
            .ok_or_else(|| fault("no output of the network is in floating point".to_owned()))?;
        let value = original.node(original.results[output]).inputs[0];
        let count: usize = original
            .info(value)
            .static_shape()
            .unwrap_or_default()
            .iter()
            .product();
        let mut by_name = HashMap::new();
        for (number, line) in (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let (name, class) = line
                .trim()
                .rsplit_once(|c: char| c.is_whitespace() || c == ',')
                .and_then(|(name, class)| Some((name, class.parse::<usize>().ok()?)))
                .ok_or_else(|| {
                    fault(format!(
                        "line {number}: expected the name of a picture and the number of its class"
                    ))
                })?;
            if class >= count {
                return Err(fault(format!(
                    "line {number}: class {class}; the network has {count}, from 0"
                )));
            }
            by_name.insert(last(name.trim_end_matches([' ', '\t', ','])), class);
        }
        let mut classes = HashMap::new();
        for &place in places {
            let name = samples.about(place).map_or("", |about| &about.files);
            let class = by_name
                .get(last(name))
                .ok_or_else(|| fault(format!("no line names {name}, which is measured on")))?;
            classes.insert(place, *class);
        }
        Ok(Self {
            classes,
            output,
            right: 0,
            seen: 0,
        })
    }
}

/// The last part of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Judge for TrueClasses {
    fn name(&self) -> String {
        "top1 of true classes".to_owned()
    }

    fn begin(&mut self, _: bool) {
        (self.right, self.seen) = (0, 0);
    }

    fn add(&mut self, place: usize, outputs: Vec<Vec<f32>>) -> Result<(), String> {
        let scores = outputs.get(self.output).ok_or("the network lost an output")?;
        let best = scores
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
        self.seen += 1;
        self.right += usize::from(best.map(|(at, _)| at) == self.classes.get(&place).copied());
        Ok(())
    }

    fn score(&mut self) -> f64 {
        self.right as f64 / self.seen.max(1) as f64
    }
}
