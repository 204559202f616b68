//! Sink `null`: takes everything and keeps nothing.

use flow::error::{PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::{PortType, Ports};
use flow::registry::{Config, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use schemars::JsonSchema;
use serde::Deserialize;

/// Takes packets of any type and keeps nothing: for measuring a pipeline, and for trying one out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NullConfig {}

impl Config for NullConfig {}

pub(crate) fn register(registry: &mut Registry) {
    registry.sink::<NullConfig>(
        KindInfo {
            name: "null",
            summary: "Takes everything and keeps nothing",
            ports: Ports {
                takes: &[PortType::ANY],
                gives: &[],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(_: &NullConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    Ok(Prepared::new(|_| Ok(Box::new(Null) as Box<dyn Sink>)))
}

struct Null;

impl Sink for Null {
    fn consume(&mut self, _: Packet) -> Result<(), StageError> {
        Ok(())
    }
}
