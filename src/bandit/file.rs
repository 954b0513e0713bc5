//! Problem and logits files, in JSON or TOML.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::law::PairLaw;
use super::problem::{Beta, Problem, Prompt, Simplex};
use crate::error::{Error, Result};
use crate::file::{from_toml, json, unmarked};
use crate::magnitude::in_range;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProblemFile {
    beta: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    prompts: Vec<PromptFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reward: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behavior: Option<Vec<Vec<f64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<Vec<Vec<f64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranking: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogitsFile {
    logits: Vec<Vec<f64>>,
}

const PROBLEM_REMEDY: &str = "`pistar problem new` prints a correct file";

impl Problem {
    /// Reads a problem from JSON.
    ///
    /// # Errors
    /// A syntax error, an unknown or missing field, or a value that is not allowed.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::parse(text, "problem")
    }

    /// Reads a problem from JSON (text that starts with `{`) or TOML, naming `origin` in errors.
    ///
    /// # Errors
    /// A syntax error, an unknown or missing field, or a value that is not allowed.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        Self::read(text, origin, false)
    }

    /// Like [`parse`](Self::parse), for a problem that logged data are read for: `reward` and the behaviour laws may
    /// be left out. Without rewards no regret is known, and examples that would take one from the problem are refused
    /// ([`Evidence::of`](super::Evidence::of)); without laws there is no population.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_logged(text: &str, origin: &str) -> Result<Self> {
        Self::read(text, origin, true)
    }

    fn read(text: &str, origin: &str, logged: bool) -> Result<Self> {
        let text = unmarked(text);
        if text.trim().is_empty() {
            return Err(Error::invalid(origin, "it is empty", PROBLEM_REMEDY));
        }
        let file: ProblemFile = if text.trim_start().starts_with('{') {
            json::parse(text, origin, PROBLEM_REMEDY)?
        } else {
            let remedy = format!("a problem is JSON (starting with {{) or TOML; {PROBLEM_REMEDY}");
            from_toml(text, origin, &remedy)?
        };
        file.check(logged).map_err(|e| e.in_file(origin))
    }

    /// The problem as JSON that [`parse`](Self::parse) reads back, laws and references to rounding;
    /// the rewards of excluded arms are lost.
    pub fn to_json(&self) -> String {
        let prompts = (self.prompts().iter())
            .map(|prompt| {
                let all = |values: &[f64]| prompt.restore(values, 0.0);
                let (behavior, pairs) = match &prompt.law {
                    PairLaw::Product { first, second } => {
                        let mut laws = vec![all(first)];
                        if first != second {
                            laws.push(all(second));
                        }
                        (Some(laws), None)
                    }
                    law if !law.is_known() => (None, None),
                    PairLaw::Joint { entries, .. } => {
                        let k = prompt.given_arms();
                        let mut table = vec![vec![0.0; k]; k];
                        for &(y, z, p) in entries {
                            let (y, z) = (prompt.kept()[y as usize], prompt.kept()[z as usize]);
                            table[y][z] = p;
                        }
                        (None, Some(table))
                    }
                };
                let reference: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
                PromptFile {
                    weight: Some(prompt.weight),
                    reward: prompt.knows_rewards().then(|| all(&prompt.reward)),
                    reference: Some(all(&reference)),
                    behavior,
                    pairs,
                    value: prompt.value,
                    ranking: (prompt.ranking.as_ref())
                        .map(|r| r.iter().map(|&a| prompt.kept()[a as usize]).collect()),
                    policy: prompt.centre.as_ref().map(|p| all(p)),
                }
            })
            .collect();
        let file = ProblemFile {
            beta: self.beta(),
            margin: self.margin(),
            prompts,
        };
        serde_json::to_string(&file).expect("numbers and lists always serialise")
    }
}

impl ProblemFile {
    fn check(self, logged: bool) -> Result<Problem> {
        let beta = Beta::new("beta", self.beta)?;
        let given = self.prompts.iter().filter(|p| p.weight.is_some()).count();
        if given != 0 && given != self.prompts.len() {
            return Err(Error::invalid(
                "prompts",
                format!("{given} of {} prompts have a weight", self.prompts.len()),
                "give every prompt a weight, or none (then they weigh the same)",
            ));
        }
        let uniform = 1.0 / self.prompts.len() as f64;
        let prompts = (self.prompts.into_iter().enumerate())
            .map(|(i, prompt)| prompt.check(&format!("prompts[{i}]"), uniform, logged))
            .collect::<Result<_>>()?;
        let problem = Problem::new(beta, prompts)?;
        match self.margin {
            Some(margin) => problem.with_margin(margin),
            None => Ok(problem),
        }
    }
}

impl PromptFile {
    /// Number of arms: of the rewards, or of what else has one number per arm.
    fn arms(&self, place: &str, logged: bool) -> Result<usize> {
        let law = || Some(self.behavior.as_ref()?.first()?.len());
        let table = || self.pairs.as_ref().map(Vec::len);
        let other = || {
            (self.reference.as_ref().map(Vec::len))
                .or_else(law)
                .or_else(table)
        };
        match (
            self.reward.as_ref().map(Vec::len),
            logged.then(other).flatten(),
        ) {
            (Some(k), _) | (None, Some(k)) if k > 0 => Ok(k),
            (Some(_), _) => Err(Error::invalid(
                format!("{place}.reward"),
                "the prompt has no arm",
                "give one reward per arm",
            )),
            (None, _) if logged => Err(Error::invalid(
                place,
                "nothing says how many arms it has",
                "give `reference`, one probability per arm, or `reward`",
            )),
            (None, _) => Err(Error::invalid(
                format!("{place}.reward"),
                "it is missing",
                "give one reward per arm; only `solve --data` does without",
            )),
        }
    }

