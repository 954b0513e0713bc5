//! The exact expectation of an objective as a batch of token sequences.

use super::Bandit;
use crate::bandit::Evidence;
use crate::bandit::population::{Feed, examples, held};
use crate::error::{Error, Result};
use crate::llm::text::batch::TextBatch;
use crate::loss::{Bound, InputKind, Objective, Table, Value};

/// Every example of an objective's exact expectation, weighted with its probability.
///
/// Weights, rewards and labels are those of [`examples`]; nothing is derived anew. Each of the
/// `prompts × K` responses is one sequence of the batch and is run once, however many of the (for
/// losses over pairs, K²) examples name it.
#[derive(Debug, Clone)]
pub struct Population {
    bandit: Bandit,
    evidence: Evidence,
    objective: Objective,
    loss: Bound,
    feed: Feed,
    text: TextBatch,
    /// The prompt of each example.
    prompt: Vec<usize>,
}

impl Population {
    /// The expectation over `evidence`: the bandit's population, or a dataset drawn from it.
    ///
    /// # Errors
    /// Those of [`examples`], or an objective that centres its scores, for which no network is
    /// trained.
    pub fn new(bandit: &Bandit, evidence: &Evidence, objective: Objective) -> Result<Self> {
        if objective.spec().table == Table::CentredScores {
            return Err(Error::invalid(
                "objective",
                format!("{} centres a table of scores", objective.name()),
                "choose another objective for a transformer",
            ));
        }
        let (bandit, evidence) = (bandit.clone(), evidence.clone());
        let problem = bandit.problem();
        let loss = objective.bind(&problem.given())?;
        let feed = Feed::of(&loss)?;
        let reference = problem.reference();
        let mut text = TextBatch {
            sequences: bandit.sequences()?,
            log_reference: reference.log().concat(),
            ..TextBatch::default()
        };
        let arms = bandit.language().responses();
        let mut prompt = Vec::new();
        // What is held against responses depends on the policy and comes later.
        let (start, none) = (reference.log(), None);
        examples(
            problem,
            evidence.of(feed.inputs)?,
            &feed,
            start,
            none,
            |x, batch, behind| {
                for (place, behind) in behind.iter().enumerate() {
                    text.slots[place].extend(behind.iter().map(|&a| (x * arms) as u32 + a));
                    text.reward[place].extend(&batch.reward[place]);
                    text.log_old[place].extend(&batch.log_old[place]);
                }
                text.desirable.extend(&batch.desirable);
                text.sizes.extend(&batch.sizes);
                text.weight.extend(&batch.weight);
                prompt.resize(text.weight.len(), x);
                Ok(())
            },
        )?;
        if matches!(feed.inputs, InputKind::Singles | InputKind::Rated) {
            text.held = vec![0.0; prompt.len()];
        } else {
            text.desirable.clear();
        }
        if matches!(feed.value, Some(Value::Own | Value::Constant)) {
            let first = |x: usize| bandit.language().sequence(x, 0);
            let all = 0..problem.prompts().len();
            text.prompts = all.map(first).collect::<Result<_>>()?;
            text.prompt = prompt.iter().map(|&x| x as u32).collect();
        }
        Ok(Self {
            bandit,
            evidence,
            objective,
            loss,
            feed,
            text,
            prompt,
        })
    }

    /// The objective.
    pub fn objective(&self) -> Objective {
        self.objective
    }

    /// Its loss with the problem's numbers.
    pub fn loss(&self) -> &Bound {
        &self.loss
    }

    /// The bandit.
    pub fn bandit(&self) -> &Bandit {
        &self.bandit
    }

    /// Evidence that the expectation is over.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The batch. Where responses are held against a number of the policy, it is that of the last
    /// [`hold`](Self::hold).
    pub fn text(&self) -> &TextBatch {
        &self.text
    }

    /// True if responses are held against a number that depends on the policy: a baseline, KTO's z₀, or a value that
    /// no network gives.
    pub fn holds(&self) -> bool {
        !self.text.held.is_empty()
    }

    /// Takes the numbers that responses are held against from the trained numbers of all
    /// sequences, exactly.
    ///
    /// # Errors
    /// A value that the problem should give and does not.
    pub fn hold(&mut self, numbers: &[f64]) -> Result<()> {
        let rows = self.bandit.rows(numbers);
        let problem = self.bandit.problem();
        if let Some(held) = held(
            problem,
            self.evidence.of(self.feed.inputs)?,
            &self.feed,
            &rows,
        )? {
            let each = self.text.held.iter_mut().zip(&self.prompt);
            each.for_each(|(h, &x)| *h = held[x]);
        }
        Ok(())
    }
}
