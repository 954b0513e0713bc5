//! How the two kinds of scorers rank, how well they are calibrated, and how far their classes lie apart.

use std::collections::BTreeMap;

use super::super::super::report::Claim;
use super::super::scorers::{Kind, MARGIN};
use super::{BySeed, claim, less, shown};
use crate::rows::study_rehearsal::ScorerRow;
use crate::sims::report::markdown;
use crate::stats::deviation;

/// The scorers' rows.
pub struct Scorers<'a>(pub &'a [ScorerRow]);

impl Scorers<'_> {
    /// A number of a scorer on pairs of one class, or of all.
    fn of(&self, kind: Kind, class: &str, of: impl Fn(&ScorerRow) -> f64) -> BySeed {
        let wanted = |r: &&ScorerRow| r.scorer == kind.name() && r.class == class;
        (self.0.iter().filter(wanted))
            .map(|r| (r.seed, of(r)))
            .collect()
    }

    fn classes(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for row in self.0.iter().filter(|r| r.class != ScorerRow::ALL) {
            if !found.contains(&row.class.as_str()) {
                found.push(&row.class);
            }
        }
        found
    }

    /// A number of the classes' numbers.
    fn between(
        &self,
        kind: Kind,
        of: impl Fn(&ScorerRow) -> f64,
        combined: impl Fn(&[f64]) -> f64,
    ) -> BySeed {
        let mut each: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for class in self.classes() {
            for (seed, value) in self.of(kind, class, &of) {
                each.entry(seed).or_default().push(value);
            }
        }
        each.into_iter().map(|(s, of)| (s, combined(&of))).collect()
    }

    /// The standard deviation of the classes' mean scores.
    fn apart(&self, kind: Kind) -> BySeed {
        self.between(kind, |r| r.mean, deviation)
    }

    /// The same over the standard deviation of all scores, which no factor changes.
    fn share_apart(&self, kind: Kind) -> BySeed {
        let sd = self.of(kind, ScorerRow::ALL, |r| r.sd);
        let apart = self.apart(kind).into_iter();
        apart
            .filter_map(|(s, x)| Some((s, x / sd.get(&s)?)))
            .collect()
    }

    /// A line of each.
    pub fn table(&self) -> String {
        let mut header: Vec<String> = ["", "accuracy", "ECE", "standard deviation"]
            .map(String::from)
            .to_vec();
        header.extend(
            self.classes()
                .iter()
                .map(|class| format!("mean of {class}")),
        );
        header.push("sd of these means".into());
        header.push(format!("beyond ±{MARGIN}"));
        let line = |kind: Kind| {
            let all = |f: fn(&ScorerRow) -> f64| shown(self.of(kind, ScorerRow::ALL, f).values());
            let mut line = vec![
                kind.name().into(),
                all(|r| r.accuracy),
                all(|r| r.ece),
                all(|r| r.sd),
            ];
            let classes = self.classes().into_iter();
            line.extend(classes.map(|class| shown(self.of(kind, class, |r| r.mean).values())));
            line.push(shown(self.apart(kind).values()));
            line.push(all(|r| r.beyond));
            line
        };
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        markdown(&header, &Kind::ALL.map(line))
    }

    /// What the paper says of them.
    pub fn claims(&self) -> Vec<Claim> {
        let (r, a) = (Kind::Reward, Kind::Advantage);
        let all = |kind, f: fn(&ScorerRow) -> f64| self.of(kind, ScorerRow::ALL, f);
        vec![
            claim(
                "the Advantage Model ranks more pairs as labelled than the reward model",
                less(&all(a, |r| r.accuracy), &all(r, |r| r.accuracy)),
            ),
            claim(
                "… and has the smaller calibration error",
                less(&all(r, |r| r.ece), &all(a, |r| r.ece)),
            ),
            claim(
                "… and classes whose mean scores lie closer together",
                less(&self.apart(r), &self.apart(a)),
            ),
            claim(
                "… in shares of all scores' standard deviation too",
                less(&self.share_apart(r), &self.share_apart(a)),
            ),
        ]
    }
}
