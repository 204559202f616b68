//! A comparison and how a quantization went, as one page for a browser.

use std::fmt::Write as _;

use flow_model::text::escape;

use crate::accuracy::Accuracy;
use crate::compare::Comparison;

/// Signal to noise beyond which a bar is full, in decibels.
const FULL: f64 = 60.0;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:60em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}\
td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#b00}svg text{font:11px system-ui,sans-serif}";

/// The page. `facts` are shown first, as pairs of a name and what is said of it.
pub fn html(
    title: &str,
    facts: &[(String, String)],
    accuracy: Option<&Accuracy>,
    comparison: &Comparison,
) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(title)
    );
    page.push_str("<table>");
    for (name, value) in facts {
        row(&mut page, &[name, value]);
    }
    let [a, b] = comparison.times.map(|t| t.as_secs_f64() * 1e3);
    row(
        &mut page,
        &[
            "Time of an inference on one thread",
            &format!("{a:.2} ms before, {b:.2} ms after"),
        ],
    );
    page.push_str("</table>");
    if let Some(accuracy) = accuracy {
        page.push_str(&accuracy_section(accuracy));
    }
    page.push_str("<h2>Outputs</h2><table><tr><th>output<th>mean relative error<th>same best place</tr>");
    for output in &comparison.outputs {
        let values = [
            format!("{:.5}", output.relative_error),
            format!("{:.1} %", 100.0 * output.same_best),
        ];
        row(&mut page, &[&output.name, &values[0], &values[1]]);
    }
    let _ = writeln!(
        page,
        "</table><h2>Layers</h2><p>Signal to quantization noise in decibels over {} samples: the higher, the nearer to the first \
         network. Values clipped by the FakeQuantize behind a layer stand beside it.</p>{}</html>",
        comparison.samples,
        bars(comparison)
    );
    page
}

fn accuracy_section(accuracy: &Accuracy) -> String {
    let verdict = if accuracy.holds() {
        format!("The drop is within {}.", accuracy.max_drop)
    } else {
        format!(
            "<span class=\"bad\">The drop is not within {}.</span>",
            accuracy.max_drop
        )
    };
    let mut text = format!(
        "<h2>Accuracy</h2><p>{verdict} Measured by {}{}.</p><table><tr><th>network<th>score<th>drop</tr>",
        escape(&accuracy.metric),
        accuracy.measured_on()
    );
    let mut line = |name: &str, score: f64| {
        row(
            &mut text,
            &[
                name,
                &format!("{score:.5}"),
                &format!("{:.5}", accuracy.reference - score),
            ],
        );
    };
    line("in f32", accuracy.reference);
    line("all in 8 bits", accuracy.quantized);
    for revert in &accuracy.reverted {
        line(
            &format!("{} in f32 again", revert.layers.join(", ")),
            revert.score,
        );
    }
    text.push_str("</table>");
    text
}

/// One bar per layer.
fn bars(comparison: &Comparison) -> String {
    let (line, left, width) = (16, 320.0, 400.0);
    let height = comparison.layers.len() * line + 20;
    let mut svg =
        format!("<svg width=\"960\" height=\"{height}\" role=\"img\" aria-label=\"noise per layer\">");
    for (index, layer) in comparison.layers.iter().enumerate() {
        let y = index * line;
        let (share, noise) = if layer.sqnr.is_nan() {
            (0.0, "not finite".to_owned())
        } else {
            ((layer.sqnr / FULL).clamp(0.0, 1.0), format!("{:.1}", layer.sqnr))
        };
        let color = if share * FULL < 10.0 {
            "#c0392b"
        } else if share * FULL < 20.0 {
            "#e0a030"
        } else {
            "#3a7d44"
        };
        let clipped = match layer.saturated {
            Some(share) if share > 0.0 => format!(", {:.2} % clipped", 100.0 * share),
            _ => String::new(),
        };
        let bar = width * share;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} ({})</text><rect x=\"{left}\" y=\"{}\" width=\"{bar:.1}\" \
             height=\"11\" fill=\"{color}\"/><text x=\"{:.1}\" y=\"{}\">{noise}{clipped}</text>",
            left - 6.0,
            y + 11,
            escape(&shortened(&layer.name)),
            layer.kind,
            y + 2,
            left + bar + 4.0,
            y + 11,
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The end of a long name.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= 32 {
        return name.to_owned();
    }
    let end: String = name.chars().skip(count - 31).collect();
    format!("\u{2026}{end}")
}

fn row(page: &mut String, cells: &[&str]) {
    page.push_str("<tr>");
    for (index, cell) in cells.iter().enumerate() {
        let class = if index > 0 { " class=\"n\"" } else { "" };
        let _ = write!(page, "<td{class}>{}</td>", escape(cell));
    }
    page.push_str("</tr>");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::accuracy::Revert;
    use crate::compare::{LayerComparison, OutputComparison};

    #[test]
    fn a_page_holds_the_layers_and_the_verdict_and_escapes_names() {
        let comparison = Comparison {
            layers: vec![LayerComparison {
                name: "a<b".into(),
                kind: "Convolution".into(),
                sqnr: 31.4,
                saturated: Some(0.02),
            }],
            outputs: vec![OutputComparison {
                name: "out".into(),
                relative_error: 0.01,
                same_best: 1.0,
            }],
            samples: 7,
            times: [Duration::from_millis(4), Duration::from_millis(1)],
        };
        let mut accuracy = Accuracy {
            metric: "nmse".into(),
            reference: 1.0,
            quantized: 0.5,
            reached: 0.995,
            max_drop: 0.01,
            samples: Some(7),
            reverted: vec![Revert {
                layers: vec!["conv1".into()],
                score: 0.995,
            }],
        };
        let page = html("t", &[], Some(&accuracy), &comparison);
        for part in [
            "a&lt;b",
            "31.4, 2.00 % clipped",
            "conv1 in f32 again",
            "on 7 samples that calibration did not see",
            "is within 0.01",
        ] {
            assert!(page.contains(part), "{part}");
        }
        accuracy.reached = 0.9;
        accuracy.samples = None;
        let page = html("t", &[], Some(&accuracy), &comparison);
        assert!(page.contains("is not within") && page.contains("Measured by nmse."));
        assert!(!page.contains("did not see"), "a metric with data of its own");
    }
}
