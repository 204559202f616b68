//! Finding and checking the outputs of a network.

use std::borrow::Cow;
use std::fmt;

use flow::error::{Code, StageError};
use flow::packet::Packet;
use flow_frame::{DType, Tensor, Tensors};
use schemars::JsonSchema;
use serde::Deserialize;

/// Which output of a network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected the name of an output, or its index from 0")]
pub enum OutputKey {
    /// By its place in the model, from 0.
    Index(u32),
    /// By its name.
    Name(String),
}

impl fmt::Display for OutputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(i) => write!(f, "output {i}"),
            Self::Name(name) => write!(f, "output `{name}`"),
        }
    }
}

const WRONG_PAYLOAD: Code = Code("E0450");
const NO_OUTPUT: Code = Code("E0451");
const WRONG_SHAPE: Code = Code("E0452");

/// One output as `f32` values.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) values: Cow<'a, [f32]>,
}

impl Output<'_> {
    /// The error that this output has another shape than wanted; `key` is the key that would choose another.
    pub(crate) fn wrong_shape(&self, wanted: &str, key: &str) -> StageError {
        StageError::packet(
            WRONG_SHAPE,
            format!(
                "output `{}` has the shape {:?}, {wanted} is wanted; set `format` to what the network gives, or \
                 choose another output with `{key}`",
                self.name, self.shape
            ),
        )
    }

    /// The last `N` axes, if those before them have length 1.
    pub(crate) fn tail<const N: usize>(&self) -> Option<[usize; N]> {
        tail(self.shape)
    }
}

/// The last `N` axes of `shape`, if those before them have length 1.
pub(crate) fn tail<const N: usize>(shape: &[usize]) -> Option<[usize; N]> {
    let (front, back) = shape.split_last_chunk::<N>()?;
    front.iter().all(|&n| n == 1).then_some(*back)
}

/// The outputs that a packet carries.
pub(crate) fn outputs_of(packet: &Packet) -> Result<&Tensors, StageError> {
    packet.payload::<Tensors>().ok_or_else(|| {
        let found = packet.raw_payload().port_type();
        StageError::packet(
            WRONG_PAYLOAD,
            format!("this stage takes the outputs of a network, the packet carries {found}"),
        )
    })
}

/// The output that `key` names, else the only one there is, else the only one whose shape passes `fits`; `what`
/// and `shape` describe it in errors, `key_name` is the key to choose it by.
pub(crate) fn select<'a>(
    tensors: &'a Tensors,
    key: Option<&OutputKey>,
    fits: impl Fn(&[usize]) -> bool,
    what: &str,
    shape: &str,
    key_name: &str,
) -> Result<(&'a str, &'a Tensor), StageError> {
    let only = tensors.items.len() == 1;
    let items = tensors.items.iter().enumerate();
    let mut chosen = items.filter(|(place, (n, tensor))| match key {
        Some(OutputKey::Index(i)) => *place == *i as usize,
        Some(OutputKey::Name(name)) => **n == **name,
        None => only || fits(&tensor.shape),
    });
    match (chosen.next(), chosen.next()) {
        (Some((_, (name, tensor))), None) => Ok((name, tensor)),
        (found, _) => {
            let why = match (key, found) {
                (Some(key), None) => format!("the network has no {key}"),
                (_, None) => format!("no output has the shape of {what}, {shape}"),
                (_, Some(_)) => format!("several outputs could be {what}, {shape}"),
            };
            Err(StageError::packet(
                NO_OUTPUT,
                format!("{why}; set `{key_name}` to one of: {}", list(tensors)),
            ))
        }
    }
}

/// `f32` values of a float tensor.
pub(crate) fn view<'a>(name: &'a str, tensor: &'a Tensor) -> Result<Output<'a>, StageError> {
    if tensor.dtype != DType::F32 {
        return Err(StageError::packet(
            WRONG_SHAPE,
            format!(
                "output `{name}` has {} elements, f32 is wanted: codes mean nothing without their scale",
                tensor.dtype.name()
            ),
        ));
    }
    let values = tensor.f32s().ok_or_else(|| incomplete(name, tensor))?;
    Ok(Output {
        name,
        shape: &tensor.shape,
        values: Cow::Borrowed(values),
    })
}

/// The same with values of another type converted as they are.
pub(crate) fn view_converted<'a>(name: &'a str, tensor: &'a Tensor) -> Result<Output<'a>, StageError> {
    if tensor.dtype == DType::F32 {
        return view(name, tensor);
    }
    let values = tensor.to_f32();
    if values.len() != tensor.len() {
        return Err(incomplete(name, tensor));
    }
    Ok(Output {
        name,
        shape: &tensor.shape,
        values: Cow::Owned(values),
    })
}

fn incomplete(name: &str, tensor: &Tensor) -> StageError {
    StageError::packet(
        WRONG_SHAPE,
        format!(
            "output `{name}` holds {} bytes, its shape {:?} needs more",
            tensor.data.len(),
            tensor.shape
        ),
    )
}

fn list(tensors: &Tensors) -> String {
    if tensors.items.is_empty() {
        return "(the network has no output)".into();
    }
    let each = tensors
        .items
        .iter()
        .enumerate()
        .map(|(i, (name, t))| format!("{i} `{name}` {}{:?}", t.dtype.name(), t.shape));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flow_frame::{Buffer, Layout};
    use std::sync::Arc;

    pub(crate) fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor {
            dtype: DType::F32,
            shape: shape.to_vec(),
            layout: Layout::Other,
            data: Buffer::copy_of(&bytes),
        }
    }

    pub(crate) fn tensors(items: &[(&str, Tensor)]) -> Tensors {
        Tensors {
            items: items
                .iter()
                .map(|(name, t)| (Arc::from(*name), t.clone()))
                .collect(),
        }
    }

    #[test]
    fn outputs_are_found_by_key_or_by_shape() {
        let all = tensors(&[
            ("scores", tensor(&[1, 2, 3], &[0.0; 6])),
            ("boxes", tensor(&[1, 2, 4], &[0.0; 8])),
        ]);
        let boxes = |s: &[usize]| matches!(tail(s), Some([_, 4]));
        let found =
            |key: Option<OutputKey>| select(&all, key.as_ref(), boxes, "boxes", "[1,N,4]", "outputs.boxes");
        assert_eq!(found(None).unwrap().0, "boxes");
        assert_eq!(found(Some(OutputKey::Index(0))).unwrap().0, "scores");
        assert_eq!(found(Some(OutputKey::Name("boxes".into()))).unwrap().0, "boxes");
        let e = found(Some(OutputKey::Name("box".into()))).unwrap_err();
        assert!(
            e.message.contains("no output `box`") && e.message.contains("1 `boxes` f32[1, 2, 4]"),
            "{e}"
        );
    }

    #[test]
    fn a_tensor_with_too_few_bytes_is_an_error() {
        let short = tensor(&[1, 3], &[0.0; 2]);
        assert_eq!(view("x", &short).unwrap_err().code, WRONG_SHAPE);
    }
}
