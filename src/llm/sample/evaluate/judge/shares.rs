//! Shares of wins, ties and losses, and how far a judge agrees with itself.

use serde::Serialize;

use super::{Duel, JudgedPair, Outcome};
use crate::stats::{Bootstrap, Mean, clustered};

/// What a judge says of an entrant against another. Means are over prompts, each of which weighs the same;
/// intervals take prompts, not pairs, as independent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Name of the one whose wins are counted.
    pub name: String,
    /// Against whom.
    pub against: String,
    /// Number of pairs, each judged twice.
    pub pairs: usize,
    /// Share of pairs that it wins in both orders.
    pub win: Option<Mean>,
    /// Share of pairs that neither wins in both orders.
    pub tie: Option<Mean>,
    /// Share of pairs that it loses in both orders.
    pub lose: Option<Mean>,
    /// Share of pairs of which both orders say the same: the same side, or both times a tie.
    pub agreement: Option<Mean>,
    /// Share of verdicts for the completion that is shown first, ties counted half: ½ of a judge whom
    /// the order does not sway.
    pub first: Option<Mean>,
}

impl Judged {
    /// The statistics of a duel.
    pub fn new(duel: &Duel, bootstrap: &Bootstrap) -> Self {
        let prompts: Vec<usize> = (duel.pairs.iter())
            .map(|pair| duel.one.completions[pair.ours].prompt)
            .collect();
        let share = |of: &dyn Fn(&JudgedPair) -> f64| {
            let values: Vec<f64> = duel.pairs.iter().map(of).collect();
            clustered(&values, &prompts, bootstrap).map(Mean::of_shares)
        };
        let is = |outcome| share(&|pair| f64::from(u8::from(pair.outcome() == outcome)));
        let won = |outcome| match outcome {
            Outcome::Win => 1.0,
            Outcome::Tie => 0.5,
            Outcome::Lose => 0.0,
        };
        Self {
            name: duel.one.name.clone(),
            against: duel.other.name.clone(),
            pairs: duel.pairs.len(),
            win: is(Outcome::Win),
            tie: is(Outcome::Tie),
            lose: is(Outcome::Lose),
            agreement: share(&|pair| f64::from(u8::from(pair.orders[0] == pair.orders[1]))),
            first: share(&|pair| 0.5 * (won(pair.orders[0]) + 1.0 - won(pair.orders[1]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::sample::evaluate::{Completion, Entrant};

    #[test]
    fn shares_are_of_prompts() {
        use Outcome::{Lose, Tie, Win};
        let entrant = |prompts: &[usize]| Entrant {
            name: "one".into(),
            completions: (prompts.iter())
                .map(|&prompt| Completion {
                    prompt,
                    ..Completion::default()
                })
                .collect(),
            scores: Vec::new(),
            parts: Vec::new(),
        };
        let (one, other) = (entrant(&[0, 0, 2]), entrant(&[0, 2]));
        let pair = |ours, theirs, orders| JudgedPair {
            ours,
            theirs,
            orders,
        };
        let duel = Duel {
            one: &one,
            other: &other,
            pairs: vec![
                pair(0, 0, [Win, Win]),
                pair(1, 0, [Win, Lose]),
                pair(2, 1, [Tie, Tie]),
            ],
        };
        let found = Judged::new(&duel, &Bootstrap::default());
        assert_eq!(found.pairs, 3);
        let value = |mean: Option<Mean>| mean.unwrap().value;
        // (½ + 0)/2, (½ + 1)/2, 0; (½ + 1)/2; ((½ + 1)/2 + ½)/2.
        assert_eq!(value(found.win), 0.25);
        assert_eq!(value(found.tie), 0.75);
        assert_eq!(value(found.lose), 0.0);
        assert_eq!(value(found.agreement), 0.75);
        assert_eq!(value(found.first), 0.625);
        assert_eq!(found.win.unwrap().clusters, 2);
    }
}
