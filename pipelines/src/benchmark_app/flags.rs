//! The flags of `benchmark_app`, as OpenVINO writes them: one dash, and a long name that takes two.

mod table;

use std::collections::HashMap;
use std::fmt::Write as _;

use flow::config::suggest::closest;

use table::{FLAGS, Flag, Takes};

/// Why an argument was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagError(pub String);

/// The flags that were given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    values: HashMap<&'static str, Vec<String>>,
    /// Flags as they were written, with their values, for reports.
    pub written: Vec<(String, String)>,
}

impl Given {
    /// The last value of a flag, by its first name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }

    /// All values of a flag.
    pub fn texts(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A flag that is on or off.
    pub fn yes(&self, name: &str) -> bool {
        self.text(name).is_some_and(yes)
    }

    /// A number; its form was checked when it was parsed.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }
}

fn yes(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "yes" | "true" | "t" | "y" | "1" | ""
    )
}

fn no(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "no" | "false" | "f" | "n" | "0"
    )
}

fn all() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().flat_map(|(_, flags)| flags.iter())
}

fn named(name: &str) -> Result<&'static Flag, FlagError> {
    if let Some(flag) = all().find(|f| f.names.contains(&name)) {
        return Ok(flag);
    }
    let names = all().flat_map(|f| f.names.iter().copied());
    Err(FlagError(match closest(name, names) {
        Some(near) => format!("-{name} is not a flag; did you mean `-{near}`?"),
        None => format!("-{name} is not a flag; -h lists them"),
    }))
}

/// Whether an argument is a flag rather than a value; negative numbers are values.
fn is_flag(argument: &str) -> bool {
    let rest = argument.strip_prefix('-').unwrap_or_default();
    !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

/// Parses the arguments behind the name of the command.
pub fn parse(arguments: &[String]) -> Result<Given, FlagError> {
    let mut given = Given::default();
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        at += 1;
        if !is_flag(argument) {
            return Err(FlagError(format!(
                "`{argument}` does not belong to a flag; a flag begins with `-`, as in -m {argument}"
            )));
        }
        let bare = argument.trim_start_matches('-');
        let (name, inline) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        let flag = named(name)?;
        let key = flag.names[0];
        let mut values: Vec<String> = inline.into_iter().collect();
        let next = |at: usize| arguments.get(at).filter(|a| !is_flag(a)).cloned();
        match flag.takes {
            Takes::Nothing if !values.is_empty() => {
                return Err(FlagError(format!("-{key} takes no value, found `{}`", values[0])));
            }
            Takes::Nothing => values.push(String::new()),
            Takes::YesNo => {
                if let Some(word) = next(at).filter(|w| values.is_empty() && (yes(w) || no(w))) {
                    values.push(word);
                    at += 1;
                }
                if values.is_empty() {
                    values.push(String::new());
                }
            }
            Takes::Texts => {
                while let Some(value) = next(at) {
                    values.push(value);
                    at += 1;
                }
            }
            _ => {
                if let Some(value) = next(at).filter(|_| values.is_empty()) {
                    values.push(value);
                    at += 1;
                }
            }
        }
        if values.is_empty() {
            return Err(FlagError(format!("-{key} needs a value: {}", flag.value)));
        }
        for value in &values {
            check(flag, value)?;
        }
        let dashes = argument.len() - bare.len();
        given
            .written
            .push((format!("{}{name}", "-".repeat(dashes)), values.join(" ")));
        given.values.entry(key).or_default().extend(values);
    }
    Ok(given)
}

fn check(flag: &Flag, value: &str) -> Result<(), FlagError> {
    let key = flag.names[0];
    let fault = |expected: String| Err(FlagError(format!("-{key}: expected {expected}, found `{value}`")));
    match flag.takes {
        Takes::Word(words) if !words.contains(&value) => {
            let near = closest(value, words.iter().copied());
            let near = near.map_or_else(String::new, |w| format!("; did you mean `{w}`?"));
            Err(FlagError(format!(
                "-{key}: expected one of {}, found `{value}`{near}",
                words.join(", ")
            )))
        }
        Takes::YesNo if !yes(value) && !no(value) => fault("yes or no".into()),
        Takes::Positive if !value.parse::<u32>().is_ok_and(|n| n > 0) => {
            fault("a whole number above 0".into())
        }
        Takes::Count if value.parse::<u32>().is_err() => fault("a whole number from 0 on".into()),
        Takes::Real if !value.parse::<f64>().is_ok_and(|n| n.is_finite() && n >= 0.0) => {
            fault("a number from 0 on".into())
        }
        _ => Ok(()),
    }
}

