//! Long texts, of which only the first or the last tokens are needed: no more is tokenised than that takes.

use crate::error::Result;
use crate::llm::text::tokenizer::Tokenizer;

/// Texts up to so many bytes are tokenised whole.
pub(super) const LARGE: usize = 1 << 20;

/// Most bytes of text that are tokenised at once: of short words that takes some 150 bytes of memory for each byte.
pub const MOST: usize = 1 << 22;

/// How long is long, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub large: usize,
    pub most: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            large: LARGE,
            most: MOST,
        }
    }
}

/// Which end of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    First,
    Last,
}

impl Sizes {
    /// A piece at that end of a long text that begins or ends with the same `needed` tokens as the
    /// text, and has more of them; none if there is no such piece.
    ///
    /// Two pieces of different lengths must agree. Their lengths differ by one more than a multiple of
    /// small numbers, so that what is cut in a rhythm (digits, three by three) shows.
    pub fn piece<'a>(
        self,
        tokenizer: &Tokenizer,
        text: &'a str,
        end: End,
        needed: usize,
    ) -> Result<Option<&'a str>> {
        // A token stands for a byte or more.
        let least = self.large.max(needed.min(text.len()));
        let mut length = least - least % 210;
        let mut shorter: Option<Vec<u32>> = None;
        while length >= 210 && length < text.len() && length <= self.most {
            let piece = cut(text, end, length);
            let tokens = tokenizer.encode(piece)?;
            if let Some(shorter) = &shorter
                && let (Some(one), Some(other)) = (
                    tokens_at(shorter, end, needed),
                    tokens_at(&tokens, end, needed),
                )
                && one == other
            {
                return Ok(Some(piece));
            }
            shorter = Some(tokens);
            length = 2 * length + 1;
        }
        Ok(None)
    }
}

/// So many bytes, and what is left of the character there.
fn cut(text: &str, end: End, length: usize) -> &str {
    let mut at = match end {
        End::First => length,
        End::Last => text.len() - length,
    };
    while !text.is_char_boundary(at) {
        at += 1;
    }
    match end {
        End::First => &text[..at],
        End::Last => &text[at..],
    }
}

/// The tokens at that end, if there are more.
fn tokens_at(tokens: &[u32], end: End, needed: usize) -> Option<&[u32]> {
    if tokens.len() <= needed {
        return None;
    }
    Some(match end {
        End::First => &tokens[..needed],
        End::Last => &tokens[tokens.len() - needed..],
    })
}
