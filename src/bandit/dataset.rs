//! Logged data: drawn from a problem, or read from JSON lines.

use std::io::{BufRead, Write};

use ndarray_rand::rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::backend::nd::sigmoid;
use crate::error::{Error, Result};
use crate::file;
use crate::magnitude::{MAGNITUDE, in_range};
use crate::random::{Categorical, Purpose, Stream, Urn};
use crate::text::exact;

/// Most pairs that the rankings of a dataset may count as: a ranked list is all its pairs, whose number
/// grows with the square of its length.
pub const RANKED_PAIRS_CAP: u64 = 10_000_000;

/// One logged example. Arms are indices among the arms the reference allows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Record {
    /// Two responses; the label is the probability (usually 0 or 1) that `first` is preferred.
    Pair {
        /// Index of the prompt.
        prompt: usize,
        /// y.
        first: u32,
        /// y′.
        second: u32,
        /// P(y ≻ y′), if labelled.
        label: Option<f64>,
    },
    /// Two responses with the rewards that were seen for them, and maybe a label.
    Scored {
        /// Index of the prompt.
        prompt: usize,
        /// y.
        first: u32,
        /// y′.
        second: u32,
        /// The rewards seen for y and y′.
        rewards: [f64; 2],
        /// P(y ≻ y′), if labelled.
        label: Option<f64>,
    },
    /// One response and its reward.
    Single {
        /// Index of the prompt.
        prompt: usize,
        /// y.
        arm: u32,
        /// The reward that was seen.
        reward: f64,
    },
    /// Responses from worst to best.
    Ranking {
        /// Index of the prompt.
        prompt: usize,
        /// Distinct arms, the worst first.
        ranking: Vec<u32>,
    },
}

impl Record {
    /// Index of the prompt.
    pub fn prompt(&self) -> usize {
        match self {
            Self::Pair { prompt, .. }
            | Self::Scored { prompt, .. }
            | Self::Single { prompt, .. }
            | Self::Ranking { prompt, .. } => *prompt,
        }
    }
}

/// One line of a file. Arms are indices of the problem file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewards: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reward: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranking: Option<Vec<usize>>,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "label must be true, false, or the probability that `first` is preferred"
)]
enum Label {
    Preferred(bool),
    Probability(f64),
}

/// Logged examples for one problem.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    records: Vec<Record>,
}

impl Dataset {
    /// The examples, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// `n` unlabelled pairs: x ~ ρ, (y, y′) from the prompt's law.
    pub fn pairs(problem: &Problem, n: usize, seed: u64, index: u64) -> Self {
        let laws = PairSampler::new(problem);
        let mut stream = Stream::new(seed, Purpose::Responses, index);
        let records = (0..n).map(|_| laws.draw(&mut stream)).collect();
        Self { records }
    }

    /// `n` pairs labelled once by the Bradley–Terry model, `P(y ≻ y′) = σ(R(y) − R(y′))`. The
    /// pairs are those of [`pairs`](Self::pairs).
    pub fn preferences(problem: &Problem, n: usize, seed: u64, index: u64) -> Self {
        let mut data = Self::pairs(problem, n, seed, index);
        let mut stream = Stream::new(seed, Purpose::Labels, index);
        for record in &mut data.records {
            if let Record::Pair {
                prompt,
                first,
                second,
                label,
            } = record
            {
                let reward = &problem.prompts()[*prompt].reward;
                let p = sigmoid(reward[*first as usize] - reward[*second as usize]);
                *label = Some(f64::from(u8::from(stream.uniform() < p)));
            }
        }
        data
    }

