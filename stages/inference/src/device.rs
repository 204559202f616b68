//! Devices a network can run on, and the strings that ask for them.
//!
//! The strings are OpenVINO's: a device (`CPU`, `GPU.1`), or a virtual device over a list of devices
//! (`AUTO:GPU,CPU`, `MULTI:CPU(4),GPU`, `HETERO:GPU,CPU`, `BATCH:CPU(16)`). A virtual device falls back to what
//! is there, and [`DeviceRequest::notes`] says so; a device that is asked for by itself and is not there is an
//! error.

use std::fmt;
use std::str::FromStr;

use flow::config::suggest::did_you_mean;

use crate::error::EngineError;

/// Where a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The CPU plugin.
    #[default]
    Cpu,
    /// The reference evaluator: slow and plain, for comparison.
    Reference,
}

impl Device {
    /// All that this build has.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Reference];

    /// The name by which it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Reference => "REF",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names of devices that OpenVINO has and this build has not.
const ABSENT: [&str; 3] = ["GPU", "NPU", "TEMPLATE"];
/// Devices that stand for others.
const VIRTUAL: [&str; 4] = ["AUTO", "MULTI", "HETERO", "BATCH"];

/// What a device string asks for, mapped to what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// The string as it was given.
    pub text: String,
    /// The device that will run the network.
    pub device: Device,
    /// The virtual device it was asked for through: `AUTO`, `MULTI`, `HETERO` or `BATCH`.
    pub through: Option<&'static str>,
    /// Batch that the network is to be reshaped to: the number of `BATCH:CPU(16)`.
    pub batch: Option<usize>,
    /// Number of parallel requests: the number of `MULTI:CPU(4)`.
    pub requests: Option<usize>,
    /// What was asked for and is not there, in sentences.
    pub notes: Vec<String>,
}

impl From<Device> for DeviceRequest {
    fn from(device: Device) -> Self {
        Self {
            text: device.name().to_owned(),
            device,
            through: None,
            batch: None,
            requests: None,
            notes: Vec::new(),
        }
    }
}

/// One device of a list: `-GPU.1(4)`.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    excluded: bool,
    /// In capitals, without id and arguments.
    name: String,
    /// As it was written, without `-` and arguments.
    written: &'a str,
    argument: Option<usize>,
}

impl<'a> Entry<'a> {
    fn parse(request: &str, text: &'a str) -> Result<Self, EngineError> {
        let fault = |message: String| syntax(request, message);
        let trimmed = text.trim();
        let (excluded, rest) = match trimmed.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, trimmed),
        };
        let (written, argument) = match rest.split_once('(') {
            None => (rest, None),
            Some((name, argument)) => {
                let Some(number) = argument.strip_suffix(')') else {
                    return Err(fault(format!("`{trimmed}` lacks its closing parenthesis")));
                };
                match number.trim().parse::<usize>() {
                    Ok(n) if n > 0 => (name, Some(n)),
                    _ => {
                        return Err(fault(format!(
                            "`{number}` in `{trimmed}` is not a number above 0"
                        )));
                    }
                }
            }
        };
        let name = written.split('.').next().unwrap_or_default().to_ascii_uppercase();
        if name.is_empty() {
            return Err(fault("the name of a device is missing".into()));
        }
        if let Some(id) = written.split_once('.').map(|(_, id)| id)
            && (id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            return Err(fault(format!(
                "`{written}` does not end in the number of a device"
            )));
        }
        let entry = Self {
            excluded,
            name,
            written,
            argument,
        };
        if VIRTUAL.contains(&entry.name.as_str()) {
            return Err(fault(format!(
                "`{written}` stands for other devices and cannot be in a list of them"
            )));
        }
        let known = Device::ALL.iter().map(|d| d.name()).chain(ABSENT);
        if !known.clone().any(|k| k == entry.name) {
            let suggestion = did_you_mean(&entry.name, known.chain(VIRTUAL));
            let space = if suggestion.is_empty() { "" } else { "; " };
            return Err(fault(format!("`{written}` is not a device{space}{suggestion}")));
        }
        Ok(entry)
    }
}

fn syntax(request: &str, message: String) -> EngineError {
    EngineError::DeviceSyntax {
        request: request.to_owned(),
        message,
    }
}

