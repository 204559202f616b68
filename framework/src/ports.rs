//! Port types and details: what an edge may carry, checked before a pipeline runs.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Type of what flows through a port, by its stable lower-case name (`frame`, `tensor`, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortType(pub &'static str);

impl PortType {
    /// Any type. A kind that takes it takes everything; a kind that gives it hands on what it takes.
    pub const ANY: PortType = PortType("any");

    /// Whether a consumer that takes `takes` takes this type.
    pub fn is_taken_by(&self, takes: &[PortType]) -> bool {
        takes.contains(self) || takes.contains(&Self::ANY)
    }
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a kind takes and gives. An edge is legal when every type its producer may give is one that its
/// consumer takes.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Port types taken; empty for sources.
    pub takes: &'static [PortType],
    /// Port types given; empty for sinks.
    pub gives: &'static [PortType],
}

/// Detail of a port beyond its type, such as dtype, shape and layout of a tensor.
pub trait PortDetail: Any + fmt::Debug + fmt::Display + Send + Sync {
    /// Whether a producer of `self` can feed a consumer that wants `wanted`; the error says how they
    /// differ and which key would mend it.
    fn feeds(&self, wanted: &dyn PortDetail) -> Result<(), String>;
}

/// A shared [`PortDetail`].
pub type SharedDetail = Arc<dyn PortDetail>;
