//! The views of logged data: what each kind of objective reads out of the records.

use std::collections::BTreeMap;

use super::comparisons::{labelled, merge};
use super::{Comparisons, Edge, Evidence, Lacks, PromptEvidence, View};
use crate::backend::nd::sigmoid;
use crate::bandit::dataset::{Dataset, Record};
use crate::bandit::problem::{Problem, Prompt};

/// Pairs of one prompt being counted.
#[derive(Default)]
struct Pairs {
    edges: Vec<Edge>,
    differences: BTreeMap<(u32, u32), f64>,
    /// Whether some came with the rewards seen.
    scored: bool,
    /// Whether some came with a label, or with rewards that stand for one.
    labelled: bool,
    examples: f64,
}

/// A pair of responses: arms, the gap of their rewards, the label.
#[derive(Clone, Copy)]
struct Pair {
    arms: [u32; 2],
    gap: f64,
    label: Option<f64>,
}

impl Pairs {
    fn add(&mut self, pair: Pair, weight: f64, reward: &[f64]) {
        let [y, z] = pair.arms;
        self.edges.push(labelled(y, z, weight, pair.label, reward));
        let (edge, gap) = if y <= z {
            ((y, z), pair.gap)
        } else {
            ((z, y), -pair.gap)
        };
        *self.differences.entry(edge).or_default() += weight * gap;
        self.labelled |= pair.label.is_some();
    }

    fn share(self, prompt: &Prompt, total: f64) -> PromptEvidence {
        let pairs: f64 = self.edges.iter().map(Edge::weight).sum();
        let mut edges = merge(self.edges.into_iter());
        let differences = self.scored.then(|| {
            let sums = self.differences.values();
            sums.zip(&edges).map(|(sum, e)| sum / e.weight()).collect()
        });
        for e in &mut edges {
            e.wins /= pairs;
            e.losses /= pairs;
        }
        PromptEvidence {
            mass: ratio(self.examples, total),
            comparisons: (pairs > 0.0).then_some(Comparisons::Listed {
                edges,
                bradley_terry: !self.labelled,
            }),
            differences,
            reward: prompt.reward.clone(),
            ..PromptEvidence::default()
        }
    }
}

/// Single responses of one prompt being counted, by arm and reward.
#[derive(Default)]
struct Responses {
    counts: BTreeMap<(u32, u64), (f64, f64)>,
    examples: f64,
}

impl Responses {
    fn add(&mut self, arm: u32, reward: f64) {
        // One key for 0 and −0.
        let reward = reward + 0.0;
        let (_, count) = (self.counts.entry((arm, reward.to_bits()))).or_insert((reward, 0.0));
        *count += 1.0;
        self.examples += 1.0;
    }

    fn share(self, prompt: &Prompt, total: f64) -> PromptEvidence {
        let mut responses = vec![0.0; prompt.arms()];
        let mut sums: Vec<Option<(f64, f64, f64)>> = vec![None; prompt.arms()];
        let mut seen = Vec::with_capacity(self.counts.len());
        for ((arm, _), (reward, count)) in self.counts {
            let a = arm as usize;
            responses[a] += 2.0 * count / self.examples;
            // About the first, so that the mean of equal rewards is exact.
            let (first, sum, n) = sums[a].get_or_insert((reward, 0.0, 0.0));
            *sum += count * (reward - *first);
            *n += count;
            seen.push((arm, reward, count / self.examples));
        }
        let reward = (sums.iter().zip(&prompt.reward))
            .map(|(sum, &given)| sum.map_or(given, |(first, sum, n)| first + sum / n))
            .collect();
        PromptEvidence {
            mass: ratio(self.examples, total),
            responses,
            reward,
            seen: Some(seen),
            ..PromptEvidence::default()
        }
    }
}

/// All that is logged of one prompt.
#[derive(Default)]
struct Log {
    pairs: Pairs,
    groups: Pairs,
    responses: Responses,
    lists: BTreeMap<Vec<u32>, f64>,
    rankings: f64,
}

