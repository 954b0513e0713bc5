//! Objectives on text: which there are, and what each is fed. The losses are those of
//! [`loss`](crate::loss), called as they are.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::llm::files::named::named;
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::batch::TextBatch;
use crate::llm::text::example::{Example, collate};
use crate::loss::{
    Baseline, Batch, Bound, Column, Columns, Cotangents, Given, InputKind, Objective, Spec, Value,
};
use crate::text::suggestion;

named! {
    /// Reduction of the token log-probabilities of a response to its one number.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum TokenReduction {
        /// The sum over the response's tokens
        Sum = "sum",
        /// The mean over the response's tokens
        Mean = "mean",
        /// SFT only: the loss is the mean over all tokens of the step
        Batch = "batch",
    }
}

/// An objective on text.
#[derive(Clone)]
pub struct TextObjective {
    objective: Objective,
    loss: Bound,
    columns: Columns,
    token_reduction: TokenReduction,
}

/// True if an objective can be trained on text.
fn trainable(objective: &Objective) -> bool {
    objective.spec().bandits_only.is_none()
}

impl TextObjective {
    /// Names of all of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::all().map(Objective::name)
    }

    /// The registered objectives that can be trained on text.
    pub fn all() -> impl Iterator<Item = Objective> {
        Objective::known().into_iter().filter(trainable)
    }

    /// The objective of that name with the numbers that were given.
    ///
    /// # Errors
    /// A name that cannot be trained on text, a number out of range, missing, or without use.
    pub fn new(name: &str, given: &Given, token_reduction: Option<TokenReduction>) -> Result<Self> {
        let objective = Objective::from_name(name).ok().filter(trainable);
        let objective = objective.ok_or_else(|| refused(name))?;
        Self::of(objective, given, token_reduction)
    }

    /// An objective, which need not be registered, with the numbers that were given.
    ///
    /// # Errors
    /// A number out of range, missing, or without use; a loss that cannot be run on a few examples.
    pub fn of(
        objective: impl Into<Objective>,
        given: &Given,
        token_reduction: Option<TokenReduction>,
    ) -> Result<Self> {
        let objective = objective.into();
        objective.refuse_others(given)?;
        let loss = objective.bind(given)?;
        let own = if objective.spec().per_token {
            TokenReduction::Batch
        } else {
            TokenReduction::Sum
        };
        let columns = loss.columns()?;
        let refused = |problem: &str, remedy: &str| -> Result<Self> {
            Err(Error::invalid(objective.name(), problem, remedy))
        };
        if columns.has(Column::LogOld) {
            return refused(
                "it reads ln π_old of the policy that wrote the responses, which files do not hold",
                "train it on bandits, or give the loss another form",
            );
        }
        let labels = matches!(
            objective.spec().inputs,
            InputKind::LabelledPairs | InputKind::Rated
        );
        if columns.has(Column::Reward) && labels {
            return refused(
                "it reads rewards, and labelled pairs and rated responses of a file have none",
                "train it on bandits, or let it take scored pairs or single responses",
            );
        }
        let this = Self {
            objective,
            columns,
            loss,
            token_reduction: token_reduction.unwrap_or(own),
        };
        this.check(token_reduction)?;
        Ok(this)
    }

    fn check(&self, token_reduction: Option<TokenReduction>) -> Result<()> {
        let only = |place: &str, given: bool, of: &str| {
            if given {
                Err(Error::invalid(
                    place,
                    format!("`{}` has no use for it", self.name()),
                    format!("leave it out; it is for {of}"),
                ))
            } else {
                Ok(())
            }
        };
        if self.scores() {
            let given = token_reduction.is_some();
            only("token_reduction", given, "objectives that train a policy")?;
        }
        if !self.spec().per_token {
            let batch = token_reduction == Some(TokenReduction::Batch);
            let of = Self::all().filter(|o| o.spec().per_token);
            let of: Vec<_> = of.map(Objective::name).collect();
            only("token_reduction = batch", batch, &of.join(" and "))?;
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.spec().name
    }

    /// The registered objective whose loss it is.
    pub fn registered(&self) -> Objective {
        self.objective
    }

    /// Its entry.
    pub fn spec(&self) -> &Spec {
        self.loss.spec()
    }

    /// Its loss with its numbers.
    pub fn loss(&self) -> &Bound {
        &self.loss
    }

    /// Its numbers, all of them.
    pub fn numbers(&self) -> &Given {
        self.loss.numbers()
    }

    /// Kind of examples that it takes.
    pub fn kind(&self) -> InputKind {
        self.spec().inputs
    }

    /// True if it trains scores, given by a head, instead of a policy.
    pub fn scores(&self) -> bool {
        self.spec().trains_scores()
    }

    /// True if a value network, which gives V(x), is trained too.
    pub fn value(&self) -> bool {
        self.spec().value == Some(Value::Own)
    }

    /// True if it reads a reference policy.
    pub fn reference(&self) -> bool {
        self.columns.has(Column::LogReference)
    }

    /// True if responses are held against z₀ (KTO).
    pub fn anchored(&self) -> bool {
        self.kind() == InputKind::Rated && self.spec().rating.kl
    }

    /// β; 1 for a loss that has none.
    pub fn beta(&self) -> f64 {
        self.numbers().get("beta").unwrap_or(1.0)
    }

    /// Reduction of the token log-probabilities of a response, the policy's and the reference's.
    pub fn token_reduction(&self) -> TokenReduction {
        self.token_reduction
    }

    /// The same, for one response.
    pub fn reduction(&self) -> Reduction {
        match self.token_reduction {
            TokenReduction::Mean => Reduction::Mean,
            TokenReduction::Sum | TokenReduction::Batch => Reduction::Sum,
        }
    }

    /// Examples that it looks at: SFT at the best response of each list, every other at all.
    pub fn select(&self, mut examples: Vec<Example>) -> Vec<Example> {
        if self.spec().best_only {
            for example in &mut examples {
                let last = example.responses.len().saturating_sub(1);
                example.responses.drain(..last);
            }
        }
        examples
    }

    /// A step's examples as a batch without the reference's numbers. Weights are `1/B`; with
    /// [`TokenReduction::Batch`], one over the weight of all predicted tokens.
    pub fn batch(&self, examples: &[Example]) -> TextBatch {
        let mut text = collate(self.kind(), examples, |_, _| 0.0);
        if self.token_reduction == TokenReduction::Batch {
            let tokens: f64 = text.sequences.iter().map(Sequence::weight).sum();
            let weights = text.weight.iter_mut().zip(examples);
            weights.for_each(|(w, example)| *w = example.beside.weight / tokens);
        }
        if let Some(Baseline::Given(baseline)) = self.loss.baseline() {
            text.held.fill(*baseline);
        }
        text
    }

    /// The weighted loss of a batch and its gradient with respect to the networks' numbers, on the host.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn cotangents(&self, batch: &Batch) -> Result<Cotangents> {
        self.loss.on_tape(batch)
    }
}

