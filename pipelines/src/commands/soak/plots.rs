//! Line plots as inline SVG.

use std::fmt::Write as _;

/// A line of a plot.
pub struct Line<'a> {
    pub name: &'a str,
    /// Class of its colour in the page's style sheet.
    pub class: &'a str,
    /// (seconds, value).
    pub points: Vec<(f64, f64)>,
}

/// A plot over the time of the run.
pub struct Plot<'a> {
    pub title: &'a str,
    pub unit: &'a str,
    pub lines: Vec<Line<'a>>,
    /// Seconds at which something happened, drawn as ticks along the bottom.
    pub marks: &'a [f64],
    /// Length of the run in seconds.
    pub seconds: f64,
    /// Seconds at the beginning that are not judged.
    pub warm_up: f64,
    /// Whether the axis begins at 0.
    pub from_zero: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 30.0;

/// The plot as a `figure`.
pub fn draw(plot: &Plot<'_>) -> String {
    let values = || plot.lines.iter().flat_map(|line| line.points.iter().map(|p| p.1));
    let mut low = values().fold(f64::INFINITY, f64::min);
    let mut high = values().fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        (low, high) = (0.0, 1.0);
    }
    if plot.from_zero {
        low = low.min(0.0);
    }
    if high - low < 1e-9 {
        high = low + 1.0;
    }
    let step = nice((high - low) / 4.0);
    let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    let seconds = plot.seconds.max(1.0);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at / seconds).clamp(0.0, 1.0);
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value - low) / (high - low));

    let mut svg = String::new();
    let _ = write!(
        svg,
        "<figure><figcaption>{} <span class=unit>{}</span>",
        plot.title, plot.unit
    );
    if plot.lines.len() > 1 {
        for line in &plot.lines {
            let _ = write!(svg, " <span class=\"key {}\">{}</span>", line.class, line.name);
        }
    }
    let _ = write!(
        svg,
        "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        plot.title
    );
    let _ = write!(
        svg,
        "<rect class=warm x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        x(plot.warm_up) - LEFT,
        HEIGHT - TOP - BOTTOM
    );
    let mut value = low;
    while value <= high + step / 2.0 {
        let at = y(value);
        let _ = write!(
            svg,
            "<line class=grid x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=end>{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            number(value, step)
        );
        value += step;
    }
    let span = nice_time(seconds / 6.0);
    let mut at = 0.0;
    while at <= seconds + 1e-6 {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=middle>{}</text>",
            x(at),
            HEIGHT - 6.0,
            time(at, span)
        );
        at += span;
    }
    // Thousands of marks on some hundred pixels say no more than one for each.
    let mut drawn = f64::NEG_INFINITY;
    for mark in plot.marks {
        let at = x(*mark);
        if at - drawn < 1.0 {
            continue;
        }
        drawn = at;
        let foot = HEIGHT - BOTTOM;
        let _ = write!(
            svg,
            "<line class=fault x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{foot}\" y2=\"{}\"/>",
            foot + 7.0
        );
    }
    for line in &plot.lines {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
            .collect();
        let _ = write!(
            svg,
            "<polyline class=\"{}\" points=\"{}\"/>",
            line.class,
            points.join(" ")
        );
    }
    svg.push_str("</svg></figure>\n");
    svg
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|f| f * power >= least * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A step of time that reads well, in seconds.
fn nice_time(least: f64) -> f64 {
    let steps = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    ];
    let step = steps.into_iter().find(|step| *step >= least);
    step.unwrap_or_else(|| 3600.0 * (least / 3600.0).ceil())
}

fn time(seconds: f64, step: f64) -> String {
    if step >= 3600.0 {
        format!("{:.0} h", seconds / 3600.0)
    } else if step >= 60.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{seconds:.0} s")
    }
}

fn number(value: f64, step: f64) -> String {
    if step >= 1.0 {
        format!("{value:.0}")
    } else {
        let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(nice(0.03), 0.05);
        assert_eq!(nice(1.0), 1.0);
        assert_eq!(nice(230.0), 500.0);
        assert_eq!(
            (number(0.25, 0.05), number(30.0, 5.0)),
            ("0.25".into(), "30".into())
        );
        assert_eq!(
            (time(90.0, 30.0), time(120.0, 60.0)),
            ("90 s".into(), "2 min".into())
        );
    }

    #[test]
    fn a_plot_of_nothing_is_still_a_plot() {
        let plot = Plot {
            title: "memory",
            unit: "MiB",
            lines: vec![Line {
                name: "rss",
                class: "a",
                points: vec![],
            }],
            marks: &[],
            seconds: 0.0,
            warm_up: 0.0,
            from_zero: true,
        };
        let svg = draw(&plot);
        assert!(svg.contains("</svg>") && !svg.contains("NaN"), "{svg}");
    }
}
