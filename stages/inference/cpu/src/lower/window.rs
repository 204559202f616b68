//! From the attributes of operations to the windows of kernels.

use flow_model::op::{ConvAttrs, PoolAttrs};

use crate::kernels::Window;

fn pair(values: &[usize]) -> Option<[usize; 2]> {
    values.try_into().ok()
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
        stride: pair(&attrs.strides)?,
        dilation: pair(&attrs.dilations)?,
        pad_begin: pair(&begin)?,
    })
}

pub(super) fn window_of_pool(pool: &PoolAttrs) -> Option<Window> {
    Some(Window {
        kernel: pair(&pool.kernel)?,
        stride: pair(&pool.strides)?,
        dilation: if pool.dilations.is_empty() {
            [1, 1]
        } else {
            pair(&pool.dilations)?
        },
        pad_begin: pair(&pool.pads_begin)?,
    })
}

/// Whether every output of a pooling has a pixel under its window.
pub(super) fn windows_meet_image(window: &Window, input: &[usize], output: &[usize]) -> bool {
    let (&[_, _, h, w], &[_, _, oh, ow]) = (input, output) else {
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
