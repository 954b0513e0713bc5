//! Columns of a row and their meaning.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::aside::{ASIDE, Aside, SEEN};
use super::dialogue::Dialogue;
use super::proposals::{self, PROPOSALS};
pub(super) use super::values::listed;
use super::values::{Columns, Fault, Parsed, Spoken, fault, quoted};
use crate::bandit::population::linear_advantage;
use crate::llm::text::example::{Beside, Stored};
use crate::llm::text::objective::TextObjective;
use crate::loss::{Column, InputKind, Objective};
use crate::text::exact;

/// Form of example that a row is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// The examples of an objective of that kind.
    Kind(InputKind),
    /// One completion to imitate: lists of one, for SFT and for log-probabilities.
    Demonstration,
    /// Labelled pairs of which more is read than the texts.
    Pairs {
        /// Whether texts are scored whole, so that no message of theirs can have a weight.
        scored: bool,
        /// Whether the column `margin` says by how much the preferred one is to score higher.
        margin: bool,
        /// Whether the column `preference` says with what probability the preferred one is better.
        label: bool,
        /// Whether the column `proposals` holds further responses to the prompt.
        proposals: bool,
    },
}

impl From<InputKind> for Form {
    fn from(kind: InputKind) -> Self {
        Self::Kind(kind)
    }
}

impl From<Objective> for Form {
    fn from(objective: Objective) -> Self {
        let spec = objective.spec();
        let (margin, label) = (
            objective.reads(Column::Margin),
            objective.reads(Column::Label),
        );
        let proposals = objective.reads(Column::Proposals);
        let scored = spec.trains_scores();
        if spec.best_only {
            Self::Demonstration
        } else if scored || margin || label {
            Self::Pairs {
                scored,
                margin,
                label,
                proposals,
            }
        } else {
            // Token by token or not, the rows are the same.
            Self::Kind(match spec.inputs {
                InputKind::Tokens => InputKind::Groups,
                kind => kind,
            })
        }
    }
}

/// A completion and its reward, or what stands for one in an
/// [`Example`](crate::llm::text::example::Example).
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Column that it came from: `chosen`, `completions[1]`.
    pub column: String,
    /// Its text.
    pub text: String,
    /// Its number.
    pub reward: f64,
    /// Parts of the text, in bytes, and what a token of each weighs; what is in no part weighs 0. None:
    /// all weigh 1.
    pub weights: Option<Vec<(Range<usize>, f64)>>,
    /// Log-probabilities that the row gives of it.
    pub stored: Option<Stored>,
}

/// A row in text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRow {
    /// The prompt; none where a text stands alone.
    pub prompt: Option<String>,
    /// Completions, in the order of [`Example::responses`](crate::llm::text::example::Example::responses).
    pub completions: Vec<Completion>,
    /// True if a chat template wrote them: all special tokens are in the text then.
    pub rendered: bool,
    /// What it says besides.
    pub beside: Beside,
}

/// Columns that together make a row; `|` stands between names of the same.
type Set = &'static [&'static str];

const PROPOSED: Set = &["prompt", "chosen", "rejected", PROPOSALS];
const PAIR: Set = &["prompt", "chosen", "rejected"];
const IMPLIED: Set = &["chosen", "rejected"];
const SCORED: Set = &["prompt", "completions", "scores|rewards"];
const SCORED_PAIR: Set = &[
    "prompt",
    "chosen",
    "rejected",
    "chosen_score|score_chosen",
    "rejected_score|score_rejected",
];
const SCORED_IMPLIED: Set = &[
    "chosen",
    "rejected",
    "chosen_score|score_chosen",
    "rejected_score|score_rejected",
];
const SINGLE: Set = &["prompt", "completion", "reward|score"];
const SINGLE_TURNS: Set = &["messages|conversations", "reward|score"];
const RATED: Set = &["prompt", "completion", "label"];
const RATED_TURNS: Set = &["messages|conversations", "label"];
const RANKED: Set = &["prompt", "completions", "ranks"];
const COMPLETION: Set = &["prompt", "completion"];
const CHOSEN: Set = &["prompt", "chosen"];
const TURNS: Set = &["messages|conversations"];
const TEXT: Set = &["text"];

