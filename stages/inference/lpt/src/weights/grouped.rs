//! Codes that each remember their pair of scale and zero point.

use std::collections::HashMap;

use flow_model::tensor::Tensor;

/// Integer codes with, per element, the number of the pair `(scale, zero point)` it belongs to:
/// `value = (code - zero_point) * scale`.
pub(super) struct Grouped {
    shape: Vec<usize>,
    codes: Vec<i16>,
    /// Number of the pair of each element; empty while there is one pair.
    group: Vec<u32>,
    pairs: Vec<(f64, f64)>,
}

impl Grouped {
    /// Codes that all have one pair.
    pub(super) fn new(shape: Vec<usize>, codes: Vec<i16>, scale: f64, zero_point: f64) -> Self {
        Self {
            shape,
            codes,
            group: Vec::new(),
            pairs: vec![(scale, zero_point)],
        }
    }

    /// Axis lengths.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements in row-major order: code, number of the pair.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i16, u32)> {
        // Without numbers all elements have pair 0.
        let groups = self.group.iter().copied().chain(std::iter::repeat(0));
        self.codes.iter().copied().zip(groups)
    }

    /// A pair by its number.
    pub(super) fn pair(&self, group: u32) -> (f64, f64) {
        self.pairs[group as usize]
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.codes.len()
    }

    /// The same elements in another shape of as many.
    pub(super) fn reshaped(self, shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            ..self
        }
    }

    /// Elements taken from the given places, in another shape of as many.
    pub(super) fn gathered(self, shape: &[usize], source: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            codes: source.iter().map(|&i| self.codes[i]).collect(),
            group: match self.group.is_empty() {
                true => self.group,
                false => source.iter().map(|&i| self.group[i]).collect(),
            },
            pairs: self.pairs,
        }
    }

    /// Permutes the axes; `None` if `order` is no permutation of them.
    pub(super) fn transpose(self, order: &[usize]) -> Option<Self> {
        let (shape, source) = permutation(&self.shape, order)?;
        Some(self.gathered(&shape, &source))
    }

    /// Applies an operand that broadcasts to the elements to their pairs; false if it does not broadcast.
    pub(super) fn combine(
        &mut self,
        operand: &Tensor,
        apply: impl Fn((f64, f64), f64) -> (f64, f64),
    ) -> bool {
        let constants = operand.to_f64();
        let Some(index) = broadcast_index(operand.shape(), &self.shape) else {
            return false;
        };
        if constants.is_empty() {
            return self.codes.is_empty();
        }
        let BroadcastIndex::Varies(index) = index else {
            self.map_pairs(|pair| apply(pair, constants[0]));
            return true;
        };
        if let ([pair], true) = (&self.pairs[..], self.group.is_empty()) {
            self.pairs = constants.iter().map(|&c| apply(*pair, c)).collect();
            self.group = index;
            return true;
        }
        let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
        let mut pairs = Vec::new();
        let mut last = None;
        let group = (0..self.codes.len())
            .map(|i| {
                let key = (self.group.get(i).copied().unwrap_or(0), index[i]);
                // Neighbours mostly share their pair: the map is asked once per run.
                if let Some((seen, number)) = last
                    && seen == key
                {
                    return number;
                }
                let number = *numbers.entry(key).or_insert_with(|| {
                    pairs.push(apply(self.pairs[key.0 as usize], constants[key.1 as usize]));
                    (pairs.len() - 1) as u32
                });
                last = Some((key, number));
                number
            })
            .collect();
        if !pairs.is_empty() {
            self.pairs = pairs;
            self.group = group;
        }
        true
    }

    /// Replaces every pair.
    pub(super) fn map_pairs(&mut self, apply: impl Fn((f64, f64)) -> (f64, f64)) {
        for pair in &mut self.pairs {
            *pair = apply(*pair);
        }
    }

    /// Gives elements whose scale is 0, which all have the value `value(zero_point)`, a code and a pair that
    /// say so: code 0 for the value 0, else code 1 with the value as scale.
    pub(super) fn flatten(&mut self, value: impl Fn(f64) -> f64) {
        let flat: Vec<Option<f64>> = self
            .pairs
            .iter()
            .map(|&(scale, zero_point)| (scale == 0.0).then(|| value(zero_point)))
            .collect();
        if flat.iter().all(Option::is_none) {
            return;
        }
        for (i, code) in self.codes.iter_mut().enumerate() {
            let group = self.group.get(i).copied().unwrap_or(0);
            if let Some(value) = flat[group as usize] {
                *code = i16::from(value != 0.0);
            }
        }
        for (pair, flat) in self.pairs.iter_mut().zip(flat) {
            match flat {
                Some(0.0) => *pair = (1.0, 0.0),
                Some(value) => *pair = (value, 0.0),
                None => {}
            }
        }
    }

    /// The shape and the values.
    pub(super) fn into_values(self) -> (Vec<usize>, Vec<f32>) {
        let values = self
            .iter()
            .map(|(code, group)| {
                let (scale, zero_point) = self.pair(group);
                ((f64::from(code) - zero_point) * scale) as f32
            })
            .collect();
        (self.shape, values)
    }
}

