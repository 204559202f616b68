//! Values for the inputs: from pictures, arrays and raw files, or random.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_decode::{decode_picture, picture_codec};
use flow_frame::{ColorOrder, Layout, Pool};
use flow_inference::InputSet;
use flow_model::{ElementType, Tensor, npy};
use flow_preprocess::{Filter, FrameToTensor, Normalization, SampleMap, Target};

use super::console::Console;
use super::inputs::InputInfo;
use crate::failure::Failure;

const PICTURES: [&str; 8] = ["bmp", "dib", "jpeg", "jpg", "jpe", "png", "pgm", "ppm"];

/// The sets of values for one group of shapes; runs take them in turn.
///
/// # Errors
/// Where a file cannot be read or does not fit its input.
pub fn data(
    infos: &[InputInfo],
    files: &[Vec<PathBuf>],
    group: usize,
    console: &Console,
) -> Result<Vec<InputSet>, Failure> {
    let mut columns: Vec<Vec<Vec<u8>>> = Vec::new();
    for (input, files) in infos.iter().zip(files) {
        let shapes = input.shapes();
        let shape = &shapes[group % shapes.len()];
        let bytes = element_bytes(input, shape)?;
        columns.push(if files.is_empty() {
            console.warning(&format!(
                "No input files were given for input '{}'!. This input will be filled with random values!",
                input.name
            ));
            vec![random(input, shape)?]
        } else {
            from_files(input, shape, bytes, files, console)?
        });
    }
    let sets = columns.iter().map(Vec::len).max().unwrap_or(0);
    Ok((0..sets)
        .map(|i| Arc::new(columns.iter().map(|c| c[i % c.len()].clone()).collect()))
        .collect())
}

fn element_bytes(input: &InputInfo, shape: &[usize]) -> Result<usize, Failure> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .and_then(|n| input.element_type.byte_len(n))
        .filter(|n| *n < 1 << 40)
        .ok_or_else(|| Failure::usage(format!("input `{}` of shape {shape:?} is too large", input.name)))
}

/// Uniform from 0 to 255, the same in each run; booleans are 0 or 1.
fn random(input: &InputInfo, shape: &[usize]) -> Result<Vec<u8>, Failure> {
    let count: usize = shape.iter().product();
    let high = match input.element_type {
        ElementType::Boolean => 1.0,
        ElementType::I8 => 127.0,
        _ => 255.0,
    };
    let whole = !input.element_type.is_float();
    let mut state = 0u64;
    let values: Vec<f64> = (0..count)
        .map(|_| {
            // SplitMix64 (Steele, Lea, Flood 2014).
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
            if whole {
                (unit * (high + 1.0)).floor()
            } else {
                unit * high
            }
        })
        .collect();
    tensor_bytes(input, shape, &values)
}

fn tensor_bytes(input: &InputInfo, shape: &[usize], values: &[f64]) -> Result<Vec<u8>, Failure> {
    Tensor::from_f64(input.element_type, shape, values)
        .map(|t| t.bytes().to_vec())
        .map_err(|e| Failure::usage(format!("input `{}`: {e}", input.name)))
}

fn from_files(
    input: &InputInfo,
    shape: &[usize],
    bytes: usize,
    files: &[PathBuf],
    console: &Console,
) -> Result<Vec<Vec<u8>>, Failure> {
    let batch = input.axis('N').map_or(1, |axis| shape[axis]);
    let mut values = Vec::new();
    let mut at = 0;
    while at < files.len() {
        let file = &files[at];
        match ending(file).as_str() {
            "npy" => values.push(array(input, shape, file)?),
            "bin" => {
                let found = std::fs::read(file).map_err(|e| Failure::file("read", file, e))?;
                if found.len() != bytes {
                    return Err(Failure::usage(format!(
                        "{}: it holds {} bytes, input `{}` takes {bytes} ({} {shape:?})",
                        file.display(),
                        found.len(),
                        input.name,
                        input.element_type
                    )));
                }
                values.push(found);
            }
            _ => {
                // Pictures fill a batch; the last ones begin again from the first.
                let mut joined: Vec<f64> = Vec::new();
                for b in 0..batch {
                    let file = &files[(at + b) % files.len()];
                    console.info(&format!("Prepare image {}", file.display()));
                    joined.extend(picture(input, shape, file)?);
                }
                values.push(tensor_bytes(input, shape, &joined)?);
                at += batch;
                continue;
            }
        }
        at += 1;
    }
    Ok(values)
}

fn array(input: &InputInfo, shape: &[usize], file: &Path) -> Result<Vec<u8>, Failure> {
    let tensor = npy::read(file).map_err(Failure::failed)?;
    if tensor.shape() != shape || tensor.element_type() != input.element_type {
        return Err(Failure::usage(format!(
            "{}: it holds {} {:?}, input `{}` takes {} {shape:?}; -ip states the element type",
            file.display(),
            tensor.element_type(),
            tensor.shape(),
            input.name,
            input.element_type
        )));
    }
    Ok(tensor.bytes().to_vec())
}