/// Names of all columns that something is read from.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    const ALL: [Set; 9] = [
        PROPOSED,
        PAIR,
        SCORED_PAIR,
        SCORED,
        RANKED,
        SINGLE,
        RATED,
        TURNS,
        TEXT,
    ];
    let names = ALL.iter().flat_map(|set| set.iter());
    let names = names.flat_map(|names| names.split('|'));
    let aside = ASIDE.iter().chain(&SEEN).copied();
    (names.chain(aside).chain(BESIDE))
        .collect::<BTreeSet<_>>()
        .into_iter()
}

/// Whether a column is read beside those that hold the texts.
pub(super) fn is_aside(name: &str) -> bool {
    BESIDE.contains(&name) || ASIDE.contains(&name) || SEEN.contains(&name)
}

/// By how much a reward model is to score the preferred response above the other.
const MARGIN: &str = "margin";
/// Probability that the preferred response is the better one.
const PREFERENCE: &str = "preference";
/// Weight of the row beside the others.
const WEIGHT: &str = "example_weight";
const BESIDE: [&str; 3] = [MARGIN, PREFERENCE, WEIGHT];

impl Form {
    pub(super) const ALL: [Self; 7] = [
        Self::Kind(InputKind::LabelledPairs),
        Self::Kind(InputKind::ScoredPairs),
        Self::Kind(InputKind::Singles),
        Self::Kind(InputKind::Rated),
        Self::Kind(InputKind::Groups),
        Self::Kind(InputKind::Lists),
        Self::Demonstration,
    ];

