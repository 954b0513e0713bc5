//! Datasets as codes of tuples, and minibatches as counts of them.

use std::ops::Range;

use super::Config;
use crate::bandit::{Dataset, Problem, Record};
use crate::random::{Purpose, Stream};

/// (y, y′, whether y is preferred); arms count through all prompts.
pub(super) type Tuple = (u32, u32, bool);

/// How minibatches are evaluated: decided by the problem and the batch size alone, so that results
/// do not depend on how seeds are shared out.
pub(super) struct Tuples {
    /// Index of the first arm of each prompt.
    pub starts: Vec<usize>,
    /// Every possible tuple, when there are few: minibatches are then counts of these.
    pub counted: Option<Vec<Tuple>>,
}

impl Tuples {
    pub(super) fn new(problem: &Problem, batch: usize) -> Self {
        let arms: Vec<usize> = problem.prompts().iter().map(|p| p.arms()).collect();
        let mut starts = vec![0];
        for k in &arms {
            starts.push(starts[starts.len() - 1] + k);
        }
        let possible: usize = arms.iter().map(|k| 2 * k * k).sum();
        let counted = (possible <= batch.max(64)).then(|| {
            let mut tuples = Vec::with_capacity(possible);
            for (&k, &start) in arms.iter().zip(&starts) {
                for pair in 0..k * k {
                    let (y, z) = ((start + pair / k) as u32, (start + pair % k) as u32);
                    tuples.extend([(y, z, false), (y, z, true)]);
                }
            }
            tuples
        });
        Self { starts, counted }
    }

    /// Total number of arms.
    pub(super) fn arms(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }
}

/// One seed's dataset in its current order.
pub(super) struct Data {
    /// Of each example: its tuple's index in [`Tuples::counted`], or in `own`.
    codes: Vec<u32>,
    /// The dataset's own tuples, when they are not counted.
    own: Vec<Tuple>,
    /// Count of each distinct tuple in the current minibatch.
    pub counts: Vec<u32>,
    order: Stream,
}

impl Data {
    pub(super) fn draw(problem: &Problem, tuples: &Tuples, config: &Config, seed: u64) -> Self {
        let dataset = Dataset::preferences(problem, config.samples, config.key, seed);
        let own: Vec<Tuple> = (dataset.records().iter())
            .filter_map(|record| match record {
                &Record::Pair {
                    prompt,
                    first,
                    second,
                    label,
                } => {
                    let start = tuples.starts[prompt] as u32;
                    Some((start + first, start + second, label == Some(1.0)))
                }
                _ => None,
            })
            .collect();
        let order = Stream::new(config.key, Purpose::Order, seed);
        match &tuples.counted {
            Some(all) => {
                let index = |t: &Tuple| all.binary_search(t).unwrap_or_default() as u32;
                Self {
                    codes: own.iter().map(index).collect(),
                    own: Vec::new(),
                    counts: vec![0; all.len()],
                    order,
                }
            }
            None => Self {
                codes: (0..own.len() as u32).collect(),
                own,
                counts: Vec::new(),
                order,
            },
        }
    }

    /// Starts a new epoch.
    pub(super) fn shuffle(&mut self) {
        self.order.shuffle(&mut self.codes);
    }

    /// Counts the tuples of a minibatch, when tuples are counted.
    pub(super) fn count(&mut self, batch: Range<usize>) {
        if self.counts.is_empty() {
            return;
        }
        self.counts.fill(0);
        for &code in &self.codes[batch] {
            self.counts[code as usize] += 1;
        }
    }

    /// The tuples of a minibatch, when they are not counted.
    pub(super) fn listed(&self, batch: Range<usize>) -> impl Iterator<Item = Tuple> {
        self.codes[batch]
            .iter()
            .map(|&code| self.own[code as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Shape, random_problem};
    use crate::loss::Objective;
    use crate::sim::Optimizer;

    #[test]
    fn counting_loses_nothing() {
        let shape = Shape {
            prompts: 2,
            arms: 3,
            beta: 1.0,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 5).unwrap();
        let config = Config {
            objectives: vec![Objective::IPO],
            seeds: 1,
            key: 0,
            samples: 1000,
            batch: 128,
            epochs: 1,
            drop_last: false,
            optimizer: Optimizer::adam(1e-3),
            threads: 1,
        };
        let counted = Tuples::new(&problem, 128);
        let all = counted.counted.clone().unwrap();
        assert_eq!(all.len(), 36);
        assert!(
            all.windows(2).all(|w| w[0] < w[1]),
            "binary search needs order"
        );
        let plain = Tuples {
            starts: counted.starts.clone(),
            counted: None,
        };
        let mut a = Data::draw(&problem, &counted, &config, 3);
        let mut b = Data::draw(&problem, &plain, &config, 3);
        for _ in 0..3 {
            a.shuffle();
            b.shuffle();
            for start in [0, 128, 896] {
                let batch = start..(start + 128).min(1000);
                a.count(batch.clone());
                let mut want = vec![0; all.len()];
                for t in b.listed(batch) {
                    want[all.iter().position(|u| *u == t).unwrap()] += 1;
                }
                assert_eq!(a.counts, want);
            }
        }
    }
}