/// Mismatched sequences that z₀ is estimated from: every prompt with the completion of the batch's next example, the
/// last one's with the first's. A completion that would go beyond `longest` tokens is cut.
///
/// # Errors
/// Fewer than two examples.
pub fn mismatched(text: &TextBatch, longest: usize) -> Result<Vec<Sequence>> {
    let count = text.sequences.len();
    if count < 2 {
        return Err(Error::invalid(
            "batch",
            "it has one example, and z₀ is estimated from completions of other prompts",
            "give a batch of two or more (and drop_last, if the data leaves one over), or an objective without z₀",
        ));
    }
    (0..count)
        .map(|i| {
            let (own, next) = (&text.sequences[i], &text.sequences[(i + 1) % count]);
            let room = longest.saturating_sub(own.prompt().len()).max(1);
            let completion = next.completion();
            let kept = completion.len().min(room);
            let tokens = [own.prompt(), &completion[..kept]].concat();
            let sequence = Sequence::new(tokens, own.prompt().len())?;
            match next.weights() {
                Some(weights) => sequence.weighted(weights[..kept].to_vec()),
                None => Ok(sequence),
            }
        })
        .collect()
}

fn refused(name: &str) -> Error {
    if name.starts_with("bpo") {
        let problem =
            format!("`{name}` is a sequence of phases, each with the reference of the last");
        return Error::invalid(
            "objective",
            problem,
            "train one phase after the other: dpo, ipo or slic, each time with --model and --reference of \
             the phase before; on bandits there are `solve --objective bpo-dpo --phases N` and \
             `sim bpo-phases`",
        );
    }
    let problem = match Objective::from_name(name) {
        Err(_) => format!("`{name}` is not known"),
        Ok(objective) => {
            let why = objective.spec().bandits_only.unwrap_or_default();
            format!("`{name}` cannot be trained on text: {why}")
        }
    };
    Error::invalid(
        "objective",
        problem,
        suggestion(name, TextObjective::names()),
    )
}
