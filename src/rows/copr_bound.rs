//! Rows of the sim `copr-bound`: COPR's bound, and its motion.

use super::table::table;

table! {
    /// A point of the bound.
    pub struct Bound {
        p: f64,
        gamma: f64,
        divergence: f64,
    }
}

table! {
    /// A moment of the fit's gradient flow, `likelihood` the weight of the best response's.
    pub struct Moved {
        likelihood: f64,
        time: f64,
        gamma: f64,
        most: f64,
        fit: f64,
    }
}
