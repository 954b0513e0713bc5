//! Tables that are trained side by side: a logit of every arm, or a change of it of low rank.

use ndarray_rand::rand_distr::{Distribution, StandardNormal};

use super::Config;
use crate::bandit::{Policy, Problem};
use crate::error::Result;
use crate::random::{Purpose, Stream};
use crate::sim::optimizer::State;
use crate::sim::{Gradient, Trained};

/// The members of a seed: one table of logits each, all at the reference.
///
/// A member of rank r adds `B A` to the reference's logits, as LoRA does to a matrix of weights: B has a row of
/// r numbers for each prompt and is what is trained, 0 at the start; A has a column of r numbers for each arm,
/// drawn once from N(0, 1/r). `E[AᵀA]` is the identity, so a first step of SGD is, on average over members,
/// that of a table of full rank.
pub(super) struct Tables {
    start: Vec<Vec<f64>>,
    members: Vec<Member>,
}

struct Member {
    /// A, a row for each unit of rank; none where the table itself is trained.
    factor: Option<Vec<Vec<f64>>>,
    /// B, prompt by prompt; or the logits.
    parameters: Vec<f64>,
    state: State,
}

impl Tables {
    /// Those of a seed. Members of one seed number have the same A whatever the number of members.
    pub(super) fn new(problem: &Problem, config: &Config, seed: usize) -> Self {
        let start = problem.reference().log().to_vec();
        let widest = start.iter().map(Vec::len).max().unwrap_or(0);
        let member = |index: usize| {
            let factor = config.ensemble.rank.map(|rank| {
                // Seeds are fewer than 2³², and so are members.
                let index = ((seed as u64) << 32) | index as u64;
                let mut stream = Stream::new(config.key, Purpose::Start, index);
                let scale = 1.0 / (rank as f64).sqrt();
                let mut number = || -> f64 {
                    let z: f64 = StandardNormal.sample(stream.rng());
                    scale * z
                };
                let rows = 0..rank;
                rows.map(|_| (0..widest).map(|_| number()).collect())
                    .collect()
            });
            let parameters = match config.ensemble.rank {
                Some(rank) => vec![0.0; rank * start.len()],
                None => start.concat(),
            };
            Member {
                state: State::new(config.optimizer, parameters.len()),
                factor,
                parameters,
            }
        };
        Self {
            members: (0..config.ensemble.members).map(member).collect(),
            start,
        }
    }
}

impl Member {
    /// Its logits, in the shape of `start`.
    fn logits(&self, start: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut logits = start.to_vec();
        match &self.factor {
            None => {
                let mut rest = self.parameters.as_slice();
                for row in &mut logits {
                    let (head, tail) = rest.split_at(row.len());
                    row.copy_from_slice(head);
                    rest = tail;
                }
            }
            Some(a) => {
                for (row, b) in logits.iter_mut().zip(self.parameters.chunks_exact(a.len())) {
                    for (b, a) in b.iter().zip(a) {
                        row.iter_mut().zip(a).for_each(|(l, a)| *l += b * a);
                    }
                }
            }
        }
        logits
    }

    /// A step, from the gradient with respect to the logits.
    fn step(&mut self, gradient: &[Vec<f64>]) {
        let flat: Vec<f64> = match &self.factor {
            None => gradient.concat(),
            Some(a) => (gradient.iter())
                .flat_map(|g| {
                    a.iter()
                        .map(move |a| g.iter().zip(a).map(|(g, a)| g * a).sum())
                })
                .collect(),
        };
        self.state.step(&mut self.parameters, &flat);
    }
}

impl Trained for Tables {
    fn step(&mut self, gradient: &mut Gradient) -> Result<()> {
        let policies: Vec<Policy> = (self.members.iter())
            .map(|member| Policy::softmax(&member.logits(&self.start)))
            .collect();
        let log: Vec<f64> = (policies.iter()).flat_map(|p| p.log().concat()).collect();
        let mut all = vec![0.0; log.len()];
        gradient(&log, &mut all)?;
        let mut rest = all.as_slice();
        for (member, policy) in self.members.iter_mut().zip(&policies) {
            let rows = policy.log().iter().map(|log| {
                let (head, tail) = rest.split_at(log.len());
                rest = tail;
                // Through the softmax: ∂/∂θ = g − π Σ g.
                let sum: f64 = head.iter().sum();
                let row = head.iter().zip(log);
                row.map(|(g, l)| g - l.exp() * sum).collect()
            });
            member.step(&rows.collect::<Vec<Vec<f64>>>());
        }
        Ok(())
    }

    fn table(&self) -> Result<Vec<f64>> {
        let each = self.members.iter();
        Ok(each.flat_map(|m| m.logits(&self.start).concat()).collect())
    }
}
