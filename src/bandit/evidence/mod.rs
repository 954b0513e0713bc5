//! Data of an objective: the population of a problem (exact expectations), or a logged dataset.

mod comparisons;
mod logged;

pub(in crate::bandit) use comparisons::pair_weight;
pub use comparisons::{Comparisons, Edge};

use super::population::missing;
use super::problem::Problem;
use crate::error::{Error, Result};
use crate::loss::InputKind;

/// Data that an objective is trained on: a population in exact expectation, or a logged dataset. Objectives of
/// different kinds of examples see different things in the same data: each has its own [`View`].
#[derive(Debug, Clone)]
pub struct Evidence {
    pairs: View,
    groups: View,
    responses: View,
    lists: View,
    lacks: Lacks,
    logged: bool,
}

/// The data as objectives of one kind of examples see them, prompt by prompt.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// One entry per prompt of the problem.
    pub prompts: Vec<PromptEvidence>,
}

/// One prompt's share of the examples of one kind.
#[derive(Debug, Clone, Default)]
pub struct PromptEvidence {
    /// The prompt's share of all examples of the kind.
    pub mass: f64,
    /// Pairs and groups of two, normalised within the prompt; absent for other kinds, and where there
    /// are none.
    pub comparisons: Option<Comparisons>,
    /// Mean of `r(a) − r(b)` over the comparisons of each listed edge, in the order of the edges, for pairs logged
    /// with the rewards seen. Absent, it is the difference of `reward`.
    pub differences: Option<Vec<f64>>,
    /// `m = μ₁ + μ₂`, mass 2: the law of single responses, twice; empty for other kinds.
    pub responses: Vec<f64>,
    /// The rewards of arms: the problem's; in single responses, the mean of those seen of an arm. NaN
    /// where neither is known.
    pub reward: Vec<f64>,
    /// Logged single responses: (arm, reward, share of the prompt's responses), each arm and reward once.
    pub seen: Option<Vec<(u32, f64, f64)>>,
    /// Ranked lists with their shares, arms from worst to best.
    pub lists: Vec<(Vec<u32>, f64)>,
}

/// The first prompt that would need from the problem what it does not give.
#[derive(Debug, Clone, Copy, Default)]
struct Lacks {
    /// For the labels of unlabelled pairs.
    label: Option<usize>,
    /// For responses logged without a reward.
    reward: Option<usize>,
    /// For a population, where it gives no law.
    law: Option<usize>,
}

impl Evidence {
    /// True if it is a logged dataset, not a population.
    pub fn is_logged(&self) -> bool {
        self.logged
    }

    /// The exact expectation over the problem's prompts and behaviour laws, with Bradley–Terry
    /// labels. Groups are independent responses from the mean law; lists are the problem's rankings.
    pub fn population(problem: &Problem) -> Self {
        let view = |fill: &dyn Fn(&super::Prompt, PromptEvidence) -> PromptEvidence| View {
            prompts: (problem.prompts().iter())
                .map(|prompt| {
                    let blank = PromptEvidence {
                        mass: prompt.weight,
                        reward: prompt.reward.clone(),
                        ..PromptEvidence::default()
                    };
                    fill(prompt, blank)
                })
                .collect(),
        };
        let mean = |prompt: &super::Prompt| -> Vec<f64> {
            let (first, second) = prompt.law.marginals();
            first.iter().zip(&second).map(|(p, q)| p + q).collect()
        };
        Self {
            pairs: view(&|prompt, share| PromptEvidence {
                comparisons: Some(Comparisons::from_law(&prompt.law, &prompt.reward)),
                ..share
            }),
            groups: view(&|prompt, share| {
                let half: Vec<f64> = mean(prompt).iter().map(|m| m / 2.0).collect();
                PromptEvidence {
                    comparisons: Some(Comparisons::Product {
                        first: half.clone(),
                        second: half,
                    }),
                    ..share
                }
            }),
            responses: view(&|prompt, share| PromptEvidence {
                responses: mean(prompt),
                ..share
            }),
            lists: view(&|prompt, share| PromptEvidence {
                lists: (prompt.ranking.iter().cloned().map(|list| (list, 1.0))).collect(),
                ..share
            }),
            lacks: {
                let first =
                    |of: &dyn Fn(&super::Prompt) -> bool| problem.prompts().iter().position(of);
                let unrewarded = first(&|prompt| !prompt.knows_rewards());
                Lacks {
                    label: unrewarded,
                    reward: unrewarded,
                    law: first(&|prompt| !prompt.law.is_known()),
                }
            },
            logged: false,
        }
    }