/// The help.
pub fn help() -> String {
    let mut text = String::from(
        "usage: benchmark_app -m MODEL.xml [flags]\n\nMeasures a network, with OpenVINO's flags and reports. Long names take two dashes.\n",
    );
    for (group, flags) in FLAGS {
        let _ = write!(text, "\n{group}:\n");
        for flag in *flags {
            let mut names: Vec<String> = flag.names.iter().take(1).map(|n| format!("-{n}")).collect();
            names.extend(flag.names.iter().skip(1).map(|n| format!("--{n}")));
            let value = match flag.takes {
                Takes::YesNo => " [yes|no]".to_owned(),
                _ if flag.value.is_empty() => String::new(),
                _ => format!(" {}", flag.value),
            };
            let _ = writeln!(text, "  {}{value}", names.join(", "));
            let mut help = flag.help.to_owned();
            if let Takes::Word(words) = flag.takes {
                let _ = write!(help, " One of {}.", words.join(", "));
            }
            wrap(&mut text, &help, 96);
        }
    }
    text.push_str("\nAvailable target devices:  CPU  REF\n");
    text
}

/// Appends a paragraph in lines of at most `width` characters, indented.
fn wrap(text: &mut String, paragraph: &str, width: usize) {
    let mut line = String::from("       ");
    for word in paragraph.split(' ') {
        if line.len() + 1 + word.len() > width {
            let _ = writeln!(text, "{line}");
            line = String::from("       ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Given, FlagError> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&arguments)
    }

    #[test]
    fn flags_are_taken_with_one_dash_two_dashes_and_an_equals_sign() {
        let given = parsed(
            "-m net.xml -d CPU -niter 1 --api_type sync -report_type=average_counters -pc -json_stats false \
             -i a.png b.png -i c.npy -shape [1,3,-1,?]",
        )
        .unwrap();
        assert_eq!(given.text("m"), Some("net.xml"));
        assert_eq!(given.number("niter"), Some(1));
        assert_eq!(given.text("api"), Some("sync"));
        assert_eq!(given.text("report_type"), Some("average_counters"));
        assert!(given.yes("pc") && !given.yes("json_stats") && !given.yes("pcseq"));
        assert_eq!(given.texts("i"), ["a.png", "b.png", "c.npy"]);
        assert_eq!(given.text("shape"), Some("[1,3,-1,?]"));
        assert_eq!(given.written[0], ("-m".to_owned(), "net.xml".to_owned()));
        assert_eq!(given.written[3], ("--api_type".to_owned(), "sync".to_owned()));
    }

    #[test]
    fn a_switch_does_not_swallow_what_is_no_answer() {
        let error = parsed("-pc net.xml").unwrap_err().0;
        assert!(error.contains("-m net.xml"), "{error}");
    }

    #[test]
    fn faults_name_the_flag_and_what_would_do() {
        for (line, words) in [
            ("-nite 3", "did you mean `-niter`?"),
            ("-report_typ no_counters", "did you mean `-report_type`?"),
            ("-zzzzzzzz", "-h lists them"),
            ("-niter", "-niter needs a value"),
            ("-niter -api sync", "-niter needs a value"),
            ("-niter x", "whole number from 0"),
            ("-nireq 0", "above 0"),
            ("-t 99999999999", "above 0"),
            ("-api snyc", "did you mean `sync`?"),
            ("-ip int8", "f16, f32"),
            ("-max_irate -1", "from 0 on"),
            ("-no_warmup=1", "takes no value"),
            ("net.xml", "begins with `-`"),
        ] {
            let error = parsed(line).unwrap_err().0;
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_flag() {
        let help = help();
        for name in all().flat_map(|f| f.names) {
            assert!(help.contains(&format!("-{name}")), "{name}");
        }
        assert!(help.lines().all(|l| l.len() <= 100));
    }
}
