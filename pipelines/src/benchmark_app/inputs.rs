//! The inputs of the network: shapes, layouts, element types and normalisation, as flags and model say.

use flow_inference::InputChange;
use flow_model::{ElementType, Graph, PartialShape, Value};

use super::console::Console;
use super::flags::Given;
use super::shapes::{Bracketed, bracketed, display, shape};
use crate::failure::Failure;

/// One input.
#[derive(Debug, Clone)]
pub struct InputInfo {
    /// Its tensor name; the layer's where it has none.
    pub name: String,
    /// Name of its layer.
    pub layer: String,
    /// Element type that it is given in.
    pub element_type: ElementType,
    /// Its shape; open axes are for `data_shapes`.
    pub shape: PartialShape,
    /// A letter per axis; empty where it is not known. `N...` stands for a batch before anything.
    pub layout: String,
    /// Shapes to run, where `shape` is open.
    pub data_shapes: Vec<Vec<usize>>,
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl InputInfo {
    /// The axis of that letter.
    pub fn axis(&self, letter: char) -> Option<usize> {
        self.layout.find(letter)
    }

    /// The length of the axis of that letter.
    pub fn length(&self, letter: char) -> Option<usize> {
        *self.shape.get(self.axis(letter)?)?
    }

    /// Whether it is a picture with three channels.
    pub fn is_image(&self) -> bool {
        matches!(self.layout.as_str(), "NCHW" | "NHWC" | "CHW" | "HWC") && self.length('C') == Some(3)
    }

    /// Whether every axis is fixed.
    pub fn is_static(&self) -> bool {
        self.shape.iter().all(Option::is_some)
    }

    /// The shapes to run.
    pub fn shapes(&self) -> Vec<Vec<usize>> {
        match self.shape.iter().copied().collect() {
            Some(fixed) => vec![fixed],
            None => self.data_shapes.clone(),
        }
    }

    fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.layer == name
    }

    /// `[N,C,H,W]`, or `[...]`.
    pub fn layout_text(&self) -> String {
        if self.layout.is_empty() || self.layout.contains('.') {
            return "[...]".to_owned();
        }
        let letters: Vec<String> = self.layout.chars().map(String::from).collect();
        format!("[{}]", letters.join(","))
    }
}

/// The layout that the lengths of the axes suggest: a picture has at most four channels.
fn guess_layout(shape: &[Option<usize>]) -> &'static str {
    let small = |axis: usize| shape[axis].is_some_and(|l| l <= 4);
    let (first, last) = match shape.len() {
        4 => (1, 3),
        3 => (0, 2),
        _ => return "",
    };
    match (small(first), small(last), shape.len()) {
        (true, false, 4) => "NCHW",
        (false, true, 4) => "NHWC",
        (true, false, _) => "CHW",
        (false, true, _) => "HWC",
        _ => "",
    }
}

/// The inputs of a model under the flags, and whether any shape differs from the model's.
///
/// # Errors
/// Where a flag does not fit the model.
pub fn inputs(graph: &Graph, given: &Given, console: &Console) -> Result<(Vec<InputInfo>, bool), Failure> {
    let mut infos: Vec<InputInfo> = graph
        .parameters
        .iter()
        .map(|&id| {
            let node = graph.node(id);
            let info = graph.info(Value::of(id));
            InputInfo {
                name: info.names.first().unwrap_or(&node.name).to_string(),
                layer: node.name.to_string(),
                element_type: info.element_type,
                shape: info.shape.clone(),
                layout: String::new(),
                data_shapes: Vec::new(),
                mean: Vec::new(),
                scale: Vec::new(),
            }
        })
        .collect();
    let mut reshape = false;
    for_each(given, "shape", &mut infos, |input, values| {
        let wanted = shape("shape", &values[0])?;
        if wanted.len() != input.shape.len() {
            return Err(format!(
                "-shape: input `{}` has {} axes {}, found {}",
                input.name,
                input.shape.len(),
                display(&input.shape),
                display(&wanted)
            ));
        }
        reshape |= wanted != input.shape;
        input.shape = wanted;
        Ok(())
    })?;
    for_each(given, "layout", &mut infos, |input, values| {
        let letters: String = values[0]
            .chars()
            .filter(|c| *c != ',' && !c.is_whitespace())
            .map(|c| c.to_ascii_uppercase())
            .collect();
        if letters.chars().count() != input.shape.len()
            || !letters.chars().all(|c| c.is_ascii_alphabetic() || c == '?')
        {
            return Err(format!(
                "-layout `[{}]`: input `{}` has {} axes {}; expected a letter for each, as in [NCHW]",
                values[0],
                input.name,
                input.shape.len(),
                display(&input.shape)
            ));
        }
        input.layout = letters;
        Ok(())
    })?;
    for input in &mut infos {
        if input.layout.is_empty() {
            input.layout = guess_layout(&input.shape).to_owned();
        }
    }
    if let Some(batch) = given.number("b") {
        reshape |= set_batch(&mut infos, batch, given, console)?;
    }
    data_shapes(given, &mut infos, console)?;
    for (flag, scale) in [("mean_values", false), ("scale_values", true)] {
        normalisation(given, flag, scale, &mut infos)?;
    }
    element_types(graph, given, &mut infos)?;
    Ok((infos, reshape))
}

