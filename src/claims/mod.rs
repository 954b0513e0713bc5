//! Claims of the papers, each checked again every time it is asked.
//!
//! A claim has a verdict on record, and a check that finds its verdict from numbers computed at
//! that moment. The two must agree.

mod advantage;
mod bpo;
mod copg;
mod copr;
mod dro;

use rayon::prelude::*;

use crate::bandit::{Problem, Shape, random_problem};
use crate::error::{Error, Result};

/// A source paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Paper {
    /// Contrastive policy gradient (Flet-Berliac et al. 2024).
    Copg,
    /// Direct reward optimisation (Richemond et al. 2024).
    Dro,
    /// Continual learning by optimal policy regularisation (Zhang et al. 2024).
    Copr,
    /// Online preference learning with the behaviour policy as reference (Xu et al. 2024).
    Bpo,
    /// Advantage Model and selective rehearsal (Peng et al. 2023).
    AdvantageModel,
}

impl Paper {
    /// Every paper, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::Copg,
        Self::Dro,
        Self::Copr,
        Self::Bpo,
        Self::AdvantageModel,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copg => "copg",
            Self::Dro => "dro",
            Self::Copr => "copr",
            Self::Bpo => "bpo",
            Self::AdvantageModel => "advantage-model",
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Copg => "CoPG: contrastive policy gradient",
            Self::Dro => "DRO: direct reward optimisation",
            Self::Copr => "COPR: continual learning by optimal policy regularisation",
            Self::Bpo => "BPO: online preference optimisation in proximity to the behaviour LLM",
            Self::AdvantageModel => "Advantage Model and selective rehearsal",
        }
    }

    /// A claim of the paper; a row of its table.
    const fn claim(
        self,
        name: &'static str,
        place: &'static str,
        statement: &'static str,
        verdict: Verdict,
        remark: &'static str,
        check: fn() -> Result<Finding>,
    ) -> Claim {
        Claim {
            name,
            paper: self,
            place,
            statement,
            verdict,
            remark,
            check,
        }
    }

    /// The paper of that name.
    ///
    /// # Errors
    /// An unknown name: the message lists the known ones.
    pub fn from_name(name: &str) -> Result<Self> {
        (Self::ALL.into_iter())
            .find(|paper| paper.name() == name)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::name).join(", ");
                Error::invalid(
                    "paper",
                    format!("`{name}` is not one of the papers"),
                    format!("use one of {known}"),
                )
            })
    }
}

/// Verdict on a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// True as stated.
    Holds,
    /// True under a condition that the statement lacks.
    HoldsIf,
    /// The printed line contradicts the paper's own neighbouring equations; corrected, it holds.
    Misprint,
    /// False as stated.
    Refuted,
}

impl Verdict {
    /// Every verdict, in the order of tables.
    pub const ALL: [Self; 4] = [Self::Holds, Self::HoldsIf, Self::Misprint, Self::Refuted];

    /// Name of the verdict, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::HoldsIf => "holds if",
            Self::Misprint => "misprint",
            Self::Refuted => "refuted",
        }
    }
}

/// A number behind a verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Name of the quantity.
    pub name: &'static str,
    /// Value as computed now.
    pub value: f64,
    /// Value that the paper prints, if it does.
    pub printed: Option<f64>,
}

/// Result of a check: a verdict and its evidence.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The verdict the numbers give; none where they fit no verdict, such as a repaired form that
    /// does not hold either.
    pub verdict: Option<Verdict>,
    /// One line: on how many problems, with what error.
    pub evidence: String,
    /// The numbers.
    pub measures: Vec<Measure>,
}

impl Finding {
    fn of(verdict: Option<Verdict>, evidence: impl Into<String>) -> Self {
        Self {
            verdict,
            evidence: evidence.into(),
            measures: Vec::new(),
        }
    }

    /// A finding on a statement that should be true as it stands; refuted where it turns out false.
    pub fn holds(as_stated: bool, evidence: impl Into<String>) -> Self {
        let verdict = if as_stated {
            Verdict::Holds
        } else {
            Verdict::Refuted
        };
        Self::of(Some(verdict), evidence)
    }

