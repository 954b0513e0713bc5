//! What an objective is run on: the population of a problem, or a logged dataset.

use std::collections::BTreeMap;

use super::dataset::{Dataset, Record};
use super::law::PairLaw;
use super::logistic::half_logistic_sums;
use super::problem::{Problem, Prompt};
use crate::backend::nd::sigmoid;
use crate::error::{Error, Result};

/// The comparisons of two arms, in either order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// One arm.
    pub a: u32,
    /// The other, not smaller; equal for pairs of an arm with itself.
    pub b: u32,
    /// Mass of the comparisons that `a` wins.
    pub wins: f64,
    /// Mass of those that `b` wins.
    pub losses: f64,
}

impl Edge {
    /// `w_ab`, the mass of the comparisons of a and b.
    pub fn weight(&self) -> f64 {
        self.wins + self.losses
    }
}

/// How often each pair of arms is compared, and who wins.
#[derive(Debug, Clone)]
pub enum Comparisons {
    /// Two product laws with Bradley–Terry labels of the prompt's rewards; never tabulated, since
    /// there are K² of them.
    Product {
        /// μ₁.
        first: Vec<f64>,
        /// μ₂.
        second: Vec<f64>,
    },
    /// Listed pairs.
    Listed {
        /// Each unordered pair once, sorted.
        edges: Vec<Edge>,
        /// Whether the wins follow the Bradley–Terry model of the prompt's rewards exactly.
        bradley_terry: bool,
    },
}

/// One prompt's share of the evidence.
#[derive(Debug, Clone)]
pub struct PromptEvidence {
    /// Index of the prompt.
    pub prompt: usize,
    /// The prompt's share of all examples.
    pub mass: f64,
    /// Pairs, normalised within the prompt; absent where only single responses were logged.
    pub comparisons: Option<Comparisons>,
    /// Where pairs were logged with the rewards seen: the mean of `r(a) − r(b)` over the comparisons
    /// of each listed edge, in the order of the edges. Absent, it is the difference of `reward`.
    pub differences: Option<Vec<f64>>,
    /// `m = μ₁ + μ₂`, mass 2: the law of single responses, twice.
    pub responses: Vec<f64>,
    /// The rewards seen: the problem's, or the mean of the logged ones.
    pub reward: Vec<f64>,
}

/// What an objective is run on, prompt by prompt.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// One entry per prompt of the problem.
    pub prompts: Vec<PromptEvidence>,
}

impl Comparisons {
    fn from_law(law: &PairLaw, reward: &[f64]) -> Self {
        match law {
            PairLaw::Product { first, second } => Self::Product {
                first: first.clone(),
                second: second.clone(),
            },
            PairLaw::Joint { entries, .. } => Self::Listed {
                edges: merge(
                    entries
                        .iter()
                        .map(|&(y, z, p)| labelled(y, z, p, None, reward)),
                ),
                bradley_terry: true,
            },
        }
    }

    /// `Σ_b w_ab (v_a − v_b)` for each arm: the graph Laplacian applied to v.
    pub fn laplacian(&self, v: &[f64]) -> Vec<f64> {
        match self {
            Self::Product { first, second } => {
                // Centring first keeps the differences accurate.
                let mean =
                    |law: &[f64]| dot(law, v) / law.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                let (m1, m2) = (mean(first), mean(second));
                let (s1, s2) = (first.iter().sum::<f64>(), second.iter().sum::<f64>());
                (v.iter().zip(first).zip(second))
                    .map(|((v, p), q)| p * s2 * (v - m2) + q * s1 * (v - m1))
                    .collect()
            }
            Self::Listed { edges, .. } => {
                let mut sum = vec![0.0; v.len()];
                for e in edges {
                    let (a, b) = (e.a as usize, e.b as usize);
                    let flow = e.weight() * (v[a] - v[b]);
                    sum[a] += flow;
                    sum[b] -= flow;
                }
                sum
            }
        }
    }

    /// `Σ_b w_ab (p_ab − ½)` for each arm, `p_ab` being how often a wins.
    pub fn pull(&self, reward: &[f64]) -> Vec<f64> {
        match self {
            Self::Product { .. } => self.logistic_pull(reward),
            Self::Listed { edges, .. } => {
                let mut sum = vec![0.0; reward.len()];
                for e in edges {
                    let pull = 0.5 * (e.wins - e.losses);
                    sum[e.a as usize] += pull;
                    sum[e.b as usize] -= pull;
                }
                sum
            }
        }
    }

