//! Damage to a model by recipe.

use crate::models::models;

/// What numbers and words become: values at which sizes, counts and signs go wrong.
const REPLACEMENTS: [&str; 40] = [
    "0", "1", "2", "3", "-1", "-2", "7", "64", "255", "256", "257", "65536", "4096", "1000000", "2147483647",
    "2147483648", "4294967295", "4294967296", "9223372036854775807", "-9223372036854775808",
    "18446744073709551615", "99999999999999999999", "", "?", "1..8", "nan", "inf", "-inf", "1e38", "1e-45", "0.5",
    "true", "false", "valid", "same_upper", "same_lower", "1,1", "0,0", "2,2,2", "-1,-1",
];

/// Words that take the place of words: element types, modes and names of operations.
const WORDS: [&str; 50] = [
    "f32", "f16", "bf16", "f64", "i4", "i8", "u4", "u8", "u1", "i32", "i64", "boolean", "FP32", "FP16", "I8", "U8",
    "I4", "U4", "BIN", "I32", "I64", "BOOL", "nearest", "linear", "linear_onnx", "cubic", "sizes", "scales",
    "asymmetric", "align_corners", "constant", "edge", "reflect", "symmetric", "ceil", "floor", "Add", "Multiply",
    "Subtract", "ReLU", "MaxPool", "Concat", "Reshape", "Transpose", "FakeQuantize", "Convolution", "MatMul",
    "Softmax", "pdpd", "none",
];

/// The `.xml`, the `.bin` and a number that says how to run it, of the model that a recipe names and changes; `None`
/// if the recipe is too short. A recipe is a byte for how to run, two for the model (both 255: the rest is text and
/// weights as they are, cut at the first zero byte), and four for each change.
pub fn damaged(recipe: &[u8]) -> Option<(Vec<u8>, Vec<u8>, u8)> {
    let (&[how, high, low], changes) = recipe.split_first_chunk::<3>()?;
    if (high, low) == (255, 255) {
        let cut = changes.iter().position(|&b| b == 0).unwrap_or(changes.len());
        let (xml, bin) = changes.split_at(cut);
        return Some((xml.to_vec(), bin.to_vec(), how));
    }
    let models = models();
    let model = &models[(usize::from(high) << 8 | usize::from(low)) % models.len()];
    let (mut xml, mut bin) = (model.xml.clone(), model.bin.clone());
    for change in changes.chunks_exact(4).take(8) {
        let place = usize::from(change[1]) << 8 | usize::from(change[2]);
        match change[0] % 8 {
            // Damage to the weights: NaN, infinities, huge integers.
            0 if !bin.is_empty() => {
                let at = place % bin.len();
                let fill = [0x00, 0xFF, 0x7F, 0x80][usize::from(change[3] % 4)];
                let end = (at + 1 + usize::from(change[3] / 4)).min(bin.len());
                bin[at..end].fill(fill);
            }
            1 => bin.truncate(bin.len() * usize::from(change[3]) / 255),
            2 => xml = without_element(&xml, place),
            kind => xml = replaced(&xml, place, kind, usize::from(change[3])),
        }
    }
    Some((xml.into_bytes(), bin, how))
}

/// The text with one number or word, counted from 0 and around, replaced.
fn replaced(xml: &str, place: usize, kind: u8, which: usize) -> String {
    let tokens = tokens(xml, kind);
    let Some(&(start, end)) = tokens.get(place % tokens.len().max(1)) else {
        return xml.to_owned();
    };
    let word = match kind {
        3..=5 => REPLACEMENTS[which % REPLACEMENTS.len()],
        // Another one of the text itself: ids, sizes and offsets of other layers.
        6 => {
            let (start, end) = tokens[which % tokens.len()];
            &xml[start..end]
        }
        _ => WORDS[which % WORDS.len()],
    };
    format!("{}{word}{}", &xml[..start], &xml[end..])
}

/// Where numbers (kinds below 7) or the contents of attributes stand.
fn tokens(xml: &str, kind: u8) -> Vec<(usize, usize)> {
    let bytes = xml.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if kind == 7 && bytes[at] == b'"' {
            let end = bytes[at + 1..].iter().position(|&b| b == b'"').map_or(bytes.len(), |n| at + 1 + n);
            found.push((at + 1, end));
            at = end + 1;
        } else if kind != 7 && bytes[at].is_ascii_digit() {
            let end = bytes[at..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| at + n);
            found.push((at, end));
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The text without one of its empty or one-line elements.
fn without_element(xml: &str, place: usize) -> String {
    let lines: Vec<&str> = xml.lines().collect();
    let whole = |line: &&str| line.contains("/>") || line.contains("</dim>");
    let places: Vec<usize> = (0..lines.len()).filter(|&i| whole(&lines[i])).collect();
    let Some(&gone) = places.get(place % places.len().max(1)) else {
        return xml.to_owned();
    };
    let kept = lines.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, l)| *l);
    kept.collect::<Vec<_>>().join("\n")
}
