//! Two entrants before a judge, every pair in both orders.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Judge, Pair, Verdict};
use crate::error::{Error, Result};
use crate::llm::sample::evaluate::{Entrant, Prompts};
use crate::observer::Observer;

/// How a completion fares against another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is better.
    Win,
    /// Neither is.
    Tie,
    /// The other is.
    Lose,
}

/// A completion of one entrant and one of the other, of the same prompt, and what the judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgedPair {
    /// Index of the first entrant's completion.
    pub ours: usize,
    /// Index of the other's.
    pub theirs: usize,
    /// How ours fares when it is shown first, and when it is shown second.
    pub orders: [Outcome; 2],
}

impl JudgedPair {
    /// A win if both orders say so, a loss if both say so, else a tie.
    pub fn outcome(&self) -> Outcome {
        match self.orders {
            [Outcome::Win, Outcome::Win] => Outcome::Win,
            [Outcome::Lose, Outcome::Lose] => Outcome::Lose,
            _ => Outcome::Tie,
        }
    }
}

/// All pairs of two entrants' completions, prompt by prompt, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Duel<'a> {
    /// The one whose wins are counted.
    pub one: &'a Entrant,
    /// The opponent.
    pub other: &'a Entrant,
    /// Every completion of the one with every completion of the other.
    pub pairs: Vec<JudgedPair>,
}

/// Duels of every entrant with all that come after it. The judge sees all their pairs together, each
/// at once followed by its exchange.
///
/// # Errors
/// Those of the judge; one that does not judge all pairs.
pub fn duels<'a>(
    entrants: &'a [Entrant],
    prompts: &Prompts,
    judge: &mut dyn Judge,
    observer: &dyn Observer,
) -> Result<Vec<Duel<'a>>> {
    let mut duels = Vec::new();
    for (i, one) in entrants.iter().enumerate() {
        for other in &entrants[i + 1..] {
            let pairs = pairs(one, other);
            duels.push(Duel { one, other, pairs });
        }
    }
    let mut shown = Vec::new();
    for duel in &duels {
        for pair in &duel.pairs {
            let ours = &duel.one.completions[pair.ours];
            let theirs = &duel.other.completions[pair.theirs].text;
            let prompt = &prompts.all[ours.prompt];
            let show = |a, b| Pair {
                prompt: &prompt.text,
                a,
                b,
                index: prompt.row,
                fields: &prompt.fields,
            };
            shown.push(show(&ours.text, theirs));
            shown.push(show(theirs, &ours.text));
        }
    }
    let place = "judge";
    let verdicts = judge
        .verdicts(&shown, observer)
        .map_err(|e| e.in_file(place));
    let verdicts = verdicts.map_err(|e| e.in_file(&prompts.origin))?;
    if verdicts.len() != shown.len() {
        let problem = format!("{} verdicts for {} pairs", verdicts.len(), shown.len());
        return Err(Error::invalid(place, problem, "give one a pair"));
    }
    let judged = duels.iter_mut().flat_map(|duel| &mut duel.pairs);
    for (pair, verdicts) in judged.zip(verdicts.chunks_exact(2)) {
        pair.orders = [
            outcome(verdicts[0], [Outcome::Win, Outcome::Lose]),
            outcome(verdicts[1], [Outcome::Lose, Outcome::Win]),
        ];
    }
    Ok(duels)
}

/// What a verdict means where A and B mean those.
fn outcome(verdict: Verdict, [a, b]: [Outcome; 2]) -> Outcome {
    match verdict {
        Verdict::A => a,
        Verdict::B => b,
        Verdict::Tie => Outcome::Tie,
    }
}

/// Every completion of one with every completion of the other, of the same prompt, not yet judged.
fn pairs(one: &Entrant, other: &Entrant) -> Vec<JudgedPair> {
    let prompts = other.prompts();
    let mut pairs = Vec::new();
    // Completions are in the order of their prompts.
    for (ours, completion) in one.completions.iter().enumerate() {
        let from = prompts.partition_point(|&prompt| prompt < completion.prompt);
        let same = prompts[from..]
            .iter()
            .take_while(|p| **p == completion.prompt);
        pairs.extend((from..from + same.count()).map(|theirs| JudgedPair {
            ours,
            theirs,
            orders: [Outcome::Tie; 2],
        }));
    }
    pairs
}

impl Duel<'_> {
    /// One row a pair: `prompt`, `name` and `against`, who they are, `completion` and `opponent`,
    /// their texts, `orders`, how the former fares when it is shown first and when second, and
    /// `outcome`.
    pub fn rows(&self, prompts: &Prompts) -> Vec<Map<String, Value>> {
        let word = |outcome| {
            let word = match outcome {
                Outcome::Win => "win",
                Outcome::Tie => "tie",
                Outcome::Lose => "lose",
            };
            Value::from(word)
        };
        let row = |pair: &JudgedPair| {
            let ours = &self.one.completions[pair.ours];
            let theirs = &self.other.completions[pair.theirs];
            let row: [(&str, Value); 7] = [
                ("prompt", prompts.all[ours.prompt].text.as_str().into()),
                ("name", self.one.name.as_str().into()),
                ("against", self.other.name.as_str().into()),
                ("completion", ours.text.as_str().into()),
                ("opponent", theirs.text.as_str().into()),
                ("orders", pair.orders.map(word).to_vec().into()),
                ("outcome", word(pair.outcome())),
            ];
            row.map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect()
        };
        self.pairs.iter().map(row).collect()
    }
}
