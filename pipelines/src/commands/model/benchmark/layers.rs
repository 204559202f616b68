//! Times of steps as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use flow_inference::{LayerTime, LayerTimes};

use crate::failure::Failure;

/// Reads what `--per-layer --json` printed.
pub fn read(path: &Path) -> Result<LayerTimes, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
    serde_json::from_str(&text).map_err(|e| {
        Failure::usage(format!(
            "{}: expected what `model benchmark --per-layer --json` prints, found something else: {e}",
            path.display()
        ))
    })
}

/// One line per step.
pub fn table(times: &LayerTimes) -> String {
    let width = width(times.layers.iter());
    let mut out = format!(
        "{:<width$}  {:>9}  {:>8}  {:>6}  {:>10}  kernel\n",
        "name", "us", "GMAC/s", "% peak", "bytes"
    );
    for layer in &times.layers {
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
        let _ = writeln!(
            out,
            "{:<width$}  {:>9.1}  {:>8}  {:>6}  {:>10}  {}",
            layer.name,
            layer.us,
            number(layer.gmacs, 1),
            number(layer.percent_of_peak, 1),
            layer.bytes,
            layer.kernel
        );
    }
    let _ = writeln!(
        out,
        "\n{:.1} us a run, mean of {}; peak of {} on registers: {:.1} GMAC/s of 8 bits, {:.1} of f32",
        times.total_us, times.runs, times.isa, times.peak_u8, times.peak_f32
    );
    out
}

/// Steps of both by name, the largest differences first. Equal names are told apart by their order.
pub fn compare(before: &LayerTimes, after: &LayerTimes) -> String {
    let (old, new) = (by_name(before), by_name(after));
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let us = |steps: &BTreeMap<(&str, usize), &LayerTime>, key| steps.get(key).map_or(0.0, |l| l.us);
    let mut rows: Vec<_> = names
        .into_iter()
        .map(|key| (key, us(&old, key), us(&new, key)))
        .collect();
    rows.sort_by(|a, b| (b.2 - b.1).abs().total_cmp(&(a.2 - a.1).abs()));
    let width = width(before.layers.iter().chain(&after.layers));
    let mut out = format!(
        "{:<width$}  {:>9}  {:>9}  {:>9}  {:>6}  kernel\n",
        "name", "before us", "after us", "change", "ratio"
    );
    for (key, before, after) in rows {
        let kernel = |l: &&LayerTime| l.kernel.clone();
        let kernel = match (old.get(key).map(kernel), new.get(key).map(kernel)) {
            (Some(a), Some(b)) if a != b => format!("{a} -> {b}"),
            (_, Some(kernel)) => kernel,
            (Some(kernel), None) => format!("{kernel} (gone)"),
            (None, None) => String::new(),
        };
        let ratio = match before > 0.0 && after > 0.0 {
            true => format!("{:.2}", after / before),
            false => "-".into(),
        };
        let _ = writeln!(
            out,
            "{:<width$}  {before:>9.1}  {after:>9.1}  {:>+9.1}  {ratio:>6}  {kernel}",
            key.0,
            after - before
        );
    }
    let _ = writeln!(
        out,
        "\n{:.1} us a run before ({}), {:.1} us after ({}): {:.2} times",
        before.total_us,
        before.isa,
        after.total_us,
        after.isa,
        after.total_us / before.total_us.max(1e-9)
    );
    out
}

fn by_name(times: &LayerTimes) -> BTreeMap<(&str, usize), &LayerTime> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    times
        .layers
        .iter()
        .map(|layer| {
            let number = seen.entry(&layer.name).or_default();
            *number += 1;
            ((layer.name.as_str(), *number), layer)
        })
        .collect()
}

fn width<'a>(layers: impl Iterator<Item = &'a LayerTime>) -> usize {
    layers.map(|l| l.name.chars().count()).max().unwrap_or(4).max(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(layers: &[(&str, f64)]) -> LayerTimes {
        LayerTimes {
            isa: "avx2".into(),
            peak_u8: 100.0,
            peak_f32: 50.0,
            runs: 3,
            total_us: layers.iter().map(|l| l.1).sum(),
            layers: layers
                .iter()
                .map(|&(name, us)| LayerTime {
                    name: name.into(),
                    kernel: "conv_u8s8_1x1_avx2".into(),
                    us,
                    gmacs: Some(25.0),
                    percent_of_peak: Some(25.0),
                    bytes: 640,
                })
                .collect(),
        }
    }

    #[test]
    fn the_table_shows_each_step_and_the_peak() {
        let text = table(&times(&[("first", 12.5), ("second", 3.0)]));
        assert!(
            text.contains("first        12.5      25.0    25.0         640  conv_u8s8_1x1_avx2"),
            "{text}"
        );
        assert!(text.contains("15.5 us a run, mean of 3; peak of avx2"), "{text}");
    }

    #[test]
    fn the_largest_change_comes_first_and_equal_names_are_told_apart() {
        let before = times(&[("a", 10.0), ("b", 100.0), ("a", 7.0), ("gone", 1.0)]);
        let after = times(&[("a", 9.0), ("b", 50.0), ("a", 7.5), ("new", 2.0)]);
        let text = compare(&before, &after);
        let names: Vec<&str> = text
            .lines()
            .skip(1)
            .take(5)
            .map(|l| l.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(names[..2], ["b", "new"], "{text}");
        assert!(text.contains("-50.0    0.50"), "{text}");
        assert!(text.contains("(gone)"), "{text}");
        assert!(
            text.contains("118.0 us a run before (avx2), 68.5 us after"),
            "{text}"
        );
    }

    #[test]
    fn a_file_of_something_else_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        std::fs::write(&path, "{\"fps\": 3}").unwrap();
        let text = format!("{:?}", read(&path).unwrap_err());
        assert!(text.contains("x.json") && text.contains("--per-layer"), "{text}");
    }
}
