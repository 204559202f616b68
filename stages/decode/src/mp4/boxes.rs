//! Boxes of the ISO base media file format (ISO/IEC 14496-12, section 4.2).

use nom::IResult;
use nom::bytes::complete::take;
use nom::number::complete::{be_u32, be_u64};

/// Four characters that name a box.
pub(crate) type Kind = [u8; 4];

/// Start of a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BoxHeader {
    pub(crate) kind: Kind,
    /// Bytes of the header itself.
    pub(crate) header: u64,
    /// Bytes of header and body; `None`: to the end of the file.
    pub(crate) size: Option<u64>,
}

/// Longest box header: size, kind, 64-bit size.
pub(crate) const MAX_HEADER: usize = 16;

/// Parses a box header; a size below that of the header itself is an error.
pub(crate) fn header(input: &[u8]) -> IResult<&[u8], BoxHeader> {
    let (rest, size) = be_u32(input)?;
    let (rest, name) = take(4usize)(rest)?;
    let mut kind = [0; 4];
    kind.copy_from_slice(name);
    let (rest, header, size) = match size {
        0 => (rest, 8, None),
        1 => {
            let (rest, size) = be_u64(rest)?;
            (rest, 16, Some(size))
        }
        size => (rest, 8, Some(u64::from(size))),
    };
    if size.is_some_and(|size| size < header) {
        return Err(nom::Err::Error(nom::error::Error::new(
            input,
            nom::error::ErrorKind::Verify,
        )));
    }
    Ok((rest, BoxHeader { kind, header, size }))
}

/// Kind and body of each box in `body`; ends at the first box that reaches past it.
pub(crate) fn children(body: &[u8]) -> impl Iterator<Item = (Kind, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (_, head) = header(rest).ok()?;
        let size = usize::try_from(head.size.unwrap_or(rest.len() as u64)).ok()?;
        let (whole, after) = rest.split_at_checked(size)?;
        rest = after;
        Some((head.kind, whole.get(head.header as usize..)?))
    })
}

/// Body of the first box `kind` in `body`.
pub(crate) fn child<'a>(body: &'a [u8], kind: &Kind) -> Option<&'a [u8]> {
    children(body).find(|(k, _)| k == kind).map(|(_, b)| b)
}

/// Body of the box at a path of kinds.
pub(crate) fn descend<'a>(body: &'a [u8], path: &[&Kind]) -> Option<&'a [u8]> {
    path.iter().try_fold(body, |body, kind| child(body, kind))
}

/// Version, flags and the rest of a full box.
pub(crate) fn full_box(body: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (head, rest) = body.split_at_checked(4)?;
    Some((head[0], u32::from_be_bytes([0, head[1], head[2], head[3]]), rest))
}

/// A kind as text for messages.
pub(crate) fn text(kind: &Kind) -> String {
    kind.iter()
        .map(|&b| {
            if b.is_ascii_graphic() || b == b' ' {
                char::from(b)
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_all_three_kinds() {
        let (_, h) = header(&[0, 0, 0, 16, b'm', b'o', b'o', b'v']).unwrap();
        assert_eq!((h.header, h.size), (8, Some(16)));
        let (_, h) = header(&[0, 0, 0, 1, b'm', b'd', b'a', b't', 0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
        assert_eq!((h.header, h.size), (16, Some(1 << 32)));
        let (_, h) = header(&[0, 0, 0, 0, b'm', b'd', b'a', b't']).unwrap();
        assert_eq!(h.size, None);
        assert!(header(&[0, 0, 0, 7, b'm', b'd', b'a', b't']).is_err());
    }

    #[test]
    fn a_child_past_its_parent_is_not_seen() {
        let body = [
            0, 0, 0, 9, b'a', b'a', b'a', b'a', 5, 0, 0, 0, 99, b'b', b'b', b'b', b'b',
        ];
        assert_eq!(child(&body, b"aaaa"), Some(&[5u8][..]));
        assert_eq!(child(&body, b"bbbb"), None);
    }
}
