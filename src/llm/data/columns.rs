//! What the columns of a row mean.

use serde_json::{Map, Value};

use super::values::{Columns, Fault, Parsed, fault, quoted};
use crate::bandit::population::linear_advantage;
use crate::loss::{InputKind, Objective};

/// What a row is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What an objective of that kind is fed.
    Kind(InputKind),
    /// One completion to imitate: lists of one, for SFT and for log-probabilities.
    Demonstration,
}

impl From<InputKind> for Form {
    fn from(kind: InputKind) -> Self {
        Self::Kind(kind)
    }
}

impl From<Objective> for Form {
    fn from(objective: Objective) -> Self {
        match objective {
            Objective::Sft => Self::Demonstration,
            _ => Self::Kind(objective.spec().inputs),
        }
    }
}

/// A completion and its reward, or what stands for one in an
/// [`Example`](crate::llm::example::Example).
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Where it stood: `chosen`, `completions[1]`.
    pub column: String,
    /// Its text.
    pub text: String,
    /// Its number.
    pub reward: f64,
}

/// A row in text.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The prompt; none where a text stands alone.
    pub prompt: Option<String>,
    /// In the order of [`Example::responses`](crate::llm::example::Example::responses).
    pub completions: Vec<Completion>,
}

/// Columns that together make a row; `|` stands between names of the same.
type Set = &'static [&'static str];

const PAIR: Set = &["prompt", "chosen", "rejected"];
const SCORED: Set = &["prompt", "completions", "scores|rewards"];
const SCORED_PAIR: Set = &[
    "prompt",
    "chosen",
    "rejected",
    "chosen_score|score_chosen",
    "rejected_score|score_rejected",
];
const SINGLE: Set = &["prompt", "completion", "reward|score"];
const RATED: Set = &["prompt", "completion", "label"];
const RANKED: Set = &["prompt", "completions", "ranks"];
const COMPLETION: Set = &["prompt", "completion"];
const CHOSEN: Set = &["prompt", "chosen"];
const TEXT: Set = &["text"];

impl Form {
    const ALL: [Self; 7] = [
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
        match self {
            Self::Kind(InputKind::LabelledPairs) => &[PAIR, SCORED],
            Self::Kind(InputKind::ScoredPairs) => &[SCORED, SCORED_PAIR],
            Self::Kind(InputKind::Singles) => &[SINGLE],
            Self::Kind(InputKind::Rated) => &[RATED],
            Self::Kind(InputKind::Groups) => &[SCORED],
            Self::Kind(InputKind::Lists) => &[RANKED, SCORED, PAIR],
            Self::Demonstration => &[COMPLETION, CHOSEN, RANKED, SCORED, TEXT],
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Demonstration => "demonstrations",
        }
    }

    /// Names of the objectives that take it.
    pub fn objectives(self) -> Vec<&'static str> {
        (Objective::ALL.into_iter())
            .filter(|&o| Self::from(o) == self)
            .map(Objective::name)
            .collect()
    }

    /// A row of it. Columns with no meaning here are ignored; `null` is a column that is missing.
    ///
    /// # Errors
    /// Missing columns (the message says what takes those that are there), values of another type,
    /// lists of unlike or too few entries, ties where an order is needed.
    pub fn read(self, columns: &Map<String, Value>) -> Parsed<Row> {
        let columns = Columns(columns);
        let Some(set) = self
            .sets()
            .iter()
            .find(|set| columns.missing(set).is_empty())
        else {
            return Err(self.misses(&columns));
        };
        let row = |completions| {
            let prompt = columns.text("prompt")?;
            Ok(Row {
                prompt: Some(prompt),
                completions,
            })
        };
        let one = |name: &str, reward| -> Parsed<Completion> {
            Ok(Completion {
                column: name.into(),
                text: columns.text(name)?,
                reward,
            })
        };
        let ranking = |set: Set| match set {
            RANKED => columns.ranked(),
            _ => columns.ascending("scores|rewards", 1.0),
        };
        match (self, *set) {
            (Self::Kind(InputKind::LabelledPairs), PAIR) => {
                row(vec![one("chosen", 0.0)?, one("rejected", 0.0)?])
            }
            (Self::Kind(InputKind::LabelledPairs), _) => {
                let mut list = columns.ascending("scores|rewards", 1.0)?;
                if list.len() != 2 {
                    let problem = format!("`completions` has {} entries", list.len());
                    return fault(problem, "a labelled pair has two");
                }
                list.reverse();
                list.iter_mut().for_each(|c| c.reward = 0.0);
                row(list)
            }
            (Self::Kind(InputKind::ScoredPairs), SCORED_PAIR) => row(vec![
                one("chosen", columns.number("chosen_score|score_chosen")?)?,
                one("rejected", columns.number("rejected_score|score_rejected")?)?,
            ]),
            (Self::Kind(InputKind::ScoredPairs | InputKind::Groups), _) => {
                row(columns.list("scores|rewards")?)
            }
            (Self::Kind(InputKind::Singles), _) => {
                row(vec![one("completion", columns.number("reward|score")?)?])
            }
            (Self::Kind(InputKind::Rated), _) => {
                row(vec![one("completion", columns.label("label")?)?])
            }
            (Self::Kind(InputKind::Lists), set) => {
                let mut list = match set {
                    PAIR => vec![one("rejected", 0.0)?, one("chosen", 0.0)?],
                    set => ranking(set)?,
                };
                let count = list.len();
                for (index, completion) in list.iter_mut().enumerate() {
                    completion.reward = linear_advantage(index + 1, count);
                }
                row(list)
            }
            (Self::Demonstration, COMPLETION) => row(vec![one("completion", 0.0)?]),
            (Self::Demonstration, CHOSEN) => row(vec![one("chosen", 0.0)?]),
            (Self::Demonstration, TEXT) => Ok(Row {
                prompt: None,
                completions: vec![one("text", 0.0)?],
            }),
            (Self::Demonstration, set) => {
                let best = ranking(set)?.pop().into_iter();
                row(best.map(|c| Completion { reward: 0.0, ..c }).collect())
            }
        }
    }

    /// Says what is missing, what is taken, and what would take the columns that are there.
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
        let others: Vec<String> = (Self::ALL.into_iter())
            .filter(|form| {
                form.sets()
                    .iter()
                    .any(|set| columns.missing(set).is_empty())
            })
            .map(|form| format!("{} ({})", form.name(), form.objectives().join(", ")))
            .collect();
        if !others.is_empty() {
            problem += &format!("; the row's columns make {}", others.join(", "));
        }
        let sets: Vec<String> = self.sets().iter().map(|set| quoted(set, ", ")).collect();
        let remedy = format!("{} are read from {}", self.name(), sets.join(", or "));
        Fault { problem, remedy }
    }
}
