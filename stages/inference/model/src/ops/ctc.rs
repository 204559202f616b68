//! CTCGreedyDecoder and CTCGreedyDecoderSeqLen: the likeliest class of each step, blanks and repeats left out.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// CTCGreedyDecoder-1: inputs scores `[T, N, classes]` and a mask `[T, N]` that is 0 behind each sequence; classes
/// `[N, T, 1, 1]`, filled up with -1. The last class is the blank.
#[derive(Debug, Clone)]
struct Decoder {
    merge_repeated: bool,
}

/// CTCGreedyDecoderSeqLen-6: inputs scores `[N, T, classes]`, lengths `[N]` and optionally the blank, which is the
/// last class by default; classes `[N, T]`, filled up with -1, and how many there are.
#[derive(Debug, Clone)]
struct DecoderSeqLen {
    merge_repeated: bool,
    class_type: ElementType,
    length_type: ElementType,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "CTCGreedyDecoder" => Some(Op::standard(Decoder {
            merge_repeated: a.flag("ctc_merge_repeated", Some(true))?,
        })),
        "CTCGreedyDecoderSeqLen" => Some(Op::standard(DecoderSeqLen {
            merge_repeated: a.flag("merge_repeated", Some(true))?,
            class_type: a.element_type("classes_index_type", Some(ElementType::I32))?,
            length_type: a.element_type("sequence_length_type", Some(ElementType::I32))?,
        })),
        _ => None,
    })
}

/// The classes of one sequence, given the scores of each step.
fn decode<'a>(steps: impl Iterator<Item = &'a [f64]>, blank: i64, merge_repeated: bool) -> Vec<i64> {
    let mut classes = Vec::new();
    let mut previous = -1;
    for scores in steps {
        let mut best = 0;
        for (class, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = class;
            }
        }
        let best = best as i64;
        if best != blank && !(merge_repeated && best == previous) {
            classes.push(best);
        }
        previous = best;
    }
    classes
}

impl Operation for Decoder {
    fn type_name(&self) -> &'static str {
        "CTCGreedyDecoder"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("ctc_merge_repeated", self.merge_repeated.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::floats(&inputs[0], "the scores")?;
        let [t, n, _] = support::dims(&inputs[0], "the scores")?;
        let [mask_t, mask_n] = support::dims(&inputs[1], "the mask")?;
        let t = support::same_dim(t, mask_t, "the steps of scores and mask")?;
        let n = support::same_dim(n, mask_n, "the sequences of scores and mask")?;
        let shape = vec![n, t, Some(1), Some(1)];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [times, count, classes] = support::lengths(&inputs[0], "the scores")?;
        if classes == 0 {
            bail!("expected at least one class, found none");
        }
        let (scores, mask) = (inputs[0].to_f64(), inputs[1].to_f64());
        let mut decoded = vec![-1.0; count * times];
        for (n, row) in decoded.chunks_mut(times.max(1)).enumerate() {
            let at = |t: usize| t * count + n;
            let length = (0..times).find(|&t| mask[at(t)] == 0.0).unwrap_or(times);
            let steps = (0..length).map(|t| &scores[at(t) * classes..][..classes]);
            let found = decode(steps, classes as i64 - 1, self.merge_repeated);
            row.iter_mut()
                .zip(found)
                .for_each(|(to, class)| *to = class as f64);
        }
        let shape = [count, times, 1, 1];
        Ok(vec![Tensor::from_f64(
            inputs[0].element_type(),
            &shape,
            &decoded,
        )?])
    }
}

impl Operation for DecoderSeqLen {
    fn type_name(&self) -> &'static str {
        "CTCGreedyDecoderSeqLen"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("merge_repeated", self.merge_repeated.to_string()),
            ("classes_index_type", self.class_type.to_string()),
            ("sequence_length_type", self.length_type.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::floats(&inputs[0], "the scores")?;
        support::integers(&inputs[1], "the lengths")?;
        let [n, t, _] = support::dims(&inputs[0], "the scores")?;
        let [lengths] = support::dims(&inputs[1], "the lengths")?;
        let n = support::same_dim(n, lengths, "the sequences of scores and lengths")?;
        Ok(vec![
            support::output(self.class_type, vec![n, t]),
            support::output(self.length_type, vec![n]),
        ])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [count, times, classes] = support::lengths(&inputs[0], "the scores")?;
        if classes == 0 {
            bail!("expected at least one class, found none");
        }
        let scores = inputs[0].to_f64();
        let blank = match inputs.get(2) {
            Some(blank) => support::only(&blank.to_i64(), "the blank")?,
            None => classes as i64 - 1,
        };
        let mut decoded = vec![-1; count * times];
        let mut lengths = Vec::with_capacity(count);
        for (n, length) in inputs[1].to_i64().into_iter().enumerate() {
            let Some(length) = usize::try_from(length).ok().filter(|&l| l <= times) else {
                bail!("a sequence of {length} steps, but there are scores for {times}");
            };
            let steps = scores[n * times * classes..][..length * classes].chunks(classes);
            let found = decode(steps, blank, self.merge_repeated);
            lengths.push(found.len() as i128);
            let row = decoded[n * times..][..times].iter_mut();
            row.zip(found).for_each(|(to, class)| *to = i128::from(class));
        }
        Ok(vec![
            Tensor::from_i128(self.class_type, &[count, times], &decoded)?,
            Tensor::from_i128(self.length_type, &[count], &lengths)?,
        ])
    }
}
