//! Words that have scores.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::units::{folded, is_word, words};
use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::magnitude::{RANGE, is_in_range};
use crate::observer::Observer;
use crate::text::exact;

/// Aggregation of the words' scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Measure {
    /// Their sum.
    #[default]
    Sum,
    /// Their mean over all words of the completion, of which the unlisted have 0.
    Mean,
    /// Their mean over the listed words of the completion.
    Listed,
}

/// Settings of [`Lexicon`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LexiconSettings {
    /// A file of lines `word<TAB>score`; more columns are ignored, and so are blank lines and those
    /// that begin with `#`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Words with their scores, instead of a file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// Aggregation of the scores.
    pub measure: Measure,
    /// True if `A` and `a` differ.
    pub case_sensitive: bool,
    /// Leaves out entries that are not single words, such as `can't stand` or `:-)`.
    pub skip_phrases: bool,
}

/// Sum or mean of the scores of a completion's [words](super::words), 0 where none is listed. Words
/// are compared in lower case unless the settings say otherwise.
#[derive(Debug)]
pub struct Lexicon {
    scores: HashMap<String, f64>,
    measure: Measure,
    case_sensitive: bool,
}

impl Lexicon {
    /// The reward of those settings.
    ///
    /// # Errors
    /// Neither or both of file and scores, a file that cannot be read, lines that are not as they
    /// should be, words with two scores.
    pub fn new(settings: &LexiconSettings) -> Result<Self> {
        let mut this = Self {
            scores: HashMap::new(),
            measure: settings.measure,
            case_sensitive: settings.case_sensitive,
        };
        match (&settings.file, settings.scores.is_empty()) {
            (Some(file), true) => this.read(file, settings.skip_phrases)?,
            (None, false) => {
                for (word, &score) in &settings.scores {
                    this.add("scores", word, score, settings.skip_phrases)?;
                }
            }
            _ => {
                let problem = "it needs a file or scores, one of the two";
                let remedy = "give lexicon:FILE, or a table of scores in a TOML file";
                return Err(Error::invalid("lexicon", problem, remedy));
            }
        }
        if this.scores.is_empty() {
            let place = settings.file.as_deref().unwrap_or(Path::new("lexicon"));
            let (place, remedy) = (place.display().to_string(), "give lines word<TAB>score");
            return Err(Error::invalid(place, "it has no words", remedy));
        }
        Ok(this)
    }

    fn read(&mut self, file: &Path, skip: bool) -> Result<()> {
        let origin = file.display().to_string();
        let text = crate::file::read(file)?;
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{origin}:{}", number + 1);
            let remedy = "give lines word<TAB>score";
            let Some((word, rest)) = line.split_once('\t') else {
                return Err(Error::invalid(place, "there is no tab in it", remedy));
            };
            let score = rest.split('\t').next().unwrap_or_default().trim();
            let Ok(score) = score.parse::<f64>() else {
                let problem = format!("`{score}` is no number");
                return Err(Error::invalid(place, problem, remedy));
            };
            self.add(&place, word.trim(), score, skip)?;
        }
        Ok(())
    }

    fn add(&mut self, place: &str, word: &str, score: f64, skip: bool) -> Result<()> {
        let fail = |problem: String, remedy: &str| Err(Error::invalid(place, problem, remedy));
        if !is_word(word) {
            return if skip {
                Ok(())
            } else {
                fail(
                    format!("`{word}` is not a single word and would never be found"),
                    "remove it, or set skip_phrases = true to leave all such entries out",
                )
            };
        }
        if !is_in_range(score) {
            return fail(
                format!("the score of `{word}` is {}", exact(score)),
                &format!("give {RANGE}"),
            );
        }
        let key = folded(word, self.case_sensitive);
        match self.scores.insert(key, score) {
            Some(other) if other != score => {
                let remedy = "keep one of them (words are compared in lower case unless \
                              case_sensitive = true)";
                fail(
                    format!("`{word}` has two scores, {other} and {score}"),
                    remedy,
                )
            }
            _ => Ok(()),
        }
    }

    fn one(&self, text: &str) -> f64 {
        let (mut sum, mut all, mut listed) = (0.0, 0usize, 0usize);
        for word in words(text) {
            all += 1;
            if let Some(score) = self.scores.get(&folded(word, self.case_sensitive)) {
                sum += score;
                listed += 1;
            }
        }
        match self.measure {
            Measure::Sum => sum,
            Measure::Mean => sum / all.max(1) as f64,
            Measure::Listed => sum / listed.max(1) as f64,
        }
    }
}

impl Reward for Lexicon {
    fn name(&self) -> String {
        "lexicon".into()
    }

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> Result<Vec<f64>> {
        Ok(rows.iter().map(|row| self.one(row.completion)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(measure: Measure, case_sensitive: bool) -> Lexicon {
        let scores = [("good".into(), 2.0), ("Bad".into(), -3.0)].into();
        Lexicon::new(&LexiconSettings {
            scores,
            measure,
            case_sensitive,
            ..LexiconSettings::default()
        })
        .unwrap()
    }

    #[test]
    fn sums_and_means() {
        let text = "Good, good and bad.";
        assert_eq!(inline(Measure::Sum, false).one(text), 1.0);
        assert_eq!(inline(Measure::Mean, false).one(text), 0.25);
        assert_eq!(inline(Measure::Listed, false).one(text), 1.0 / 3.0);
        assert_eq!(inline(Measure::Sum, true).one(text), 2.0);
        for measure in [Measure::Sum, Measure::Mean, Measure::Listed] {
            assert_eq!(inline(measure, false).one(""), 0.0);
        }
    }

    #[test]
    fn files_and_what_is_wrong_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("words.tsv");
        let read = |text: &str, skip_phrases| {
            std::fs::write(&file, text).unwrap();
            Lexicon::new(&LexiconSettings {
                file: Some(file.clone()),
                skip_phrases,
                ..LexiconSettings::default()
            })
        };
        let vader = "\u{feff}# VADER\ngood\t1.9\t0.9\t[2, 1]\n\nbad\t-2.5\r\n";
        assert_eq!(
            read(vader, false).unwrap().one("good bad"),
            -0.6000000000000001
        );
        for (text, expected) in [
            ("good 1\n", "words.tsv:1: there is no tab"),
            ("a\t1\ngood\tx\n", "words.tsv:2: `x` is no number"),
            ("can't stand\t-3\n", "`can't stand` is not a single word"),
            ("good\t1\nGood\t2\n", "two scores, 1 and 2"),
            ("good\tNaN\n", "the score of `good` is NaN"),
            ("# nothing\n", "has no words"),
        ] {
            let error = read(text, false).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(":-)\t2\ngood\t1\n", true).is_ok());
        let none = Lexicon::new(&LexiconSettings::default())
            .unwrap_err()
            .to_string();
        assert!(none.contains("lexicon:FILE"), "{none}");
    }
}
