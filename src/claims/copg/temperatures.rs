//! The temperatures that the language experiments chose.

use super::super::Finding;
use crate::error::Result;

/// Section 6.2: the best β of each method.
const COPG: f64 = 0.06;
const DPO: f64 = 0.1;
const IPO: f64 = 0.01;

pub(super) fn effective_beta() -> Result<Finding> {
    // "Much" is more than half an order of magnitude.
    let much_smaller = |than: [f64; 2]| than.iter().all(|other| IPO * 10f64.sqrt() < *other);
    Ok(Finding::misprint(
        much_smaller([COPG, DPO]),
        !much_smaller([COPG, IPO]),
        format!("the chosen β are {COPG} for CoPG, {DPO} for DPO and {IPO} for IPO"),
    )
    .measure("CoPG's over IPO's", COPG / IPO)
    .measure("DPO's over IPO's", DPO / IPO))
}
