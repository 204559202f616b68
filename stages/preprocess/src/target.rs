//! What tensor a stage makes: from its keys and from what its consumers want.

use std::any::Any;

use flow::error::{Code, PrepareError};
use flow::registry::PrepareContext;
use flow_frame::{ColorOrder, DType, InputQuantization, Layout, TensorSpec};

use crate::color::channels;
use crate::keys::{ColorKey, DTypeKey, LayoutKey, PerChannel, Size, Tables};
use crate::normalize::{Normalization, SampleMap};

/// A tensor to make of each frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Channels and their order.
    pub color: ColorOrder,
    /// Order of the axes; [`Layout::Other`] counts as NCHW.
    pub layout: Layout,
    /// From samples to elements.
    pub map: SampleMap,
    /// The quantization that the codes of `map` follow, where they are codes of a network's input.
    pub quantization: Option<InputQuantization>,
}

/// The keys that describe a [`Target`].
#[derive(Debug, Clone, Copy)]
pub struct TargetKeys {
    /// Key `size`.
    pub size: Size,
    /// Key `color`.
    pub color: ColorKey,
    /// Key `layout`.
    pub layout: LayoutKey,
    /// Key `dtype`.
    pub dtype: DTypeKey,
    /// Key `mean`.
    pub mean: PerChannel,
    /// Key `scale`.
    pub scale: PerChannel,
    /// Key `tables`.
    pub tables: Tables,
}

/// Code of: nothing downstream says what a `model` key stands for.
const NOTHING_SAID: Code = Code("E0340");
/// Code of: consumers want different tensors.
const DISAGREE: Code = Code("E0341");
/// Code of: a consumer wants what no frame can be turned into.
const NOT_AN_IMAGE: Code = Code("E0342");

impl TargetKeys {
    /// The target, with `model` keys filled in from what the consumers want.
    pub fn resolve(&self, cx: &PrepareContext<'_>) -> Result<Target, PrepareError> {
        let wanted = wanted(cx)?;
        let spec = wanted.map(|(_, spec)| spec);
        let image = wanted.map(|(name, spec)| Image::of(name, spec)).transpose()?;

        let size = match self.size {
            Size::Pixels([w, h]) => (w, h),
            Size::Model(_) => image
                .as_ref()
                .ok_or_else(|| {
                    PrepareError::new(
                        NOTHING_SAID,
                        "size",
                        "no consumer of this stage says which size it wants",
                    )
                    .help("give the size: `size: [width, height]`, or feed an `infer` stage")
                    .for_want_of_consumers()
                })?
                .size
                .ok_or_else(|| {
                    PrepareError::new(NOTHING_SAID, "size", "the consumer takes any size")
                        .help("give the size: `size: [width, height]`")
                })?,
        };
        let color = match (self.color.order(), &image) {
            (Some(order), _) => order,
            (None, Some(image)) => image.color,
            (None, None) => ColorOrder::Rgb,
        };
        let layout = match (self.layout, &image) {
            (LayoutKey::Nchw, _) => Layout::Nchw,
            (LayoutKey::Nhwc, _) => Layout::Nhwc,
            (LayoutKey::Model, Some(image)) => image.layout,
            (LayoutKey::Model, None) => Layout::Nchw,
        };
        let dtype = match (self.dtype, spec) {
            (DTypeKey::U8, _) => DType::U8,
            (DTypeKey::F32, _) | (DTypeKey::Model, None) => DType::F32,
            (DTypeKey::Model, Some(spec)) => spec.dtype,
        };
        let normalization = Normalization {
            mean: self.mean.values(),
            scale: self.scale.values(),
        };
        if channels(color) == 1 {
            for (key, value) in [("mean", self.mean), ("scale", self.scale)] {
                if matches!(value, PerChannel::Each(_)) {
                    return Err(PrepareError::new(
                        NOT_AN_IMAGE,
                        key,
                        "three values, but the tensor has one grey channel",
                    )
                    .help("give one number"));
                }
            }
        }
        let quantization = spec
            .and_then(|s| s.quantization)
            .filter(|q| self.tables == Tables::Auto && (2..=256).contains(&q.levels) && q.low < q.high);
        let (map, quantization) = match (dtype, quantization) {
            (DType::F32, Some(q)) => (SampleMap::quantized(normalization, &q), Some(q)),
            (DType::F32, None) => (SampleMap::float(normalization), None),
            (DType::U8, _) => (SampleMap::rounded(normalization), None),
            (other, _) => {
                let name = other.name();
                return Err(PrepareError::new(
                    NOT_AN_IMAGE,
                    "dtype",
                    format!("the consumer wants {name} elements; a frame becomes u8 or f32"),
                )
                .help("use a network with a u8 or f32 image input"));
            }
        };
        Ok(Target {
            size,
            color,
            layout,
            map,
            quantization,
        })
    }
}

