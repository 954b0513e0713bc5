//! The quadratic penalty of regularising methods.

use super::vectors::Vectors;
use crate::error::{Error, Result};

/// A pull at the parameters w towards an anchor a: the penalty `strength/2 · Σ_k ω_k (w_k − a_k)²`.
///
/// ω ≡ 1 is L2 regularisation, the Fisher information elastic weight consolidation (EWC), the
/// sensitivity of the outputs memory aware synapses (MAS). The step of its gradient
/// `strength · ω ∘ (w − a)` is explicit: descent of size η is stable while `η · strength · ω_k < 2`, and the
/// optimiser says when parameters run away.
#[derive(Debug, Clone, PartialEq)]
pub struct Pull<V> {
    strength: f64,
    anchor: V,
    importance: Option<V>,
}

impl<V: Vectors> Pull<V> {
    /// A pull to `anchor`; without an importance every ω is 1.
    ///
    /// # Errors
    /// A strength that is negative or not finite.
    pub fn new(strength: f64, anchor: V, importance: Option<V>) -> Result<Self> {
        if !(strength >= 0.0 && strength.is_finite()) {
            return Err(Error::invalid(
                "strength",
                format!("it is {strength}"),
                "give a finite number, 0 or greater",
            ));
        }
        Ok(Self {
            strength,
            anchor,
            importance,
        })
    }

    /// The penalty at w.
    ///
    /// # Errors
    /// Parameters of another shape, or a device that fails.
    pub fn value(&self, w: &V) -> Result<f64> {
        let away = self.away(w)?;
        let slope = self.slope(&away)?;
        let sum = match &slope {
            None => away.dot(&away)?,
            Some(slope) => away.dot(slope)?,
        };
        Ok(0.5 * self.strength * sum)
    }

    /// Adds the penalty's gradient at w to `gradient`.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn add_gradient(&self, w: &V, gradient: &mut V) -> Result<()> {
        let away = self.away(w)?;
        match &self.importance {
            None => gradient.add(self.strength, &away),
            Some(importance) => gradient.add_product(self.strength, importance, &away),
        }
    }

    /// `w − a`
    fn away(&self, w: &V) -> Result<V> {
        let mut away = w.copied()?;
        away.add(-1.0, &self.anchor)?;
        Ok(away)
    }

    /// `ω ∘ (w − a)`, none where ω is 1.
    fn slope(&self, away: &V) -> Result<Option<V>> {
        let Some(importance) = &self.importance else {
            return Ok(None);
        };
        let mut slope = away.zeros_like()?;
        slope.add_product(1.0, importance, away)?;
        Ok(Some(slope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: [f64; 3] = [0.7, -1.3, 2.0];
    const ANCHOR: [f64; 3] = [0.2, -1.0, 2.5];
    const IMPORTANCE: [f64; 3] = [0.5, 0.0, 3.0];

    fn pulls() -> [(Pull<Vec<f64>>, [f64; 3]); 2] {
        let of = |importance| Pull::new(1.7, ANCHOR.to_vec(), importance).unwrap();
        [
            (of(None), [1.0; 3]),
            (of(Some(IMPORTANCE.to_vec())), IMPORTANCE),
        ]
    }

    #[test]
    fn the_value_is_the_sum_of_squares() {
        for (pull, importance) in pulls() {
            let sum: f64 = (0..3)
                .map(|k| importance[k] * (W[k] - ANCHOR[k]).powi(2))
                .sum();
            let value = pull.value(&W.to_vec()).unwrap();
            assert!((value - 0.85 * sum).abs() < 1e-15, "{value}");
            assert_eq!(pull.value(&ANCHOR.to_vec()).unwrap(), 0.0);
        }
    }

    #[test]
    fn the_gradient_is_the_derivative_of_the_value() {
        for (pull, _) in pulls() {
            let mut gradient = vec![1.0, 2.0, 3.0];
            pull.add_gradient(&W.to_vec(), &mut gradient).unwrap();
            for k in 0..3 {
                let at = |h: f64| {
                    let mut w = W.to_vec();
                    w[k] += h;
                    pull.value(&w).unwrap()
                };
                let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!((gradient[k] - (k as f64 + 1.0) - slope).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn bad_strengths_and_shapes_are_refused() {
        for strength in [-1.0, f64::NAN, f64::INFINITY] {
            let error = Pull::new(strength, ANCHOR.to_vec(), None).unwrap_err();
            assert!(error.to_string().starts_with("strength"), "{error}");
        }
        let [(pull, _), _] = pulls();
        assert!(pull.value(&vec![1.0]).is_err());
        assert!(pull.add_gradient(&W.to_vec(), &mut vec![1.0]).is_err());
    }
}
