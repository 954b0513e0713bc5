//! Weighted sums of rewards.

use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::magnitude::{RANGE, is_in_range};
use crate::observer::Observer;
use crate::text::exact;

/// `Σ weight · score`, with the parts told apart.
pub struct Weighted(Vec<(String, f64, Box<dyn Reward>)>);

/// Scores of a [`Weighted`] sum: the total, and each part.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The sum of each row.
    pub total: Vec<f64>,
    /// The parts by name, each row's score before it was weighed.
    pub parts: Vec<(String, Vec<f64>)>,
}

impl Weighted {
    /// The sum of parts: name, weight, reward.
    pub fn new(parts: Vec<(String, f64, Box<dyn Reward>)>) -> Self {
        Self(parts)
    }

    /// Names and weights of the parts.
    pub fn parts(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .map(|(name, weight, _)| (name.as_str(), *weight))
    }

    /// The scores and what they are made of.
    ///
    /// # Errors
    /// Those of the parts; a part that gives another number of scores than there are rows, or one
    /// beyond 1e100 in size or not finite, weighted and added too.
    pub fn scored(&mut self, rows: &[Candidate], observer: &dyn Observer) -> Result<Scored> {
        let mut scored = Scored {
            total: vec![0.0; rows.len()],
            parts: Vec::with_capacity(self.0.len()),
        };
        for (name, weight, reward) in &mut self.0 {
            let place = format!("reward `{name}`");
            let scores = if rows.is_empty() {
                Vec::new()
            } else {
                reward
                    .score(rows, observer)
                    .map_err(|e| e.in_file(&place))?
            };
            if scores.len() != rows.len() {
                return Err(Error::invalid(
                    place,
                    format!("it gave {} scores for {} rows", scores.len(), rows.len()),
                    "give one score a row",
                ));
            }
            for ((sum, score), row) in scored.total.iter_mut().zip(&scores).zip(rows) {
                let refused = |what: &str, x: f64| {
                    let problem = format!("its {what} is {}", exact(x));
                    row.fault(problem, format!("give {RANGE}")).in_file(&place)
                };
                if !is_in_range(*score) {
                    return Err(refused("score", *score));
                }
                *sum += *weight * score;
                if !is_in_range(*sum) {
                    return Err(refused("weighted sum", *sum));
                }
            }
            scored.parts.push((name.clone(), scores));
        }
        Ok(scored)
    }
}

impl Reward for Weighted {
    fn name(&self) -> String {
        let each = (self.0.iter()).map(|(name, weight, _)| match weight {
            1.0 => name.clone(),
            weight => format!("{weight}*{name}"),
        });
        each.collect::<Vec<_>>().join(" + ")
    }

    fn score(&mut self, rows: &[Candidate], observer: &dyn Observer) -> Result<Vec<f64>> {
        Ok(self.scored(rows, observer)?.total)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::Resources;
    use super::super::Specification;
    use super::*;
    use crate::observer::Silent;

    struct Fixed(Vec<f64>);

    impl Reward for Fixed {
        fn name(&self) -> String {
            "fixed".into()
        }

        fn score(&mut self, _: &[Candidate], _: &dyn Observer) -> Result<Vec<f64>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn sums_have_their_parts() {
        let flags = ["regex,count=true,weight=2:a", "length,weight=-0.5"];
        let mut sum = (Specification::parse(&flags).unwrap())
            .build(&Resources::default())
            .unwrap();
        assert_eq!(sum.name(), "2*regex + -0.5*length");
        let fields = Map::new();
        let row = |completion, index| Candidate {
            prompt: "",
            completion,
            index,
            fields: &fields,
        };
        let scored = sum
            .scored(&[row("banana", 0), row("x", 1)], &Silent)
            .unwrap();
        assert_eq!(scored.total, [2.0 * 3.0 - 0.5 * 6.0, -0.5]);
        assert_eq!(scored.parts[0], ("regex".into(), vec![3.0, 0.0]));
        assert_eq!(scored.parts[1], ("length".into(), vec![6.0, 1.0]));
        for (scores, expected) in [
            (vec![1.0], "1 scores for 2 rows"),
            (vec![1.0, f64::NAN], "row 2: its score is NaN"),
            (vec![1.7e308, 1.0], "row 1: its score is 1.7e308"),
            (vec![0.0, -1.1e100], "row 2: its score is -1.1e100"),
            (vec![1.0, 1e60], "row 2: its weighted sum is 1e110"),
        ] {
            let mut bad = Weighted::new(vec![("f".into(), 1e50, Box::new(Fixed(scores)))]);
            let error = bad
                .scored(&[row("a", 0), row("b", 1)], &Silent)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected) && error.contains("`f`"), "{error}");
        }
    }
}