/// Applies what a flag says to each input that it names, or to all.
fn for_each(
    given: &Given,
    flag: &str,
    infos: &mut [InputInfo],
    mut apply: impl FnMut(&mut InputInfo, &[String]) -> Result<(), String>,
) -> Result<(), Failure> {
    let Some(text) = given.text(flag) else {
        return Ok(());
    };
    for Bracketed { name, values } in bracketed(flag, text).map_err(Failure::usage)? {
        let mut found = false;
        for input in infos.iter_mut() {
            if name.as_ref().is_none_or(|n| input.answers_to(n)) {
                apply(input, &values).map_err(Failure::usage)?;
                found = true;
            }
        }
        if !found {
            return Err(unknown(flag, name.as_deref().unwrap_or_default(), infos));
        }
    }
    Ok(())
}

fn unknown(flag: &str, name: &str, infos: &[InputInfo]) -> Failure {
    let names: Vec<&str> = infos.iter().map(|i| i.name.as_str()).collect();
    Failure::usage(format!(
        "-{flag}: the model has no input `{name}`; its inputs are {}",
        names.join(", ")
    ))
}

fn set_batch(
    infos: &mut [InputInfo],
    batch: usize,
    given: &Given,
    console: &Console,
) -> Result<bool, Failure> {
    if given.has("data_shape") {
        console.warning("Batch size will be ignored. Provide batch dimension in data_shape parameter.");
        return Ok(false);
    }
    let (mut found, mut changed) = (false, false);
    for input in infos.iter_mut() {
        if input.layout.is_empty() && matches!(input.shape.first(), Some(None | Some(0 | 1))) {
            console.warning(&format!(
                "Batch dimension is not specified for input '{}'. The first dimension will be interpreted as batch size.",
                input.name
            ));
            "N...".clone_into(&mut input.layout);
        }
        if let Some(axis) = input.axis('N').and_then(|a| input.shape.get_mut(a)) {
            found = true;
            changed |= *axis != Some(batch);
            *axis = Some(batch);
        }
    }
    if !found {
        return Err(Failure::usage(
            "-b: no input has a batch dimension in its layout; state it with -layout, as in -layout [NC]",
        ));
    }
    Ok(changed)
}

fn data_shapes(given: &Given, infos: &mut [InputInfo], console: &Console) -> Result<(), Failure> {
    for_each(given, "data_shape", infos, |input, values| {
        if input.is_static() {
            console.warning(&format!(
                "Input '{}' has static shape. Provided data shapes for this input will be ignored.",
                input.name
            ));
            return Ok(());
        }
        for text in values {
            let wanted = shape("data_shape", text)?;
            let fits = wanted.len() == input.shape.len()
                && wanted
                    .iter()
                    .zip(&input.shape)
                    .all(|(a, b)| b.is_none() || a == b);
            match wanted.iter().copied().collect::<Option<Vec<usize>>>() {
                Some(fixed) if fits => input.data_shapes.push(fixed),
                Some(_) => {
                    return Err(format!(
                        "-data_shape `[{text}]` does not fit input `{}`, which is {}",
                        input.name,
                        display(&input.shape)
                    ));
                }
                None => {
                    return Err(format!("-data_shape `[{text}]`: every axis needs a length"));
                }
            }
        }
        Ok(())
    })?;
    for input in infos.iter() {
        if input.shapes().is_empty() {
            return Err(Failure::usage(format!(
                "input `{}` is {}: its axes are open; state shapes to run, as in -data_shape \"[1,3,224,224]\"",
                input.name,
                display(&input.shape)
            )));
        }
    }
    Ok(())
}

fn normalisation(given: &Given, flag: &str, scale: bool, infos: &mut [InputInfo]) -> Result<(), Failure> {
    let Some(text) = given.text(flag) else {
        return Ok(());
    };
    let for_all = bracketed(flag, text)
        .map_err(Failure::usage)?
        .iter()
        .all(|b| b.name.is_none());
    if for_all && !infos.iter().any(InputInfo::is_image) {
        return Err(Failure::usage(format!(
            "-{flag}: no input is an image; name one, as in data[1,2,3]"
        )));
    }
    for_each(given, flag, infos, |input, values| {
        if for_all && !input.is_image() {
            return Ok(());
        }
        let numbers: Option<Vec<f32>> = values[0]
            .split(',')
            .map(|v| {
                v.trim()
                    .parse::<f32>()
                    .ok()
                    .filter(|v| v.is_finite() && !(scale && *v == 0.0))
            })
            .collect();
        let channels = input.length('C').unwrap_or(1);
        match numbers {
            Some(numbers) if numbers.len() == 1 || numbers.len() == channels => {
                if scale {
                    input.scale = numbers;
                } else {
                    input.mean = numbers;
                }
                Ok(())
            }
            _ => Err(format!(
                "-{flag} `[{}]`: expected one number{}, or one for each of the {channels} channels of `{}`",
                values[0],
                if scale { " that is not 0" } else { "" },
                input.name
            )),
        }
    })
}

