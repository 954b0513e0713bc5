//! Entry of a loss in the registry: name, formula, inputs, kind, source, fixed point, and what it is fed.

use crate::error::{Error, Result};

/// Kind of examples that an objective takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputKind {
    /// Pairs with rewards; no labels.
    ScoredPairs,
    /// Pairs with a label that says which is preferred.
    LabelledPairs,
    /// Single responses with rewards.
    Singles,
    /// Groups of responses with rewards.
    Groups,
    /// Groups of responses with rewards, token by token.
    Tokens,
    /// Single responses that are desirable or not.
    Rated,
    /// Ranked lists of responses.
    Lists,
}

/// Meaning of a table, the trained numbers of a tabular model: one number per prompt and arm (response).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Table {
    /// Logits of a policy.
    Logits,
    /// Scores (a reward model).
    Scores,
    /// Scores of which the mean under a given policy is subtracted (an advantage).
    CentredScores,
}

impl InputKind {
    /// Name of the kind, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScoredPairs => "scored pairs",
            Self::LabelledPairs => "labelled pairs",
            Self::Singles => "single responses",
            Self::Groups => "groups of responses",
            Self::Tokens => "tokens of groups",
            Self::Rated => "rated responses",
            Self::Lists => "ranked lists",
        }
    }

    /// True of pairs, which have two slots of responses where others have one.
    pub fn is_pairs(self) -> bool {
        matches!(self, Self::ScoredPairs | Self::LabelledPairs)
    }

    /// True of groups with rewards, token by token or not.
    pub fn is_groups(self) -> bool {
        matches!(self, Self::Groups | Self::Tokens)
    }

    /// True where an example has any number of responses: groups and lists.
    pub fn is_ragged(self) -> bool {
        matches!(self, Self::Groups | Self::Tokens | Self::Lists)
    }

    /// Arrays of responses that an example's inputs have.
    pub fn slots(self) -> usize {
        if self.is_pairs() { 2 } else { 1 }
    }
}

/// Kind of function that an objective is, which decides how it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A smooth loss.
    Smooth,
    /// A piecewise linear loss, whose optimum lies on kinks.
    Kinked,
    /// An update field; the loss value means nothing.
    Field,
    /// A batch-coupled loss whose optimum lies on the boundary of the simplex.
    Boundary,
}

impl Kind {
    /// Name of the kind, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smooth => "smooth",
            Self::Kinked => "kinked",
            Self::Field => "field",
            Self::Boundary => "boundary",
        }
    }
}

/// Rule by which rewards become ratings (thumbs up and down), and KTO's reference point z₀ is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rating {
    /// A response is desirable when its reward is above the mean of its own prompt, not of all.
    pub per_prompt: bool,
    /// z₀ is the KL divergence to the reference, not 0.
    pub kl: bool,
}

/// Entry of an objective in the registry. What [`Spec::new`] leaves as it is suits most losses.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name on the command line and in files.
    pub name: &'static str,
    /// Other names of the same loss.
    pub aliases: &'static [&'static str],
    /// Per-example loss.
    pub formula: &'static str,
    /// Kind of examples that it takes.
    pub inputs: InputKind,
    /// Kind of function that it is.
    pub kind: Kind,
    /// The publication, with equation or section.
    pub source: &'static str,
    /// Limit of its population form, in words.
    pub fixed_point: &'static str,
    /// Meaning of the numbers it trains.
    pub table: Table,
    /// DRO's value, in place of a baseline. Single responses then come from the mean of the two
    /// laws; with a baseline they come from both (mass 2).
    pub value: Option<super::Value>,
    /// True if pairs of a response with itself count.
    pub self_pairs: bool,
    /// KTO's threshold and z₀, for rated responses.
    pub rating: Rating,
    /// True if of a ranked list it looks at the best response only.
    pub best_only: bool,
    /// True if on text a response counts by its tokens: the loss is the mean over all tokens of the step.
    pub per_token: bool,
    /// The reason why it is not trained on text, if it is not.
    pub bandits_only: Option<&'static str>,
    /// Name of the objective that it is on text, if it is another there.
    pub on_text: Option<&'static str>,
    /// The reason why it has no form on a bandit, if it has none.
    pub text_only: Option<&'static str>,
    /// The reason why on text it is trained on responses that the policy writes itself only, if it is.
    pub own_responses_only: Option<&'static str>,
}

impl Spec {
    /// The entry of a smooth loss on the logits of a policy, trained on text too.
    pub const fn new(name: &'static str, inputs: InputKind) -> Self {
        Self {
            name,
            aliases: &[],
            formula: "",
            inputs,
            kind: Kind::Smooth,
            source: "",
            fixed_point: "",
            table: Table::Logits,
            value: None,
            self_pairs: true,
            rating: Rating {
                per_prompt: false,
                kl: true,
            },
            best_only: false,
            per_token: false,
            bandits_only: None,
            on_text: None,
            text_only: None,
            own_responses_only: None,
        }
    }

    /// An error if it has no form on bandits.
    ///
    /// # Errors
    /// Why it has none.
    pub fn needs_bandits(&self) -> Result<()> {
        let Self {
            name, text_only, ..
        } = self;
        match text_only {
            None => Ok(()),
            Some(why) => {
                let problem = format!("`{name}` is on text only: {why}");
                let remedy = "train it with `pistar train`, or take the other here";
                Err(Error::invalid("objective", problem, remedy))
            }
        }
    }

    /// True if it trains scores (a reward model) rather than a policy.
    pub fn trains_scores(&self) -> bool {
        self.table != Table::Logits
    }
}
