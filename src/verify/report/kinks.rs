//! Kinks: whether the gradient of a loss jumps anywhere.

use super::{Area, Check, Outcome};
use crate::loss::Kind;
use crate::solve::general::kinks::SEGMENTS;

/// The line of the page, from the jump found.
pub(super) fn check(declared: Kind, jump: f64) -> Check {
    let (outcome, says) = match (declared, jump > 0.0) {
        (Kind::Kinked, true) => (
            Outcome::Ok,
            "its slope jumps, as declared: where kinks may hold it, minima are sought by value"
                .to_string(),
        ),
        (Kind::Kinked, false) => (
            Outcome::Differs,
            format!("declared kinked, but no jump on {SEGMENTS} random segments: taken for smooth"),
        ),
        (Kind::Field, true) => (
            Outcome::Differs,
            "the update jumps: a flow that meets a jump may not come to rest".to_string(),
        ),
        (_, true) => (
            Outcome::Differs,
            "its slope jumps: where kinks may hold it, minima are sought by value".to_string(),
        ),
        (_, false) => (Outcome::Ok, format!("none on {SEGMENTS} random segments")),
    };
    Check::new(Area::Gradient, "kinks", outcome, says).with(jump)
}