    /// What it can be read from; the first that a row has is taken.
    fn sets(self) -> &'static [Set] {
        if self.proposed() {
            return &[PROPOSED];
        }
        match self.general() {
            Self::Kind(InputKind::LabelledPairs) => &[PAIR, SCORED, IMPLIED],
            Self::Kind(InputKind::ScoredPairs) => &[SCORED, SCORED_PAIR, SCORED_IMPLIED],
            Self::Kind(InputKind::Singles) => &[SINGLE, SINGLE_TURNS],
            Self::Kind(InputKind::Rated) => &[RATED, RATED_TURNS],
            Self::Kind(InputKind::Groups | InputKind::Tokens) => &[SCORED],
            Self::Kind(InputKind::Lists) => &[RANKED, SCORED, PAIR, IMPLIED],
            _ => &[COMPLETION, CHOSEN, RANKED, SCORED, TURNS, IMPLIED, TEXT],
        }
    }

    /// The form that has the same columns, whatever else is read of them.
    pub(super) fn general(self) -> Self {
        match self {
            Self::Pairs { .. } => Self::Kind(InputKind::LabelledPairs),
            form => form,
        }
    }

    fn proposed(self) -> bool {
        matches!(
            self,
            Self::Pairs {
                proposals: true,
                ..
            }
        )
    }

    /// Name of the form, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Demonstration => "demonstrations",
            Self::Pairs { .. } => InputKind::LabelledPairs.name(),
        }
    }

    /// Names of the objectives that are trained on it.
    pub fn objectives(self) -> Vec<&'static str> {
        (TextObjective::all())
            .filter(|objective| Self::from(*objective).general() == self.general())
            .map(Objective::name)
            .collect()
    }

    /// The forms that a row's columns can be read as.
    pub fn possible(columns: &Map<String, Value>) -> Vec<Self> {
        let columns = Columns(columns);
        let has = |set: &Set| columns.missing(set).is_empty();
        (Self::ALL.into_iter())
            .filter(|form| form.sets().iter().any(has))
            .collect()
    }

    /// A row of it. Columns with no meaning here are [unread](Self::unread); `null` is a column that is
    /// missing.
    ///
    /// # Errors
    /// Missing columns (the message says what takes those that are there), values of another type,
    /// lists of unlike or too few entries, ties where an order is needed, conversations that the
    /// template does not take, pictures, weights that cannot be used.
    pub fn read(self, columns: &Map<String, Value>, dialogue: &Dialogue) -> Parsed<TextRow> {
        let columns = Columns(columns);
        let aside = Aside::new(&columns);
        aside.is_text()?;
        let mut row = self.text(&columns, dialogue, &aside)?;
        row.beside = self.beside(&columns)?;
        if self.proposed() {
            row.beside.proposals = proposals::store(&columns, &mut row)?;
        }
        let weighted = row.completions.iter().find(|c| c.weights.is_some());
        match (self, weighted) {
            (Self::Pairs { scored: true, .. }, Some(completion)) => fault(
                format!("messages of `{}` have weights", completion.column),
                "a text is scored whole: take the weights out, or the row",
            ),
            _ => Ok(row),
        }
    }

    /// Whether a column beside the texts is read.
    fn reads(self, name: &str) -> bool {
        let [margin, label] = match self {
            Self::Pairs { margin, label, .. } => [margin, label],
            _ => [false; 2],
        };
        (name == MARGIN && margin) || (name == PREFERENCE && label) || name == WEIGHT
    }

    fn beside(self, columns: &Columns) -> Parsed<Beside> {
        let number = |name: &str, otherwise: f64| {
            if self.reads(name) && columns.has(name) {
                columns.number(name)
            } else {
                Ok(otherwise)
            }
        };
        let none = Beside::default();
        let beside = Beside {
            margin: number(MARGIN, none.margin)?,
            label: number(PREFERENCE, none.label)?,
            weight: number(WEIGHT, none.weight)?,
            proposals: 0,
        };
        if !(0.0..=1.0).contains(&beside.label) {
            let problem = format!("`{PREFERENCE}` is {}", exact(beside.label));
            return fault(problem, "give a probability, from 0 to 1");
        }
        if beside.weight < 0.0 {
            let problem = format!("`{WEIGHT}` is {}", exact(beside.weight));
            return fault(problem, "give a number, 0 or more");
        }
        Ok(beside)
    }

    /// The columns of a row that was read, and the fields of its messages, that nothing looked at.
    pub fn unread(
        self,
        columns: &Map<String, Value>,
        row: &TextRow,
        dialogue: &Dialogue,
    ) -> BTreeSet<String> {
        let columns = Columns(columns);
        let set = (self.sets().iter()).find(|set| columns.missing(set).is_empty());
        let read: Vec<&str> = set.into_iter().copied().flatten().copied().collect();
        let read = |name: &str| {
            (read.iter().any(|names| names.split('|').any(|n| n == name)))
                || (row.rendered && ASIDE.contains(&name))
                || self.reads(name)
        };
        let mut unread: BTreeSet<String> = (columns.names_there())
            .filter(|name| !read(name))
            .map(|name| format!("`{name}`"))
            .collect();
        if row.rendered {
            let there = columns.names_there().filter(|name| read(name));
            unread.extend(dialogue.unnamed(&columns, there));
        }
        unread
    }

    fn text(self, columns: &Columns, dialogue: &Dialogue, aside: &Aside) -> Parsed<TextRow> {
        let Some(set) = self
            .sets()
            .iter()
            .find(|set| columns.missing(set).is_empty())
        else {
            return Err(self.misses(columns));
        };
        let completions = self.completions(set, columns)?;
        match *set {
            TEXT => dialogue.alone(completions, aside),
            IMPLIED | SCORED_IMPLIED => {
                // Of a list or a demonstration the other one tells what is the prompt.
                let (_, chosen) = columns.said("chosen")?;
                let (_, rejected) = columns.said("rejected")?;
                let made = dialogue.implied([&chosen, &rejected], completions, aside);
                made.map_err(|Fault { problem, remedy }| Fault {
                    problem,
                    remedy: format!("{remedy}; the row has {}", columns.listed()),
                })
            }
            TURNS | SINGLE_TURNS | RATED_TURNS => dialogue.last_turn(completions, aside),
            _ => {
                let (_, prompt) = columns.said("prompt")?;
                dialogue.prompted(prompt, completions, aside)
            }
        }
    }

    /// The row's completions, with what stands for their rewards.
    fn completions(self, set: Set, columns: &Columns) -> Parsed<Vec<Spoken>> {
        let one = |names: &str, reward| -> Parsed<Spoken> {
            let (name, said) = columns.said(names)?;
            Ok(Spoken {
                column: name.into(),
                said,
                reward,
            })
        };
        let ranking = |set: Set| match set {
            RANKED => columns.ranked(),
            _ => columns.ascending("scores|rewards", 1.0),
        };
        let turns = || match set {
            SINGLE_TURNS | RATED_TURNS | TURNS => "messages|conversations",
            _ => "completion",
        };
        match (self.general(), set) {
            (Self::Kind(InputKind::LabelledPairs), PAIR | IMPLIED | PROPOSED) => {
                let mut all = vec![one("chosen", 0.0)?, one("rejected", 0.0)?];
                if set == PROPOSED {
                    all.extend(proposals::spoken(columns)?);
                }
                Ok(all)
            }
            (Self::Kind(InputKind::LabelledPairs), _) => {
                let mut list = columns.ascending("scores|rewards", 1.0)?;
                if list.len() != 2 {
                    let problem = format!("`completions` has {} entries", list.len());
                    return fault(problem, "a labelled pair has two");
                }
                list.reverse();
                list.iter_mut().for_each(|c| c.reward = 0.0);
                Ok(list)
            }
            (Self::Kind(InputKind::ScoredPairs), SCORED_PAIR | SCORED_IMPLIED) => Ok(vec![
                one("chosen", columns.number("chosen_score|score_chosen")?)?,
                one("rejected", columns.number("rejected_score|score_rejected")?)?,
            ]),
            (Self::Kind(InputKind::ScoredPairs | InputKind::Groups), _) => {
                columns.list("scores|rewards")
            }
            (Self::Kind(InputKind::Singles), _) => {
                Ok(vec![one(turns(), columns.number("reward|score")?)?])
            }
            (Self::Kind(InputKind::Rated), _) => Ok(vec![one(turns(), columns.label("label")?)?]),
            (Self::Kind(InputKind::Lists), set) => {
                let mut list = match set {
                    PAIR | IMPLIED => vec![one("rejected", 0.0)?, one("chosen", 0.0)?],
                    set => ranking(set)?,
                };
                let count = list.len();
                for (index, completion) in list.iter_mut().enumerate() {
                    completion.reward = linear_advantage(index + 1, count);
                }
                Ok(list)
            }
            (Self::Demonstration, COMPLETION | TURNS) => Ok(vec![one(turns(), 0.0)?]),
            (Self::Demonstration, CHOSEN | IMPLIED) => Ok(vec![one("chosen", 0.0)?]),
            (Self::Demonstration, TEXT) => Ok(vec![one("text", 0.0)?]),
            (_, set) => {
                let best = match set {
                    RANKED => columns.first_ranked()?,
                    _ => columns.best("scores|rewards", 1.0)?,
                };
                Ok(vec![Spoken {
                    reward: 0.0,
                    ..best
                }])
            }
        }
    }

    /// Says what is missing, what is there, what is taken, and what would take the columns that are
    /// there.
    fn misses(self, columns: &Columns) -> Fault {
        let nearest = (self.sets().iter())
            .map(|set| columns.missing(set))
            .min_by_key(Vec::len)
            .unwrap_or_default();
        let named = quoted(&nearest, " and ");
        let mut problem = match nearest.len() {
            1 => format!("column {named} is missing"),
            _ => format!("columns {named} are missing"),
        };
        let others: Vec<String> = (Self::possible(columns.0).into_iter())
            .map(|form| format!("{} ({})", form.name(), form.objectives().join(", ")))
            .collect();
        problem += &format!("; the row has {}", columns.listed());
        if !others.is_empty() {
            problem += &format!(", which make {}", others.join(", "));
        }
        let sets: Vec<String> = self.sets().iter().map(|set| quoted(set, ", ")).collect();
        let remedy = format!(
            "{} are read from {}; --column NAME=EXPR makes one of others",
            self.name(),
            sets.join(", or ")
        );
        Fault { problem, remedy }
    }
}
