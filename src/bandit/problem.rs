//! A validated contextual bandit.

use std::ops::Deref;

use super::law::PairLaw;
use super::policy::Policy;
use crate::error::{Error, Result};
use crate::loss::Given;
use crate::magnitude::{MAGNITUDE, in_range};
use crate::text::exact;

/// How far from one a distribution may sum and still be renormalised.
const SUM_TOLERANCE: f64 = 1e-9;

/// A temperature: positive and finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beta(f64);

impl Beta {
    /// Checks it.
    ///
    /// # Errors
    /// Zero, negative, infinite or NaN.
    pub fn new(place: &str, beta: f64) -> Result<Self> {
        if (1.0 / MAGNITUDE..=MAGNITUDE).contains(&beta) {
            Ok(Self(beta))
        } else {
            Err(Error::invalid(
                place,
                format!("the temperature is {}", exact(beta)),
                "give a number greater than 0 (from 1e-100 to 1e100)",
            ))
        }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A probability distribution, renormalised to sum to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Simplex(Vec<f64>);

impl Simplex {
    /// Checks and renormalises `p`.
    ///
    /// # Errors
    /// Empty, a negative, infinite or NaN entry, or a sum further than 1e-9 from one.
    pub fn new(place: &str, mut p: Vec<f64>) -> Result<Self> {
        if p.is_empty() {
            return Err(Error::invalid(
                place,
                "it is empty",
                "give at least one number",
            ));
        }
        if let Some(i) = p.iter().position(|&v| !(v.is_finite() && v >= 0.0)) {
            return Err(Error::invalid(
                format!("{place}[{i}]"),
                format!("{} is not a probability", exact(p[i])),
                "give a number between 0 and 1",
            ));
        }
        let sum: f64 = p.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(Error::invalid(
                place,
                format!("the probabilities sum to {}", exact(sum)),
                "they must sum to 1 within 1e-9",
            ));
        }
        p.iter_mut().for_each(|v| *v /= sum);
        Ok(Self(p))
    }

    /// The uniform distribution over `n` outcomes.
    pub fn uniform(n: usize) -> Self {
        Self(vec![1.0 / n as f64; n])
    }

    /// The probabilities.
    pub fn into_inner(self) -> Vec<f64> {
        self.0
    }
}

impl Deref for Simplex {
    type Target = [f64];
    fn deref(&self) -> &[f64] {
        &self.0
    }
}

/// One prompt, without the arms its reference excludes (all vectors run over the arms kept).
#[derive(Debug, Clone)]
pub struct Prompt {
    /// ρ(x).
    pub weight: f64,
    /// R(x, ·); NaN where the problem does not give it.
    pub reward: Vec<f64>,
    /// ln π_ref(·|x), all finite.
    pub log_reference: Vec<f64>,
    /// Distribution that pairs of responses are drawn from.
    pub law: PairLaw,
    /// The given V(x), for DRO with a fixed value.
    pub value: Option<f64>,
    /// The given ranking for COPR: kept arms from worst to best, not necessarily all.
    pub ranking: Option<Vec<u32>>,
    /// The given π_φ(·|x) under which an advantage has mean zero; the reference where none is.
    pub centre: Option<Vec<f64>>,
    kept: Vec<usize>,
    given: usize,
}

impl Prompt {
    /// A prompt from checked parts; `law` and `reward` still run over all arms.
    ///
    /// # Errors
    /// Lengths that differ, a reward that is not finite, or a law with mass where the reference
    /// has none.
    pub fn new(
        place: &str,
        weight: f64,
        reward: &[f64],
        reference: &Simplex,
        law: &PairLaw,
    ) -> Result<Self> {
        Self::with_rewards(place, weight, Some(reward), reference, law)
    }

    /// As [`new`](Self::new); rewards may be unknown.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn with_rewards(
        place: &str,
        weight: f64,
        reward: Option<&[f64]>,
        reference: &Simplex,
        law: &PairLaw,
    ) -> Result<Self> {
        let given = reward.map_or(reference.len(), <[f64]>::len);
        let arms = |what: &str, n: usize| {
            if n == given {
                return Ok(());
            }
            let of = if reward.is_some() {
                "reward"
            } else {
                "reference"
            };
            Err(Error::invalid(
                format!("{place}.{what}"),
                format!("it has {n} arms and {of} has {given}"),
                "give every arm one reward and one probability",
            ))
        };
        arms("reference", reference.len())?;
        arms(law.field(), law.arms())?;
        for (i, &r) in reward.unwrap_or_default().iter().enumerate() {
            in_range(format_args!("{place}.reward[{i}]"), r)?;
        }
        let kept: Vec<usize> = (0..given).filter(|&a| reference[a] > 0.0).collect();
        let mut position = vec![None; given];
        for (new, &old) in kept.iter().enumerate() {
            position[old] = Some(new as u32);
        }
        let field = law.field();
        let law = law.restrict(&position).map_err(|arm| {
            Error::invalid(
                format!("{place}.{field}"),
                format!("arm {arm} has mass and its reference probability is 0"),
                "the log-ratio would be infinite: give the arm a reference probability, or take \
                 it out of the behaviour law",
            )
        })?;
        Ok(Self {
            weight,
            reward: (kept.iter())
                .map(|&a| reward.map_or(f64::NAN, |reward| reward[a]))
                .collect(),
            log_reference: kept.iter().map(|&a| reference[a].ln()).collect(),
            law,
            value: None,
            ranking: None,
            centre: None,
            kept,
            given,
        })
    }