    /// `n` pairs whose rewards are seen with noise, `r = R + noise·z`, z standard normal and
    /// independent from response to response, and labelled once by the Bradley–Terry model of the
    /// rewards seen. The pairs are those of [`pairs`](Self::pairs), and without noise the labels are
    /// those of [`preferences`](Self::preferences).
    ///
    /// # Errors
    /// A noise (a standard deviation) that is negative or not finite.
    pub fn scored(problem: &Problem, n: usize, noise: f64, seed: u64, index: u64) -> Result<Self> {
        if !(0.0..=MAGNITUDE).contains(&noise) {
            return Err(Error::invalid(
                "noise",
                format!("{} is no standard deviation", exact(noise)),
                "give a number from 0 to 1e100",
            ));
        }
        let mut data = Self::pairs(problem, n, seed, index);
        let mut labels = Stream::new(seed, Purpose::Labels, index);
        let mut errors = Stream::new(seed, Purpose::Noise, index);
        for record in &mut data.records {
            if let &mut Record::Pair {
                prompt,
                first,
                second,
                ..
            } = record
            {
                let reward = &problem.prompts()[prompt].reward;
                let rewards = [first, second].map(|a| {
                    let z: f64 = StandardNormal.sample(errors.rng());
                    reward[a as usize] + noise * z
                });
                let p = sigmoid(rewards[0] - rewards[1]);
                *record = Record::Scored {
                    prompt,
                    first,
                    second,
                    rewards,
                    label: Some(f64::from(u8::from(labels.uniform() < p))),
                };
            }
        }
        Ok(data)
    }

    /// `n` single responses with their rewards: x ~ ρ, y ~ (μ₁ + μ₂)/2.
    pub fn singles(problem: &Problem, n: usize, seed: u64, index: u64) -> Self {
        let laws = SingleSampler::new(problem);
        let mut stream = Stream::new(seed, Purpose::Responses, index);
        let records = (0..n)
            .map(|_| {
                let (prompt, arm) = laws.draw(&mut stream);
                let reward = problem.prompts()[prompt].reward[arm as usize];
                Record::Single {
                    prompt,
                    arm,
                    reward,
                }
            })
            .collect();
        Self { records }
    }

    /// `n` ranked lists of up to `length` distinct arms drawn from (μ₁ + μ₂)/2 without
    /// replacement, ordered by the Plackett–Luce model of the rewards.
    ///
    /// # Errors
    /// A prompt whose laws show fewer than two arms, which cannot be ranked.
    pub fn rankings(
        problem: &Problem,
        n: usize,
        length: usize,
        seed: u64,
        index: u64,
    ) -> Result<Self> {
        let laws = SingleSampler::new(problem);
        for (x, (prompt, law)) in problem.prompts().iter().zip(&laws.laws).enumerate() {
            if prompt.weight > 0.0 && law.iter().filter(|&&p| p > 0.0).count() < 2 {
                return Err(Error::invalid(
                    format!("prompts[{x}]"),
                    "its laws show fewer than two arms, which cannot be ranked",
                    "give the laws two or more arms, or draw another kind of data",
                ));
            }
        }
        let mut responses = Stream::new(seed, Purpose::Responses, index);
        let mut labels = Stream::new(seed, Purpose::Labels, index);
        let mut urns: Vec<Urn> = laws.laws.iter().map(|law| Urn::new(law)).collect();
        let records = (0..n)
            .map(|_| {
                let prompt = laws.prompts.draw(&mut responses);
                let reward = &problem.prompts()[prompt].reward;
                let urn = &mut urns[prompt];
                let arms: Vec<u32> = std::iter::from_fn(|| urn.draw(&mut responses))
                    .take(length)
                    .map(|arm| arm as u32)
                    .collect();
                urn.refill();
                // Plackett–Luce: sort by reward plus standard Gumbel noise.
                let mut keyed: Vec<(f64, u32)> = (arms.iter())
                    .map(|&a| {
                        let uniform = labels.uniform().max(f64::MIN_POSITIVE);
                        (reward[a as usize] - (-uniform.ln()).ln(), a)
                    })
                    .collect();
                keyed.sort_by(|x, y| x.0.total_cmp(&y.0));
                let ranking = keyed.into_iter().map(|(_, a)| a).collect();
                Record::Ranking { prompt, ranking }
            })
            .collect();
        Ok(Self { records })
    }

