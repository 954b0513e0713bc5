//! Statements about the printed figures, recomputed from their cells.

use super::super::Finding;
use crate::error::Result;

/// Fig. 3, second row: win rate against SFT by the value's learning rate, the policy's being 1e-4.
const VALUE_RATE: [f64; 4] = [76.8, 78.0, 78.9, 79.1];

pub(super) fn figure_3() -> Result<Finding> {
    let rises = VALUE_RATE.is_sorted_by(|a, b| a < b);
    let gain = VALUE_RATE[3] - VALUE_RATE[0];
    Ok(Finding::holds(
        rises && gain < 5.0,
        "the printed row rises from each learning rate to the next",
    )
    .measure("gain from 1e-5 to 5e-4, %", gain))
}

/// Fig. 5: win rate against SFT by networks (one, two) and values per batch (one, several).
const SHARED: [[f64; 2]; 2] = [[57.6, 55.5], [72.1, 76.6]];

pub(super) fn figure_5() -> Result<Finding> {
    let [single, double] = SHARED;
    let values = double[1] - double[0];
    let networks = [double[0] - single[0], double[1] - single[1]];
    Ok(Finding::holds(
        (values - 4.5).abs() < 1e-9 && networks.iter().all(|n| *n > values),
        "the printed row's differences",
    )
    .against("several values over one, two networks, %", values, 4.5)
    .measure("two networks over one, one value, %", networks[0])
    .measure("two networks over one, several values, %", networks[1]))
}