    /// The law under which an advantage has mean zero.
    pub fn centre(&self) -> Vec<f64> {
        (self.centre.clone())
            .unwrap_or_else(|| self.log_reference.iter().map(|l| l.exp()).collect())
    }

    /// True if the problem gives every reward.
    pub fn knows_rewards(&self) -> bool {
        self.reward.iter().all(|r| !r.is_nan())
    }

    /// Number of arms that the reference allows.
    pub fn arms(&self) -> usize {
        self.kept.len()
    }

    /// Number of arms in the file, excluded ones included.
    pub fn given_arms(&self) -> usize {
        self.given
    }

    /// Index among the kept arms of arm `given` of the file; none if the reference excludes it.
    pub fn position(&self, given: usize) -> Option<usize> {
        self.kept.binary_search(&given).ok()
    }

    /// The index in the file of each kept arm.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Numbers per kept arm, with `fill` at the excluded ones.
    pub fn restore(&self, values: &[f64], fill: f64) -> Vec<f64> {
        let mut all = vec![fill; self.given];
        for (&at, &value) in self.kept.iter().zip(values) {
            all[at] = value;
        }
        all
    }
}

/// A contextual bandit: prompts with weights, arms with rewards, a reference, behaviour laws, β.
#[derive(Debug, Clone)]
pub struct Problem {
    beta: Beta,
    /// The margin m of the Advantage Model, greater than 0.
    margin: Option<f64>,
    /// Numbers of losses that were given besides.
    numbers: Given,
    prompts: Vec<Prompt>,
}

impl Problem {
    /// A problem of checked prompts, whose weights are renormalised.
    ///
    /// # Errors
    /// No prompt, or weights that are not a distribution.
    pub fn new(beta: Beta, mut prompts: Vec<Prompt>) -> Result<Self> {
        if prompts.is_empty() {
            return Err(Error::invalid(
                "prompts",
                "it is empty",
                "give at least one prompt",
            ));
        }
        let weights = prompts.iter().map(|p| p.weight).collect();
        let weights = Simplex::new("prompts[].weight", weights)?;
        for (prompt, &weight) in prompts.iter_mut().zip(weights.iter()) {
            prompt.weight = weight;
        }
        Ok(Self {
            beta,
            margin: None,
            numbers: Given::new(),
            prompts,
        })
    }

    /// β.
    pub fn beta(&self) -> f64 {
        self.beta.get()
    }

    /// True if the reward of every arm is given; without, nothing is known of the optimum.
    pub fn knows_rewards(&self) -> bool {
        self.prompts.iter().all(Prompt::knows_rewards)
    }

    /// The Advantage Model's margin m, if the problem has one.
    pub fn margin(&self) -> Option<f64> {
        self.margin
    }

    /// The numbers a loss takes besides its inputs: β, the margin, and what was given on top of them.
    pub fn given(&self) -> Given {
        let own = Given::from(self.beta());
        let own = match self.margin {
            Some(margin) => own.with("margin", margin),
            None => own,
        };
        own.over(&self.numbers)
    }

    /// The numbers of losses that were given besides β and the margin.
    pub fn numbers(&self) -> &Given {
        &self.numbers
    }

    /// The same problem with numbers of losses, in place of those of the same names. β stays the problem's.
    #[must_use]
    pub fn with_numbers(&self, numbers: &Given) -> Self {
        Self {
            numbers: self.numbers.clone().over(numbers),
            ..self.clone()
        }
    }

    /// The same problem at another temperature.
    pub fn at(&self, beta: Beta) -> Self {
        Self {
            beta,
            ..self.clone()
        }
    }

    /// The same problem with a margin for the Advantage Model.
    ///
    /// # Errors
    /// A margin that is not positive and finite.
    pub fn with_margin(&self, margin: f64) -> Result<Self> {
        if !(margin > 0.0 && margin <= MAGNITUDE) {
            return Err(Error::invalid(
                "margin",
                format!("it is {}", exact(margin)),
                "give a number greater than 0 (at most 1e100)",
            ));
        }
        Ok(Self {
            margin: Some(margin),
            ..self.clone()
        })
    }

    /// The prompts.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The same problem with prompts changed one by one; their weights and arms must stay.
    #[must_use]
    pub fn map_prompts(&self, mut change: impl FnMut(usize, &mut Prompt)) -> Self {
        let mut problem = self.clone();
        for (x, prompt) in problem.prompts.iter_mut().enumerate() {
            change(x, prompt);
        }
        problem
    }

    /// π_ref.
    pub fn reference(&self) -> Policy {
        Policy::from_log(
            self.prompts
                .iter()
                .map(|p| p.log_reference.clone())
                .collect(),
        )
    }

    /// A table over kept arms as one over all arms of the file.
    pub fn restore(&self, table: &[Vec<f64>], fill: f64) -> Vec<Vec<f64>> {
        (self.prompts.iter().zip(table))
            .map(|(prompt, row)| prompt.restore(row, fill))
            .collect()
    }
}
