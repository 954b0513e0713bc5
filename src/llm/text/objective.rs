//! Objectives on text: which there are, and what each is fed. The losses are those of
//! [`loss`](crate::loss), called as they are.

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::llm::files::named::named;
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::batch::TextBatch;
use crate::llm::text::example::{Example, collate};
use crate::loss::reward_model::reward_model_with_margin;
use crate::loss::{InputKind, Inputs, Objective, Parameters, Value};
use crate::text::suggestion;

/// Policy gradient with a given number as its baseline; the registry has a name for b = 0 only.
const PG: &str = "pg";

/// What can be trained on text, in the order of tables.
const TRAINABLE: [(&str, Objective); 22] = {
    use Objective as O;
    [
        ("sft", O::Sft),
        ("reward-model", O::RewardModel),
        ("advantage-model-distinct", O::AdvantageModelDistinct),
        ("dpo", O::Dpo),
        ("ipo", O::Ipo),
        ("ipo-copg", O::IpoCopg),
        ("ipo-gpo", O::IpoGpo),
        ("slic", O::Slic),
        ("copg", O::Copg),
        ("copg-completed", O::CopgCompleted),
        ("copg-squared", O::CopgSquared),
        ("rloo", O::Rloo),
        ("pg-zero", O::PgZero),
        (PG, O::PgZero),
        ("dro-v", O::DroV),
        ("dro-v-eliminated", O::DroVEliminated),
        ("kto", O::Kto),
        ("kto-no-kl", O::KtoNoKl),
        ("copr", O::Copr),
        ("copr-forward", O::CoprForward),
        ("copr-forward-mean", O::CoprForwardMean),
        ("copr-sft", O::CoprSft),
    ]
};

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

/// The numbers an objective on text has besides its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// β and m.
    pub parameters: Parameters,
    /// b, if it is `pg`.
    pub baseline: Option<f64>,
    /// Weights of KTO's desirable and undesirable examples.
    pub weights: [f64; 2],
    /// Reduction of the token log-probabilities of a response; `None` for the objective's own.
    pub token_reduction: Option<TokenReduction>,
}

/// An objective on text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextObjective {
    name: &'static str,
    objective: Objective,
    numbers: Numbers,
    token_reduction: TokenReduction,
}

