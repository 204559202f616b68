//! What the families share: broadcasting, axes, and moving elements by offsets.

use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::tensor::{ElementType, Tensor};

/// What is known of an input when shapes are inferred.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Element type.
    pub element_type: ElementType,
    /// Axis lengths.
    pub shape: &'a [Dim],
    /// The value, where it is known: a constant, or a small value computed from shapes and constants.
    pub value: Option<&'a Tensor>,
}

impl Input<'_> {
    /// The value as integers, if it is known.
    pub fn integers(&self) -> Option<Vec<i64>> {
        self.value.map(Tensor::to_i64)
    }

    /// Number of elements, if every axis is fixed.
    pub fn count(&self) -> Option<usize> {
        self.shape.iter().copied().product()
    }
}

/// The shapes of tensors.
pub(crate) fn shapes(tensors: &[Tensor]) -> Vec<PartialShape> {
    let fixed = |t: &Tensor| t.shape().iter().map(|&d| Some(d)).collect();
    tensors.iter().map(fixed).collect()
}

/// Tensors and their shapes as inputs of which everything is known.
pub(crate) fn known<'a>(tensors: &'a [Tensor], shapes: &'a [PartialShape]) -> Vec<Input<'a>> {
    let input = |(tensor, shape): (&'a Tensor, &'a PartialShape)| Input {
        element_type: tensor.element_type(),
        shape,
        value: Some(tensor),
    };
    tensors.iter().zip(shapes).map(input).collect()
}

/// An output without names.
pub(crate) fn output(element_type: ElementType, shape: PartialShape) -> OutputInfo {
    OutputInfo {
        element_type,
        shape,
        names: Vec::new(),
    }
}

/// A tensor from values computed in f32, rounded to its element type.
pub(crate) fn from_f32(
    element_type: ElementType,
    shape: &[usize],
    values: &[f32],
) -> Result<Tensor, OpError> {
    if element_type == ElementType::F32 {
        return Ok(Tensor::from_slice(shape, values)?);
    }
    let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    Ok(Tensor::from_f64(element_type, shape, &wide)?)
}

/// Shape in words: `[1, 3, ?, ?]`.
pub(crate) fn show(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}

/// Numpy broadcasting of two shapes. An axis of unknown length stays unknown beside 1, and takes a fixed
/// length above 1.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<PartialShape, OpError> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(Some(1), |j| s[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (Some(1), d) | (d, Some(1)) => Ok(d),
            (Some(x), Some(y)) if x == y => Ok(Some(x)),
            (None, d) | (d, None) => Ok(d),
            _ => bail!(
                "shapes {} and {} do not broadcast: axis {i} differs and neither is 1",
                show(a),
                show(b)
            ),
        })
        .collect()
}

/// Fails unless the input has that shape, as far as both are known.
pub(crate) fn shape_is(input: &Input, expected: &[Dim], what: &str) -> Result<(), OpError> {
    let known = |(a, b): (&Dim, &Dim)| a.is_none() || b.is_none() || a == b;
    if expected.len() == input.shape.len() && expected.iter().zip(input.shape).all(known) {
        return Ok(());
    }
    bail!("expected {what} {}, found {}", show(expected), show(input.shape))
}

/// An axis counted from the front; negative ones count from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(counted) {
        Ok(found) if found < rank => Ok(found),
        _ => bail!("axis {axis} is not an axis of a tensor of rank {rank}"),
    }
}

/// Distinct axes, in the order given.
pub(crate) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut found = Vec::with_capacity(list.len().min(rank));
    for &a in list {
        let a = axis(a, rank)?;
        if found.contains(&a) {
            bail!("axis {a} is listed twice");
        }
        found.push(a);
    }
    Ok(found)
}

/// An index from the front of an axis of that length; negative ones count from the end.
pub(crate) fn index(at: i64, length: usize) -> Result<usize, OpError> {
    let counted = if at < 0 {
        i128::from(at) + length as i128
    } else {
        i128::from(at)
    };
    match usize::try_from(counted) {
        Ok(i) if i < length => Ok(i),
        _ => bail!("index {at} is outside an axis of length {length}"),
    }
}

/// Fails unless the input holds integers.
pub(crate) fn integers(input: &Input, what: &str) -> Result<(), OpError> {
    if input.element_type.is_integer() {
        Ok(())
    } else {
        bail!("{what}: expected integers, found {}", input.element_type)
    }
}

/// Fails unless the input is floating point.
pub(crate) fn floats(input: &Input, what: &str) -> Result<(), OpError> {
    if input.element_type.is_float() {
        Ok(())
    } else {
        bail!("{what}: expected floating point, found {}", input.element_type)
    }
}

/// The axes of an input, if there are as many as expected.
pub(crate) fn dims<const N: usize>(input: &Input, what: &str) -> Result<[Dim; N], OpError> {
    match input.shape.try_into() {
        Ok(dims) => Ok(dims),
        Err(_) => bail!("{what}: expected {N} axes, found {}", show(input.shape)),
    }
}

