//! Indices in logical order, and places in memory.

use crate::placement::Placement;

/// Picture, channel, row and column of an element.
pub(super) fn pixel(shape: &[usize], at: usize) -> [usize; 4] {
    let (height, width) = match *shape {
        [_, _, h, w] => (h, w),
        [_, _, w] => (1, w),
        _ => (1, 1),
    };
    [
        at / (shape[1] * height * width),
        at / (height * width) % shape[1],
        at / width % height,
        at % width,
    ]
}

/// Channels, rows and columns of an image.
pub(super) fn image(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [_, c, h, w] => [c, h, w],
        [_, c, w] => [c, 1, w],
        _ => [1, 1, 1],
    }
}

/// Index in a value of shape `own`, repeated along axes of length 1, of the element at `at` of one of shape `shape`.
pub(super) fn repeated(own: &[usize], shape: &[usize], at: usize) -> usize {
    if own == shape {
        return at;
    }
    let missing = shape.len().saturating_sub(own.len());
    let (mut rest, mut index, mut stride) = (at, 0, 1);
    for axis in (missing..shape.len()).rev() {
        let i = rest % shape[axis];
        rest /= shape[axis];
        let length = own[axis - missing];
        index += if length == 1 { 0 } else { i * stride };
        stride *= length;
    }
    index
}

/// From indices in logical order to places in memory.
#[derive(Debug)]
pub(crate) struct Offsets {
    first: usize,
    /// Length and distance of each axis, the last one first.
    pub(super) axes: Vec<(usize, usize)>,
}

impl Offsets {
    /// How many elements from any multiple of that number on lie one behind the other in logical order, all with one index along
    /// axis `but`, counted from the last.
    pub fn together(&self, but: Option<usize>) -> usize {
        let mut count = 1;
        for (axis, &(length, stride)) in self.axes.iter().enumerate() {
            if length > 1 && (stride != count || but == Some(axis)) {
                break;
            }
            count *= length;
        }
        count.max(1)
    }

    pub fn new(place: &Placement) -> Self {
        Self {
            first: place.offset(),
            axes: place.shape().into_iter().zip(place.strides()).rev().collect(),
        }
    }

    pub(super) fn of(&self, at: usize) -> usize {
        let (mut rest, mut offset) = (at, self.first);
        for &(length, stride) in &self.axes {
            offset += rest % length * stride;
            rest /= length;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::repeated;

    #[test]
    fn axes_of_length_1_and_missing_ones_repeat() {
        // Element [1, 2, 3] of [2, 3, 4].
        let at = (3 + 2) * 4 + 3;
        assert_eq!(repeated(&[2, 3, 4], &[2, 3, 4], at), at);
        assert_eq!(repeated(&[3, 1], &[2, 3, 4], at), 2);
        assert_eq!(repeated(&[2, 1, 4], &[2, 3, 4], at), 4 + 3);
        assert_eq!(repeated(&[1], &[2, 3, 4], at), 0);
        assert_eq!(repeated(&[], &[2, 3, 4], at), 0);
    }
}
