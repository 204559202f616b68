//! What is known after some of the samples, kept so that a calibration that was interrupted can go on.

use crate::data::{Dataset, Part};
use crate::error::QuantizeError;
use crate::run::Progress;

/// Samples between which what is known can be saved. Sums are taken over as many at a time, so that they do not depend on
/// where a calibration was interrupted, nor on the number of threads.
const BLOCK: usize = 64;

/// Keeps what is known, by the name of what it is about.
pub trait Checkpoint: Sync {
    /// What was saved last under this name.
    fn load(&self, name: &str) -> Option<Vec<u8>>;

    /// Takes the place of what was saved under this name.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn save(&self, name: &str, bytes: Vec<u8>) -> Result<(), QuantizeError>;
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

impl Checkpoint for Forgetful {
    fn load(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn save(&self, _: &str, _: Vec<u8>) -> Result<(), QuantizeError> {
        Ok(())
    }
}

/// What can be put together from parts, and kept as bytes.
pub(crate) trait Known: Sized {
    /// Adds what is known of further samples.
    fn join(&mut self, further: Self);

    fn encode(&self, to: &mut Writer);

    /// None where the bytes are not such.
    fn decode(from: &mut Reader<'_>) -> Option<Self>;
}

/// Where an interrupted calibration is kept, and under which name this part of it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub at: &'a dyn Checkpoint,
    pub name: &'a str,
}

/// Goes through the samples in blocks, going on where an earlier run stopped. `run` tells what is known of a block; none
/// if there is no sample.
pub(crate) fn in_blocks<T: Known>(
    data: &dyn Dataset,
    place: Place<'_>,
    phase: &str,
    progress: &dyn Progress,
    mut run: impl FnMut(&Part<'_>) -> Result<T, QuantizeError>,
) -> Result<Option<T>, QuantizeError> {
    progress.phase(phase, data.len());
    let (mut done, mut known) = match place.at.load(place.name).and_then(|bytes| decoded::<T>(&bytes)) {
        Some((done, known)) if done <= data.len() => (done, Some(known)),
        _ => (0, None),
    };
    (0..done).for_each(|_| progress.step());
    while done < data.len() {
        let end = data.len().min(done + BLOCK);
        let part = Part::new(data, (done..end).collect());
        let further = run(&part).map_err(|e| e.later_by(done))?;
        match &mut known {
            Some(known) => known.join(further),
            none => *none = Some(further),
        }
        done = end;
        if let Some(known) = &known {
            let mut bytes = Writer::default();
            bytes.number(done as u64);
            known.encode(&mut bytes);
            place.at.save(place.name, bytes.0)?;
        }
    }
    Ok(known)
}

fn decoded<T: Known>(bytes: &[u8]) -> Option<(usize, T)> {
    let mut from = Reader(bytes);
    let done = usize::try_from(from.number()?).ok()?;
    Some((done, T::decode(&mut from)?))
}

/// Numbers as little-endian bytes.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        self.number(values.len() as u64);
        values.iter().for_each(|v| self.0.extend(v.to_le_bytes()));
    }

    pub(crate) fn doubles(&mut self, values: &[f64]) {
        self.number(values.len() as u64);
        values.iter().for_each(|v| self.0.extend(v.to_le_bytes()));
    }
}

/// What a [`Writer`] wrote; none where it ends early.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// A number of things that take at least `bytes` bytes each: no more than there can be.
    pub(crate) fn count(&mut self, bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len() / bytes.max(1)).then_some(count)
    }

    pub(crate) fn floats(&mut self) -> Option<Vec<f32>> {
        (0..self.count(4)?)
            .map(|_| self.take().map(f32::from_le_bytes))
            .collect()
    }

    pub(crate) fn doubles(&mut self) -> Option<Vec<f64>> {
        (0..self.count(8)?)
            .map(|_| self.take().map(f64::from_le_bytes))
            .collect()
    }
}

impl<T: Known> Known for Vec<T> {
    fn join(&mut self, further: Self) {
        self.iter_mut().zip(further).for_each(|(a, b)| a.join(b));
    }

    fn encode(&self, to: &mut Writer) {
        to.number(self.len() as u64);
        self.iter().for_each(|each| each.encode(to));
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        (0..from.count(1)?).map(|_| T::decode(from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_were_cut_off_are_nothing() {
        let mut bytes = Writer::default();
        bytes.floats(&[1.0, -2.5]);
        bytes.doubles(&[3.0]);
        let mut from = Reader(&bytes.0);
        assert_eq!(from.floats(), Some(vec![1.0, -2.5]));
        assert_eq!(from.doubles(), Some(vec![3.0]));
        assert_eq!(Reader(&bytes.0[..15]).floats(), None);
        // A count beyond all memory.
        assert_eq!(Reader(&u64::MAX.to_le_bytes()).floats(), None);
    }
}
