//! Runs that are there: found below a folder, read, compared.

mod compare;
mod curves;
mod read;

pub use compare::{Summary, differing, order};
pub use curves::{Curve, curves};
pub use read::{Condition, Metric, Run, find};
