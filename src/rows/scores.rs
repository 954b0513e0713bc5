//! Scores of algorithms on tasks, a line of JSON each: written by `evaluate` and studies, read by `aggregate`.

use serde::{Deserialize, Serialize};

/// A name, or a number as one.
#[derive(Serialize, Deserialize, Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(from = "serde_json::Value")]
pub struct Name(pub String);

impl From<serde_json::Value> for Name {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(name) => Self(name),
            other => Self(other.to_string()),
        }
    }
}

/// A score that a run came to.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Score {
    /// The algorithm; none in a file of one.
    #[serde(default)]
    pub algorithm: Name,
    /// What it was asked to do.
    pub task: Name,
    /// The run among those of one algorithm on one task.
    pub seed: Name,
    /// The number.
    pub score: f64,
    /// What it is a number of, for who reads the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

#[cfg(feature = "llm")]
impl Score {
    /// The line, with its end.
    ///
    /// # Errors
    /// A score that JSON has no number for.
    pub fn line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// A judgement of a run on its way.
#[cfg(feature = "llm")]
pub trait Judged {
    /// Algorithm and seed of the run; none of one that is not compared.
    fn run(&self) -> Option<(String, u64)>;

    /// The row of a run that counts is the one with the largest, of several the first.
    fn rank(&self) -> f64;

    /// What it came to, and of what that is a number.
    fn score(&self) -> (f64, &'static str);
}

/// The scores of the runs that rows are of, in the order of the rows. There is one task.
#[cfg(feature = "llm")]
pub fn scores<R: Judged>(rows: &[R]) -> Vec<Score> {
    let mut found: Vec<((String, u64), &R)> = Vec::new();
    for row in rows {
        let Some(run) = row.run() else { continue };
        match found.iter_mut().find(|(of, _)| *of == run) {
            Some((_, last)) if row.rank() > last.rank() => *last = row,
            Some(_) => {}
            None => found.push((run, row)),
        }
    }
    let score = |((algorithm, seed), row): ((String, u64), &R)| {
        let (score, of) = row.score();
        Score {
            algorithm: Name(algorithm),
            task: Name("study".into()),
            seed: Name(seed.to_string()),
            score,
            of: Some(of.into()),
        }
    };
    found.into_iter().map(score).collect()
}

#[cfg(all(test, feature = "llm"))]
mod tests {
    use super::*;

    struct Row(&'static str, u64, f64, f64);

    impl Judged for Row {
        fn run(&self) -> Option<(String, u64)> {
            (self.0 != "none").then(|| (self.0.into(), self.1))
        }

        fn rank(&self) -> f64 {
            self.2
        }

        fn score(&self) -> (f64, &'static str) {
            (self.3, "reward")
        }
    }

    #[test]
    fn the_row_of_a_run_that_counts_is_its_largest() {
        let rows = [
            Row("a", 0, 1.0, 10.0),
            Row("a", 0, 3.0, 30.0),
            Row("b", 0, 1.0, 11.0),
            Row("a", 1, 2.0, 20.0),
            Row("a", 0, 2.0, 25.0),
            Row("a", 1, 2.0, 21.0),
            Row("none", 0, 9.0, 90.0),
        ];
        let found = scores(&rows);
        let found: Vec<(&str, &str, f64)> = (found.iter())
            .map(|s| (s.algorithm.0.as_str(), s.seed.0.as_str(), s.score))
            .collect();
        assert_eq!(
            found,
            [("a", "0", 30.0), ("b", "0", 11.0), ("a", "1", 20.0)]
        );
    }
}
