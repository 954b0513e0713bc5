//! Rows held out of training.

use std::borrow::Cow;

use super::examples::Examples;
use crate::error::{Error, Result};
use crate::llm::text::example::Example;
use crate::random::{Purpose, Stream};

/// Some rows of examples, in their order.
pub struct Rows<'a> {
    of: &'a dyn Examples,
    rows: Vec<u32>,
}

impl<'a> Rows<'a> {
    /// All of them.
    pub fn all(of: &'a dyn Examples) -> Self {
        let rows = (0..of.count() as u32).collect();
        Self { of, rows }
    }

    /// The rows that are trained on, and `held` of them that are not: a uniformly random choice,
    /// which depends on nothing but `seed` and how many rows there are.
    ///
    /// # Errors
    /// No row held out, or none left.
    pub fn split(of: &'a dyn Examples, held: usize, seed: u64) -> Result<[Self; 2]> {
        let count = of.count();
        if held == 0 || held >= count {
            return Err(Error::invalid(
                "evaluation split",
                format!("it has {held} of the {count} rows of the data"),
                "hold out at least one and leave at least one",
            ));
        }
        let mut rows: Vec<u32> = (0..count as u32).collect();
        Stream::new(seed, Purpose::Split, 0).shuffle(&mut rows);
        let mut trained = rows.split_off(held);
        rows.sort_unstable();
        trained.sort_unstable();
        Ok([trained, rows].map(|rows| Self { of, rows }))
    }
}

impl Examples for Rows<'_> {
    fn count(&self) -> usize {
        self.rows.len()
    }

    fn at(&self, rows: &[u32]) -> Result<Vec<Example>> {
        let rows: Vec<u32> = rows.iter().map(|&r| self.rows[r as usize]).collect();
        self.of.at(&rows)
    }

    fn lengths(&self) -> Option<Cow<'_, [u32]>> {
        let all = self.of.lengths()?;
        Some(self.rows.iter().map(|&r| all[r as usize]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::model::sequence::Sequence;
    use crate::llm::text::example::Beside;
    use crate::llm::text::example::Response;

    #[test]
    fn every_row_is_in_one_part_and_the_choice_is_the_seeds() {
        let examples: Vec<Example> = (0..40)
            .map(|row| {
                let tokens = vec![0; 2 + row as usize];
                let sequence = Sequence::new(tokens, 1).unwrap();
                let reward = 0.0;
                let responses = vec![Response::new(sequence, reward)];
                Example {
                    row,
                    responses,
                    beside: Beside::default(),
                }
            })
            .collect();
        let rows = |seed| {
            Rows::split(&examples, 10, seed).unwrap().map(|part| {
                let all: Vec<u32> = (0..part.count() as u32).collect();
                let found = part.at(&all).unwrap();
                let lengths: Vec<u32> = found.iter().map(|e| e.tokens() as u32).collect();
                assert_eq!(part.lengths().unwrap(), lengths);
                found.iter().map(|e| e.row).collect::<Vec<u64>>()
            })
        };
        let [trained, held] = rows(3);
        assert_eq!((trained.len(), held.len()), (30, 10));
        let mut all = [trained.clone(), held.clone()].concat();
        assert!(trained.is_sorted() && held.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<u64>>());
        assert_eq!(rows(3), [trained, held.clone()]);
        assert_ne!(rows(4)[1], held);
        for held in [0, 40, 41] {
            let error = Rows::split(&examples, held, 0).err().unwrap().to_string();
            assert!(error.contains("hold out at least one"), "{error}");
        }
    }
}
