//! Devices a network can run on.

use std::fmt;
use std::str::FromStr;

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

impl FromStr for Device {
    type Err = EngineError;

    /// `CPU` or `REF`; `AUTO`, and `AUTO:`, `MULTI:` or `HETERO:` followed by `CPU`, mean the CPU.
    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text.to_ascii_uppercase().as_str() {
            "CPU" | "AUTO" | "AUTO:CPU" | "MULTI:CPU" | "HETERO:CPU" => Ok(Self::Cpu),
            "REF" => Ok(Self::Reference),
            _ => Err(EngineError::Device(text.to_owned())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Reference => "REF",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_named() {
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::Cpu);
        assert_eq!("REF".parse::<Device>().unwrap(), Device::Reference);
        let error = "GPU".parse::<Device>().unwrap_err().to_string();
        assert!(error.contains("GPU") && error.contains("CPU"), "{error}");
    }
}
