//! Least cost of an operation: products and memory traffic, counted from shapes.

/// Floating-point operations of matrix products (pointwise arithmetic hides behind memory), and
/// numbers read and written: each input once, each output once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations, a multiplication and an addition each counted.
    pub flops: f64,
    /// Numbers moved, in what is stored.
    pub numbers: f64,
}

impl Cost {
    pub(super) fn new(flops: usize, numbers: usize) -> Self {
        Self {
            flops: flops as f64,
            numbers: numbers as f64,
        }
    }

    /// The least time, in seconds, on a device of those ceilings.
    pub fn floor(&self, bytes_per_number: f64, flops: f64, bandwidth: f64) -> f64 {
        (self.flops / flops).max(self.numbers * bytes_per_number / bandwidth)
    }

    /// Cost of that many calls.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self {
            flops: self.flops * count as f64,
            numbers: self.numbers * count as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_the_larger_of_products_and_traffic() {
        let cost = Cost {
            flops: 6e9,
            numbers: 1e9,
        };
        assert_eq!(cost.floor(4.0, 1e9, 1e9), 6.0);
        assert_eq!(cost.floor(4.0, 6e9, 1e9), 4.0);
        assert_eq!(cost.times(2).flops, 12e9);
    }
}
