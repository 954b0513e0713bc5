//! Sets of words or tokens.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{counts, folded, is_word};
use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// Measure of the set's words in a completion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Measure {
    /// 1 if there is one, else 0.
    #[default]
    Any,
    /// Number of their occurrences.
    Count,
    /// Their share of all words of the completion; 0 of an empty one.
    Share,
    /// Share of the set that occurs: 1 if every word of it does.
    All,
}

/// Settings of [`Words`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordsSettings {
    /// The set.
    pub words: Vec<String>,
    /// Measure of its words in the completion.
    #[serde(default)]
    pub measure: Measure,
    /// True if `A` and `a` differ. Tokens always do.
    #[serde(default)]
    pub case_sensitive: bool,
    /// Folder of a tokenizer: the set is one of tokens then, as the vocabulary writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
}

/// Reward for words of a set: whether, or how often, they occur.
pub struct Words {
    measure: Measure,
    set: Set,
}

enum Set {
    Words(HashSet<String>, bool),
    Tokens(HashSet<u32>, Box<Tokenizer>),
}

impl Words {
    /// The reward of those settings.
    ///
    /// # Errors
    /// An empty set, an entry that is not a single word, or a token that is not in the vocabulary.
    pub fn new(settings: &WordsSettings) -> Result<Self> {
        let fail = |problem: String, remedy: &str| Err(Error::invalid("words", problem, remedy));
        if settings.words.is_empty() {
            return fail("there is none".into(), "give one or more: words:happy,glad");
        }
        let set = match &settings.tokenizer {
            None => {
                if let Some(other) = settings.words.iter().find(|w| !is_word(w)) {
                    let remedy = "give words one by one; regex finds phrases";
                    return fail(format!("`{other}` is not a single word"), remedy);
                }
                let fold = |word: &String| folded(word, settings.case_sensitive);
                let set = settings.words.iter().map(fold).collect();
                Set::Words(set, settings.case_sensitive)
            }
            Some(dir) => {
                let tokenizer = ModelFolder::tokenizer_of(dir)?;
                let mut set = HashSet::new();
                for word in &settings.words {
                    let Some(token) = tokenizer.token(word) else {
                        let remedy = "write tokens as tokenizer.json does: ▁happy, Ġhappy";
                        return fail(format!("`{word}` is not in the vocabulary"), remedy);
                    };
                    set.insert(token);
                }
                Set::Tokens(set, Box::new(tokenizer))
            }
        };
        let measure = settings.measure;
        Ok(Self { measure, set })
    }

    fn one(&self, text: &str) -> Result<f64> {
        let (found, distinct, all, size) = match &self.set {
            Set::Words(set, case_sensitive) => {
                let (counts, all) = counts(text, *case_sensitive);
                let found: Vec<usize> = set.iter().filter_map(|w| counts.get(w).copied()).collect();
                (found.iter().sum(), found.len(), all, set.len())
            }
            Set::Tokens(set, tokenizer) => {
                let tokens = tokenizer.encode(text)?;
                let found: Vec<&u32> = tokens.iter().filter(|t| set.contains(t)).collect();
                let distinct = found.iter().collect::<HashSet<_>>().len();
                (found.len(), distinct, tokens.len(), set.len())
            }
        };
        Ok(match self.measure {
            Measure::Any => f64::from(u8::from(found > 0)),
            Measure::Count => found as f64,
            Measure::Share => found as f64 / all.max(1) as f64,
            Measure::All => distinct as f64 / size as f64,
        })
    }
}

impl Reward for Words {
    fn name(&self) -> String {
        "words".into()
    }

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> Result<Vec<f64>> {
        rows.iter().map(|row| self.one(row.completion)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_a_set() {
        let text = "Happy dogs are happy; so am I, don't you know?";
        for (measure, expected) in [
            (Measure::Any, 1.0),
            (Measure::Count, 3.0),
            (Measure::Share, 0.3),
            (Measure::All, 2.0 / 3.0),
        ] {
            let mut settings = WordsSettings {
                words: ["happy", "don’t", "glad"].map(String::from).into(),
                measure,
                case_sensitive: false,
                tokenizer: None,
            };
            let one =
                |settings: &WordsSettings, text| Words::new(settings).unwrap().one(text).unwrap();
            assert_eq!(one(&settings, text), expected, "{measure:?}");
            assert_eq!(one(&settings, ""), 0.0);
            settings.case_sensitive = true;
            settings.words = vec!["Happy".into()];
            settings.measure = Measure::Count;
            assert_eq!(one(&settings, text), 1.0);
        }
    }

    #[test]
    fn phrases_are_refused() {
        let settings = WordsSettings {
            words: vec!["not good".into()],
            measure: Measure::Any,
            case_sensitive: false,
            tokenizer: None,
        };
        let error = Words::new(&settings).err().unwrap().to_string();
        assert!(error.contains("`not good`"), "{error}");
    }
}
