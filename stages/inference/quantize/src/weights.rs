//! Constant weights in 8 bits.

use flow_model::{ElementType, Tensor};

use crate::error::QuantizeError;
use crate::ranges;

/// Greatest code of a weight: codes run from -127 to 127.
const TOP: f32 = 127.0;
/// Levels of weights.
pub(crate) const LEVELS: u32 = 255;

/// How weights get their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightRange {
    /// The greatest magnitude of each output channel.
    #[default]
    Extreme,
    /// What makes the mean square error of each output channel least.
    Mse,
}

/// Weights as codes with a scale for each place along some axes: `value = code * scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedWeights {
    /// Shape of the weights.
    pub shape: Vec<usize>,
    /// The codes, from -127 to 127.
    pub codes: Vec<i8>,
    /// Shape of the scales: that of the weights with 1 on every other axis.
    pub scale_shape: Vec<usize>,
    /// The scales.
    pub scales: Vec<f32>,
}

/// Finds for each weight the index of its scale.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    shape: Vec<usize>,
    pub(crate) scale_shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Channels {
    pub(crate) fn new(shape: &[usize], axes: &[usize]) -> Self {
        let scale_shape: Vec<usize> = shape
            .iter()
            .enumerate()
            .map(|(axis, &d)| if axes.contains(&axis) { d } else { 1 })
            .collect();
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for axis in (0..shape.len()).rev() {
            if axes.contains(&axis) {
                strides[axis] = stride;
                stride *= shape[axis];
            }
        }
        Self {
            shape: shape.to_vec(),
            scale_shape,
            strides,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.scale_shape.iter().product()
    }

    /// The channel of each weight, in order.
    pub(crate) fn of_each(&self) -> Vec<usize> {
        let count: usize = self.shape.iter().product();
        let mut places = vec![0usize; self.shape.len()];
        let mut channels = Vec::with_capacity(count);
        let mut channel = 0;
        for _ in 0..count {
            channels.push(channel);
            for axis in (0..places.len()).rev() {
                places[axis] += 1;
                channel += self.strides[axis];
                if places[axis] < self.shape[axis] {
                    break;
                }
                channel -= self.strides[axis] * self.shape[axis];
                places[axis] = 0;
            }
        }
        channels
    }
}

/// Quantizes weights, symmetrically, with a range for each place along `axes`.
///
/// # Errors
/// If a weight is not finite.
pub fn quantize(
    layer: &str,
    weights: &Tensor,
    axes: &[usize],
    range: WeightRange,
    half: bool,
) -> Result<QuantizedWeights, QuantizeError> {
    let values = weights.to_f32();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(QuantizeError::WeightNotFinite {
            layer: layer.to_owned(),
        });
    }
    let channels = Channels::new(weights.shape(), axes);
    let of_each = channels.of_each();
    let mut magnitude = vec![0f32; channels.count()];
    for (&c, v) in of_each.iter().zip(&values) {
        magnitude[c] = magnitude[c].max(v.abs());
    }
    // Whether weights are signed does not matter: codes run from -127 to 127 all the same.
    let min = vec![-1.0; magnitude.len()];
    let limits = if half {
        ranges::half_range(&min, &magnitude, true)
    } else {
        ranges::symmetric(&min, &magnitude, LEVELS, true, true)
    };
    let mut scales: Vec<f32> = limits.high.iter().map(|high| high / TOP).collect();
    if range == WeightRange::Mse && !half {
        let mut members: Vec<Vec<f32>> = vec![Vec::new(); scales.len()];
        of_each
            .iter()
            .zip(&values)
            .for_each(|(&c, &v)| members[c].push(v));
        for (scale, members) in scales.iter_mut().zip(&members) {
            *scale = best_scale(members, *scale);
        }
    }
    let code = |(&c, &v): (&usize, &f32)| (v / scales[c]).round_ties_even().clamp(-TOP, TOP) as i8;
    let codes = of_each.iter().zip(&values).map(code).collect();
    Ok(QuantizedWeights {
        shape: weights.shape().to_vec(),
        codes,
        scale_shape: channels.scale_shape,
        scales,
    })
}

