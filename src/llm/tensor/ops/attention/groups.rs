//! Sequences of like length, whose attention is computed together, and the queries that are at once.

use crate::llm::tensor::ops::Starts;

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

/// Sequences, begin and end, in groups whose shortest is at least ¾ of the longest, or
/// [`SHORT`]; the longest first.
pub fn alike(starts: &Starts) -> Vec<Vec<[usize; 2]>> {
    let mut all: Vec<[usize; 2]> = (starts.windows(2))
        .filter(|w| w[1] > w[0])
        .map(|w| [w[0], w[1]])
        .collect();
    let length = |s: &[usize; 2]| s[1] - s[0];
    all.sort_by_key(|s| std::cmp::Reverse(length(s)));
    let mut groups: Vec<Vec<[usize; 2]>> = Vec::new();
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
