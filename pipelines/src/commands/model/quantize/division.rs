//! Which samples calibrate, and which are held out.

use flow_quantize::{Dataset, QuantizeError};

use super::samples::Samples;
use crate::cli::Quantize;
use crate::failure::Failure;

/// Places of samples, each in one of the parts.
pub struct Division {
    /// Those that calibrate.
    pub calibration: Vec<usize>,
    /// Those that `--search` chooses by.
    pub choosing: Vec<usize>,
    /// Those that `--max-drop` measures on.
    pub measuring: Vec<usize>,
}

impl Division {
    /// Divides the samples; fails where there are too few for a part to have one.
    pub fn new(samples: &Samples, args: &Quantize) -> Result<Self, Failure> {
        let held = held_out(args);
        enough(samples.len(), args)?;
        let (calibration, held) = split(samples.len(), args.subset, held);
        let both = args.search && args.max_drop.is_some();
        // What chose cannot judge as well.
        let (choosing, measuring) = held
            .into_iter()
            .enumerate()
            .partition::<Vec<_>, _>(|(i, _)| args.search && (!both || i % 2 == 0));
        let places = |part: Vec<(usize, usize)>| part.into_iter().map(|(_, place)| place).collect();
        Ok(Self {
            calibration,
            choosing: places(choosing),
            measuring: places(measuring),
        })
    }
}

/// Samples to hold out.
pub fn held_out(args: &Quantize) -> usize {
    if args.search || args.max_drop.is_some() {
        args.held_out
    } else {
        0
    }
}

fn enough(found: usize, args: &Quantize) -> Result<(), Failure> {
    let also = usize::from(args.search) + usize::from(args.max_drop.is_some());
    if found > also && args.held_out >= also {
        return Ok(());
    }
    let why = match also {
        0 => "",
        1 => " --max-drop and --search measure on samples that calibration does not see.",
        _ => {
            " --search chooses by samples that calibration does not see, and --max-drop measures on yet others (--held-out)."
        }
    };
    Err(Failure::failed(QuantizeError::TooFewSamples {
        found,
        needed: 1 + also,
        help: format!(
            "Give pictures (JPEG, PNG, BMP, PNM), clips (MP4, AVI, Y4M) or .npy files that fit the input.{why}"
        ),
    }))
}

/// Which samples calibrate and which are held out: those the threshold is checked on are no part of the others.
fn split(count: usize, subset: usize, held: usize) -> (Vec<usize>, Vec<usize>) {
    if held == 0 {
        return ((0..count.min(subset)).collect(), Vec::new());
    }
    // Where there are fewer samples than asked for, both get their share; at least one each.
    let wanted = subset.saturating_add(held);
    let share = if count < wanted {
        (count as u128 * held as u128 / wanted as u128) as usize
    } else {
        held
    };
    let out = flow_quantize::spread(
        count,
        share.clamp(held.min(2).min(count.saturating_sub(1)), count.saturating_sub(1)),
    );
    let calibration = (0..count).filter(|i| out.binary_search(i).is_err()).collect();
    (calibration, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sample_both_calibrates_and_judges() {
        for (count, subset, held) in [
            (600, 300, 300),
            (10, 300, 300),
            (3, 300, 2),
            (1000, 300, 100),
            (2, 1, 1),
        ] {
            let (calibration, out) = split(count, subset, held);
            let mut all: Vec<usize> = calibration.iter().chain(&out).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            assert!(!calibration.is_empty() && out.len() >= held.min(2).min(count - 1));
        }
        assert_eq!(split(5, 300, 0), ((0..5).collect(), vec![]));
    }
}
