//! Sources and decoders: container and codec parsers, files, folders, synthetic scenes.
#![deny(missing_docs)]

pub mod synthetic;

/// Registers every kind of this crate.
pub fn register(registry: &mut flow::registry::Registry) {
    synthetic::register(registry);
}
