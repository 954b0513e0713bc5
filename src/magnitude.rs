//! Range check of given numbers.

use std::borrow::Borrow;
use std::fmt::Display;

use crate::error::{Error, Result};
use crate::text::exact;

/// Largest reward, score or value in size, and largest and (inverted) smallest temperature: their
/// quotients, squares and the sums of many of them are still numbers.
pub const MAGNITUDE: f64 = 1e100;

/// The range, in words.
pub const RANGE: &str = "a finite number below 1e100 in size";

/// True if a number is finite and at most [`MAGNITUDE`] in size.
pub fn is_in_range(x: f64) -> bool {
    (-MAGNITUDE..=MAGNITUDE).contains(&x)
}

/// A number that is, or an error about what `place` gives (a field, a row, a reward).
///
/// # Errors
/// NaN, an infinity, or a number beyond [`MAGNITUDE`].
pub fn in_range(place: impl Display, x: f64) -> Result<f64> {
    if is_in_range(x) {
        return Ok(x);
    }
    Err(Error::invalid(
        place.to_string(),
        format!("{} is not {RANGE}", exact(x)),
        "give a number in that range",
    ))
}

/// The larger of two errors; NaN stays visible, unlike with `f64::max`.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

/// The largest size of a number; NaN stays visible.
pub(crate) fn largest(values: impl IntoIterator<Item = impl Borrow<f64>>) -> f64 {
    let sizes = values.into_iter().map(|v| v.borrow().abs());
    sizes.fold(0.0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_the_largest() {
        assert_eq!([larger(1.0, 2.0), larger(2.0, 1.0)], [2.0, 2.0]);
        assert_eq!(largest([1.0, -3.0, 2.0]), 3.0);
        assert_eq!(largest(&[] as &[f64]), 0.0);
        for at in 0..3 {
            let mut errors = [1.0, f64::INFINITY, 2.0];
            errors[at] = f64::NAN;
            assert!(largest(errors).is_nan(), "{at}");
        }
    }

    #[test]
    fn numbers_beyond_are_refused_in_few_digits() {
        for x in [0.0, -1e100, 1e100, 5e-324] {
            assert_eq!(in_range("x", x).ok(), Some(x));
        }
        for x in [1.1e100, -1.7e308, f64::INFINITY, f64::NAN] {
            let error = in_range("row 3", x).unwrap_err().to_string();
            assert!(
                error.starts_with("row 3: ") && error.contains("below 1e100"),
                "{error}"
            );
            assert!(error.len() < 100, "{error}");
        }
    }
}