    /// `Σ_b w_ab (σ(v_a − v_b) − ½)` for each arm.
    pub fn logistic_pull(&self, v: &[f64]) -> Vec<f64> {
        match self {
            Self::Product { first, second } => (half_logistic_sums(v, first, second).into_iter())
                .zip(first.iter().zip(second))
                .map(|((under_first, under_second), (p, q))| p * under_second + q * under_first)
                .collect(),
            Self::Listed { edges, .. } => {
                let mut sum = vec![0.0; v.len()];
                for e in edges {
                    let (a, b) = (e.a as usize, e.b as usize);
                    let pull = e.weight() * 0.5 * ((v[a] - v[b]) / 2.0).tanh();
                    sum[a] += pull;
                    sum[b] -= pull;
                }
                sum
            }
        }
    }

    /// The listed pairs, tabulating a product law if need be.
    pub fn edges(&self, reward: &[f64]) -> Vec<Edge> {
        match self {
            Self::Listed { edges, .. } => edges.clone(),
            Self::Product { first, second } => {
                let k = first.len();
                let mut edges = Vec::with_capacity(k * (k + 1) / 2);
                for a in 0..k {
                    for b in a..k {
                        let weight = pair_weight(first, second, a, b);
                        edges.push(labelled(a as u32, b as u32, weight, None, reward));
                    }
                }
                edges
            }
        }
    }
}

/// `w_ab = μ₁(a)μ₂(b) + μ₁(b)μ₂(a)`, or `μ₁(a)μ₂(a)` for an arm with itself.
pub(super) fn pair_weight(first: &[f64], second: &[f64], a: usize, b: usize) -> f64 {
    if a == b {
        first[a] * second[a]
    } else {
        first[a] * second[b] + first[b] * second[a]
    }
}

/// An edge of mass `p` for the pair (y, z); without a label, Bradley–Terry decides.
pub(super) fn labelled(y: u32, z: u32, p: f64, label: Option<f64>, reward: &[f64]) -> Edge {
    let gap = reward[y as usize] - reward[z as usize];
    let (wins, losses) = match label {
        Some(q) => (p * q, p * (1.0 - q)),
        None => (p * sigmoid(gap), p * sigmoid(-gap)),
    };
    if y <= z {
        Edge {
            a: y,
            b: z,
            wins,
            losses,
        }
    } else {
        Edge {
            a: z,
            b: y,
            wins: losses,
            losses: wins,
        }
    }
}

