//! Classes of prompts: openings of a model's own that begin with one word.

use crate::llm::model::decoder::Decoder;
use crate::random::{Purpose, Stream};
use anyhow::{Result, ensure};
use rand_chacha::rand_core::RngCore;

use super::world::{PROMPT, World};

/// The stream of the first class's openings; those of the others follow.
const OPENINGS: u64 = 4;

/// Prompts that begin with one word.
pub struct Class {
    /// The word.
    pub word: String,
    /// To learn from.
    pub prompts: Vec<Vec<u32>>,
    /// Held out.
    pub held: Vec<Vec<u32>>,
}

/// The seed of one of a study's streams of samples; those of openings begin at [`OPENINGS`].
pub fn seed(world: &World, stream: u64) -> u64 {
    Stream::new(world.key, Purpose::Responses, (1 << 32) + stream)
        .rng()
        .next_u64()
}

/// The first word of a text, without what is not a letter or a digit at its end.
pub fn first_word(text: &str) -> &str {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.trim_end_matches(|c: char| !c.is_alphanumeric())
}

/// The commonest first words of the model's openings, the commonest first; of equal ones the first in the alphabet.
/// Words without a capital begin no text, unless there are no others.
///
/// # Errors
/// A model whose openings have too few.
pub fn words(world: &World, model: &Decoder, survey: usize, wanted: usize) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for prompt in world.prompts(model, survey)? {
        let text = world.text(&prompt)?;
        let word = first_word(&text);
        if !word.is_empty() {
            found.push(word.into());
        }
    }
    found.sort_unstable();
    let mut counted: Vec<(usize, &str)> = (found.chunk_by(|a, b| a == b))
        .map(|same| (same.len(), same[0].as_str()))
        .collect();
    let small = |word: &str| word.starts_with(char::is_lowercase);
    counted.sort_by_key(|&(count, word)| (small(word), std::cmp::Reverse(count)));
    ensure!(
        counted.len() >= wanted,
        "{}: its openings begin with {} different words, and the study makes classes of the commonest {wanted}",
        world.model.folder.display(),
        counted.len()
    );
    let words = counted.iter().take(wanted);
    Ok(words.map(|(_, word)| word.to_string()).collect())
}

/// Openings that go on from a word, as the model writes them: so many to learn from, and held out.
///
/// # Errors
/// A model that does not go on with whole words.
pub fn class(
    world: &World,
    model: &Decoder,
    index: usize,
    word: String,
    [count, held]: [usize; 2],
) -> Result<Class> {
    let mut start = world.tokenizer.encode(&word)?;
    start.retain(|token| *token != world.bos);
    ensure!(
        start.len() < PROMPT,
        "{}: `{word}`, with which its openings begin, has {} tokens, and an opening {PROMPT}",
        world.model.folder.display(),
        start.len()
    );
    start.insert(0, world.bos);
    let all = count + held;
    // Some go on within the word, or end.
    let starts = vec![start.clone(); 2 * all + 64];
    let more = 1 + PROMPT - start.len();
    let seed = seed(world, OPENINGS + index as u64);
    let mut prompts = Vec::new();
    for drawn in world.generate(model, &starts, [1, more], seed)? {
        let prompt = [&start[..], &drawn.tokens].concat();
        if !drawn.ended && first_word(&world.text(&prompt)?) == word {
            prompts.push(prompt);
        }
    }
    ensure!(
        prompts.len() >= all,
        "{}: of {} openings that it goes on with after `{word}`, {} are whole, and the study needs {all}; ask for \
         fewer --prompts",
        world.model.folder.display(),
        starts.len(),
        prompts.len()
    );
    prompts.truncate(all);
    let held = prompts.split_off(count);
    Ok(Class {
        word,
        prompts,
        held,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_without_points() {
        for (text, word) in [
            ("Once upon a time", "Once"),
            (" Lily, a girl", "Lily"),
            ("\"Yes!\" she", "\"Yes"),
            ("", ""),
            (" . .", ""),
        ] {
            assert_eq!(first_word(text), word);
        }
    }
}
