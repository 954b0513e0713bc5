//! Statistics of completions: means with intervals, and win rates.

use std::collections::BTreeMap;

use serde::Serialize;

use super::entrant::{Completion, Entrant};
use crate::llm::sample::generate::Sampling;
use crate::stats::runs::wins;
use crate::stats::{Bootstrap, Estimate, Mean, clustered, ratio};

/// Statistics of a set of completions. Means are over prompts, each of which weighs the same; intervals take prompts,
/// not completions, as independent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the model or file evaluated.
    pub name: String,
    /// Number of prompts.
    pub prompts: usize,
    /// Number of completions.
    pub completions: usize,
    /// The reward.
    pub reward: Option<Mean>,
    /// Its parts, if it has several.
    pub parts: BTreeMap<String, Mean>,
    /// `E ln π(y|x)/π_ref(y|x)` over completions of π itself (k1), in nats a completion; none where they
    /// were drawn at another temperature or with cuts, since it would estimate nothing then.
    pub kl: Option<Mean>,
    /// The mean of `ln π/π_ref` over the completions, however they were drawn.
    pub log_ratio: Option<Mean>,
    /// `E Σₜ KL(π(·|y<t) ‖ π_ref(·|y<t))`, each over the whole vocabulary: an estimate of the same KL
    /// with less spread, if the completions are of π itself.
    pub kl_exact: Option<Mean>,
    /// The same sum over the number of tokens: nats a token.
    pub kl_exact_per_token: Option<Estimate>,
    /// Entropy of the model's next token, in nats a token.
    pub entropy: Option<Estimate>,
    /// Tokens of a completion, EOS included.
    pub length: Option<Mean>,
    /// Characters of a completion.
    pub characters: Option<Mean>,
    /// Share of completions that came to an end of their own.
    pub ended: Option<Mean>,
}

impl Report {
    /// The statistics of completions with their scores. `sampling` is how they were drawn.
    pub fn new(entrant: &Entrant, sampling: &Sampling, bootstrap: &Bootstrap) -> Self {
        let prompts = entrant.prompts();
        let over = |values: &[f64]| clustered(values, &prompts, bootstrap);
        let each = |of: &dyn Fn(&Completion) -> Option<f64>| -> Option<Vec<f64>> {
            entrant.completions.iter().map(of).collect()
        };
        let mean = |of: &dyn Fn(&Completion) -> Option<f64>| over(&each(of)?);
        let tokens = each(&|c| c.tokens);
        let per_token =
            |sums: Option<Vec<f64>>| ratio(&sums?, tokens.as_deref()?, &prompts, bootstrap);
        let log_ratio = mean(&|c| c.compared.map(|c| c.log_ratio()));
        let exact = each(&|c| c.compared.map(|c| c.divergence));
        let own = is_own(sampling);
        let parts = match entrant.parts.len() {
            0 | 1 => &[][..],
            _ => entrant.parts.as_slice(),
        };
        let parts = parts
            .iter()
            .filter_map(|(name, of)| Some((name.clone(), over(of)?)));
        let mut distinct = prompts.clone();
        distinct.dedup();
        Self {
            name: entrant.name.clone(),
            prompts: distinct.len(),
            completions: prompts.len(),
            reward: over(&entrant.scores),
            parts: parts.collect(),
            kl: log_ratio.filter(|_| own),
            log_ratio,
            kl_exact: exact.as_deref().and_then(over).filter(|_| own),
            kl_exact_per_token: per_token(exact),
            entropy: per_token(each(&|c| c.entropy)),
            length: tokens.as_deref().and_then(over),
            characters: mean(&|c| Some(c.text.chars().count() as f64)),
            ended: mean(&|c| c.ended.map(|e| f64::from(u8::from(e)))).map(Mean::of_shares),
        }
    }
}

/// Whether completions are drawn from the model's own distribution. (That they end at some length does
/// not matter: both models are compared up to there.)
fn is_own(sampling: &Sampling) -> bool {
    sampling.temperature == 1.0
        && sampling.top_p == 1.0
        && sampling.top_k.is_none()
        && sampling.min_new_tokens == 0
}

/// Win rate: how often completions of one are better than those of another, prompt by prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WinRate {
    /// Name of the opponent.
    pub name: String,
    /// Against whom.
    pub against: String,
    /// Mean over prompts of the share of all pairs of their completions in which the first has the higher score, ties
    /// counted half.
    pub rate: Option<Mean>,
    /// Share of pairs with equal scores.
    pub ties: Option<Mean>,
    /// The mean of the first's scores less that of the other's, of a prompt.
    pub difference: Option<Mean>,
}