impl FromStr for DeviceRequest {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let (head, list) = match text.split_once(':') {
            Some((head, list)) => (head.trim(), Some(list)),
            None => (text.trim(), None),
        };
        let upper = head.to_ascii_uppercase();
        let Some(through) = VIRTUAL.into_iter().find(|v| *v == upper) else {
            if upper.starts_with("BATCH(") {
                return Err(syntax(
                    text,
                    "name the device that is to run the batch, as in BATCH:CPU(4)".into(),
                ));
            }
            return single(text, head, list);
        };
        let entries = match list {
            None if through == "AUTO" => Vec::new(),
            None => {
                return Err(syntax(
                    text,
                    format!("{through} needs the devices it may use, as in {through}:CPU"),
                ));
            }
            Some(list) => list
                .split(',')
                .map(|entry| Entry::parse(text, entry))
                .collect::<Result<Vec<_>, _>>()?,
        };
        choose(text, through, &entries)
    }
}

/// A device asked for by itself.
fn single(text: &str, head: &str, list: Option<&str>) -> Result<DeviceRequest, EngineError> {
    if list.is_some() {
        let suggestion = did_you_mean(&head.to_ascii_uppercase(), VIRTUAL);
        let suggestion = if suggestion.is_empty() {
            "expected AUTO:, MULTI:, HETERO: or BATCH:".to_owned()
        } else {
            suggestion
        };
        return Err(syntax(
            text,
            format!("`{head}` does not take a list of devices; {suggestion}"),
        ));
    }
    let entry = Entry::parse(text, head)?;
    if entry.excluded {
        return Err(syntax(
            text,
            "only AUTO can leave a device out, as in AUTO:-GPU".into(),
        ));
    }
    if entry.argument.is_some() {
        return Err(syntax(
            text,
            format!(
                "a number in parentheses belongs to MULTI:{0}(requests) or BATCH:{0}(batch)",
                entry.name
            ),
        ));
    }
    match Device::named(&entry.name) {
        Some(device) => Ok(DeviceRequest {
            text: text.to_owned(),
            ..device.into()
        }),
        None => Err(EngineError::Device(text.to_owned())),
    }
}

