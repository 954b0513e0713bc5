//! Sequences of like length, whose attention is computed together, and the queries that are at once.

use crate::llm::tensor::ops::{Span, Starts};

/// Most scores at once: 128 MiB in bf16, and a few times that with what is made of them.
pub const SCORES: usize = 1 << 26;

/// Sequences so short are taken together whatever they waste.
const SHORT: usize = 64;

/// Queries of a block of long sequences: few enough that a quarter of the scores at most are masked.
pub fn block(length: usize) -> usize {
    match length {
        0..=512 => length,
        _ => (length / 4).next_multiple_of(64).clamp(256, 1024),
    }
}

/// Queries of a block, such that those of one key head are no more than allowed.
pub fn queries(length: usize, share: usize, most: usize) -> usize {
    block(length).min(most / (share * length)).max(1)
}

/// A sequence from its first token on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Its rows.
    pub span: Span,
    /// The first position whose query is asked here: of several that have a prefix, the first asks its queries too.
    pub from: usize,
}

fn wholes(starts: &Starts) -> Vec<Whole> {
    let mut all: Vec<Whole> = Vec::new();
    for span in starts.filled() {
        match all.last_mut() {
            Some(Whole { span: last, .. })
                if !span.prefix.is_empty() && last.own == span.prefix =>
            {
                *last = span;
            }
            _ => all.push(Whole {
                from: span.prefix.len(),
                span,
            }),
        }
    }
    all
}

/// Sequences in groups whose shortest is at least ¾ of the longest, or [`SHORT`]; the longest first.
pub fn alike(starts: &Starts) -> Vec<Vec<Whole>> {
    let mut all = wholes(starts);
    let length = |whole: &Whole| whole.span.length();
    all.sort_by_key(|s| std::cmp::Reverse(length(s)));
    let mut groups: Vec<Vec<Whole>> = Vec::new();
    for sequence in all {
        match groups.last_mut() {
            Some(group)
                if 4 * length(&sequence) >= 3 * length(&group[0]) || length(&group[0]) <= SHORT =>
            {
                group.push(sequence);
            }
            _ => groups.push(vec![sequence]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_asks_its_queries_once() {
        let pieces = [
            (3, false),
            (0, true),
            (2, true),
            (4, true),
            (5, false),
            (0, true),
        ];
        let found: Vec<_> = (wholes(&Starts::branching(pieces)).into_iter())
            .map(|Whole { span, from }| (span.length(), from))
            .collect();
        assert_eq!(found, [(5, 0), (7, 3), (5, 0)]);
    }
}