impl TextObjective {
    /// Names of all of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TRAINABLE.iter().map(|(name, _)| *name)
    }

    /// Names, and the registered objectives whose losses they are.
    pub fn table() -> impl Iterator<Item = (&'static str, Objective)> {
        TRAINABLE.into_iter()
    }

    /// The objective of that name.
    ///
    /// # Errors
    /// A name that cannot be trained on text, a number out of range, missing, or without use.
    pub fn new(name: &str, numbers: Numbers) -> Result<Self> {
        let Some(&(name, objective)) = TRAINABLE.iter().find(|(n, _)| *n == name) else {
            return Err(refused(name));
        };
        let own = match objective {
            Objective::Sft => TokenReduction::Batch,
            _ => TokenReduction::Sum,
        };
        let token_reduction = numbers.token_reduction.unwrap_or(own);
        let this = Self {
            name,
            objective,
            numbers,
            token_reduction,
        };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<()> {
        let Numbers {
            parameters,
            baseline,
            weights,
            ..
        } = &self.numbers;
        let positive = |place: &str, number: f64| {
            if number.is_finite() && number > 0.0 {
                Ok(())
            } else {
                Err(Error::invalid(
                    place,
                    format!("it is {number}"),
                    "give a finite number above 0",
                ))
            }
        };
        let only = |place: &str, given: bool, of: &str| {
            if given {
                Err(Error::invalid(
                    place,
                    format!("`{}` has no use for it", self.name),
                    format!("leave it out; it is for {of}"),
                ))
            } else {
                Ok(())
            }
        };
        let missing = |place: &str, what: &str| {
            let problem = format!("`{}` needs it", self.name);
            Err(Error::invalid(place, problem, format!("give {what}")))
        };
        positive("beta", parameters.beta)?;
        match (self.objective, parameters.margin) {
            (Objective::AdvantageModelDistinct, Some(m)) => positive("margin", m)?,
            (Objective::AdvantageModelDistinct, None) => return missing("margin", "m, above 0")?,
            (_, m) => only("margin", m.is_some(), "advantage-model-distinct")?,
        }
        match (self.name, baseline) {
            (PG, None) => return missing("baseline", "a number, such as the mean reward")?,
            (PG, Some(b)) if !b.is_finite() => {
                let problem = format!("it is {b}");
                return Err(Error::invalid("baseline", problem, "give a finite number"));
            }
            (PG, Some(_)) => {}
            (_, b) => only("baseline", b.is_some(), PG)?,
        }
        positive("desirable_weight", weights[0])?;
        positive("undesirable_weight", weights[1])?;
        if self.kind() != InputKind::Rated {
            only("desirable_weight", weights[0] != 1.0, "kto and kto-no-kl")?;
            only("undesirable_weight", weights[1] != 1.0, "kto and kto-no-kl")?;
        }
        let reduction = self.numbers.token_reduction;
        if self.scores() {
            let given = reduction.is_some();
            only("token_reduction", given, "objectives that train a policy")?;
        }
        if self.objective != Objective::Sft {
            let batch = reduction == Some(TokenReduction::Batch);
            only("token_reduction = batch", batch, "sft")?;
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The registered objective whose loss it is.
    pub fn registered(&self) -> Objective {
        self.objective
    }

    /// Kind of examples that it takes.
    pub fn kind(&self) -> InputKind {
        self.objective.spec().inputs
    }

    /// True if it trains scores, given by a head, instead of a policy.
    pub fn scores(&self) -> bool {
        self.objective.trains_scores()
    }

    /// True if a value network, which gives V(x), is trained too.
    pub fn value(&self) -> bool {
        self.objective.value() == Some(Value::Own)
    }

    /// True if it reads a reference policy.
    pub fn reference(&self) -> bool {
        !self.scores() && self.objective != Objective::Sft
    }

    /// True if responses are held against z₀ (KTO).
    pub fn anchored(&self) -> bool {
        self.objective == Objective::Kto
    }

    /// β.
    pub fn beta(&self) -> f64 {
        self.numbers.parameters.beta
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
        if self.objective == Objective::Sft {
            for example in &mut examples {
                let last = example.responses.len().saturating_sub(1);
                example.responses.drain(..last);
            }
        }
        examples
    }

    /// A step's examples as a batch without the reference's numbers. Weights are `1/B`, times
    /// KTO's; with [`TokenReduction::Batch`], one over the weight of all predicted tokens.
    pub fn batch(&self, examples: &[Example]) -> TextBatch {
        let mut text = collate(self.kind(), examples, |_, _| 0.0);
        let [good, bad] = self.numbers.weights;
        for (weight, desirable) in text.weight.iter_mut().zip(&text.desirable) {
            *weight *= desirable * good + (1.0 - desirable) * bad;
        }
        if self.token_reduction == TokenReduction::Batch {
            let tokens: f64 = text.sequences.iter().map(Sequence::weight).sum();
            text.weight.fill(1.0 / tokens);
        }
        if let Some(baseline) = self.numbers.baseline {
            text.held.fill(baseline);
        }
        text
    }

    /// The per-example loss, `[B]`. A reward model, which has no reference, holds the preferred response against its
    /// pair's [margin](TextBatch::margin).
    ///
    /// # Errors
    /// Those of the loss.
    pub fn loss<X: Backend>(&self, inputs: &Inputs<X>) -> Result<X> {
        match (self.objective, inputs) {
            (Objective::RewardModel, Inputs::Pair { first, second }) => {
                let (preferred, rejected) = (&first.log_policy, &second.log_policy);
                reward_model_with_margin(preferred, rejected, &first.log_reference)
            }
            _ => self.objective.loss(inputs, self.numbers.parameters),
        }
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
            "it has one example, and KTO's z₀ is estimated from completions of other prompts",
            "give a batch of two or more (and drop_last, if the data leaves one over), or kto-no-kl",
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
        Ok(objective) => format!("`{name}` cannot be trained on text: {}", why(objective)),
    };
    Error::invalid(
        "objective",
        problem,
        suggestion(name, TextObjective::names()),
    )
}

/// Why a registered objective is for bandits only.
fn why(objective: Objective) -> &'static str {
    match objective {
        Objective::PgValue | Objective::PgSoftValue => {
            "its baseline is an expectation under the policy"
        }
        Objective::DroFixed | Objective::DroConstant => "its V is not a network's",
        Objective::KtoPerPrompt => "the labels of the data say what is desirable",
        Objective::AdvantageModel | Objective::AdvantageModelCentred => {
            "it takes expectations over all responses"
        }
        _ => "it is studied on bandits only",
    }
}
