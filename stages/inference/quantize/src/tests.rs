//! Whole quantizations of small networks.

mod accuracy;
mod placement;
mod resumed;
mod searched;
mod whole;