    /// A finding on a statement that needs a condition: it holds under it, and fails somewhere without.
    pub fn holds_if(under: bool, fails_without: bool, evidence: impl Into<String>) -> Self {
        let verdict = match (under, fails_without) {
            (true, true) => Some(Verdict::HoldsIf),
            (true, false) => Some(Verdict::Holds),
            (false, _) => None,
        };
        Self::of(verdict, evidence)
    }

    /// A finding on a printed line: it is wrong, and right as corrected.
    pub fn misprint(corrected: bool, printed_fails: bool, evidence: impl Into<String>) -> Self {
        let verdict = match (corrected, printed_fails) {
            (true, true) => Some(Verdict::Misprint),
            (_, false) => Some(Verdict::Holds),
            (false, true) => None,
        };
        Self::of(verdict, evidence)
    }

    /// A finding on a statement that has a counterexample.
    pub fn refuted(counterexample: bool, evidence: impl Into<String>) -> Self {
        let verdict = counterexample.then_some(Verdict::Refuted);
        Self::of(verdict, evidence)
    }

    /// Adds a number.
    #[must_use]
    pub fn measure(mut self, name: &'static str, value: f64) -> Self {
        let printed = None;
        self.measures.push(Measure {
            name,
            value,
            printed,
        });
        self
    }

    /// Adds a number that the paper prints too.
    #[must_use]
    pub fn against(mut self, name: &'static str, value: f64, printed: f64) -> Self {
        let printed = Some(printed);
        self.measures.push(Measure {
            name,
            value,
            printed,
        });
        self
    }
}

/// A claim of a paper.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Name, unique: paper, slash, a few words.
    pub name: &'static str,
    /// The paper.
    pub paper: Paper,
    /// Place in the paper: an equation, theorem, table or section.
    pub place: &'static str,
    /// The statement, in our words.
    pub statement: &'static str,
    /// The verdict on record.
    pub verdict: Verdict,
    /// The condition it needs, how it should read, or what stands nevertheless; empty if nothing is
    /// to be said.
    pub remark: &'static str,
    /// Checks it.
    pub check: fn() -> Result<Finding>,
}

/// A claim and what its check found now.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The claim.
    pub claim: Claim,
    /// Result of its check.
    pub finding: Finding,
}

impl Checked {
    /// True if the verdict came out as recorded.
    pub fn agrees(&self) -> bool {
        self.finding.verdict == Some(self.claim.verdict)
    }
}

/// Every claim, paper by paper.
pub fn all() -> Vec<Claim> {
    [
        copg::CLAIMS,
        dro::CLAIMS,
        copr::CLAIMS,
        bpo::CLAIMS,
        advantage::CLAIMS,
    ]
    .concat()
}

/// Checks claims, in parallel; the answers do not depend on the number of threads.
///
/// # Errors
/// If a check cannot run.
pub fn check(claims: &[Claim]) -> Result<Vec<Checked>> {
    (claims.par_iter())
        .map(|&claim| {
            let finding = (claim.check)()?;
            Ok(Checked { claim, finding })
        })
        .collect()
}

/// A share in percent of a number of answers.
#[derive(Debug, Clone, Copy)]
struct Share {
    percent: f64,
    of: f64,
}

impl Share {
    /// Its variance, in percent².
    fn variance(self) -> f64 {
        self.percent * (100.0 - self.percent) / self.of
    }

    /// The difference to a share of other answers over its deviation.
    fn score_less(self, other: Self) -> f64 {
        (self.percent - other.percent) / (self.variance() + other.variance()).sqrt()
    }
}

/// `count` random contextual problems: 1 to 3 prompts, 2 to 5 arms, temperatures 0.2 to 2.
fn random_problems(count: u64, key: u64) -> Result<Vec<Problem>> {
    (0..count)
        .map(|i| {
            let shape = Shape {
                prompts: 1 + (i % 3) as usize,
                arms: 2 + (i / 3 % 4) as usize,
                beta: [0.2, 0.5, 1.0, 2.0][(i / 12 % 4) as usize],
                reward_scale: 1.0,
            };
            random_problem(shape, key.wrapping_mul(1_000_003).wrapping_add(i))
        })
        .collect()
}

/// CoPG's toy bandit, on which the papers' numbers are compared.
fn toy() -> Result<Problem> {
    Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
            "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
    )
}