    /// Reads JSON lines: `{"prompt": 0, "first": 2, "second": 0, "label": true}` (label optional:
    /// a boolean or the probability that `first` is preferred), the same with `"rewards": [1.0,
    /// 2.5]` as they were seen, `{"prompt": 0, "arm": 1,
    /// "reward": 2.0}` or `{"prompt": 0, "ranking": [2, 1, 0]}` (worst first). Empty lines are
    /// skipped.
    ///
    /// # Errors
    /// A line that is none of these, or names a prompt or an arm that the problem lacks, or an arm
    /// the reference excludes; the message names file and line. A file without examples, or with
    /// rankings of more than [`RANKED_PAIRS_CAP`] pairs.
    pub fn read(reader: impl BufRead, origin: &str, problem: &Problem) -> Result<Self> {
        let (mut records, mut pairs) = (Vec::new(), 0);
        for line in file::lines(reader, origin) {
            let (place, line) = line?;
            let parsed: Line = file::json::line(&line, &place, SHAPES)?;
            let record = parsed.check(&place, problem)?;
            if let Record::Ranking { ranking, .. } = &record {
                let n = ranking.len() as u64;
                pairs += n * (n - 1) / 2;
                if pairs > RANKED_PAIRS_CAP {
                    return Err(Error::invalid(
                        format!("{place}: ranking"),
                        format!(
                            "the rankings up to here count as {pairs} pairs, and at most \
                             {RANKED_PAIRS_CAP} are taken"
                        ),
                        "give fewer or shorter rankings: one of n arms counts as n(n − 1)/2 pairs",
                    ));
                }
            }
            records.push(record);
        }
        if records.is_empty() {
            return Err(Error::invalid(origin, "it holds no example", SHAPES));
        }
        Ok(Self { records })
    }

    /// Writes what [`read`](Self::read) reads.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn write(&self, mut to: impl Write, problem: &Problem) -> std::io::Result<()> {
        for record in &self.records {
            let prompt = record.prompt();
            let arm = |a: &u32| problem.prompts()[prompt].kept()[*a as usize];
            let mut line = Line {
                prompt,
                first: None,
                second: None,
                rewards: None,
                label: None,
                arm: None,
                reward: None,
                ranking: None,
            };
            match record {
                Record::Pair {
                    first,
                    second,
                    label,
                    ..
                } => {
                    (line.first, line.second) = (Some(arm(first)), Some(arm(second)));
                    line.label = label.map(Label::Probability);
                }
                Record::Scored {
                    first,
                    second,
                    rewards,
                    label,
                    ..
                } => {
                    (line.first, line.second) = (Some(arm(first)), Some(arm(second)));
                    line.rewards = Some(*rewards);
                    line.label = label.map(Label::Probability);
                }
                Record::Single { arm: a, reward, .. } => {
                    (line.arm, line.reward) = (Some(arm(a)), Some(*reward));
                }
                Record::Ranking { ranking, .. } => {
                    line.ranking = Some(ranking.iter().map(arm).collect());
                }
            }
            serde_json::to_writer(&mut to, &line)?;
            to.write_all(b"\n")?;
        }
        Ok(())
    }
}

const SHAPES: &str = "give {\"prompt\": 0, \"first\": 2, \"second\": 0} with an optional \"label\" \
                      and optional \"rewards\" [1.0, 2.5], \
                      {\"prompt\": 0, \"arm\": 1, \"reward\": 2.0}, or {\"prompt\": 0, \"ranking\": [2, 1, 0]}";