impl Target {
    /// What the tensors look like.
    pub fn spec(&self) -> TensorSpec {
        let (w, h) = (self.size.0 as usize, self.size.1 as usize);
        let c = channels(self.color);
        let shape = match self.layout {
            Layout::Nhwc => [1, h, w, c],
            Layout::Nchw | Layout::Other => [1, c, h, w],
        };
        TensorSpec {
            dtype: self.dtype(),
            shape: shape.map(Some).to_vec(),
            layout: self.layout,
            color: Some(self.color),
            quantization: self.quantization,
        }
    }
}

/// What the consumers want, with the name of the first; those that say nothing about tensors are passed over.
fn wanted<'a>(cx: &'a PrepareContext<'_>) -> Result<Option<(&'a str, &'a TensorSpec)>, PrepareError> {
    let mut specs = cx.downstream.iter().filter_map(|(name, detail)| {
        let any: &dyn Any = &**detail;
        Some((name.as_str(), any.downcast_ref::<TensorSpec>()?))
    });
    let Some((first, spec)) = specs.next() else {
        return Ok(None);
    };
    match specs.find(|(_, other)| *other != spec) {
        None => Ok(Some((first, spec))),
        Some((second, other)) => Err(PrepareError::new(
            DISAGREE,
            "",
            format!("`{first}` wants {spec}, `{second}` wants {other}"),
        )
        .help("one stage makes one kind of tensor: give each consumer its own stage")),
    }
}

/// A wanted tensor read as a picture.
struct Image {
    layout: Layout,
    size: Option<(u32, u32)>,
    color: ColorOrder,
}