/// The device that a virtual device comes down to.
fn choose(text: &str, through: &'static str, entries: &[Entry<'_>]) -> Result<DeviceRequest, EngineError> {
    for entry in entries {
        if entry.excluded && through != "AUTO" {
            let message = format!("only AUTO can leave a device out, and this is {through}");
            return Err(syntax(text, message));
        }
        if entry.argument.is_some() && matches!(through, "AUTO" | "HETERO") {
            let message = format!("{through} takes no number, but `{}` has one", entry.written);
            return Err(syntax(text, message));
        }
    }
    if through == "BATCH" && entries.len() != 1 {
        return Err(syntax(text, "BATCH takes one device, as in BATCH:CPU(4)".into()));
    }
    let left_out = |name: &str| entries.iter().any(|e| e.excluded && e.name == name);
    let mut wanted: Vec<&Entry<'_>> = entries.iter().filter(|e| !e.excluded).collect();
    wanted.retain(|e| !left_out(&e.name));
    let found = if wanted.is_empty() && entries.iter().all(|e| e.excluded) {
        // AUTO chooses among real devices; the reference evaluator is for comparison only.
        (!left_out("CPU")).then_some((Device::Cpu, None))
    } else {
        wanted
            .iter()
            .find_map(|e| Some((Device::named(&e.name)?, e.argument)))
    };
    let Some((device, argument)) = found else {
        return Err(EngineError::Device(text.to_owned()));
    };
    let mut notes = Vec::new();
    let absent: Vec<&str> = wanted
        .iter()
        .filter(|e| Device::named(&e.name).is_none())
        .map(|e| e.written)
        .collect();
    if !absent.is_empty() {
        let does = match through {
            "HETERO" => "takes all layers",
            "MULTI" => "takes all requests",
            _ => "runs the network",
        };
        let is = if absent.len() == 1 { "is" } else { "are" };
        notes.push(format!(
            "{text}: {} {is} not there; {device} {does}",
            absent.join(", ")
        ));
    }
    let others: Vec<&str> = wanted
        .iter()
        .filter_map(|e| Device::named(&e.name))
        .filter(|d| *d != device)
        .map(Device::name)
        .collect();
    if !others.is_empty() {
        notes.push(format!(
            "{text}: {device} comes first and can run all of it; {} is not used",
            others.join(", ")
        ));
    }
    if through == "BATCH" && argument.is_none() {
        notes.push(format!(
            "{text}: no batch is gathered, for {device} is at its best with one image per request; state one as in {through}:{device}(4)"
        ));
    }
    Ok(DeviceRequest {
        text: text.to_owned(),
        device,
        through: Some(through),
        batch: argument.filter(|_| through == "BATCH"),
        requests: argument.filter(|_| through == "MULTI"),
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asked(text: &str) -> DeviceRequest {
        text.parse().unwrap()
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        text.parse::<DeviceRequest>().unwrap_err().to_string()
    }

    #[test]
    fn devices_that_are_there_are_found_in_any_case() {
        for (text, device) in [
            ("CPU", Device::Cpu),
            ("cpu", Device::Cpu),
            ("CPU.0", Device::Cpu),
            ("REF", Device::Reference),
            ("AUTO", Device::Cpu),
            ("AUTO:CPU", Device::Cpu),
            ("auto:-GPU", Device::Cpu),
            ("AUTO:-GPU.1,-NPU", Device::Cpu),
            ("MULTI:CPU", Device::Cpu),
            ("HETERO:CPU", Device::Cpu),
            ("AUTO:REF", Device::Reference),
        ] {
            let request = asked(text);
            assert_eq!((request.device, request.notes.len()), (device, 0), "{text}");
        }
    }

    #[test]
    fn virtual_devices_fall_back_and_say_so() {
        let auto = asked("AUTO:GPU,CPU");
        assert_eq!(auto.device, Device::Cpu);
        assert_eq!(
            auto.notes,
            ["AUTO:GPU,CPU: GPU is not there; CPU runs the network"]
        );
        assert_eq!(
            asked("HETERO:GPU.1,NPU,CPU").notes,
            ["HETERO:GPU.1,NPU,CPU: GPU.1, NPU are not there; CPU takes all layers"]
        );
        assert_eq!(asked("MULTI:GPU,CPU(3)").requests, Some(3));
        assert_eq!(asked("AUTO:GPU,-GPU,CPU").notes, [""; 0]);
        assert!(asked("HETERO:CPU,REF").notes[0].contains("REF is not used"));
    }

    #[test]
    fn a_batch_is_taken_from_the_parentheses() {
        let batch = asked("BATCH:CPU(16)");
        assert_eq!((batch.batch, batch.requests), (Some(16), None));
        assert_eq!(batch.through, Some("BATCH"));
        assert!(asked("BATCH:CPU").notes[0].contains("BATCH:CPU(4)"));
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_those_that_are() {
        for text in [
            "GPU",
            "GPU.1",
            "NPU",
            "AUTO:GPU",
            "MULTI:GPU,NPU",
            "AUTO:-CPU",
            "BATCH:GPU(4)",
        ] {
            let message = refused(text);
            assert!(message.contains(text), "{message}");
            assert!(
                message.contains("CPU (") && message.contains("REF ("),
                "{message}"
            );
        }
    }

    #[test]
    fn strings_that_make_no_sense_are_refused_with_words_that_help() {
        for (text, words) in [
            ("", "missing"),
            ("CPPU", "did you mean `CPU`?"),
            ("AUT:CPU", "did you mean `AUTO`?"),
            ("CPU:GPU", "AUTO:, MULTI:, HETERO: or BATCH:"),
            ("MULTI", "MULTI:CPU"),
            ("MULTI:", "missing"),
            ("AUTO:CPU,", "missing"),
            ("HETERO:-CPU", "only AUTO"),
            ("BATCH:CPU(0)", "above 0"),
            ("BATCH:CPU(four)", "four"),
            ("BATCH:CPU(4", "parenthesis"),
            ("BATCH:CPU(4),GPU(4)", "one device"),
            ("BATCH(4)", "BATCH:CPU(4)"),
            ("CPU(4)", "BATCH:CPU(batch)"),
            ("AUTO:CPU(4)", "takes no number"),
            ("MULTI:AUTO", "cannot be in a list"),
            ("-GPU", "AUTO:-GPU"),
            ("GPU.", "number of a device"),
        ] {
            let message = refused(text);
            assert!(message.contains(words), "{text:?}: {message}");
        }
    }
}
