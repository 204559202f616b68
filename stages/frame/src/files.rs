//! Values as files that people and other programs read: pictures as PNG, tensors as NumPy arrays.

use flow::packet::{Packet, PayloadFile};

use crate::{Codec, DType, Encoded, Frame, Tensor, to_png};

/// An access unit as it is. One of H.264 that can be decoded alone is a `keyframe.h264`, another one a `unit.h264`.
pub(crate) fn encoded(unit: &Encoded) -> PayloadFile {
    let name = match (unit.codec, unit.keyframe) {
        (Codec::H264, true) => "keyframe.h264".to_owned(),
        (Codec::H264, false) => "unit.h264".to_owned(),
        (Codec::Jpeg, _) => "picture.jpg".to_owned(),
        (codec, _) => format!("picture.{}", codec.name()),
    };
    PayloadFile {
        name,
        about: format!("encoded {}", unit.codec.name()),
        bytes: unit.data.to_vec(),
    }
}

/// A frame as a PNG picture; of YUV samples, what they look like.
pub(crate) fn frame(frame: &Frame) -> Option<PayloadFile> {
    let mut bytes = Vec::new();
    to_png(frame, &mut Vec::new(), &mut bytes).ok()?;
    let (width, height) = (frame.width(), frame.height());
    Some(PayloadFile {
        name: "frame.png".into(),
        about: format!("frame {width}x{height} {}", frame.format().name()),
        bytes,
    })
}

/// The frame that a packet has attached: what its payload was made of.
pub(crate) fn attached(packet: &Packet) -> Option<PayloadFile> {
    frame(&*packet.attachment::<Frame>()?)
}

/// A tensor as an array of NumPy, `NAME.npy`.
pub(crate) fn tensor(name: &str, tensor: &Tensor) -> Option<PayloadFile> {
    let data = tensor
        .data
        .get(..tensor.len().checked_mul(tensor.dtype.bytes())?)?;
    let (dtype, shape) = (tensor.dtype.name(), &tensor.shape);
    let axes: Vec<String> = shape.iter().map(|n| format!("{n}, ")).collect();
    let kind = match tensor.dtype {
        DType::U8 => "|u1",
        DType::I8 => "|i1",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F32 => "<f4",
    };
    let axes = axes.concat();
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}",
        axes.trim_end()
    );
    // Version 1.0 of the format: magic, length and header are a multiple of 64 bytes.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).ok()?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    Some(PayloadFile {
        name: format!("{name}.npy"),
        about: format!("tensor {dtype}{shape:?} {}", tensor.layout.name()),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, Layout};

    #[test]
    fn a_tensor_is_an_array_of_numpy() {
        for (shape, text) in [(vec![1, 2, 3], "(1, 2, 3,)"), (vec![6], "(6,)"), (vec![], "()")] {
            let count: usize = shape.iter().product();
            let value = Tensor {
                dtype: DType::U8,
                shape,
                layout: Layout::Other,
                data: Buffer::copy_of(&[1, 2, 3, 4, 5, 6]),
            };
            let file = tensor("input", &value).unwrap();
            assert_eq!(file.name, "input.npy");
            let header = usize::from(file.bytes[8]);
            assert_eq!((10 + header) % 64, 0);
            let head = std::str::from_utf8(&file.bytes[10..10 + header]).unwrap();
            assert!(head.ends_with('\n') && head.contains("'descr': '|u1'"), "{head}");
            assert!(head.contains(&format!("'shape': {text}, ")), "{head}");
            assert_eq!(file.bytes[10 + header..], [1, 2, 3, 4, 5, 6][..count]);
        }
    }
}
