//! `map`: mean average precision of the boxes that a network finds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use flow_frame::{Buffer, DType, Detection, Geometry, Layout, Tensor, Tensors};
use flow_model::Graph;
use flow_output::evaluate::{MeanAveragePrecision, TrueBoxes};
use flow_postprocess::detect::Detector;
use flow_postprocess::{Candidate, Place};

use super::Measuring;
use super::by_outputs::Judge;
use crate::commands::model::quantize::detect;
use crate::commands::model::quantize::samples::{About, Samples};
use crate::failure::Failure;

/// Score from which boxes are ranked: precision falls with each that is wrong, and recall wants the weak ones.
const RANKED_FROM: f32 = 0.05;

/// Mean average precision against true boxes, or against what the f32 network finds with the threshold of its pipeline.
pub struct Precision<'a> {
    name: String,
    /// Finds what is ranked.
    ranked: Detector,
    /// Finds what counts as true, where there is no file.
    wanted: Detector,
    from_file: bool,
    /// True boxes by place.
    truth: HashMap<usize, Vec<Detection>>,
    outputs: Vec<(Arc<str>, Vec<usize>)>,
    /// Size of the input in pixels.
    input: (u32, u32),
    samples: &'a Samples,
    thresholds: Vec<f32>,
    sum: MeanAveragePrecision,
    is_reference: bool,
    candidates: Vec<Candidate>,
}

impl<'a> Precision<'a> {
    pub fn new(name: &str, at: &Measuring<'a>) -> Result<Self, Failure> {
        let (config, labels) = detect::read(at.args)?;
        let mut ranked = config.clone();
        ranked.threshold = ranked.threshold.min(RANKED_FROM);
        let detector = |config| Detector::new(config, labels.clone()).map_err(Failure::failed);
        let truth = match &at.args.truth {
            Some(file) => true_boxes(file, at)?,
            None => HashMap::new(),
        };
        let thresholds = match name {
            "map50" => vec![0.5],
            _ => (0..10).map(|i| 0.5 + 0.05 * i as f32).collect(),
        };
        Ok(Self {
            name: match &at.args.truth {
                Some(_) => format!("{name} of true boxes"),
                None => format!("{name} of the boxes in f32"),
            },
            ranked: detector(ranked)?,
            wanted: detector(config)?,
            from_file: at.args.truth.is_some(),
            truth,
            outputs: outputs(at.original),
            input: input(at.original),
            samples: at.samples,
            sum: MeanAveragePrecision::at(thresholds.clone()),
            thresholds,
            is_reference: false,
            candidates: Vec::new(),
        })
    }

    /// Where the boxes of a sample lie: in its picture, or in the input of the network where it was made of none.
    fn place(&self, at: usize) -> Place {
        let about = self.samples.about(at);
        let geometry = about.and_then(|about| about.geometry);
        Place::new(geometry.unwrap_or_else(|| Geometry::identity(self.input.0, self.input.1)))
    }
}

impl Judge for Precision<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn begin(&mut self, is_reference: bool) {
        self.is_reference = is_reference;
        self.sum = MeanAveragePrecision::at(self.thresholds.clone());
    }

    fn add(&mut self, at: usize, outputs: Vec<Vec<f32>>) -> Result<(), String> {
        let place = self.place(at);
        let items = self.outputs.iter().zip(outputs).map(|((name, shape), values)| {
            let mut shape = shape.clone();
            if shape.iter().product::<usize>() != values.len() {
                // A number of boxes that is known only when the network has run.
                shape = vec![1, values.len()];
            }
            (name.clone(), tensor(shape, &values))
        });
        let tensors = Tensors {
            items: items.collect(),
        };
        if self.is_reference && !self.from_file {
            let found = self.wanted.run(&tensors, &place, &mut self.candidates);
            self.truth.insert(at, found.map_err(|e| e.message)?.items);
        }
        let found = self.ranked.run(&tensors, &place, &mut self.candidates);
        let found = found.map_err(|e| e.message)?.items;
        let truth = self.truth.get(&at).map_or(&[][..], Vec::as_slice);
        self.sum.add(&found, truth);
        Ok(())
    }

    fn score(&mut self) -> f64 {
        self.sum.value()
    }
}

/// The true boxes of the samples that are measured on, each of which must have some, be it none.
fn true_boxes(file: &Path, at: &Measuring<'_>) -> Result<HashMap<usize, Vec<Detection>>, Failure> {
    let boxes = TrueBoxes::read(file).map_err(|e| Failure::usage(format!("--truth {}", e.message)))?;
    let clips: std::collections::BTreeSet<&str> = (0..at.samples.count())
        .filter_map(|i| at.samples.about(i))
        .filter(|about| about.frame.is_some())
        .map(|about| &*about.files)
        .collect();
    let of = |about: &About| match about.frame {
        // Places alone do not say which of several clips is meant.
        Some(frame) if clips.len() == 1 => boxes.of_place(frame),
        Some(_) => None,
        None => boxes.of_file(&about.files),
    };
    let mut truth = HashMap::new();
    for &place in at.places {
        let Some(about) = at.samples.about(place) else {
            continue;
        };
        let found = of(about).ok_or_else(|| {
            let what = match about.frame {
                Some(_) if clips.len() > 1 => {
                    "its lines are told by `seq`, which does not say of which clip; give one".to_owned()
                }
                Some(frame) => format!(
                    "no line has `seq` {frame}, the place of a frame of {}",
                    about.files
                ),
                None => format!("no line has the `origin` {}, which is measured on", about.files),
            };
            Failure::usage(format!("--truth {}: {what}", file.display()))
        })?;
        truth.insert(place, found.to_vec());
    }
    Ok(truth)
}

/// Names and shapes of the outputs, as stage `infer` gives them.
fn outputs(graph: &Graph) -> Vec<(Arc<str>, Vec<usize>)> {
    let of = |&id: &flow_model::NodeId| {
        let value = graph.node(id).inputs[0];
        let info = graph.info(value);
        let name = info.names.first().unwrap_or(&graph.node(value.node).name);
        (Arc::from(&**name), info.static_shape().unwrap_or_default())
    };
    graph.results.iter().map(of).collect()
}

/// Width and height of the first input.
fn input(graph: &Graph) -> (u32, u32) {
    let shape = graph
        .parameters
        .first()
        .and_then(|&id| graph.node(id).outputs[0].static_shape());
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    match shape.unwrap_or_default()[..] {
        [_, 1 | 3, height, width] | [_, height, width, _] => (side(width), side(height)),
        _ => (1, 1),
    }
}

fn tensor(shape: Vec<usize>, values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor {
        dtype: DType::F32,
        shape,
        layout: Layout::Other,
        data: Buffer::copy_of(&bytes),
    }
}