/// `bool` for the type that the model calls `boolean`.
fn element_type(flag: &str, name: &str) -> Result<ElementType, Failure> {
    let canonical = if name == "bool" { "boolean" } else { name };
    ElementType::from_name(canonical).ok_or_else(|| {
        Failure::usage(format!(
            "-{flag}: `{name}` is not an element type; expected one of bool, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64"
        ))
    })
}

/// The pairs of `-iop`; names may hold colons.
fn by_name(given: &Given) -> Result<Vec<(String, ElementType)>, Failure> {
    let Some(text) = given.text("iop") else {
        return Ok(Vec::new());
    };
    text.split(',')
        .map(|pair| match pair.trim().rsplit_once(':') {
            Some((name, word)) => Ok((name.trim().to_owned(), element_type("iop", word.trim())?)),
            None => Err(Failure::usage(format!(
                "-iop `{}`: expected name:type, as in \"data:u8\"",
                pair.trim()
            ))),
        })
        .collect()
}

fn element_types(graph: &Graph, given: &Given, infos: &mut [InputInfo]) -> Result<(), Failure> {
    let pairs = by_name(given)?;
    let all = given.text("ip").map(|t| element_type("ip", t)).transpose()?;
    for input in infos.iter_mut() {
        let named = pairs.iter().rev().find(|(n, _)| input.answers_to(n));
        if let Some((_, wanted)) = named {
            input.element_type = *wanted;
        } else if let Some(wanted) = all {
            input.element_type = wanted;
        } else if input.is_image() {
            input.element_type = ElementType::U8;
        }
    }
    let outputs = output_names(graph);
    for (name, _) in &pairs {
        if !infos.iter().any(|i| i.answers_to(name)) && !outputs.iter().any(|n| n.contains(name)) {
            let known: Vec<&str> = infos
                .iter()
                .map(|i| i.name.as_str())
                .chain(outputs.iter().filter_map(|n| n.first()).map(String::as_str))
                .collect();
            return Err(Failure::usage(format!(
                "-iop: the model has no input or output `{name}`; it has {}",
                known.join(", ")
            )));
        }
    }
    Ok(())
}

/// The names of each output: of its tensor, of the layer that makes it, of its Result.
pub fn output_names(graph: &Graph) -> Vec<Vec<String>> {
    graph
        .results
        .iter()
        .map(|&id| {
            let node = graph.node(id);
            let from = node.inputs[0];
            let mut names: Vec<String> = graph.info(from).names.iter().map(ToString::to_string).collect();
            names.push(graph.node(from.node).name.to_string());
            names.push(node.name.to_string());
            names
        })
        .collect()
}

/// What is to change at the inputs.
pub fn changes(infos: &[InputInfo]) -> Vec<InputChange> {
    infos
        .iter()
        .map(|input| InputChange {
            element_type: Some(input.element_type),
            mean: input.mean.clone(),
            scale: input.scale.clone(),
            channel_axis: input.axis('C').unwrap_or(0),
        })
        .collect()
}

/// The element type of each output, where it is to be another one.
///
/// # Errors
/// Where a flag names no type.
pub fn output_types(graph: &Graph, given: &Given) -> Result<Vec<Option<ElementType>>, Failure> {
    let pairs = by_name(given)?;
    let all = given.text("op").map(|t| element_type("op", t)).transpose()?;
    Ok(output_names(graph)
        .iter()
        .map(|names| {
            let named = pairs.iter().rev().find(|(n, _)| names.contains(n));
            named.map(|(_, t)| *t).or(all)
        })
        .collect())
}

/// Frames per iteration.
///
/// # Errors
/// Where inputs have different batches.
pub fn batch_of(infos: &[InputInfo], group: usize) -> Result<usize, Failure> {
    let mut batch = None;
    for input in infos {
        let shapes = input.shapes();
        let Some(axis) = input.axis('N') else { continue };
        let length = shapes
            .get(group % shapes.len().max(1))
            .and_then(|s| s.get(axis).copied());
        match (batch, length) {
            (Some(a), Some(b)) if a != b => {
                return Err(Failure::usage(format!(
                    "the inputs have different batches, {a} and {b}; state their layouts with -layout"
                )));
            }
            (None, Some(_)) => batch = length,
            _ => {}
        }
    }
    Ok(batch.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_follows_from_where_the_channels_are() {
        let guess = |s: &[usize]| guess_layout(&s.iter().map(|&d| Some(d)).collect::<Vec<_>>());
        assert_eq!(guess(&[1, 3, 224, 224]), "NCHW");
        assert_eq!(guess(&[1, 192, 192, 3]), "NHWC");
        assert_eq!(guess(&[3, 10, 10]), "CHW");
        assert_eq!(guess(&[10, 10, 1]), "HWC");
        assert_eq!(guess(&[1, 3, 4, 4]), "");
        assert_eq!(guess(&[1, 1000]), "");
    }
}