/// The samples of a picture, stretched to the input, blue first as OpenCV reads them.
fn picture(input: &InputInfo, shape: &[usize], file: &Path) -> Result<Vec<f64>, Failure> {
    let fault = |what: String| Failure::usage(format!("{}: {what}", file.display()));
    let side = |letter| input.axis(letter).and_then(|a| u32::try_from(shape[a]).ok());
    let (Some(width), Some(height), Some(channels)) = (side('W'), side('H'), side('C')) else {
        return Err(fault(format!(
            "input `{}` is {shape:?} and no picture; state its layout, as in -layout [NCHW], or give .npy or .bin",
            input.name
        )));
    };
    let color = match channels {
        1 => ColorOrder::Gray,
        3 => ColorOrder::Bgr,
        n => {
            return Err(fault(format!(
                "input `{}` has {n} channels, expected 1 or 3",
                input.name
            )));
        }
    };
    let planar = input.axis('C') < input.axis('W');
    let bytes = std::fs::read(file).map_err(|e| Failure::file("read", file, e))?;
    let codec = picture_codec(&bytes).ok_or_else(|| fault("it is no picture that can be read".into()))?;
    let pool = Pool::new(1);
    let frame = decode_picture(codec, &bytes, &pool).map_err(|e| fault(e.to_string()))?;
    let target = Target {
        size: (width, height),
        color,
        layout: if planar { Layout::Nchw } else { Layout::Nhwc },
        map: SampleMap::float(Normalization {
            mean: [0.0; 3],
            scale: [1.0; 3],
        }),
        quantization: None,
    };
    let mut transform = FrameToTensor::stretching(target, Filter::Bilinear, Pool::new(1));
    let (tensor, _) = transform.run(&frame).map_err(|e| fault(e.to_string()))?;
    let values = tensor.f32s().ok_or_else(|| fault("no f32 tensor".into()))?;
    Ok(values.iter().map(|&v| f64::from(v)).collect())
}

fn ending(file: &Path) -> String {
    file.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// The files of each input, from the values of `-i`.
///
/// # Errors
/// Where a path is not there or a name is not of the model.
pub fn files(
    infos: &[InputInfo],
    arguments: &[String],
    console: &Console,
) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let mut found: Vec<Vec<PathBuf>> = vec![Vec::new(); infos.len()];
    let mut unnamed = Vec::new();
    let mut current: Option<usize> = None;
    for part in arguments
        .iter()
        .flat_map(|a| a.split(','))
        .filter(|p| !p.is_empty())
    {
        let mut path = part;
        if !Path::new(part).exists()
            && let Some((name, rest)) = part.split_once(':')
        {
            let Some(index) = infos.iter().position(|i| i.name == name || i.layer == name) else {
                let names: Vec<&str> = infos.iter().map(|i| i.name.as_str()).collect();
                return Err(Failure::usage(format!(
                    "-i {part}: the model has no input `{name}`; its inputs are {}",
                    names.join(", ")
                )));
            };
            (current, path) = (Some(index), rest);
        }
        let mut listed = expand(Path::new(path), console)?;
        match current {
            Some(index) => found[index].append(&mut listed),
            None => unnamed.append(&mut listed),
        }
    }
    if !unnamed.is_empty() && infos.len() > 1 {
        console.warning(&format!(
            "Model has {} inputs. It's recommended to use name mapping to specify parameters for each input.",
            infos.len()
        ));
    }
    for (i, file) in unnamed.into_iter().enumerate() {
        found[i % infos.len()].push(file);
    }
    Ok(found)
}

/// A file, or the files of a folder that can be read, by name.
fn expand(path: &Path, console: &Console) -> Result<Vec<PathBuf>, Failure> {
    let usable = |file: &Path| {
        let ending = ending(file);
        PICTURES.contains(&ending.as_str()) || ending == "npy" || ending == "bin"
    };
    let known = format!("{}, npy, bin", PICTURES.join(", "));
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|e| Failure::file("read", path, e))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        let all = files.len();
        files.retain(|f| usable(f));
        if files.len() < all {
            console.warning(&format!(
                "{}: {} files are left out; those that end in {known} are read",
                path.display(),
                all - files.len()
            ));
        }
        if files.is_empty() {
            return Err(Failure::usage(format!(
                "-i {}: the folder holds no file that ends in {known}",
                path.display()
            )));
        }
        return Ok(files);
    }
    if !path.exists() {
        return Err(Failure::usage(format!(
            "-i {}: there is no such file or folder",
            path.display()
        )));
    }
    if !usable(path) {
        return Err(Failure::usage(format!(
            "-i {}: expected a folder, or a file that ends in {known}",
            path.display()
        )));
    }
    Ok(vec![path.to_path_buf()])
}
