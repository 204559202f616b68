//! From the attributes of operations to the windows of kernels. One spatial axis is a row of an image.

use flow_model::op::{ConvAttrs, PoolAttrs};

use crate::kernels::Window;

/// `[N, C, H, W]` of a value that kernels take for an image: of rank 4, or of rank 3 with one row.
pub(super) fn image_dims(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [n, c, w] => Some([n, c, 1, w]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

/// `[output channels, channels of a group, rows, columns]` of weights.
pub(super) fn kernel_dims(shape: &[usize]) -> Option<[usize; 4]> {
    image_dims(shape)
}

/// Entries for two spatial axes, given for one or two; `fill` stands for the first where there is one.
pub(super) fn two<T: Copy>(values: &[T], fill: T) -> Option<[T; 2]> {
    match *values {
        [x] => Some([fill, x]),
        [y, x] => Some([y, x]),
        _ => None,
    }
}

pub(super) fn window_of_conv(attrs: &ConvAttrs, kernel: [usize; 2]) -> Option<Window> {
    let begin: Vec<usize> = attrs
        .pads_begin
        .iter()
        .map(|&p| usize::try_from(p).ok())
        .collect::<Option<_>>()?;
    if attrs.pads_end.iter().any(|&p| p < 0) {
        return None;
    }
    Some(Window {
        kernel,
        stride: two(&attrs.strides, 1)?,
        dilation: two(&attrs.dilations, 1)?,
        pad_begin: two(&begin, 0)?,
    })
}

pub(super) fn window_of_pool(pool: &PoolAttrs) -> Option<Window> {
    Some(Window {
        kernel: two(&pool.kernel, 1)?,
        stride: two(&pool.strides, 1)?,
        dilation: if pool.dilations.is_empty() {
            [1, 1]
        } else {
            two(&pool.dilations, 1)?
        },
        pad_begin: two(&pool.pads_begin, 0)?,
    })
}

/// Whether every output of a pooling has a pixel under its window.
pub(super) fn windows_meet_image(window: &Window, input: &[usize], output: &[usize]) -> bool {
    let (Some([_, _, h, w]), Some([_, _, oh, ow])) = (image_dims(input), image_dims(output)) else {
        return false;
    };
    [(0, h, oh), (1, w, ow)]
        .into_iter()
        .all(|(axis, inputs, outputs)| {
            let reach = (window.kernel[axis] - 1) * window.dilation[axis];
            let start = outputs.saturating_sub(1) * window.stride[axis];
            outputs > 0
                && start < inputs + window.pad_begin[axis]
                && reach >= window.pad_begin[axis]
                && (window.dilation[axis] == 1 || (window.pad_begin[axis] == 0 && start + reach < inputs))
        })
}
