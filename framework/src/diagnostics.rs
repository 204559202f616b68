//! Errors and warnings about a pipeline file, each with its place, its code and what to do.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};

use crate::error::Code;

/// A place in one of the [`Sources`]. The default stands for no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Index of the source: 0 is the pipeline file, others are `--set` arguments.
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
    /// Line, from 1; 0: no place.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Span {
    /// Whether it stands for a place at all.
    pub fn is_known(&self) -> bool {
        self.line > 0
    }
}

/// The texts that spans point into.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    texts: Vec<Source>,
}

#[derive(Debug, Clone)]
struct Source {
    name: String,
    text: String,
}

impl Sources {
    /// The pipeline file alone; `name` is how the user named it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut sources = Self::default();
        sources.add(name, text);
        sources
    }

    /// Adds a text and gives its index.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.texts.push(Source {
            name: name.into(),
            text: text.into(),
        });
        self.texts.len() - 1
    }

    /// Name of a source; empty when there is none of that index.
    pub fn name(&self, source: usize) -> &str {
        self.texts.get(source).map_or("", |s| s.name.as_str())
    }

    /// Text of a source; empty when there is none of that index.
    pub fn text(&self, source: usize) -> &str {
        self.texts.get(source).map_or("", |s| s.text.as_str())
    }

    /// The line a span starts in, without its line break.
    pub fn line(&self, span: Span) -> Option<&str> {
        if !span.is_known() {
            return None;
        }
        let text = self.text(span.source);
        let start = text.get(..span.start)?.rfind('\n').map_or(0, |i| i + 1);
        let line = text.get(start..)?.split('\n').next()?;
        Some(line.trim_end_matches('\r').trim_start_matches('\u{feff}'))
    }
}

/// Whether a diagnostic stops the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The pipeline is not run.
    Error,
    /// The pipeline is run.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code.
    pub code: Code,
    /// What is wrong: what was expected and what was found.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A few words beside the caret, often a suggestion.
    pub label: String,
    /// Other places that matter, each with a sentence.
    pub notes: Vec<(Span, String)>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            label: String::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, span, message)
        }
    }

    /// Words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Another place that matters.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }
}

/// Errors and warnings with the texts they are about. `Display` renders them for people, `Serialize` for
/// programs.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    sources: Arc<Sources>,
    items: Vec<Diagnostic>,
}

/// Number of diagnostics rendered in full; the rest is counted.
const RENDERED_AT_MOST: usize = 50;
/// Longest part of a source line that is shown, in characters.
const LINE_SHOWN: usize = 120;

impl Diagnostics {
    /// None yet, about `sources`.
    pub fn new(sources: Arc<Sources>) -> Self {
        Self {
            sources,
            items: Vec::new(),
        }
    }