/// The axis lengths of a tensor, if there are as many as expected.
pub(crate) fn lengths<const N: usize>(tensor: &Tensor, what: &str) -> Result<[usize; N], OpError> {
    match tensor.shape().try_into() {
        Ok(lengths) => Ok(lengths),
        Err(_) => bail!("{what}: expected {N} axes, found {:?}", tensor.shape()),
    }
}

/// The only element of a tensor.
pub(crate) fn only<T: Copy>(values: &[T], what: &str) -> Result<T, OpError> {
    match values {
        [value] => Ok(*value),
        _ => bail!("{what}: expected one value, found {}", values.len()),
    }
}

/// The number of elements of a shape that the caller knows to be that of a tensor, or part of one.
pub(crate) fn product(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// A copy of `data` in which element `to` is element `from` of `updates`, for each `(to, from)` in order.
pub(crate) fn overwrite(
    data: &Tensor,
    updates: &Tensor,
    places: impl Iterator<Item = (usize, usize)>,
) -> Result<Tensor, OpError> {
    let bits = data.element_type().bits();
    if bits < 8 {
        let (mut values, updates) = (data.to_i128(), updates.to_i128());
        places.for_each(|(to, from)| values[to] = updates[from]);
        return Ok(Tensor::from_i128(data.element_type(), data.shape(), &values)?);
    }
    let width = bits / 8;
    let mut bytes = data.bytes().to_vec();
    for (to, from) in places {
        bytes[to * width..][..width].copy_from_slice(&updates.bytes()[from * width..][..width]);
    }
    Ok(Tensor::new(data.element_type(), data.shape().to_vec(), bytes)?)
}

/// The only element of a known value.
pub(crate) fn scalar(input: &Input, what: &str) -> Result<Option<i64>, OpError> {
    match input.integers() {
        None => Ok(None),
        Some(v) if v.len() == 1 => Ok(Some(v[0])),
        Some(v) => bail!("{what}: expected one value, found {}", v.len()),
    }
}

/// Fails unless two element types are equal.
pub(crate) fn same_type(a: &Input, b: &Input) -> Result<ElementType, OpError> {
    if a.element_type == b.element_type {
        Ok(a.element_type)
    } else {
        bail!(
            "expected inputs of one element type, found {} and {}",
            a.element_type,
            b.element_type
        )
    }
}

/// The axis length both stand for; fails if they are fixed and differ.
pub(crate) fn same_dim(a: Dim, b: Dim, what: &str) -> Result<Dim, OpError> {
    match (a, b) {
        (Some(x), Some(y)) if x != y => bail!("{what}: {x} and {y} differ"),
        (d, None) | (_, d) => Ok(d),
    }
}

/// Fails unless an axis is open or has the length computed for it; `None` is one that overflowed.
pub(crate) fn exactly(found: Dim, expected: Option<usize>, what: &str) -> Result<(), OpError> {
    match (found, expected) {
        (_, None) => bail!("{what}: the attributes make it too long"),
        (Some(found), Some(expected)) if found != expected => {
            bail!("{what}: expected {expected}, found {found}")
        }
        _ => Ok(()),
    }
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as isize;
    }
    strides
}

/// `start + sum(index[i] * strides[i])` for every index of `shape` in row-major order.
pub(crate) fn offsets(shape: &[usize], strides: &[isize], start: isize) -> Vec<usize> {
    let mut offsets = vec![start];
    for (&length, &stride) in shape.iter().zip(strides) {
        offsets = offsets
            .iter()
            .flat_map(|&base| (0..length as isize).map(move |i| base + i * stride))
            .collect();
    }
    offsets.into_iter().map(|o| o as usize).collect()
}

/// For each element of `to`, the element of `from` that numpy broadcasting puts there. The shapes fit, and `from` has no
/// more axes than `to`.
pub fn broadcast_offsets(from: &[usize], to: &[usize]) -> Vec<usize> {
    let mut expanded = vec![0; to.len() - from.len()];
    let plain = strides(from).into_iter().zip(from);
    expanded.extend(plain.map(|(stride, &length)| if length == 1 { 0 } else { stride }));
    offsets(to, &expanded, 0)
}

/// A tensor of the elements of `tensor` at the given offsets.
pub(crate) fn take(tensor: &Tensor, shape: &[usize], offsets: &[usize]) -> Result<Tensor, OpError> {
    let bits = tensor.element_type().bits();
    if bits < 8 {
        let values = tensor.to_i128();
        let taken: Vec<i128> = offsets.iter().map(|&o| values[o]).collect();
        return Ok(Tensor::from_i128(tensor.element_type(), shape, &taken)?);
    }
    let (bytes, width) = (tensor.bytes(), bits / 8);
    let mut taken = Vec::with_capacity(offsets.len() * width);
    for &o in offsets {
        taken.extend_from_slice(&bytes[o * width..(o + 1) * width]);
    }
    Ok(Tensor::new(tensor.element_type(), shape.to_vec(), taken)?)
}

/// The fixed shape of an output that evaluation is to fill.
pub(crate) fn fixed(output: &OutputInfo) -> Result<Vec<usize>, OpError> {
    match output.static_shape() {
        Some(shape) => Ok(shape),
        None => bail!("the output shape {} is not fixed", show(&output.shape)),
    }
}