/// Win rate of the first of two entrants against the other.
pub fn win_rate(one: &Entrant, other: &Entrant, bootstrap: &Bootstrap) -> WinRate {
    let sorted = |entrant: &Entrant| {
        let mut of: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (completion, &score) in entrant.completions.iter().zip(&entrant.scores) {
            of.entry(completion.prompt).or_default().push(score);
        }
        of
    };
    let (ours, theirs) = (sorted(one), sorted(other));
    let pairs: Vec<(&Vec<f64>, &Vec<f64>)> = (ours.iter())
        .filter_map(|(prompt, scores)| Some((scores, theirs.get(prompt)?)))
        .collect();
    let prompts: Vec<usize> = (0..pairs.len()).collect();
    let over = |of: &dyn Fn(&[f64], &[f64]) -> f64| {
        let values: Vec<f64> = pairs.iter().map(|(a, b)| of(a, b)).collect();
        clustered(&values, &prompts, bootstrap)
    };
    let mean = crate::stats::mean;
    WinRate {
        name: one.name.clone(),
        against: other.name.clone(),
        rate: over(&|a, b| wins(a, b)).map(Mean::of_shares),
        ties: over(&|a, b| {
            let equal = |x: &f64| b.iter().filter(|y| *y == x).count();
            a.iter().map(equal).sum::<usize>() as f64 / (a.len() * b.len()) as f64
        }),
        difference: over(&|a, b| mean(a) - mean(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::sample::evaluate::Compared;

    fn entrant(name: &str, scores: &[(usize, f64)]) -> Entrant {
        let completion = |&(prompt, _): &(usize, f64)| Completion {
            prompt,
            text: "ab".into(),
            tokens: Some(2.0 + prompt as f64),
            ended: Some(prompt == 0),
            entropy: Some(3.0),
            compared: Some(Compared {
                log_policy: -1.0,
                log_reference: -1.5 - prompt as f64,
                divergence: 0.25,
                tokens: 2 + prompt,
            }),
        };
        Entrant {
            name: name.into(),
            completions: scores.iter().map(completion).collect(),
            scores: scores.iter().map(|s| s.1).collect(),
            parts: Vec::new(),
        }
    }

    #[test]
    fn a_report_by_hand() {
        let one = entrant("one", &[(0, 1.0), (0, 3.0), (1, 10.0)]);
        let sampling = Sampling::default();
        let report = Report::new(&one, &sampling, &Bootstrap::default());
        assert_eq!((report.prompts, report.completions), (2, 3));
        assert_eq!(report.reward.unwrap().value, 6.0);
        // Log-ratios 0.5, 0.5, 1.5.
        assert_eq!(report.kl.unwrap().value, 1.0);
        assert_eq!(report.kl_exact.unwrap().value, 0.25);
        assert_eq!(report.kl_exact_per_token.unwrap().value, 0.75 / 7.0);
        assert_eq!(report.entropy.unwrap().value, 9.0 / 7.0);
        assert_eq!(report.length.unwrap().value, 2.5);
        assert_eq!(report.ended.unwrap().value, 0.5);
        let cut = Sampling {
            top_k: Some(5),
            ..sampling
        };
        let report = Report::new(&one, &cut, &Bootstrap::default());
        assert_eq!((report.kl, report.kl_exact), (None, None));
        assert_eq!(report.log_ratio.unwrap().value, 1.0);
    }

    #[test]
    fn wins_and_ties_prompt_by_prompt() {
        let one = entrant("one", &[(0, 1.0), (0, 3.0), (1, 10.0), (2, 0.0)]);
        let other = entrant("other", &[(0, 1.0), (1, 9.0), (1, 11.0), (2, 0.0)]);
        let found = win_rate(&one, &other, &Bootstrap::default());
        // (½ + 1)/2, ½, ½.
        assert!((found.rate.unwrap().value - 1.75 / 3.0).abs() < 1e-15);
        assert_eq!(found.ties.unwrap().value, 0.5);
        assert!((found.difference.unwrap().value - 1.0 / 3.0).abs() < 1e-15);
        let back = win_rate(&other, &one, &Bootstrap::default());
        assert!((found.rate.unwrap().value + back.rate.unwrap().value - 1.0).abs() < 1e-15);
    }
}
