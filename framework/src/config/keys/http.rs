//! Where a program serves what it shows of a run.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// An address with a port such as `127.0.0.1:9898`, or a port alone for this machine only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HttpAddressText")]
pub struct HttpAddress(pub SocketAddr);

#[derive(Deserialize)]
#[serde(untagged)]
enum HttpAddressText {
    Port(u16),
    Address(String),
}

impl TryFrom<HttpAddressText> for HttpAddress {
    type Error = String;

    fn try_from(text: HttpAddressText) -> Result<Self, String> {
        match text {
            HttpAddressText::Port(port) => Ok(Self((Ipv4Addr::LOCALHOST, port).into())),
            HttpAddressText::Address(text) => text.parse(),
        }
    }
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self).map_err(|_| {
            format!("expected an address with a port such as 127.0.0.1:9898, or a port, found \"{text}\"")
        })
    }
}

impl JsonSchema for HttpAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HttpAddress".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An address with a port such as `127.0.0.1:9898`, or a port alone for this machine only.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                {
                    "type": "string",
                    "description": "An address with a port, such as `127.0.0.1:9898`.",
                    "pattern": r"^(([0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}$"
                }
            ]
        })
    }
}
