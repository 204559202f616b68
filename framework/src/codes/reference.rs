//! All codes with their explanations in Markdown.

use std::fmt::Write as _;

/// The ranges of codes, by what they share: the first characters of a code, and a title.
const RANGES: &[(&str, &str)] = &[
    ("E00", "Reading the pipeline file"),
    ("E01", "Keys and values"),
    ("E02", "Graph and ports"),
    ("E03", "Preparing: files, models, pins"),
    ("E04", "Running"),
    ("E05", "Decoding"),
    ("E06", "Models and inference"),
    ("E07", "Outputs"),
];

/// Markdown of every code: what it means and what to do.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Error codes\n\n\
         Written by `flowrun explain --markdown` from the code; `make docs` renews it. A code never changes its \
         meaning. `flowrun explain E0107` prints one of them.\n",
    );
    for (range, title) in RANGES {
        let _ = write!(out, "\n## {range}xx: {title}\n");
        for entry in super::all().filter(|e| e.code.starts_with(range)) {
            let _ = write!(
                out,
                "\n### {}: {}\n\n{}\n",
                entry.code,
                entry.title,
                entry.text.trim()
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_lies_in_a_range() {
        let text = super::markdown();
        for entry in crate::codes::all() {
            assert!(text.contains(&format!("### {}: ", entry.code)), "{}", entry.code);
        }
    }
}
