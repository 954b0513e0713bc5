//! Dynamics of COPR's fit: how it moves the mass of the ranked responses, and so γ.

use super::sampling::{Divergence, Target};
use crate::solve::log_softmax;

/// Gradient flow of the fit on the logits of one prompt, by Runge–Kutta steps of fourth order.
#[derive(Debug, Clone, Copy)]
pub struct Motion {
    /// Direction of the divergence.
    pub divergence: Divergence,
    /// Weight of the best response's likelihood; 0 leaves it out.
    pub likelihood: f64,
    /// Time step; stable below about 2 for likelihood ≤ 1 and moderate targets.
    pub step: f64,
    /// Number of steps.
    pub steps: usize,
}

/// A moment of the flow.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Time since the start.
    pub time: f64,
    /// `π_θ(Y)`.
    pub mass: f64,
    /// `γ = π_θ(Y)/p`.
    pub gamma: f64,
    /// The divergence of P_θ from P*.
    pub divergence: f64,
    /// `ln π_θ`.
    pub log_policy: Vec<f64>,
}

/// Every moment of the flow from `log_start`, first and last included; `p = π*(Y)` scales γ.
pub fn motion(log_start: &[f64], target: &Target, p: f64, how: Motion) -> Vec<Moment> {
    let update = |theta: &[f64]| -> Vec<f64> {
        let log_policy = log_softmax(theta);
        let gradient = target.gradient_with_likelihood(&log_policy, how.divergence, how.likelihood);
        gradient.iter().map(|g| -g).collect()
    };
    let ahead = |theta: &[f64], by: f64, slope: &[f64]| -> Vec<f64> {
        theta.iter().zip(slope).map(|(t, s)| t + by * s).collect()
    };
    let moment = |time: f64, theta: &[f64]| {
        let log_policy = log_softmax(theta);
        let mass = target.mass(&log_policy);
        Moment {
            time,
            mass,
            gamma: mass / p,
            divergence: target.divergence(&log_policy, how.divergence),
            log_policy,
        }
    };
    let mut theta = log_start.to_vec();
    let mut moments = vec![moment(0.0, &theta)];
    let h = how.step;
    for n in 1..=how.steps {
        let k1 = update(&theta);
        let k2 = update(&ahead(&theta, 0.5 * h, &k1));
        let k3 = update(&ahead(&theta, 0.5 * h, &k2));
        let k4 = update(&ahead(&theta, h, &k3));
        for (a, t) in theta.iter_mut().enumerate() {
            *t += h / 6.0 * (k1[a] + 2.0 * k2[a] + 2.0 * k3[a] + k4[a]);
        }
        moments.push(moment(n as f64 * h, &theta));
    }
    moments
}
