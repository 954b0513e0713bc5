//! Inputs of a loss: the numbers of a batch of examples, by what an example is.

mod pair;

use std::cell::Cell;
use std::rc::Rc;

use super::InputKind;
use crate::backend::{Backend, Segments};
use crate::error::{Error, Result};

pub use pair::Pair;

/// Numbers that a loss may read beside the trained ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Column {
    /// ln π_ref(y|x).
    LogReference,
    /// ln π_old(y|x), that of the policy that wrote the response.
    LogOld,
    /// R(x, y).
    Reward,
    /// Tokens of the response, of which ln π is the sum.
    Tokens,
    /// Probability that the first of a pair is the better one.
    Label,
    /// Margin that a pair's scores are to differ by.
    Margin,
    /// Advantage of each token.
    Advantage,
    /// V of the prefix of each token, which is trained.
    Value,
    /// The same as it was when the response was written.
    OldValue,
    /// What V is to come to.
    Return,
    /// e of the prompt of each pair, which is trained.
    Expected,
    /// Proposals: further responses to the prompt of each pair.
    Proposals,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::LogReference,
        Self::LogOld,
        Self::Reward,
        Self::Tokens,
        Self::Label,
        Self::Margin,
        Self::Advantage,
        Self::Value,
        Self::OldValue,
        Self::Return,
        Self::Expected,
        Self::Proposals,
    ];

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogReference => "ln π_ref of the responses",
            Self::LogOld => "ln π_old of the responses",
            Self::Reward => "rewards of the responses",
            Self::Tokens => "numbers of tokens of the responses",
            Self::Label => "labels of the pairs",
            Self::Margin => "margins of the pairs",
            Self::Advantage => "advantages of the tokens",
            Self::Value => "values of the tokens",
            Self::OldValue => "old values of the tokens",
            Self::Return => "returns of the tokens",
            Self::Expected => "expected scores of the prompts",
            Self::Proposals => "proposals beside the pairs",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A set of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Columns(u16);

impl Columns {
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// Whether a column is among them.
    pub fn has(self, column: Column) -> bool {
        self.0 & column.bit() != 0
    }
}

impl FromIterator<Column> for Columns {
    fn from_iter<I: IntoIterator<Item = Column>>(columns: I) -> Self {
        Self(columns.into_iter().fold(0, |all, c| all | c.bit()))
    }
}

/// A column that may not have been made, and whether it was read.
#[derive(Clone)]
struct Made<X> {
    array: Option<X>,
    column: Column,
    read: Rc<Cell<bool>>,
}

impl<X> Made<X> {
    fn none(column: Column) -> Self {
        Self {
            array: None,
            column,
            read: Rc::default(),
        }
    }

    fn get(&self) -> Result<&X> {
        self.read.set(true);
        self.array.as_ref().ok_or_else(|| {
            Error::invalid(
                self.column.name(),
                "such inputs do not have them, or the loss reads them for some inputs only",
                "read what its kind of examples has, and always: what a loss reads is found out once",
            )
        })
    }

    fn take(&mut self, column: Column, array: &mut Option<X>) {
        if self.column == column && array.is_some() {
            self.array = array.take();
        }
    }
}

/// Numbers of one response in every example, each `[B]` (of groups and tokens `[N]`).
#[derive(Clone)]
pub struct Response<X> {
    log_policy: X,
    columns: [Made<X>; 4],
}

impl<X> Response<X> {
    /// A response of which nothing is known but its trained number.
    pub fn new(log_policy: X) -> Self {
        let columns = [
            Column::LogReference,
            Column::LogOld,
            Column::Reward,
            Column::Tokens,
        ];
        Self {
            log_policy,
            columns: columns.map(Made::none),
        }
    }

    /// The same with a column. One that responses do not have is left out.
    #[must_use]
    pub fn with(mut self, column: Column, array: X) -> Self {
        let mut array = Some(array);
        (self.columns.iter_mut()).for_each(|made| made.take(column, &mut array));
        self
    }

    /// The columns that were made.
    pub(crate) fn made(&self) -> impl Iterator<Item = (Column, &X)> {
        (self.columns.iter()).filter_map(|made| Some((made.column, made.array.as_ref()?)))
    }
}

impl<X: Backend> Response<X> {
    /// ln π(y|x), the trained number, in nats (for a reward model: its score).
    pub fn log_policy(&self) -> &X {
        &self.log_policy
    }

    /// ln π_ref(y|x), in nats.
    ///
    /// # Errors
    /// As those below: a column that this loss was not seen to read.
    pub fn log_reference(&self) -> Result<&X> {
        self.columns[0].get()
    }