    /// The texts the spans point into.
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.items.contains(&diagnostic) {
            self.items.push(diagnostic);
        }
    }

    /// Adds many.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }

    /// Sorts by place; what has no place comes last.
    pub fn sort(&mut self) {
        self.items
            .sort_by_key(|d| (!d.span.is_known(), d.span.source, d.span.start, d.severity));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.items
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .count()
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.items.len() - self.errors()
    }

    /// The text for people, with terminal colours if `colour`.
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out, &Palette::new(colour));
        out
    }

    fn write(&self, out: &mut dyn fmt::Write, palette: &Palette) -> fmt::Result {
        for diagnostic in self.items.iter().take(RENDERED_AT_MOST) {
            self.write_one(out, palette, diagnostic)?;
        }
        if let Some(rest @ 1..) = self.items.len().checked_sub(RENDERED_AT_MOST) {
            writeln!(out, "... and {rest} more")?;
        }
        Ok(())
    }

    fn write_one(&self, out: &mut dyn fmt::Write, p: &Palette, d: &Diagnostic) -> fmt::Result {
        let accent = p.severity(d.severity);
        let (bold, reset) = (p.bold, p.reset);
        let message = printable(&d.message);
        writeln!(
            out,
            "{accent}{}[{}]{reset}{bold}: {message}{reset}",
            d.severity.as_str(),
            d.code
        )?;
        let width = std::iter::once(&d.span)
            .chain(d.notes.iter().map(|(span, _)| span))
            .filter(|s| s.is_known())
            .map(|s| s.line.to_string().len())
            .max()
            .unwrap_or(1);
        if d.span.is_known() {
            self.write_place(out, p, "-->", d.span, width)?;
            self.write_snippet(out, p, accent, d.span, &d.label, width)?;
        }
        for (span, text) in &d.notes {
            if span.is_known() {
                self.write_place(out, p, ":::", *span, width)?;
                self.write_snippet(out, p, p.frame, *span, text, width)?;
            }
        }
        if !d.span.is_known() && !d.label.is_empty() {
            writeln!(out, "  {}={reset} note: {}", p.frame, printable(&d.label))?;
        }
        for help in &d.help {
            writeln!(
                out,
                "{:width$} {}={reset} {bold}help{reset}: {}",
                "",
                p.frame,
                printable(help)
            )?;
        }
        Ok(())
    }

    fn write_place(
        &self,
        out: &mut dyn fmt::Write,
        p: &Palette,
        arrow: &str,
        span: Span,
        width: usize,
    ) -> fmt::Result {
        writeln!(
            out,
            "{:width$}{}{arrow}{} {}:{}:{}",
            "",
            p.frame,
            p.reset,
            printable(self.sources.name(span.source)),
            span.line,
            span.column
        )
    }

    fn write_snippet(
        &self,
        out: &mut dyn fmt::Write,
        p: &Palette,
        accent: &str,
        span: Span,
        label: &str,
        width: usize,
    ) -> fmt::Result {
        let Some(line) = self.sources.line(span) else {
            return Ok(());
        };
        let before = span.column.saturating_sub(1);
        let length = self
            .sources
            .text(span.source)
            .get(span.start..span.end)
            .map_or(1, |covered| {
                covered.lines().next().unwrap_or("").trim_end().chars().count()
            })
            .max(1);
        // A long line is shown around the place only.
        let from = if before + length > LINE_SHOWN {
            before.saturating_sub(40)
        } else {
            0
        };
        let lead = if from > 0 { "..." } else { "" };
        let shown: String = line.chars().skip(from).take(LINE_SHOWN).collect();
        let tail = if line.chars().count() > from + LINE_SHOWN {
            "..."
        } else {
            ""
        };
        let pad: usize = line
            .chars()
            .skip(from)
            .take(before - from)
            .map(|c| printable_char(c).chars().count())
            .sum::<usize>()
            + lead.len();
        let carets = length.min((LINE_SHOWN + from).saturating_sub(before).max(1));
        let (frame, reset) = (p.frame, p.reset);
        writeln!(
            out,
            "{frame}{:>width$} |{reset} {lead}{}{tail}",
            span.line,
            printable(&shown)
        )?;
        let label = printable(label);
        let space = if label.is_empty() { "" } else { " " };
        writeln!(
            out,
            "{frame}{:width$} |{reset} {:pad$}{accent}{}{space}{label}{reset}",
            "",
            "",
            "^".repeat(carets)
        )
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &Palette::new(false))
    }
}

impl std::error::Error for Diagnostics {}

/// An array of objects with `severity`, `code`, `message`, `file`, `line`, `column`, `start`, `end` (bytes),
/// `source` (the line), `label` and `help`.
impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.items.len()))?;
        for item in &self.items {
            seq.serialize_element(&Located {
                sources: &self.sources,
                item,
            })?;
        }
        seq.end()
    }
}

struct Located<'a> {
    sources: &'a Sources,
    item: &'a Diagnostic,
}

impl Serialize for Located<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Diagnostic {
            severity,
            code,
            message,
            span,
            label,
            help,
            ..
        } = self.item;
        let mut object = serializer.serialize_struct("Diagnostic", 11)?;
        object.serialize_field("severity", severity)?;
        object.serialize_field("code", code.0)?;
        object.serialize_field("message", message)?;
        object.serialize_field("file", self.sources.name(span.source))?;
        object.serialize_field("line", &span.line)?;
        object.serialize_field("column", &span.column)?;
        object.serialize_field("start", &span.start)?;
        object.serialize_field("end", &span.end)?;
        object.serialize_field("source", &self.sources.line(*span))?;
        object.serialize_field("label", label)?;
        object.serialize_field("help", help)?;
        object.end()
    }
}

struct Palette {
    error: &'static str,
    warning: &'static str,
    frame: &'static str,
    bold: &'static str,
    reset: &'static str,
}

impl Palette {
    fn new(colour: bool) -> Self {
        let pick = |sequence| if colour { sequence } else { "" };
        Self {
            error: pick("\x1b[1;31m"),
            warning: pick("\x1b[1;33m"),
            frame: pick("\x1b[34m"),
            bold: pick("\x1b[1m"),
            reset: pick("\x1b[0m"),
        }
    }

    fn severity(&self, severity: Severity) -> &'static str {
        match severity {
            Severity::Error => self.error,
            Severity::Warning => self.warning,
        }
    }
}

/// Text from outside must not steer the terminal: control characters are shown escaped, tabs as spaces.
fn printable(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            let _ = write!(out, "{}", printable_char(c));
            out
        })
}

fn printable_char(c: char) -> String {
    match c {
        '\t' => "    ".into(),
        // Direction marks can make a line read other than it is.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            c.escape_unicode().to_string()
        }
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    }
}
