//! `type: synthetic`: moving, textured scenes with ground truth attached to each frame.

mod random;
mod scene;
mod shape;

use std::time::Duration;

use flow::error::{Code, PrepareError, StageError};
use flow::ports::Ports;
use flow::recycle::Recycler;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Progress, Source, SourceEmitter};
use flow_frame::{ColorSpace, FRAME, Frame, GroundTruth, PixelFormat, Pool};
use schemars::JsonSchema;
use serde::Deserialize;

pub use scene::{Scene, SceneOptions};
pub use shape::CLASS_NAMES;

/// Frames of a random scene: textured objects of six classes (ball, crate, star, ring, cone, cross) that move,
/// turn and hide each other over a panning ground, under changing light. The true boxes are attached to each
/// frame; the same seed gives the same pictures on every machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// Width and height in pixels.
    #[serde(default = "default_size")]
    #[schemars(inner(range(min = 16, max = 8192)))]
    pub size: [u32; 2],
    /// Frames per second of scene time.
    #[serde(default = "default_rate")]
    #[schemars(range(min = 0.1, max = 1000.0))]
    pub rate: f64,
    /// Number of frames; without it the source runs until it is stopped.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
    /// Seed of the scene.
    #[serde(default)]
    pub seed: u64,
    /// Fewest and most objects in a scene.
    #[serde(default = "default_objects")]
    #[schemars(inner(range(max = 1000)))]
    pub objects: [u32; 2],
    /// Least and strongest sensor noise, as its standard deviation in sample steps (0 to 255).
    #[serde(default = "default_noise")]
    #[schemars(inner(range(min = 0.0, max = 100.0)))]
    pub noise: [f32; 2],
    /// Least and strongest blur, from 0 (sharp) to 1.
    #[serde(default = "default_blur")]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub blur: [f32; 2],
    /// Starts a new random scene every so many frames. 1 gives unrelated pictures, as training wants them.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub cut_every: Option<u64>,
}

fn default_size() -> [u32; 2] {
    [640, 360]
}
fn default_rate() -> f64 {
    30.0
}
fn default_objects() -> [u32; 2] {
    [5, 8]
}
fn default_noise() -> [f32; 2] {
    [2.0, 4.0]
}
fn default_blur() -> [f32; 2] {
    [0.1, 0.4]
}

impl Config for SyntheticConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let ordered = [
            ("objects", self.objects[0] <= self.objects[1]),
            ("noise", self.noise[0] <= self.noise[1]),
            ("blur", self.blur[0] <= self.blur[1]),
        ];
        ordered
            .into_iter()
            .filter(|(_, ok)| !ok)
            .map(|(key, _)| ConfigIssue {
                code: Code("E0121"),
                key: key.into(),
                message: format!("`{key}` wants the lower value first"),
                help: Some(format!("write `{key}: [least, most]`")),
            })
            .collect()
    }
}

/// Registers the source.
pub(crate) fn register(registry: &mut Registry) {
    let info = KindInfo {
        name: "synthetic",
        summary: "Gives frames of a random moving scene, with ground truth",
        ports: Ports {
            takes: &[],
            gives: &[FRAME],
        },
        replication: Replication::Single,
    };
    registry.source::<SyntheticConfig>(info, prepare);
}

fn prepare(config: &SyntheticConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Source>, PrepareError> {
    let config = config.clone();
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Synthetic::new(config.clone())) as Box<dyn Source>)
    }))
}

/// The source itself; also of use without a pipeline.
pub struct Synthetic {
    config: SyntheticConfig,
    scene: Scene,
    pool: Pool,
    frames: Recycler<Frame>,
    truths: Recycler<GroundTruth>,
    index: u64,
}

/// Frames, and truths, that are kept to be used again.
const KEPT: usize = 64;

impl Synthetic {
    /// A source at its first frame.
    pub fn new(config: SyntheticConfig) -> Self {
        Self {
            scene: Scene::new(config.seed, options(&config)),
            config,
            pool: Pool::new(KEPT),
            frames: Recycler::new(KEPT),
            truths: Recycler::new(KEPT),
            index: 0,
        }
    }
}

fn options(config: &SyntheticConfig) -> SceneOptions {
    SceneOptions {
        width: config.size[0],
        height: config.size[1],
        objects: config.objects,
        noise: config.noise,
        blur: config.blur,
    }
}

impl Source for Synthetic {
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        if self.config.count == Some(self.index) {
            return Ok(Progress::End);
        }
        let within = match self.config.cut_every {
            Some(every) => {
                if self.index > 0 && self.index.is_multiple_of(every) {
                    let seed = self.config.seed.wrapping_add(self.index / every);
                    self.scene = Scene::new(seed, options(&self.config));
                }
                self.index % every
            }
            None => self.index,
        };
        let [width, height] = self.config.size;
        let mut data = self.pool.take(width as usize * height as usize * 3);
        let (scene, index) = (&mut self.scene, self.index);
        let time = (within as f64 / self.config.rate) as f32;
        let truth = self.truths.share(GroundTruth::default, |truth| {
            scene.draw_into(time, index, &mut data, truth);
        });
        let frame = Frame::packed(width, height, PixelFormat::Rgb, ColorSpace::JPEG, data)
            .map_err(|e| StageError::fatal(Code("E0501"), e.to_string()))?;
        let pts = Duration::from_secs_f64(self.index as f64 / self.config.rate);
        out.emit(Some(pts), self.frames.put(frame), &mut |packet| {
            packet.attach(truth.clone())
        });
        self.index += 1;
        Ok(Progress::More)
    }

    fn size_hint(&self) -> Option<u64> {
        self.config.count
    }
}
