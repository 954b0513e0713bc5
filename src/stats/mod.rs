//! Means, and how far they may be trusted.

mod bootstrap;
mod clusters;
pub mod kmeans;
mod mean;
pub mod runs;
pub mod student;

pub use bootstrap::{Bootstrap, quantile};
pub use clusters::{Mean, cluster_means, clustered, ratio};
pub use mean::{deviation, mean, t_interval};

use serde::Serialize;

/// A number with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}
