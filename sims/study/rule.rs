//! Rewards of completions.

use std::collections::BTreeMap;

use crate::llm::sample::reward::{LexiconSettings, Part, Rule, Specification};
use anyhow::Result;

/// Words of a glad story, which count 1 each, and of a sad one, −1.
pub const GLAD: &str = "beautiful best excited friend friends fun glad good happy hug hugged kind laugh \
                    laughed like liked love loved nice play played proud smile smiled yes";
const SAD: &str = "afraid angry bad broke broken cried cry dark fell hurt lost mad mean no not sad \
                   scared sorry";

/// Words that a skill apart from the above has: they count 1 each.
const ANIMALS: &str = "animal animals bear bears bee bird birds bug bunny butterfly cat cats chicken cow dinosaur dog dogs \
                       duck elephant fish fox frog horse kitty lion monkey mouse owl pet pig puppy rabbit squirrel turtle";

/// The rule of those flags, or else the words above.
///
/// # Errors
/// Flags that are none.
pub fn rule(flags: &[String]) -> Result<Specification> {
    if !flags.is_empty() {
        return Ok(Specification::parse(flags)?);
    }
    let glad = GLAD.split_whitespace().map(|word| (word, 1.0));
    let sad = SAD.split_whitespace().map(|word| (word, -1.0));
    Ok(lexicon("glad words less sad ones", glad.chain(sad)))
}

/// The rule that counts animals.
pub fn animals() -> Specification {
    let words = ANIMALS.split_whitespace().map(|word| (word, 1.0));
    lexicon("animals", words)
}

fn lexicon(name: &str, words: impl Iterator<Item = (&'static str, f64)>) -> Specification {
    let scores: BTreeMap<String, f64> = words.map(|(w, s)| (w.into(), s)).collect();
    Specification(vec![Part {
        name: name.into(),
        weight: 1.0,
        rule: Rule::Lexicon(LexiconSettings {
            scores,
            ..LexiconSettings::default()
        }),
    }])
}