/// For each element of a shape, which element of a smaller tensor broadcasts to it.
pub(super) enum BroadcastIndex {
    /// The only one.
    One,
    /// By element.
    Varies(Vec<u32>),
}

impl BroadcastIndex {
    /// The element for element `i`.
    pub(super) fn at(&self, i: usize) -> usize {
        match self {
            Self::One => 0,
            Self::Varies(index) => index[i] as usize,
        }
    }
}

/// Numpy broadcasting of `from` to `to`; `None` if `from` does not broadcast to exactly `to`.
pub(super) fn broadcast_index(from: &[usize], to: &[usize]) -> Option<BroadcastIndex> {
    let offset = to.len().checked_sub(from.len())?;
    let fits = from.iter().zip(&to[offset..]).all(|(&f, &t)| f == t || f == 1);
    let len: usize = from.iter().product();
    if !fits || u32::try_from(len).is_err() {
        return None;
    }
    if len == 1 {
        return Some(BroadcastIndex::One);
    }
    // Grows the index axis by axis from the innermost: each axis repeats or shifts what lies inside it.
    let mut index: Vec<u32> = vec![0];
    let mut stride = 1u32;
    for (axis, &length) in to.iter().enumerate().rev() {
        let varies = axis >= offset && from[axis - offset] != 1;
        let step = if varies { stride } else { 0 };
        let inner = index;
        index = Vec::with_capacity(inner.len() * length);
        for i in 0..length as u32 {
            index.extend(inner.iter().map(|&v| v + i * step));
        }
        if varies {
            stride *= length as u32;
        }
    }
    Some(BroadcastIndex::Varies(index))
}

/// The shape after a permutation of axes, and for each of its elements the element it comes from. `None` if
/// `order` is no permutation.
pub(super) fn permutation(shape: &[usize], order: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let mut seen = vec![false; shape.len()];
    for &axis in order {
        if std::mem::replace(seen.get_mut(axis)?, true) {
            return None;
        }
    }
    if order.len() != shape.len() {
        return None;
    }
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let mut source = vec![0usize];
    for &axis in order {
        source = source
            .iter()
            .flat_map(|&at| (0..shape[axis]).map(move |i| (at, i)))
            .map(|(at, i)| at + i * strides[axis])
            .collect();
    }
    Some((order.iter().map(|&axis| shape[axis]).collect(), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_move_elements_as_transpose_does() {
        // [[0 1 2] [3 4 5]] -> [[0 3] [1 4] [2 5]]
        let (shape, source) = permutation(&[2, 3], &[1, 0]).unwrap();
        assert_eq!(shape, [3, 2]);
        assert_eq!(source, [0, 3, 1, 4, 2, 5]);
        assert!(permutation(&[2, 3], &[0, 0]).is_none());
        assert!(permutation(&[2, 3], &[0]).is_none());
        assert!(permutation(&[2, 3], &[0, 2]).is_none());
    }

    #[test]
    fn broadcasts_only_to_the_same_shape() {
        let varies = |from: &[usize], to: &[usize]| match broadcast_index(from, to) {
            Some(BroadcastIndex::Varies(index)) => index,
            _ => panic!("expected an index"),
        };
        assert_eq!(varies(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(varies(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(varies(&[2, 1, 2], &[2, 2, 2]), [0, 1, 0, 1, 2, 3, 2, 3]);
        assert!(broadcast_index(&[2], &[2, 1]).is_none());
        assert!(broadcast_index(&[1, 1], &[4]).is_none());
    }

    #[test]
    fn pairs_follow_their_elements() {
        let mut g = Grouped::new(vec![1, 2, 3], (0..6).collect(), 1.0, 0.0);
        let scales = Tensor::from_slice(&[1, 1, 3], &[0.5f32, 0.25, 2.0]).unwrap();
        assert!(g.combine(&scales, |(s, z), c| (s * c, z)));
        let g = g.reshaped(&[2, 3, 1]).transpose(&[1, 0, 2]).unwrap();
        assert_eq!(g.shape(), [3, 2, 1]);
        let (_, values) = g.into_values();
        assert_eq!(values, [0.0, 1.5, 0.25, 1.0, 4.0, 10.0]);
    }

    #[test]
    fn flat_intervals_keep_their_value() {
        let mut g = Grouped::new(vec![3], vec![7, 8, 9], 0.0, 0.0);
        let values = Tensor::from_slice(&[3], &[0.0f32, -2.5, 0.0]).unwrap();
        assert!(g.combine(&values, |_, c| (0.0, c)));
        g.flatten(|z| z);
        assert_eq!(g.into_values().1, [0.0, -2.5, 0.0]);
    }
}