    /// ln π_old(y|x) of the policy that wrote the response, in nats, without a gradient: on policy ⟦ln π⟧, on data
    /// the behaviour law.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn log_old(&self) -> Result<&X> {
        self.columns[1].get()
    }

    /// R(x, y); in ranked lists the advantage.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn reward(&self) -> Result<&X> {
        self.columns[2].get()
    }

    /// Tokens of which ln π is the sum, the end included; 1 on a bandit, and where ln π is their mean.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn tokens(&self) -> Result<&X> {
        self.columns[3].get()
    }

    /// `u = ln π/π_ref`, in nats.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn log_ratio(&self) -> Result<X> {
        self.log_policy.sub(self.log_reference()?)
    }

    /// `R_β = R − βu`.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn regularised_reward(&self, beta: f64) -> Result<X> {
        self.reward()?.sub(&self.log_ratio()?.affine(beta, 0.0)?)
    }
}

/// One response and a number of its prompt, `[B]`.
#[derive(Clone)]
pub struct Single<X> {
    /// y.
    pub response: Response<X>,
    /// The baseline b(x) of a policy gradient, or DRO's V(x).
    pub baseline: X,
}

/// One response, rated.
#[derive(Clone)]
pub struct Rated<X> {
    /// y.
    pub response: Response<X>,
    /// 1 for a desirable response, 0 for an undesirable one, or a probability between; `[B]`.
    pub desirable: X,
    /// z₀, KTO's estimate of KL(π‖π_ref), `[B]`.
    pub anchor: X,
}

/// Several responses to one prompt: `[N]` numbers in B groups. In a ranked list they run from worst to best, and the
/// reward is the advantage in the list.
#[derive(Clone)]
pub struct Group<X> {
    /// The responses of all groups, in order.
    pub responses: Response<X>,
    /// Which belong together.
    pub groups: Rc<Segments>,
}

/// Groups of responses token by token: `[T]` numbers of tokens in N responses in B groups. On a bandit a response has
/// one token.
#[derive(Clone)]
pub struct Tokens<X> {
    /// The tokens of all responses, in order: ln π, ln π_ref and ln π_old of each.
    pub tokens: Response<X>,
    /// Which tokens are a response.
    pub responses: Rc<Segments>,
    /// Which responses are a group.
    pub groups: Rc<Segments>,
    columns: [Made<X>; 5],
}

impl<X> Tokens<X> {
    /// Tokens without rewards.
    pub fn new(tokens: Response<X>, responses: Rc<Segments>, groups: Rc<Segments>) -> Self {
        Self {
            tokens,
            responses,
            groups,
            columns: Self::COLUMNS.map(Made::none),
        }
    }

    /// What they may have beside their log-probabilities: of each response its reward, and of each token the others.
    pub(crate) const COLUMNS: [Column; 5] = [
        Column::Reward,
        Column::Advantage,
        Column::Value,
        Column::OldValue,
        Column::Return,
    ];

    /// The same with a column. One that they do not have is left out.
    #[must_use]
    pub fn with(mut self, column: Column, array: X) -> Self {
        let mut array = Some(array);
        (self.columns.iter_mut()).for_each(|made| made.take(column, &mut array));
        self
    }

    /// The rewards, if they were made.
    pub(crate) fn made(&self) -> Option<&X> {
        self.columns[0].array.as_ref()
    }
}

impl<X: Backend> Tokens<X> {
    /// R(x, y) of each response, `[N]`.
    ///
    /// # Errors
    /// A column that this loss was not seen to read.
    pub fn reward(&self) -> Result<&X> {
        self.columns[0].get()
    }

    /// A of each token, `[T]`, without a gradient.
    ///
    /// # Errors
    /// As [`reward`](Self::reward), and of those below.
    pub fn advantage(&self) -> Result<&X> {
        self.columns[1].get()
    }

    /// V of the prefix that each token follows, `[T]`, which is trained.
    ///
    /// # Errors
    /// As above.
    pub fn value(&self) -> Result<&X> {
        self.columns[2].get()
    }

    /// The same as it was when the response was written, `[T]`.
    ///
    /// # Errors
    /// As above.
    pub fn old_value(&self) -> Result<&X> {
        self.columns[3].get()
    }

    /// R̂, what V is to come to, `[T]`.
    ///
    /// # Errors
    /// As above.
    pub fn target(&self) -> Result<&X> {
        self.columns[4].get()
    }
}

