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

/// True if an objective can be trained on text that is in a file.
fn trainable(objective: &Objective) -> bool {
    let spec = objective.spec();
    spec.bandits_only.is_none() && spec.own_responses_only.is_none()
}

impl TextObjective {
    /// Names of those that can be trained on files.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::all().map(Objective::name)
    }

    /// The registered objectives that can be trained on files.
    pub fn all() -> impl Iterator<Item = Objective> {
        Objective::known().into_iter().filter(trainable)
    }

    /// The objective of that name with the numbers that were given.
    ///
    /// # Errors
    /// A name that cannot be trained on text, a number out of range, missing, or without use.
    pub fn new(name: &str, given: &Given, token_reduction: Option<TokenReduction>) -> Result<Self> {
        let objective = Objective::from_name(name).ok().map(Objective::on_text);
        let objective = objective.filter(trainable);
        let objective = objective.ok_or_else(|| refused(name))?;
        Self::of(objective, given, token_reduction)
    }

    /// The same, trained on responses that the policy writes itself.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_own_responses(
        name: &str,
        given: &Given,
        token_reduction: Option<TokenReduction>,
    ) -> Result<Self> {
        let objective = Objective::from_name(name).ok().map(Objective::on_text);
        let objective = objective.filter(|o| o.spec().bandits_only.is_none());
        let this = Self::bound(
            objective.ok_or_else(|| refused(name))?,
            given,
            token_reduction,
        )?;
        if this.reads(Column::Proposals) {
            return Err(Error::invalid(
                "objective",
                format!("`{name}` reads proposals, which are in files"),
                "give data with a column `proposals` in place of prompts",
            ));
        }
        Ok(this)
    }

    /// An objective, which need not be registered, with the numbers that were given.
    ///
    /// # Errors
    /// A number out of range, missing, or without use; a loss that cannot be run on a few examples, or that reads
    /// what files do not hold.
    pub fn of(
        objective: impl Into<Objective>,
        given: &Given,
        token_reduction: Option<TokenReduction>,
    ) -> Result<Self> {
        let this = Self::bound(objective.into(), given, token_reduction)?;
        if this.reads(Column::LogOld) {
            return Err(Error::invalid(
                this.name(),
                "it reads ln π_old of the policy that wrote the responses, which files do not hold",
                "let the policy write them: give prompts in place of data",
            ));
        }
        Ok(this)
    }

    fn bound(
        objective: Objective,
        given: &Given,
        token_reduction: Option<TokenReduction>,
    ) -> Result<Self> {
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
        if self.spec().text_only.is_some() {
            let given = token_reduction.is_some_and(|of| of != TokenReduction::Sum);
            only("token_reduction", given, "objectives of whole responses")?;
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
        matches!(self.spec().value, Some(Value::Own | Value::Tokens))
    }

    /// True if it takes advantages of tokens.
    pub fn takes_advantages(&self) -> bool {
        self.reads(Column::Advantage)
    }

    /// True if these are made of the values of a critic, which is trained too.
    pub fn has_critic(&self) -> bool {
        self.spec().value == Some(Value::Tokens)
    }

    /// True if its scores are held against e(x), the number of a second head at the end of the prompt.
    pub fn expects(&self) -> bool {
        self.scores() && self.reads(Column::Expected)
    }

    /// True if it reads that.
    pub fn reads(&self, column: Column) -> bool {
        self.columns.has(column)
    }

    /// True if on responses that are drawn at a temperature it takes their log-probabilities at it: of losses whose
    /// gradient is an expectation over the responses, those with rewards. Preferences take the model's own.
    pub fn tempered(&self) -> bool {
        matches!(
            self.kind(),
            InputKind::ScoredPairs | InputKind::Singles | InputKind::Groups | InputKind::Tokens
        )
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
        self.recall(examples, &mut text);
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

    /// Gives a batch the log-probabilities that were stored with its responses, if they were.
    fn recall(&self, examples: &[Example], text: &mut TextBatch) {
        let stored = examples.iter().flat_map(|e| &e.responses);
        let stored = stored.map(|r| r.stored.as_ref());
        let Some(stored) = stored.collect::<Option<Vec<_>>>() else {
            return;
        };
        let scale = |s: &Sequence| self.reduction().scale(s.weight());
        let scales: Vec<f64> = text.sequences.iter().map(scale).collect();
        text.recalled = true;
        let tokens = stored.iter().map(|stored| stored.tokens.clone());
        text.stored = tokens.collect::<Option<_>>().unwrap_or_default();
        text.log_reference = (stored.iter().zip(&scales))
            .map(|(stored, scale)| stored.reference * scale)
            .collect();
        for place in 0..self.kind().slots() {
            let slots = text.slots[place].iter().map(|&s| s as usize);
            text.log_old[place] = slots.map(|s| stored[s].old * scales[s]).collect();
        }
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
            "train dpo, ipo or slic with --prompts and --reward, --reference behaviour and --phases F; on bandits \
             there are `solve --objective bpo-dpo --phases N` and `sim bpo-phases`",
        );
    }
    let problem = match Objective::from_name(name) {
        Err(_) => format!("`{name}` is not known"),
        Ok(objective) => {
            let spec = objective.spec();
            if let Some(why) = spec.own_responses_only {
                let problem = format!("`{name}` cannot be trained on a file: {why}");
                let remedy = "let the policy write them: give prompts in place of data";
                return Error::invalid("objective", problem, remedy);
            }
            let why = spec.bandits_only.unwrap_or_default();
            format!("`{name}` cannot be trained on text: {why}")
        }
    };
    Error::invalid(
        "objective",
        problem,
        suggestion(name, TextObjective::names()),
    )
}
