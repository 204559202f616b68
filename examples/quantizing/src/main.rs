//! Quantizes a network that takes one picture as `[1,3,height,width]`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use flow_decode::{decode_picture, picture_codec};
use flow_frame::{ColorOrder, Layout, Pool};
use flow_model::{ElementType, Tensor, ir};
use flow_preprocess::{Filter, FrameToTensor, Normalization, SampleMap, Target};
use flow_quantize::{
    AgainstReference, Dataset, Likeness, Options, Part, Silent, compare, prepare, quantize, within,
};

/// Pictures, made ready for the network when they are asked for.
struct Pictures {
    files: Vec<PathBuf>,
    /// Width and height of the input.
    size: (u32, u32),
}

impl Pictures {
    fn sample(&self, index: usize) -> Result<Tensor, Box<dyn Error>> {
        let bytes = std::fs::read(&self.files[index])?;
        let codec = picture_codec(&bytes).ok_or("it is no picture")?;
        let frame = decode_picture(codec, &bytes, &Pool::new(1))?;
        let target = Target {
            size: self.size,
            color: ColorOrder::Rgb,
            layout: Layout::Nchw,
            map: SampleMap::float(Normalization {
                mean: [127.0; 3],
                scale: [128.0; 3],
            }),
            quantization: None,
        };
        let (tensor, _) = FrameToTensor::stretching(target, Filter::default(), Pool::new(1)).run(&frame)?;
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        Ok(Tensor::new(
            ElementType::F32,
            vec![1, 3, height, width],
            tensor.data.to_vec(),
        )?)
    }
}

impl Dataset for Pictures {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn inputs(&self, index: usize) -> Result<Vec<Tensor>, String> {
        self.sample(index)
            .map(|tensor| vec![tensor])
            .map_err(|e| e.to_string())
    }

    /// Messages name the file.
    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: quantizing MODEL.xml OUT.xml PICTURE...";
    let (model, output) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let graph = prepare(&ir::read(model)?)?;
    let input = &graph.node(graph.parameters[0]).outputs[0];
    let shape = input.static_shape().unwrap_or_default();
    let [1, 3, height, width] = shape[..] else {
        return Err("expected a network that takes [1,3,height,width]".into());
    };
    let pictures = Pictures {
        files: arguments.collect(),
        size: (u32::try_from(width)?, u32::try_from(height)?),
    };
    // Every other picture calibrates; the rest tells how good it is.
    let (calibration, held): (Vec<_>, Vec<_>) = (0..pictures.len()).partition(|i| i % 2 == 0);
    let (calibration, held) = (Part::new(&pictures, calibration), Part::new(&pictures, held));
    if held.is_empty() {
        return Err("expected two pictures or more".into());
    }

    let options = Options::default();
    let mut quantized = quantize(&graph, &calibration, &options, &Silent)?;

    // Layers go back to f32 until nearly all output values are near those of f32.
    let mut metric = AgainstReference::new(&graph, Likeness::Agreement, &held, options.threads, &Silent)?;
    let accuracy = within(
        &mut quantized,
        &mut metric,
        0.02,
        &held,
        options.storage,
        options.threads,
        &Silent,
    )?;
    ir::write(&quantized.graph, &output)?;

    let compared = compare(&graph, &quantized.graph, &held, options.threads, &Silent)?;
    writeln!(
        std::io::stdout(),
        "{} activations and {} weights in 8 bits; agreement {:.4}, with {} layers in f32 again {:.4}; relative error {:.4}",
        quantized.scheme.activations.len(),
        quantized.scheme.weights.len(),
        accuracy.quantized,
        accuracy.reverted.len(),
        accuracy.reached,
        compared.outputs[0].relative_error,
    )?;
    Ok(())
}
