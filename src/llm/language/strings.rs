//! Strings: prompts, and every response to them.

use crate::error::{Error, Result};
use crate::llm::model::architecture::{Architecture, Norm, Positions};
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::ops::Activation;

/// Most responses to a prompt. Losses over pairs visit K² of them and stop at
/// [`PAIR_CAP`](crate::bandit::population::PAIR_CAP) long before.
pub const MOST_RESPONSES: usize = 1_000_000;

/// A language of V symbols whose responses are all strings of at most L of them.
///
/// A string shorter than L ends with EOS; one of length L is cut there without it, as generation is
/// at its token limit: the probabilities of all `K = 1 + V + … + V^L` responses sum to one for any
/// model. Tokens 0 to V − 1 are the symbols; token V is EOS and, as GPT-2 has it, BOS too, so that
/// the vocabulary holds nothing that a response cannot contain.
#[derive(Debug, Clone, PartialEq)]
pub struct Language {
    symbols: u32,
    length: usize,
    prompts: Vec<Vec<u32>>,
}

impl Language {
    /// V symbols, length L, and prompts that begin with BOS (token V).
    ///
    /// # Errors
    /// No symbol, length 0, too many responses, no prompt, a prompt that does not begin with BOS or
    /// has a token beyond the vocabulary, or one prompt that a response to another runs through:
    /// the two would share conditional probabilities, and no model could have both freely.
    pub fn new(symbols: u32, length: usize, prompts: Vec<Vec<u32>>) -> Result<Self> {
        let positive = [("symbols", symbols as usize), ("length", length)];
        if let Some((name, _)) = positive.into_iter().find(|(_, n)| *n == 0) {
            return Err(Error::invalid(name, "it is 0", "give at least 1"));
        }
        if prompts.is_empty() {
            let remedy = "give at least one, beginning with BOS";
            return Err(Error::invalid("prompts", "there is none", remedy));
        }
        let language = Self {
            symbols,
            length,
            prompts,
        };
        if language.count().is_none_or(|k| k > MOST_RESPONSES) {
            return Err(Error::invalid(
                "length",
                format!("{symbols} symbols and length {length} make too many responses to list"),
                format!("have at most {MOST_RESPONSES}"),
            ));
        }
        for (x, prompt) in language.prompts.iter().enumerate() {
            language.check(x, prompt)?;
        }
        Ok(language)
    }

    /// `count` prompts of different lengths: `BOS BOS`, `BOS 0 BOS`, `BOS 0 1 BOS`, … .
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_prompts(symbols: u32, length: usize, count: usize) -> Result<Self> {
        let bos = symbols;
        let prompt = |x: usize| {
            let inner = (0..x).map(|i| i as u32 % symbols.max(1));
            [bos].into_iter().chain(inner).chain([bos]).collect()
        };
        Self::new(symbols, length, (0..count).map(prompt).collect())
    }

    /// The token that begins prompts and ends responses.
    pub fn boundary(&self) -> u32 {
        self.symbols
    }

    /// V.
    pub fn symbols(&self) -> u32 {
        self.symbols
    }

    /// L.
    pub fn length(&self) -> usize {
        self.length
    }

    /// V + 1.
    pub fn vocabulary(&self) -> usize {
        self.symbols as usize + 1
    }

    /// The prompts.
    pub fn prompts(&self) -> &[Vec<u32>] {
        &self.prompts
    }

    /// K, the number of responses to each prompt.
    pub fn responses(&self) -> usize {
        self.count().unwrap_or(MOST_RESPONSES)
    }

    /// The tokens of response `arm`, EOS included where there is one. Responses are ordered by
    /// length, and then as numbers.
    pub fn completion(&self, arm: usize) -> Vec<u32> {
        let base = self.symbols as usize;
        let (mut left, mut strings, mut length) = (arm, 1, 0);
        while left >= strings && length < self.length {
            left -= strings;
            strings *= base;
            length += 1;
        }
        let mut tokens = vec![0; length];
        for token in tokens.iter_mut().rev() {
            *token = (left % base) as u32;
            left /= base;
        }
        if length < self.length {
            tokens.push(self.boundary());
        }
        tokens
    }

    /// Index of the response with those tokens.
    pub fn arm(&self, completion: &[u32]) -> Option<usize> {
        let (string, ends) = match completion.split_last() {
            Some((last, string)) if *last == self.boundary() => (string, true),
            _ => (completion, false),
        };
        if string.len() > self.length || ends != (string.len() < self.length) {
            return None;
        }
        let base = self.symbols as usize;
        let (mut shorter, mut strings, mut index) = (0, 1, 0);
        for &token in string {
            if token >= self.symbols {
                return None;
            }
            shorter += strings;
            strings *= base;
            index = index * base + token as usize;
        }
        Some(shorter + index)
    }

    /// Prompt `x` with response `arm`.
    ///
    /// # Errors
    /// None for a prompt and a response of the language.
    pub fn sequence(&self, x: usize, arm: usize) -> Result<Sequence> {
        let prompt = &self.prompts[x];
        let tokens = [prompt.clone(), self.completion(arm)].concat();
        Sequence::new(tokens, prompt.len())
    }

