//! The check that knows nothing of the algebra: numeric minimisers (argmin).

use argmin::core::{CostFunction, Error as ArgminError, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::neldermead::NelderMead;
use argmin::solver::quasinewton::LBFGS;

use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Result of a numeric minimiser.
#[derive(Debug, Clone)]
pub struct Minimum {
    /// The point.
    pub point: Vec<f64>,
    /// The function there.
    pub value: f64,
    /// Steps taken.
    pub steps: u64,
}

type Smooth<'f> = dyn Fn(&[f64]) -> (f64, Vec<f64>) + 'f;

/// A function and its gradient, for argmin; by address, so that its minimisers are compiled once.
struct Function<'f>(&'f Smooth<'f>);

impl Function<'_> {
    /// The function, or a wall where it or the point is not a number: line searches ask for such
    /// points when rounding has used up their interval, and would never come back from a NaN.
    fn at(&self, point: &[f64]) -> (f64, Vec<f64>) {
        let finite = |v: &f64| v.is_finite();
        if point.iter().all(finite) {
            let (value, gradient) = (self.0)(point);
            if value.is_finite() && gradient.iter().all(finite) {
                return (value, gradient);
            }
        }
        (f64::MAX, vec![0.0; point.len()])
    }
}

impl CostFunction for Function<'_> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, point: &Vec<f64>) -> std::result::Result<f64, ArgminError> {
        Ok(self.at(point).0)
    }
}

impl Gradient for Function<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;
    fn gradient(&self, point: &Vec<f64>) -> std::result::Result<Vec<f64>, ArgminError> {
        Ok(self.at(point).1)
    }
}

/// Minimises a smooth function, given with its gradient, by L-BFGS from `start`.
///
/// # Errors
/// If the line search fails before anything was found.
pub fn smooth(f: impl Fn(&[f64]) -> (f64, Vec<f64>), start: &[f64]) -> Result<Minimum> {
    smooth_by_address(&f, start)
}

fn smooth_by_address(f: &Smooth, start: &[f64]) -> Result<Minimum> {
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 20)
        .with_tolerance_grad(1e-13)
        .and_then(|solver| solver.with_tolerance_cost(0.0))
        .map_err(failed)?;
    let mut best: Option<Minimum> = None;
    // A line search gives up where rounding hides the descent; a restart without memory often
    // gains the last digits.
    let mut from = start.to_vec();
    for _ in 0..4 {
        let run = Executor::new(Function(f), solver.clone())
            .configure(|state| state.param(from.clone()).max_iters(20_000))
            .run();
        let Ok(run) = run else { break };
        let state = run.state();
        let Some(point) = state.get_best_param() else {
            break;
        };
        let found = Minimum {
            point: point.clone(),
            value: state.get_best_cost(),
            steps: state.get_iter(),
        };
        if best.as_ref().is_some_and(|b| b.value <= found.value) {
            break;
        }
        from.clone_from(&found.point);
        best = Some(found);
    }
    best.ok_or_else(|| failed(ArgminError::msg("no descent from the start")))
}

/// Minimises a function with kinks by the Nelder–Mead simplex from `start`; for a few unknowns.
///
/// # Errors
/// If the search fails.
pub fn kinked(f: impl Fn(&[f64]) -> f64, start: &[f64], scale: f64) -> Result<Minimum> {
    let f = |at: &[f64]| (f(at), Vec::new());
    let mut from = start.to_vec();
    let mut best = Minimum {
        point: from.clone(),
        value: f(&from).0,
        steps: 0,
    };
    // A simplex may collapse onto a kink, so it is rebuilt around the best point, each time with
    // edges of another length in other directions.
    let mut stream = Stream::new(0, Purpose::Start, 0);
    for round in 0..60 {
        let edge = scale / f64::from(1 + round % 6).powi(3);
        let mut corner = || -> Vec<f64> {
            let step = |v: &f64| v + edge * (2.0 * stream.uniform() - 1.0);
            from.iter().map(step).collect()
        };
        let mut simplex: Vec<Vec<f64>> = (0..from.len()).map(|_| corner()).collect();
        simplex.push(from.clone());
        let solver = NelderMead::new(simplex)
            .with_sd_tolerance(1e-15)
            .map_err(failed)?;
        let run = Executor::new(Function(&f), solver)
            .configure(|state| state.max_iters(5_000))
            .run()
            .map_err(failed)?;
        let state = run.state();
        best.steps += state.get_iter();
        if let Some(point) = state
            .get_best_param()
            .filter(|_| state.get_best_cost() < best.value)
        {
            best.value = state.get_best_cost();
            best.point.clone_from(point);
            from.clone_from(point);
        }
    }
    Ok(best)
}

fn failed(error: ArgminError) -> Error {
    Error::Backend {
        backend: "argmin",
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosenbrock_and_a_kink() {
        let rosenbrock = |p: &[f64]| {
            let (x, y) = (p[0], p[1]);
            let value = (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2);
            (
                value,
                vec![
                    -2.0 * (1.0 - x) - 400.0 * x * (y - x * x),
                    200.0 * (y - x * x),
                ],
            )
        };
        let found = smooth(rosenbrock, &[-1.2, 1.0]).unwrap();
        assert!((found.point[0] - 1.0).abs() < 1e-9 && (found.point[1] - 1.0).abs() < 1e-9);
        let kink = |p: &[f64]| (p[0] - 2.0).abs() + 0.5 * (p[0] + p[1]).abs();
        let found = kinked(kink, &[0.0, 0.0], 1.0).unwrap();
        assert!(
            (found.point[0] - 2.0).abs() < 1e-6 && (found.point[1] + 2.0).abs() < 1e-6,
            "{found:?}"
        );
        assert!(found.value < 1e-6);
    }
}