/// The scale up to `widest` with the least square error.
fn best_scale(values: &[f32], widest: f32) -> f32 {
    let cost = |scale: f32| -> f64 {
        values
            .iter()
            .map(|v| {
                let off = f64::from(v - (v / scale).round_ties_even().clamp(-TOP, TOP) * scale);
                off * off
            })
            .sum()
    };
    let mut best = (cost(widest), widest);
    for i in 1..40 {
        let scale = widest * (1.0 - i as f32 * 0.01);
        let cost = cost(scale);
        if cost < best.0 {
            best = (cost, scale);
        }
    }
    best.1
}

impl QuantizedWeights {
    /// The values that the codes stand for.
    pub fn values(&self) -> Vec<f32> {
        let axes: Vec<usize> = (0..self.shape.len())
            .filter(|&a| self.scale_shape[a] != 1)
            .collect();
        let of_each = Channels::new(&self.shape, &axes).of_each();
        of_each
            .iter()
            .zip(&self.codes)
            .map(|(&c, &q)| f32::from(q) * self.scales[c])
            .collect()
    }

    /// The codes as a tensor.
    pub(crate) fn code_tensor(&self) -> Option<Tensor> {
        let bytes: Vec<u8> = self.codes.iter().map(|&c| c as u8).collect();
        Tensor::new(ElementType::I8, self.shape.clone(), bytes).ok()
    }

    /// The scales as a tensor, each times `factor`.
    pub(crate) fn scale_tensor(&self, factor: f32) -> Option<Tensor> {
        let scales: Vec<f32> = self.scales.iter().map(|s| s * factor).collect();
        Tensor::from_slice(&self.scale_shape, &scales).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_channel_has_its_own_scale() {
        let weights = Tensor::from_slice(&[2, 3], &[1.27f32, -0.5, 0.0, 12.7, 5.0, -12.7]).unwrap();
        let quantized = quantize("w", &weights, &[0], WeightRange::Extreme, false).unwrap();
        assert_eq!(quantized.scale_shape, [2, 1]);
        assert_eq!(quantized.codes, [127, -50, 0, 127, 50, -127]);
        assert_eq!(
            quantized.values(),
            [127, -50, 0, 1270, 500, -1270].map(|v| v as f32 * quantized.scales[0])
        );
        let quantized = quantize("w", &weights, &[1], WeightRange::Extreme, false).unwrap();
        assert_eq!(quantized.scale_shape, [1, 3]);
        assert_eq!(quantized.codes, [13, -13, 0, 127, 127, -127]);
    }

    #[test]
    fn groups_and_channels_count_together() {
        let channels = Channels::new(&[2, 2, 1, 2], &[0, 1]);
        assert_eq!(
            (channels.count(), channels.of_each()),
            (4, vec![0, 0, 1, 1, 2, 2, 3, 3])
        );
        let channels = Channels::new(&[2, 1, 3], &[0, 2]);
        assert_eq!(channels.of_each(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn half_the_range_halves_the_codes() {
        let weights = Tensor::from_slice(&[1, 2], &[1.0f32, -1.0]).unwrap();
        let quantized = quantize("w", &weights, &[0], WeightRange::Extreme, true).unwrap();
        assert!(quantized.codes.iter().all(|c| c.abs() <= 64), "{quantized:?}");
    }

    #[test]
    fn clipping_one_outlier_is_chosen_where_it_pays() {
        let mut values = vec![0.1f32; 10_000];
        values
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v += (i % 97) as f32 * 1e-4);
        values[0] = 0.5;
        let weights = Tensor::from_slice(&[1, values.len()], &values).unwrap();
        let scale = |range| quantize("w", &weights, &[0], range, false).unwrap().scales[0];
        assert!(scale(WeightRange::Mse) < scale(WeightRange::Extreme));
    }

    #[test]
    fn weights_that_are_not_finite_are_refused_by_name() {
        let weights = Tensor::from_slice(&[1, 2], &[1.0f32, f32::NAN]).unwrap();
        let message = quantize("conv7", &weights, &[0], WeightRange::Extreme, false)
            .unwrap_err()
            .to_string();
        assert!(message.contains("conv7"), "{message}");
    }
}