impl Image {
    fn of(name: &str, spec: &TensorSpec) -> Result<Self, PrepareError> {
        let refuse = |why: &str| {
            PrepareError::new(NOT_AN_IMAGE, "", format!("`{name}` wants {spec}: {why}"))
                .help("a frame becomes one picture of 1 or 3 channels")
        };
        let &[batch, second, _, last] = spec.shape.as_slice() else {
            return Err(refuse("not a picture, which has 4 axes"));
        };
        if batch.is_some_and(|n| n != 1) {
            return Err(refuse("batches other than 1 are not supported"));
        }
        let depth = |axis: Option<usize>| matches!(axis, Some(1 | 3));
        let layout = match spec.layout {
            Layout::Other if depth(second) && !depth(last) => Layout::Nchw,
            Layout::Other if depth(last) && !depth(second) => Layout::Nhwc,
            Layout::Other => return Err(refuse("its layout is unknown; set `layout` and `size`")),
            known => known,
        };
        let channels = if layout == Layout::Nchw { second } else { last };
        let color = match (spec.color, channels) {
            (Some(color), _) => color,
            (None, Some(1)) => ColorOrder::Gray,
            (None, Some(3) | None) => ColorOrder::Rgb,
            (None, Some(_)) => return Err(refuse("the number of channels is neither 1 nor 3")),
        };
        let size = TensorSpec {
            layout,
            ..spec.clone()
        }
        .size();
        Ok(Self { layout, size, color })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::ports::SharedDetail;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    const KEYS: TargetKeys = TargetKeys {
        size: Size::Model(crate::keys::ModelWord::Model),
        color: ColorKey::Model,
        layout: LayoutKey::Model,
        dtype: DTypeKey::Model,
        mean: PerChannel::All(127.0),
        scale: PerChannel::All(128.0),
        tables: Tables::Auto,
    };

    fn resolve(keys: TargetKeys, specs: &[TensorSpec]) -> Result<Target, PrepareError> {
        let downstream: Vec<(String, SharedDetail)> = specs
            .iter()
            .enumerate()
            .map(|(i, s)| (format!("net{i}"), Arc::new(s.clone()) as SharedDetail))
            .collect();
        keys.resolve(&PrepareContext {
            name: "prep",
            folder: Path::new("."),
            models: &BTreeMap::new(),
            downstream: &downstream,
            streams: &[],
            replicas: 1,
            threads: 1,
            batch: None,
        })
    }

    fn spec(dtype: DType, shape: [usize; 4], layout: Layout) -> TensorSpec {
        TensorSpec {
            dtype,
            shape: shape.map(Some).to_vec(),
            layout,
            color: None,
            quantization: None,
        }
    }

    #[test]
    fn everything_comes_from_the_consumer() {
        let want = spec(DType::U8, [1, 192, 160, 3], Layout::Nhwc);
        let target = resolve(KEYS, &[want]).unwrap();
        assert_eq!((target.size, target.layout), ((160, 192), Layout::Nhwc));
        assert_eq!((target.color, target.dtype()), (ColorOrder::Rgb, DType::U8));
    }

    #[test]
    fn a_quantized_input_is_handed_codes_unless_switched_off() {
        let q = InputQuantization {
            low: -1.0,
            high: 1.0,
            levels: 256,
        };
        let want = TensorSpec {
            quantization: Some(q),
            ..spec(DType::F32, [1, 3, 240, 320], Layout::Nchw)
        };
        let target = resolve(KEYS, std::slice::from_ref(&want)).unwrap();
        assert_eq!((target.dtype(), target.quantization), (DType::U8, Some(q)));
        use flow::ports::PortDetail;
        target.spec().feeds(&want).unwrap();

        let off = TargetKeys {
            tables: Tables::Off,
            ..KEYS
        };
        let target = resolve(off, std::slice::from_ref(&want)).unwrap();
        assert_eq!((target.dtype(), target.quantization), (DType::F32, None));
        target.spec().feeds(&want).unwrap();
    }

    #[test]
    fn a_size_that_nobody_states_is_an_error_with_help() {
        let e = resolve(KEYS, &[]).unwrap_err();
        assert_eq!((e.code, e.key.as_str()), (NOTHING_SAID, "size"));
        assert!(e.help.unwrap().contains("size: [width, height]"));
        let mut open = spec(DType::F32, [1, 3, 0, 0], Layout::Nchw);
        open.shape[2] = None;
        open.shape[3] = None;
        assert_eq!(resolve(KEYS, &[open]).unwrap_err().key, "size");
    }

    #[test]
    fn consumers_that_disagree_are_named() {
        let a = spec(DType::F32, [1, 3, 240, 320], Layout::Nchw);
        let b = spec(DType::F32, [1, 3, 352, 352], Layout::Nchw);
        let e = resolve(KEYS, &[a, b]).unwrap_err();
        assert_eq!(e.code, DISAGREE);
        assert!(e.message.contains("net0") && e.message.contains("net1"), "{e}");
    }

    #[test]
    fn tensors_that_are_no_picture_are_refused() {
        for want in [
            spec(DType::F32, [1, 7, 240, 320], Layout::Nchw),
            spec(DType::F32, [2, 3, 240, 320], Layout::Nchw),
            spec(DType::I64, [1, 3, 240, 320], Layout::Nchw),
        ] {
            assert_eq!(resolve(KEYS, &[want]).unwrap_err().code, NOT_AN_IMAGE);
        }
    }
}