    /// Every response to prompt `x`, in order.
    ///
    /// # Errors
    /// As [`sequence`](Self::sequence).
    pub fn sequences(&self, x: usize) -> Result<Vec<Sequence>> {
        (0..self.responses())
            .map(|arm| self.sequence(x, arm))
            .collect()
    }

    /// A Llama of that width with two heads, for exactly this language.
    pub fn architecture(&self, width: usize, layers: usize) -> Architecture {
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or(1);
        let head_dim = width / 2;
        // Positions are few: quick rotations tell them apart.
        let frequency = |i: usize| 0.1f64.powf(i as f64 / (head_dim / 2) as f64);
        Architecture {
            vocabulary: self.vocabulary(),
            width,
            layers,
            heads: 2,
            kv_heads: 2,
            head_dim,
            intermediate: 2 * width,
            context: longest + self.length,
            norm: Norm::Rms { offset: 0.0 },
            epsilon: 1e-5,
            activation: Activation::Silu,
            gated: true,
            positions: Positions::Rotary {
                frequencies: (0..head_dim / 2).map(frequency).collect(),
                factor: 1.0,
            },
            window: None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            embedding_scale: 1.0,
            tied: false,
        }
    }

    fn count(&self) -> Option<usize> {
        let (mut sum, mut strings) = (1usize, 1usize);
        for _ in 0..self.length {
            strings = strings.checked_mul(self.symbols as usize)?;
            sum = sum.checked_add(strings)?;
            if sum > MOST_RESPONSES {
                return None;
            }
        }
        Some(sum)
    }

    fn check(&self, x: usize, prompt: &[u32]) -> Result<()> {
        let place = format!("prompts[{x}]");
        let bos = self.boundary();
        if prompt.first() != Some(&bos) {
            let remedy = format!("begin it with BOS, token {bos}");
            return Err(Error::invalid(place, "it does not begin with BOS", remedy));
        }
        if let Some(token) = prompt.iter().find(|&&t| t > bos) {
            let problem = format!("token {token} is not below the vocabulary's {}", bos + 1);
            return Err(Error::invalid(place, problem, "use symbols and BOS"));
        }
        let through = |other: &Vec<u32>| {
            let rest = other.strip_prefix(prompt)?;
            (rest.len() < self.length && !rest.contains(&bos)).then_some(())
        };
        let clash = (self.prompts.iter().enumerate())
            .find(|&(other, tokens)| other != x && through(tokens).is_some());
        match clash {
            None => Ok(()),
            Some((other, _)) => Err(Error::invalid(
                format!("prompts[{other}]"),
                format!("a response to prompt {x} runs through it"),
                "end prompts with BOS, which no response continues after",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_string_is_listed_once() {
        for (symbols, length, count) in [(3, 3, 40), (2, 3, 15), (1, 2, 3), (5, 1, 6), (3, 2, 13)] {
            let language = Language::with_prompts(symbols, length, 3).unwrap();
            assert_eq!(language.responses(), count);
            let all: Vec<Vec<u32>> = (0..count).map(|a| language.completion(a)).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), count);
            for (arm, tokens) in all.iter().enumerate() {
                assert_eq!(language.arm(tokens), Some(arm));
                // EOS ends what is short, and is nowhere else.
                let ends = tokens.last() == Some(&symbols);
                let string = &tokens[..tokens.len() - usize::from(ends)];
                assert!(string.iter().all(|&t| t < symbols));
                assert_eq!(ends, string.len() < length);
            }
            let long = vec![0; length + 1];
            for wrong in [&[][..], &[symbols, symbols], &[0, symbols + 1], &long] {
                assert_eq!(language.arm(wrong), None);
            }
            assert!(all.is_sorted_by_key(|t| t.iter().filter(|&&t| t < symbols).count()));
        }
    }

    #[test]
    fn what_is_no_language_is_refused() {
        let says = |symbols, length, prompts: Vec<Vec<u32>>| {
            Language::new(symbols, length, prompts).map_or_else(|e| e.to_string(), |_| "".into())
        };
        assert!(says(0, 3, vec![vec![0]]).contains("symbols: it is 0"));
        assert!(says(2, 0, vec![vec![2]]).contains("length: it is 0"));
        assert!(says(2, 40, vec![vec![2]]).contains("too many responses"));
        assert!(says(2, 3, vec![]).contains("prompts: there is none"));
        assert!(says(2, 3, vec![vec![0, 2]]).contains("does not begin with BOS"));
        assert!(says(2, 3, vec![vec![2, 3]]).contains("token 3 is not below"));
        let clash = says(2, 3, vec![vec![2], vec![2, 0, 1]]);
        assert!(clash.contains("prompts[1]: a response to prompt 0 runs through it"));
        assert!(says(2, 3, vec![vec![2, 0], vec![2, 0]]).contains("runs through"));
        // Longer than any response's context, or past a BOS: no clash.
        assert_eq!(says(2, 2, vec![vec![2], vec![2, 0, 1]]), "");
        assert_eq!(says(2, 3, vec![vec![2], vec![2, 2]]), "");
    }
}