    /// The same with its pairs changed, prompt by prompt.
    #[must_use]
    pub fn map_pairs(mut self, change: impl FnMut(&mut PromptEvidence)) -> Self {
        self.pairs.prompts.iter_mut().for_each(change);
        self
    }

    /// The data as objectives of a kind see them.
    ///
    /// # Errors
    /// A ranking that a problem lacks; logged data without an example of the kind, or whose examples would take rewards from a
    /// problem that gives none.
    pub fn of(&self, kind: InputKind) -> Result<&View> {
        let (view, needs) = match kind {
            InputKind::LabelledPairs => (&self.pairs, self.lacks.label),
            InputKind::ScoredPairs => (&self.pairs, self.lacks.reward),
            InputKind::Groups | InputKind::Tokens => (&self.groups, self.lacks.reward),
            InputKind::Singles | InputKind::Rated => (&self.responses, self.lacks.reward),
            InputKind::Lists => (&self.lists, None),
        };
        if let (Some(x), true) = (self.lacks.law, kind != InputKind::Lists) {
            return Err(missing(x, "behavior", "one or two laws of responses"));
        }
        if let Some(x) = needs.filter(|_| !self.logged) {
            return Err(missing(x, "reward", "one number per arm"));
        }
        if let Some(x) = needs {
            let what = match kind {
                InputKind::LabelledPairs => "it has unlabelled pairs",
                _ => "it has responses without rewards",
            };
            return Err(Error::invalid(
                format!("the data's examples of prompt {x}"),
                format!("{what}, and the problem gives no `reward` to stand for them"),
                "log them, or give the problem rewards",
            ));
        }
        let unranked = |share: &PromptEvidence| share.mass > 0.0 && share.lists.is_empty();
        if kind == InputKind::Lists
            && let Some(x) = view.prompts.iter().position(unranked)
        {
            return Err(missing(x, "ranking", "arm indices from worst to best"));
        }
        if self.logged && view.prompts.iter().all(|share| share.mass == 0.0) {
            return Err(Error::invalid(
                "the data",
                format!("it has no example of {}", kind.name()),
                match kind {
                    InputKind::Lists => "log rankings, or choose an objective of other examples",
                    _ => {
                        "single responses compare nothing: log pairs (`first`, `second`), or choose an \
                         objective of single responses"
                    }
                },
            ));
        }
        Ok(view)
    }
}

impl View {
    /// The mean reward of all single responses, above which KTO calls one desirable.
    pub fn threshold(&self) -> Threshold {
        let shown: Vec<(f64, f64)> = (self.prompts.iter())
            .filter(|share| share.mass > 0.0)
            .flat_map(|share| {
                (share.shown().into_iter()).map(|(_, reward, part)| (reward, share.mass * part))
            })
            .collect();
        Threshold::mean(shown.into_iter())
    }
}