/// Each unordered pair once, sorted.
fn merge(edges: impl Iterator<Item = Edge>) -> Vec<Edge> {
    let mut sum = BTreeMap::new();
    for e in edges {
        let (wins, losses) = sum.entry((e.a, e.b)).or_insert((0.0, 0.0));
        *wins += e.wins;
        *losses += e.losses;
    }
    (sum.into_iter())
        .map(|((a, b), (wins, losses))| Edge { a, b, wins, losses })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl PromptEvidence {
    /// The comparisons.
    ///
    /// # Errors
    /// If only single responses were logged.
    pub fn compared(&self) -> Result<&Comparisons> {
        self.comparisons.as_ref().ok_or_else(|| {
            Error::invalid(
                format!("the dataset's examples of prompt {}", self.prompt),
                "they are single responses only, and this objective compares responses",
                "log pairs (`first`, `second`), or choose rloo or a pg-* objective",
            )
        })
    }

    /// `Σ_b w_ab · E[r(a) − r(b)]` for each arm, if rewards were logged with the pairs. Observed
    /// differences need not come from any rewards of single arms; this sum is all that an objective
    /// quadratic in `u` makes of them.
    pub fn observed_pull(&self) -> Option<Vec<f64>> {
        let (Some(Comparisons::Listed { edges, .. }), Some(differences)) =
            (&self.comparisons, &self.differences)
        else {
            return None;
        };
        let mut sum = vec![0.0; self.reward.len()];
        for (e, difference) in edges.iter().zip(differences) {
            let pull = e.weight() * difference;
            sum[e.a as usize] += pull;
            sum[e.b as usize] -= pull;
        }
        Some(sum)
    }

    /// The law of single responses, of mass 1: `μ̄ = m/2`.
    pub fn mean_law(&self) -> Vec<f64> {
        self.responses.iter().map(|m| m / 2.0).collect()
    }

    /// The mean reward of single responses, `E_μ̄[R]`.
    pub fn mean_reward(&self) -> f64 {
        (self.mean_law().iter().zip(&self.reward))
            .map(|(m, r)| m * r)
            .sum()
    }
}

impl Evidence {
    /// The exact expectation over the problem's prompts and behaviour laws, with Bradley–Terry
    /// labels.
    pub fn population(problem: &Problem) -> Self {
        let prompts = (problem.prompts().iter().enumerate())
            .map(|(x, prompt)| {
                let (first, second) = prompt.law.marginals();
                PromptEvidence {
                    prompt: x,
                    mass: prompt.weight,
                    comparisons: Some(Comparisons::from_law(&prompt.law, &prompt.reward)),
                    differences: None,
                    responses: first.iter().zip(&second).map(|(p, q)| p + q).collect(),
                    reward: prompt.reward.clone(),
                }
            })
            .collect();
        Self { prompts }
    }

    /// The empirical mean over a dataset. A ranked list counts as all its pairs; a pair without a
    /// label carries the Bradley–Terry probabilities of the rewards seen with it, or else of the
    /// problem's rewards.
    pub fn from_dataset(problem: &Problem, dataset: &Dataset) -> Self {
        #[derive(Default)]
        struct Log {
            edges: Vec<Edge>,
            differences: BTreeMap<(u32, u32), f64>,
            scored: bool,
            responses: Vec<f64>,
            observed: Vec<(f64, f64)>,
            examples: f64,
            all_unlabelled: bool,
        }
        impl Log {
            fn observe(&mut self, arm: u32, reward: f64) {
                self.responses[arm as usize] += 1.0;
                let seen = &mut self.observed[arm as usize];
                *seen = (seen.0 + 1.0, seen.1 + reward);
            }

            fn differ(&mut self, y: u32, z: u32, gap: f64) {
                let (edge, gap) = if y <= z {
                    ((y, z), gap)
                } else {
                    ((z, y), -gap)
                };
                *self.differences.entry(edge).or_default() += gap;
            }
        }
        let arms = |prompt: &Prompt| prompt.arms();
        let mut logs: Vec<Log> = (problem.prompts().iter())
            .map(|prompt| Log {
                responses: vec![0.0; arms(prompt)],
                observed: vec![(0.0, 0.0); arms(prompt)],
                all_unlabelled: true,
                ..Log::default()
            })
            .collect();
        for record in dataset.records() {
            let log = &mut logs[record.prompt()];
            let reward = &problem.prompts()[record.prompt()].reward;
            match record {
                &Record::Pair {
                    first,
                    second,
                    label,
                    ..
                } => {
                    log.edges.push(labelled(first, second, 1.0, label, reward));
                    let gap = reward[first as usize] - reward[second as usize];
                    log.differ(first, second, gap);
                    log.responses[first as usize] += 1.0;
                    log.responses[second as usize] += 1.0;
                    log.all_unlabelled &= label.is_none();
                    log.examples += 1.0;
                }
                &Record::Scored {
                    first,
                    second,
                    rewards,
                    label,
                    ..
                } => {
                    let gap = rewards[0] - rewards[1];
                    let label = Some(label.unwrap_or_else(|| sigmoid(gap)));
                    log.edges.push(labelled(first, second, 1.0, label, reward));
                    log.differ(first, second, gap);
                    log.scored = true;
                    log.all_unlabelled = false;
                    for (arm, reward) in [(first, rewards[0]), (second, rewards[1])] {
                        log.observe(arm, reward);
                    }
                    log.examples += 1.0;
                }
                &Record::Single { arm, reward, .. } => {
                    log.observe(arm, reward);
                    log.examples += 1.0;
                }
                Record::Ranking { ranking, .. } => {
                    for (i, &worse) in ranking.iter().enumerate() {
                        log.responses[worse as usize] += 1.0;
                        for &better in &ranking[i + 1..] {
                            log.edges
                                .push(labelled(better, worse, 1.0, Some(1.0), reward));
                            let gap = reward[better as usize] - reward[worse as usize];
                            log.differ(better, worse, gap);
                            log.examples += 1.0;
                            log.all_unlabelled = false;
                        }
                    }
                }
            }
        }
        let total: f64 = logs.iter().map(|log| log.examples).sum();
        let prompts = (logs.into_iter().zip(problem.prompts()).enumerate())
            .map(|(x, (log, prompt))| {
                let pairs = log.edges.len() as f64;
                let mut edges = merge(log.edges.into_iter());
                let differences = log.scored.then(|| {
                    let sums = log.differences.values();
                    sums.zip(&edges).map(|(sum, e)| sum / e.weight()).collect()
                });
                for e in &mut edges {
                    e.wins /= pairs;
                    e.losses /= pairs;
                }
                let seen: f64 = log.responses.iter().sum();
                PromptEvidence {
                    prompt: x,
                    mass: log.examples / total,
                    comparisons: (pairs > 0.0).then_some(Comparisons::Listed {
                        edges,
                        bradley_terry: log.all_unlabelled,
                    }),
                    differences,
                    responses: (log.responses.iter())
                        .map(|n| if seen > 0.0 { 2.0 * n / seen } else { 0.0 })
                        .collect(),
                    reward: (log.observed.iter().zip(&prompt.reward))
                        .map(|(&(n, sum), &r)| if n > 0.0 { sum / n } else { r })
                        .collect(),
                }
            })
            .collect();
        Self { prompts }
    }
}