/// The numbers of a batch of B examples.
#[derive(Clone)]
#[non_exhaustive]
pub enum Inputs<X> {
    /// Two responses to one prompt.
    Pair(Pair<X>),
    /// One response and a number of its prompt.
    Single(Single<X>),
    /// One response, rated.
    Rated(Rated<X>),
    /// Several responses to one prompt, or a ranked list.
    Group(Group<X>),
    /// Several responses to one prompt, token by token.
    Tokens(Tokens<X>),
}

impl<X: Backend> Inputs<X> {
    /// The kind's name, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pair(_) => "pairs",
            Self::Single(_) => "single responses",
            Self::Rated(_) => "rated responses",
            Self::Group(_) => "groups or lists of responses",
            Self::Tokens(_) => "tokens of groups of responses",
        }
    }

    /// Both responses of a pair.
    ///
    /// # Errors
    /// Inputs of another kind, as of those below.
    pub fn pair(&self) -> Result<&Pair<X>> {
        match self {
            Self::Pair(pair) => Ok(pair),
            _ => Err(self.not("pairs")),
        }
    }

    /// A single response and the number of its prompt.
    ///
    /// # Errors
    /// Inputs of another kind.
    pub fn single(&self) -> Result<&Single<X>> {
        match self {
            Self::Single(single) => Ok(single),
            _ => Err(self.not("single responses")),
        }
    }

    /// A response, whether it is desirable, and z₀.
    ///
    /// # Errors
    /// Inputs of another kind.
    pub fn rated(&self) -> Result<&Rated<X>> {
        match self {
            Self::Rated(rated) => Ok(rated),
            _ => Err(self.not("rated responses")),
        }
    }

    /// Groups or ranked lists: all their responses, and which belong together.
    ///
    /// # Errors
    /// Inputs of another kind.
    pub fn group(&self) -> Result<&Group<X>> {
        match self {
            Self::Group(group) => Ok(group),
            _ => Err(self.not("groups or lists of responses")),
        }
    }

    /// The tokens of groups of responses.
    ///
    /// # Errors
    /// Inputs of another kind.
    pub fn tokens(&self) -> Result<&Tokens<X>> {
        match self {
            Self::Tokens(tokens) => Ok(tokens),
            _ => Err(self.not("tokens of groups of responses")),
        }
    }

    /// Whether they are what a loss of that kind takes.
    pub fn are(&self, kind: InputKind) -> bool {
        match self {
            Self::Pair(_) => kind.is_pairs(),
            Self::Single(_) => kind == InputKind::Singles,
            Self::Rated(_) => kind == InputKind::Rated,
            Self::Group(_) => matches!(kind, InputKind::Groups | InputKind::Lists),
            Self::Tokens(_) => kind == InputKind::Tokens,
        }
    }

    /// The columns that were read of them so far.
    pub fn read(&self) -> Columns {
        let own = match self {
            Self::Pair(pair) => &pair.columns[..],
            Self::Tokens(tokens) => &tokens.columns[..],
            _ => &[],
        };
        let proposals = match self {
            Self::Pair(pair) if pair.proposals.read.get() => Some(Column::Proposals),
            _ => None,
        };
        let of_responses = self.responses().flat_map(|r| &r.columns);
        let read = of_responses.chain(own).filter(|made| made.read.get());
        read.map(|made| made.column).chain(proposals).collect()
    }

    /// The trained numbers of each slot: of both responses of a pair, else one array.
    pub fn trained(&self) -> Vec<&X> {
        self.responses().map(Response::log_policy).collect()
    }

    pub(crate) fn responses(&self) -> impl Iterator<Item = &Response<X>> {
        let (first, second) = match self {
            Self::Pair(pair) => (&pair.first, Some(&pair.second)),
            Self::Single(single) => (&single.response, None),
            Self::Rated(rated) => (&rated.response, None),
            Self::Group(group) => (&group.responses, None),
            Self::Tokens(tokens) => (&tokens.tokens, None),
        };
        std::iter::once(first).chain(second)
    }

    fn not(&self, wanted: &str) -> Error {
        Error::invalid(
            "inputs of the loss",
            format!("they are {}, not {wanted}", self.kind()),
            "read what its kind of examples has",
        )
    }
}

/// Sizes of groups of two or more responses, for losses that compare them.
///
/// # Errors
/// A group of one, with what the loss would need more for.
pub fn sizes(loss: &str, groups: &Segments, remedy: &str) -> Result<Vec<f64>> {
    let sizes: Vec<f64> = (0..groups.groups())
        .map(|g| groups.size(g) as f64)
        .collect();
    match sizes.iter().position(|&k| k < 2.0) {
        None => Ok(sizes),
        Some(g) => {
            let place = format!("{loss}: group {g}");
            Err(Error::invalid(place, "it has one response", remedy))
        }
    }
}
