//! Whole quantizations of small networks.

mod accuracy;
mod placement;
mod whole;