impl Line {
    fn check(self, place: &str, problem: &Problem) -> Result<Record> {
        let Some(prompt) = problem.prompts().get(self.prompt) else {
            return Err(Error::invalid(
                format!("{place}: prompt"),
                format!("there is no prompt {}", self.prompt),
                format!(
                    "the problem has prompts 0 to {}",
                    problem.prompts().len() - 1
                ),
            ));
        };
        let arm = |field: &str, given: usize| match prompt.position(given) {
            Some(kept) => Ok(kept as u32),
            None if given < prompt.given_arms() => Err(Error::invalid(
                format!("{place}: {field}"),
                format!("arm {given} has reference probability 0"),
                "its log-ratio would be infinite: give it a reference probability, or drop the line",
            )),
            None => Err(Error::invalid(
                format!("{place}: {field}"),
                format!("there is no arm {given}"),
                format!(
                    "prompt {} has arms 0 to {}",
                    self.prompt,
                    prompt.given_arms() - 1
                ),
            )),
        };
        match self {
            Self {
                prompt,
                first: Some(first),
                second: Some(second),
                rewards,
                label,
                arm: None,
                reward: None,
                ranking: None,
            } => {
                let (first, second) = (arm("first", first)?, arm("second", second)?);
                let label = match label {
                    None => None,
                    Some(Label::Preferred(first)) => Some(f64::from(u8::from(first))),
                    Some(Label::Probability(p)) if (0.0..=1.0).contains(&p) => Some(p),
                    Some(Label::Probability(p)) => {
                        return Err(Error::invalid(
                            format!("{place}: label"),
                            format!("{} is not a probability", exact(p)),
                            "give true, false, or the probability that `first` is preferred",
                        ));
                    }
                };
                let Some(rewards) = rewards else {
                    return Ok(Record::Pair {
                        prompt,
                        first,
                        second,
                        label,
                    });
                };
                for reward in rewards {
                    in_range(format_args!("{place}: rewards"), reward)?;
                }
                Ok(Record::Scored {
                    prompt,
                    first,
                    second,
                    rewards,
                    label,
                })
            }
            Self {
                prompt,
                first: None,
                second: None,
                rewards: None,
                label: None,
                arm: Some(index),
                reward: Some(reward),
                ranking: None,
            } => {
                in_range(format_args!("{place}: reward"), reward)?;
                Ok(Record::Single {
                    prompt,
                    arm: arm("arm", index)?,
                    reward,
                })
            }
            Self {
                prompt,
                first: None,
                second: None,
                rewards: None,
                label: None,
                arm: None,
                reward: None,
                ranking: Some(ranking),
            } => {
                let ranking = (ranking.iter())
                    .map(|&a| arm("ranking", a))
                    .collect::<Result<Vec<_>>>()?;
                let distinct: std::collections::BTreeSet<_> = ranking.iter().collect();
                let wrong = match ranking.len() {
                    0 | 1 => Some("it has fewer than two arms"),
                    n if n > distinct.len() => Some("it repeats an arm"),
                    _ => None,
                };
                if let Some(wrong) = wrong {
                    let remedy = "list two or more distinct arms, the worst first";
                    return Err(Error::invalid(format!("{place}: ranking"), wrong, remedy));
                }
                Ok(Record::Ranking { prompt, ranking })
            }
            _ => Err(Error::invalid(
                place,
                "the fields do not make one example",
                SHAPES,
            )),
        }
    }
}

/// Draws prompts and pairs of responses.
pub(crate) struct PairSampler {
    prompts: Categorical,
    laws: Vec<PairDraw>,
}

enum PairDraw {
    Product(Categorical, Categorical),
    Joint(Categorical, Vec<(u32, u32)>),
}

impl PairSampler {
    pub(crate) fn new(problem: &Problem) -> Self {
        use super::law::PairLaw;
        let laws = (problem.prompts().iter())
            .map(|prompt| match &prompt.law {
                PairLaw::Product { first, second } => {
                    PairDraw::Product(Categorical::new(first), Categorical::new(second))
                }
                PairLaw::Joint { entries, .. } => {
                    let mass: Vec<f64> = entries.iter().map(|e| e.2).collect();
                    let pairs = entries.iter().map(|e| (e.0, e.1)).collect();
                    PairDraw::Joint(Categorical::new(&mass), pairs)
                }
            })
            .collect();
        Self {
            prompts: prompt_law(problem),
            laws,
        }
    }

    pub(crate) fn draw(&self, stream: &mut Stream) -> Record {
        let prompt = self.prompts.draw(stream);
        let (first, second) = match &self.laws[prompt] {
            PairDraw::Product(first, second) => {
                (first.draw(stream) as u32, second.draw(stream) as u32)
            }
            PairDraw::Joint(law, pairs) => pairs[law.draw(stream)],
        };
        Record::Pair {
            prompt,
            first,
            second,
            label: None,
        }
    }
}

struct SingleSampler {
    prompts: Categorical,
    laws: Vec<Vec<f64>>,
    draws: Vec<Categorical>,
}

impl SingleSampler {
    fn new(problem: &Problem) -> Self {
        let laws: Vec<Vec<f64>> = (problem.prompts().iter())
            .map(|prompt| {
                let (first, second) = prompt.law.marginals();
                first
                    .iter()
                    .zip(&second)
                    .map(|(p, q)| (p + q) / 2.0)
                    .collect()
            })
            .collect();
        Self {
            prompts: prompt_law(problem),
            draws: laws.iter().map(|law| Categorical::new(law)).collect(),
            laws,
        }
    }

    fn draw(&self, stream: &mut Stream) -> (usize, u32) {
        let prompt = self.prompts.draw(stream);
        (prompt, self.draws[prompt].draw(stream) as u32)
    }
}

fn prompt_law(problem: &Problem) -> Categorical {
    let weights: Vec<f64> = problem.prompts().iter().map(|p| p.weight).collect();
    Categorical::new(&weights)
}
