//! A motion of which only the update is known: its Jacobian comes from central differences.

use nalgebra::{DMatrix, DVector};

use super::{Motion, centre};
use crate::solve::largest;

/// What the coordinates of a point are.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    /// Logits, in blocks of these sizes: a constant added to a block changes nothing.
    Logits(Vec<usize>),
    /// Numbers as they are.
    Plain,
}

/// The motion `θ̇ = F(θ)` of a closure, which gives nothing where the field is undefined: steps that
/// lead there are shortened.
pub(crate) struct Numeric<F> {
    field: F,
    frame: Frame,
}

impl<F: Fn(&[f64]) -> Option<Vec<f64>>> Numeric<F> {
    pub(crate) fn new(field: F, frame: Frame) -> Self {
        Self { field, frame }
    }

    fn at(&self, point: &[f64]) -> Vec<f64> {
        (self.field)(point).unwrap_or_else(|| vec![f64::NAN; point.len()])
    }

    fn jacobian(&self, point: &[f64]) -> DMatrix<f64> {
        let n = point.len();
        let mut jacobian = DMatrix::zeros(n, n);
        for j in 0..n {
            let reach = 1e-6 * (1.0 + point[j].abs());
            let shifted = |by: f64| {
                let mut point = point.to_vec();
                point[j] += by;
                self.at(&point)
            };
            let (ahead, behind) = (shifted(reach), shifted(-reach));
            for i in 0..n {
                jacobian[(i, j)] = (ahead[i] - behind[i]) / (2.0 * reach);
            }
        }
        jacobian
    }
}

/// The field at a point; its Jacobian, if that was taken there.
pub(crate) struct At {
    update: Vec<f64>,
    jacobian: std::rc::Rc<DMatrix<f64>>,
}

impl<F: Fn(&[f64]) -> Option<Vec<f64>>> Motion for Numeric<F> {
    type Local = At;

    fn local(&self, point: &[f64]) -> At {
        At {
            update: self.at(point),
            jacobian: self.jacobian(point).into(),
        }
    }

    fn nearby(&self, at: &At, point: &[f64]) -> At {
        At {
            update: self.at(point),
            jacobian: at.jacobian.clone(),
        }
    }

    fn update<'a>(&self, at: &'a At) -> &'a [f64] {
        &at.update
    }

    fn step(&self, at: &At, h: f64) -> Option<Vec<f64>> {
        let n = at.update.len();
        let system = DMatrix::identity(n, n) / h - &*at.jacobian;
        let step = system.lu().solve(&DVector::from_column_slice(&at.update))?;
        step.iter()
            .all(|v| v.is_finite())
            .then(|| step.as_slice().to_vec())
    }

    fn settle(&self, mut point: Vec<f64>) -> Vec<f64> {
        self.centre(&mut point);
        point
    }

    fn centre(&self, difference: &mut [f64]) {
        if let Frame::Logits(sizes) = &self.frame {
            let mut rest = difference;
            for &size in sizes {
                let (block, tail) = rest.split_at_mut(size);
                centre(block);
                rest = tail;
            }
        }
    }

    fn scale(&self, point: &[f64]) -> f64 {
        largest(self.at(point)).max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Course, Rest, follow, rest_of};
    use super::*;

    #[test]
    fn a_stiff_field_comes_to_rest_in_its_own_basin() {
        // ẋ = x − x³ from 0.1 goes to 1, not to the unstable 0; ẏ = −1e-4 (y − 3), ż = −1e3 z.
        let field = |p: &[f64]| Some(vec![p[0] - p[0].powi(3), 3e-4 - 1e-4 * p[1], -1e3 * p[2]]);
        let motion = Numeric::new(field, Frame::Plain);
        let end = follow(&motion, vec![0.1, 0.0, 1.0], Course::Basin);
        for (have, want) in end.point.iter().zip([1.0, 3.0, 0.0]) {
            assert!((have - want).abs() < 1e-9, "{end:?}");
        }
        assert_eq!(rest_of(&motion, &end.point), Rest::Stable);
        assert_eq!(rest_of(&motion, &[0.0, 3.0, 0.0]), Rest::Repelling);
    }

    /// ẋ = −x(1 + y), ẏ = x: it ends anywhere on x = 0, where x + y + y²/2 says.
    #[test]
    fn a_path_is_followed_to_rounding() {
        let field = |p: &[f64]| Some(vec![-p[0] * (1.0 + p[1]), p[0]]);
        let motion = Numeric::new(field, Frame::Plain);
        let end = follow(&motion, vec![1.5, 0.0], Course::Path);
        assert!((end.point[1] - 1.0).abs() < 1e-12, "{end:?}");
        assert_eq!(rest_of(&motion, &end.point), Rest::Neutral);
    }
}