impl PromptEvidence {
    /// The comparisons; none of no mass.
    pub fn compared(&self) -> &Comparisons {
        const NONE: &Comparisons = &Comparisons::Listed {
            edges: Vec::new(),
            bradley_terry: false,
        };
        self.comparisons.as_ref().unwrap_or(NONE)
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

    /// Arm, reward and share (of 1) of the single responses.
    pub fn shown(&self) -> Vec<(u32, f64, f64)> {
        if let Some(seen) = &self.seen {
            return seen.clone();
        }
        (self.responses.iter().zip(&self.reward).enumerate())
            .filter(|(_, (m, _))| **m > 0.0)
            .map(|(a, (m, &reward))| (a as u32, reward, m / 2.0))
            .collect()
    }

    /// The mean reward of single responses, `E_μ̄[R]`, as a threshold.
    pub fn threshold(&self) -> Threshold {
        let shown = self.shown();
        Threshold::mean(shown.iter().map(|&(_, reward, part)| (reward, part)))
    }

    /// KTO's pull at each arm, `κ_a = μ̄_a (2q_a − 1)`, q the share of its responses whose own reward
    /// exceeds the threshold.
    pub fn pulls(&self, threshold: Threshold) -> Vec<f64> {
        let mut pulls = vec![0.0; self.reward.len()];
        for (arm, reward, part) in self.shown() {
            pulls[arm as usize] += if threshold.exceeded_by(reward) {
                part
            } else {
                -part
            };
        }
        pulls
    }

    /// The arms that no single response shows.
    pub fn unseen(&self) -> Vec<usize> {
        (0..self.responses.len())
            .filter(|&a| self.responses[a] == 0.0)
            .collect()
    }
}

/// Threshold on the reward of a response: strictly above it, the response counts as desirable (thumb up).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The number.
    pub at: f64,
    /// Rounding of the number: a reward that is nearer ties with it.
    pub slack: f64,
}

impl Threshold {
    /// A given number.
    pub fn given(at: f64) -> Self {
        Self { at, slack: 0.0 }
    }

    /// The mean of weighted rewards, which is right to 1e-12 of the largest in size: a mean that should
    /// be one of them need not come out as it.
    fn mean(rewards: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let largest = rewards.clone().fold(0.0, |m: f64, (r, _)| m.max(r.abs()));
        Self {
            at: mean(rewards),
            slack: 1e-12 * largest,
        }
    }

    /// True if a reward exceeds it, strictly and by more than rounding.
    pub fn exceeded_by(self, reward: f64) -> bool {
        reward - self.at > self.slack
    }
}

/// The mean of weighted numbers, taken about the first: that of equal numbers is exact.
fn mean(mut numbers: impl Iterator<Item = (f64, f64)>) -> f64 {
    let Some((first, part)) = numbers.next() else {
        return 0.0;
    };
    let (sum, mass) = numbers.fold((0.0, part), |(sum, mass), (x, part)| {
        (sum + part * (x - first), mass + part)
    });
    first + sum / mass
}

#[cfg(test)]
mod tests {
    use super::{Evidence, InputKind, mean};
    use crate::bandit::{Shape, random_problem};

    /// Lists are the problem's own rankings, each of the whole weight.
    #[test]
    fn a_population_has_its_rankings() {
        let shape = Shape {
            prompts: 2,
            arms: 3,
            beta: 1.0,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 1).unwrap();
        let none = problem.map_prompts(|_, prompt| prompt.ranking = None);
        assert!(Evidence::population(&none).of(InputKind::Lists).is_err());
        let rankings = [vec![1, 0, 2], vec![2, 0, 1]];
        let problem = problem.map_prompts(|x, prompt| prompt.ranking = Some(rankings[x].clone()));
        let evidence = Evidence::population(&problem);
        let view = evidence.of(InputKind::Lists).unwrap();
        for (share, ranking) in view.prompts.iter().zip(rankings) {
            assert_eq!(share.lists, [(ranking, 1.0)]);
        }
    }

    /// Masses need not sum to one; equal numbers have no rounding.
    #[test]
    fn a_mean_is_one_of_masses() {
        let of = |numbers: &[(f64, f64)]| mean(numbers.iter().copied());
        assert_eq!(of(&[(1.0, 0.25), (3.0, 0.125), (4.0, 0.125)]), 2.25);
        assert_eq!(of(&[(0.1, 0.3), (0.1, 0.3), (0.1, 0.3)]), 0.1);
        assert_eq!(of(&[]), 0.0);
    }
}