impl Evidence {
    /// The empirical mean over a dataset. Which examples a record makes:
    ///
    /// | record | pairs | groups | single and rated responses | lists |
    /// |---|---|---|---|---|
    /// | pair | one | one of two | two | none |
    /// | single response | none | none | one | none |
    /// | ranking | all its pairs | one of all | all its responses | one |
    ///
    /// A response without a reward has the problem's; a pair without a label the Bradley–Terry
    /// probabilities of the rewards seen with it, or else of the problem's. In a ranking the later
    /// arm wins. The mean over all groups of the same responses is that over all their pairs, for
    /// every registered objective of groups: a group of k counts as its k(k−1)/2 pairs, of weight one
    /// together.
    pub fn from_dataset(problem: &Problem, dataset: &Dataset) -> Self {
        let mut logs: Vec<Log> = (problem.prompts().iter()).map(|_| Log::default()).collect();
        let mut lacks = Lacks::default();
        for record in dataset.records() {
            let x = record.prompt();
            let (log, prompt) = (&mut logs[x], &problem.prompts()[x]);
            let reward = &prompt.reward;
            if !prompt.knows_rewards() {
                let unscored = matches!(record, Record::Pair { .. } | Record::Ranking { .. });
                let unlabelled = matches!(record, Record::Pair { label: None, .. });
                (lacks.reward) = lacks.reward.or(unscored.then_some(x));
                (lacks.label) = lacks.label.or(unlabelled.then_some(x));
            }
            match record {
                &Record::Pair {
                    first,
                    second,
                    label,
                    ..
                } => {
                    let [r, s] = [first, second].map(|arm| reward[arm as usize]);
                    log.pair([first, second], [r, s], label, reward);
                }
                &Record::Scored {
                    first,
                    second,
                    rewards,
                    label,
                    ..
                } => {
                    let label = label.unwrap_or_else(|| sigmoid(rewards[0] - rewards[1]));
                    log.pair([first, second], rewards, Some(label), reward);
                    (log.pairs.scored, log.groups.scored) = (true, true);
                }
                &Record::Single { arm, reward, .. } => log.responses.add(arm, reward),
                Record::Ranking { ranking, .. } => log.ranking(ranking, reward),
            }
        }
        let total = |of: &dyn Fn(&Log) -> f64| logs.iter().map(of).sum::<f64>();
        let (pairs, groups) = (
            total(&|log| log.pairs.examples),
            total(&|log| log.groups.examples),
        );
        let (responses, lists) = (
            total(&|log| log.responses.examples),
            total(&|log| log.rankings),
        );
        let mut evidence = Self {
            pairs: View::default(),
            groups: View::default(),
            responses: View::default(),
            lists: View::default(),
            lacks,
            logged: true,
        };
        for (log, prompt) in logs.into_iter().zip(problem.prompts()) {
            let Evidence {
                pairs: p,
                groups: g,
                responses: r,
                lists: l,
                ..
            } = &mut evidence;
            p.prompts.push(log.pairs.share(prompt, pairs));
            g.prompts.push(log.groups.share(prompt, groups));
            r.prompts.push(log.responses.share(prompt, responses));
            l.prompts.push(PromptEvidence {
                mass: ratio(log.rankings, lists),
                lists: (log.lists.into_iter())
                    .map(|(list, n)| (list, n / log.rankings))
                    .collect(),
                ..PromptEvidence::default()
            });
        }
        evidence
    }
}

impl Log {
    fn pair(&mut self, arms: [u32; 2], rewards: [f64; 2], label: Option<f64>, reward: &[f64]) {
        let gap = rewards[0] - rewards[1];
        let pair = Pair { arms, gap, label };
        for pairs in [&mut self.pairs, &mut self.groups] {
            pairs.add(pair, 1.0, reward);
            pairs.examples += 1.0;
        }
        for (arm, reward) in arms.into_iter().zip(rewards) {
            self.responses.add(arm, reward);
        }
    }

    fn ranking(&mut self, ranking: &[u32], reward: &[f64]) {
        let len = ranking.len() as f64;
        for (i, &worse) in ranking.iter().enumerate() {
            self.responses.add(worse, reward[worse as usize]);
            for &better in &ranking[i + 1..] {
                let pair = Pair {
                    arms: [better, worse],
                    gap: reward[better as usize] - reward[worse as usize],
                    label: Some(1.0),
                };
                self.pairs.add(pair, 1.0, reward);
                self.pairs.examples += 1.0;
                self.groups.add(pair, 2.0 / (len * (len - 1.0)), reward);
            }
        }
        self.groups.examples += 1.0;
        *self.lists.entry(ranking.to_vec()).or_default() += 1.0;
        self.rankings += 1.0;
    }
}

/// A share of a total; of nothing, 0.
fn ratio(part: f64, total: f64) -> f64 {
    if total > 0.0 { part / total } else { 0.0 }
}