    fn check(self, place: &str, uniform: f64, logged: bool) -> Result<Prompt> {
        let k = self.arms(place, logged)?;
        let reference = match self.reference {
            Some(p) => Simplex::new(&format!("{place}.reference"), p)?,
            None => Simplex::uniform(k),
        };
        let law = match (self.behavior, self.pairs) {
            (Some(laws), None) if matches!(laws.len(), 1 | 2) => {
                let mut laws = (laws.into_iter().enumerate())
                    .map(|(i, law)| {
                        let place = format!("{place}.behavior[{i}]");
                        if law.len() != k {
                            return Err(Error::invalid(
                                place,
                                format!("it has {} arms and the prompt {k}", law.len()),
                                "give every arm one probability",
                            ));
                        }
                        Simplex::new(&place, law)
                    })
                    .collect::<Result<Vec<_>>>()?;
                let second = laws.pop().expect("one or two laws");
                PairLaw::product(laws.pop().unwrap_or_else(|| second.clone()), second)
            }
            (Some(laws), None) => {
                return Err(Error::invalid(
                    format!("{place}.behavior"),
                    format!("there are {} laws", laws.len()),
                    "give one law (of both responses) or two",
                ));
            }
            (None, Some(table)) => PairLaw::joint(&format!("{place}.pairs"), &table)?,
            (None, None) if logged => PairLaw::unknown(k),
            (None, None) => {
                return Err(Error::invalid(
                    format!("{place}.behavior"),
                    "it is missing",
                    "give one or two behaviour laws, or a joint law of pairs as `pairs`",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    place,
                    "both `behavior` and `pairs` are given",
                    "give one of them",
                ));
            }
        };
        let weight = self.weight.unwrap_or(uniform);
        let reward = self.reward.as_deref();
        let mut prompt = Prompt::with_rewards(place, weight, reward, &reference, &law)?;
        if let Some(v) = self.value {
            in_range(format_args!("{place}.value"), v)?;
        }
        prompt.value = self.value;
        prompt.ranking = (self.ranking)
            .map(|ranking| ranked(&prompt, &format!("{place}.ranking"), &ranking))
            .transpose()?;
        prompt.centre = (self.policy)
            .map(|policy| centre(&prompt, &format!("{place}.policy"), policy))
            .transpose()?;
        Ok(prompt)
    }
}

/// The kept arms that a ranking names.
fn ranked(prompt: &Prompt, place: &str, ranking: &[usize]) -> Result<Vec<u32>> {
    let fail = |problem: String| {
        let remedy = "list distinct arms that the reference allows, from worst to best";
        Err(Error::invalid(place, problem, remedy))
    };
    if ranking.is_empty() {
        return fail("it is empty".into());
    }
    let mut arms = Vec::with_capacity(ranking.len());
    let mut seen = HashSet::with_capacity(ranking.len());
    for &a in ranking {
        if !seen.insert(a) {
            return fail(format!("arm {a} is there twice"));
        }
        match prompt.position(a) {
            Some(kept) => arms.push(kept as u32),
            None if a < prompt.given_arms() => {
                return fail(format!("arm {a} has reference probability 0"));
            }
            None => {
                return fail(format!(
                    "arm {a} does not exist (0 to {})",
                    prompt.given_arms() - 1
                ));
            }
        }
    }
    Ok(arms)
}

/// The kept arms' part of a given policy.
fn centre(prompt: &Prompt, place: &str, policy: Vec<f64>) -> Result<Vec<f64>> {
    let k = prompt.given_arms();
    if policy.len() != k {
        let problem = format!("it has {} arms and reward has {k}", policy.len());
        return Err(Error::invalid(
            place,
            problem,
            "give every arm one probability",
        ));
    }
    let policy = Simplex::new(place, policy)?;
    let kept: Vec<f64> = prompt.kept().iter().map(|&a| policy[a]).collect();
    if (kept.iter().sum::<f64>() - 1.0).abs() > 1e-9 {
        let problem = "it has mass where the reference has none";
        return Err(Error::invalid(
            place,
            problem,
            "give those arms probability 0",
        ));
    }
    Ok(kept)
}

impl Problem {
    /// Reads `{"logits": [[…]]}` for the arms of the problem; entries of excluded arms are dropped.
    ///
    /// # Errors
    /// A syntax error, lists that do not fit the problem, or a number beyond 1e100 in size.
    pub fn parse_logits(&self, text: &str, origin: &str) -> Result<Vec<Vec<f64>>> {
        let remedy = "give {\"logits\": [[…]]} with one list per prompt and one number per arm";
        let file: LogitsFile = json::parse(unmarked(text), origin, remedy)?;
        let fail =
            |place: String, problem: String| Error::invalid(place, problem, remedy).in_file(origin);
        let (rows, prompts) = (file.logits.len(), self.prompts().len());
        if rows != prompts {
            return Err(fail(
                "logits".into(),
                format!("there are {rows} lists and the problem has {prompts} prompts"),
            ));
        }
        (file.logits.iter().zip(self.prompts()).enumerate())
            .map(|(x, (row, prompt))| {
                let (given, arms) = (row.len(), prompt.given_arms());
                if given != arms {
                    return Err(fail(
                        format!("logits[{x}]"),
                        format!("it has {given} numbers and the prompt {arms} arms"),
                    ));
                }
                (prompt.kept().iter())
                    .map(|&a| in_range(format_args!("logits[{x}][{a}]"), row[a]))
                    .collect::<Result<_>>()
                    .map_err(|e| e.in_file(origin))
            })
            .collect()
    }
}
