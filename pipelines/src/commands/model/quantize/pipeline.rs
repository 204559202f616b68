//! What a pipeline file says of the stages around a network.

use std::io::Read;
use std::path::Path;

use flow::config::{self, plan::Component, plan::Pipeline};
use flow::registry::{AnyConfig, Role};
use flow_inference::InferConfig;

use crate::failure::Failure;
use crate::kinds;

/// The text of a YAML file.
pub fn text(file: &str) -> Result<String, Failure> {
    let path = Path::new(file);
    let limit = config::MAX_FILE_BYTES as u64;
    let fault = |why: String| Failure::file("read", path, why);
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|f| f.take(limit + 1).read_to_string(&mut text))
        .map_err(|e| fault(e.to_string()))?;
    if text.len() as u64 > limit {
        return Err(fault(format!("it is larger than {limit} bytes")));
    }
    Ok(text)
}

/// A checked pipeline that runs a network.
pub struct Around {
    pipeline: Pipeline,
}

impl Around {
    /// Loads a pipeline file as `flowrun check` does. Variables that it needs need not be set: `MODEL` stands for `model`,
    /// others for nothing in particular.
    pub fn read(file: &Path, model: &Path) -> Result<Self, Failure> {
        let variable = |name: &str| {
            let set = std::env::var(name).ok();
            set.or_else(|| (name == "MODEL").then(|| model.display().to_string()))
        };
        let options = config::Options {
            environment: &variable,
            stand_in: Some("unset"),
            ..config::Options::default()
        };
        let document = config::load(file, &options).map_err(Failure::pipeline)?;
        let checked = config::check(&document, &kinds::registry()).map_err(Failure::pipeline)?;
        Ok(Self {
            pipeline: checked.pipeline,
        })
    }

    /// The configuration of the stage that makes the input of `model`: nothing before it changes the picture.
    pub fn before(&self, model: &Path) -> Result<AnyConfig, String> {
        let infer = &self.pipeline.components[self.infer(model)?];
        let [edge] = &infer.inputs[..] else {
            return Err(format!(
                "its stage `{}` has {} inputs, so that it is open which makes the input of the model; expected one, or a \
                 mapping such as '{{type: resize, mean: 127}}'",
                infer.name,
                infer.inputs.len()
            ));
        };
        let maker = &self.pipeline.components[edge.from];
        if !matches!(maker.kind, "resize" | "letterbox") {
            return Err(format!(
                "its stage `{}` is fed by `{}` of type `{}`; expected `resize` or `letterbox`",
                infer.name, maker.name, maker.kind
            ));
        }
        self.plain_pictures(maker)?;
        Ok(maker.config.clone())
    }

    /// The configuration of the stage that reads boxes off the outputs of `model`.
    pub fn detect(&self, model: &Path) -> Result<AnyConfig, String> {
        let infer = self.infer(model)?;
        let behind: Vec<&Component> = self
            .pipeline
            .consumers(infer)
            .map(|(at, _)| &self.pipeline.components[at])
            .filter(|c| c.kind == "detect")
            .collect();
        match &behind[..] {
            [one] => Ok(one.config.clone()),
            found => Err(format!(
                "{} stages of type `detect` take the outputs of its stage `{}`; expected one, or its keys as --detect",
                found.len(),
                self.pipeline.components[infer].name
            )),
        }
    }

    /// The folder that files of the pipeline may lie in.
    pub fn folder(&self) -> &Path {
        &self.pipeline.folder
    }

    /// Fails where something before `component` changes pictures, which calibration would not do.
    fn plain_pictures(&self, component: &Component) -> Result<(), String> {
        for edge in &component.inputs {
            let from = &self.pipeline.components[edge.from];
            if from.role == Role::Source {
                continue;
            }
            if from.kind != "decode" {
                return Err(format!(
                    "its stage `{}` of type `{}` changes what reaches `{}`, and pictures of --data do not pass it. Give \
                     pictures that have passed it, and the keys of `{}` as a mapping such as '{{type: {}, mean: 127}}'",
                    from.name, from.kind, component.name, component.name, component.kind
                ));
            }
            self.plain_pictures(from)?;
        }
        Ok(())
    }

    /// The one stage that runs a network; of several the one that runs `model`.
    fn infer(&self, model: &Path) -> Result<usize, String> {
        let all: Vec<usize> = (0..self.pipeline.components.len())
            .filter(|&i| self.pipeline.components[i].kind == "infer")
            .collect();
        let name = |i: &usize| format!("`{}`", self.pipeline.components[*i].name);
        match &all[..] {
            [] => Err("the pipeline has no stage of type `infer`".to_owned()),
            [one] => Ok(*one),
            several => {
                let runs: Vec<usize> = several.iter().copied().filter(|&i| self.runs(i, model)).collect();
                match &runs[..] {
                    [one] => Ok(*one),
                    found => Err(format!(
                        "the pipeline has several stages of type `infer` ({}), {} of which run {}; name the model that one \
                         of them runs, or give the keys of the stage before it as a mapping",
                        several.iter().map(name).collect::<Vec<_>>().join(", "),
                        found.len(),
                        model.display()
                    )),
                }
            }
        }
    }

    /// Whether stage `index` runs that model file.
    fn runs(&self, index: usize, model: &Path) -> bool {
        let component = &self.pipeline.components[index];
        let declared = component
            .model
            .as_ref()
            .and_then(|name| self.pipeline.models.get(name));
        let named = component
            .config
            .downcast_ref::<InferConfig>()
            .map(|c| Path::new(&c.model));
        let Some(path) = declared.map(|d| d.path.as_path()).or(named) else {
            return false;
        };
        let same =
            |path: &Path| matches!((path.canonicalize(), model.canonicalize()), (Ok(a), Ok(b)) if a == b);
        same(path) || same(&self.pipeline.folder.join(path))
    }
}
