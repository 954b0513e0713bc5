//! Top-k and top-p.

use std::cmp::Ordering;

use crate::llm::tensor::ops::float::Float;

/// A token that may be drawn, and its probability up to a factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kept {
    pub weight: f64,
    pub token: u32,
}

/// Sorted at first when a nucleus is looked for.
const FEW: usize = 64;

/// The more probable first, of equals the first in the vocabulary.
fn order(a: &Kept, b: &Kept) -> Ordering {
    (b.weight.total_cmp(&a.weight)).then(a.token.cmp(&b.token))
}

/// Keeps the tokens with one of the `k` greatest scores, or a score equal to the least of these;
/// gives the sum of their weights.
pub(super) fn most_probable<T: Float>(
    scores: &[T],
    weights: &[T],
    k: usize,
    kept: &mut Vec<Kept>,
) -> f64 {
    let mut sorted = scores.to_vec();
    let descending = |a: &T, b: &T| b.partial_cmp(a).unwrap_or(Ordering::Equal);
    let (_, &mut least, _) = sorted.select_nth_unstable_by(k - 1, descending);
    fill(weights, kept, |token| scores[token] >= least)
}

/// Keeps the tokens that may be among the fewest whose weights add up to `p` of all: those below
/// `(1 − p)/V` of the sum cannot be, since all of them together are less than `1 − p` of it. Gives
/// the sum of all weights.
pub(super) fn worth_sorting<T: Float>(weights: &[T], p: f64, kept: &mut Vec<Kept>) -> f64 {
    let total: f64 = weights.iter().map(|w| w.wide()).sum();
    let least = T::of(total * (1.0 - p) / weights.len() as f64);
    fill(weights, kept, |token| weights[token] >= least);
    total
}

fn fill<T: Float>(weights: &[T], kept: &mut Vec<Kept>, keep: impl Fn(usize) -> bool) -> f64 {
    kept.clear();
    let tokens = (0..weights.len()).filter(|&token| keep(token));
    kept.extend(tokens.map(|token| Kept {
        weight: weights[token].wide(),
        token: token as u32,
    }));
    kept.iter().map(|k| k.weight).sum()
}

/// Cuts a list to the fewest tokens, in [`order`], whose weights add up to `p · total` or more.
pub(super) fn nucleus(kept: &mut Vec<Kept>, total: f64, p: f64) {
    let (mut sorted, mut sum, mut few) = (0, 0.0, FEW);
    while sorted < kept.len() {
        let rest = &mut kept[sorted..];
        let next = few.min(rest.len());
        if next < rest.len() {
            rest.select_nth_unstable_by(next, order);
        }
        rest[..next].sort_unstable_by(order);
        for (at, one) in rest[..next].iter().enumerate() {
            sum += one.weight;
            if sum >= p * total {
                kept.truncate(sorted + at + 1);
                return;
            }
        }
        sorted += next;
        few *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition of transformers: sorted by probability, a token goes if those before it
    /// have p already.
    fn by_definition(weights: &[f64], p: f64) -> Vec<u32> {
        let total: f64 = weights.iter().sum();
        let mut tokens: Vec<usize> = (0..weights.len()).collect();
        // Stable: of equals, the first in the vocabulary.
        tokens.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let mut before = 0.0;
        let mut kept = Vec::new();
        for token in tokens {
            if before < p * total {
                kept.push(token as u32);
            }
            before += weights[token];
        }
        kept
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_and_ties_go_by_number() {
        let uneven: Vec<f64> = (0..700)
            .map(|i| (f64::from(i) * 0.37).sin().exp())
            .collect();
        let steep: Vec<f64> = (0..700)
            .map(|i| (-0.1 * f64::from(i * 389 % 700)).exp())
            .collect();
        let level = vec![0.25; 400];
        for weights in [uneven, steep, level, vec![1.0], vec![0.5, 0.25, 0.25]] {
            for p in [1e-9, 0.1, 0.5, 0.75, 0.9, 0.999_999] {
                let mut kept = Vec::new();
                let total = worth_sorting(&weights, p, &mut kept);
                nucleus(&mut kept, total, p);
                let tokens: Vec<u32> = kept.iter().map(|k| k.token).collect();
                assert_eq!(tokens, by_definition(&weights, p), "{p}");
            }
        }
    }

    #[test]
    fn the_k_best_and_those_as_good_as_the_last() {
        let scores = [0.0, 3.0, 1.0, 3.0, 2.0, 1.0];
        let weights = scores.map(f64::exp);
        let tokens = |k| {
            let mut kept = Vec::new();
            let total = most_probable(&scores, &weights, k, &mut kept);
            let sum: f64 = kept.iter().map(|k| k.weight).sum();
            assert_eq!(total, sum);
            kept.iter().map(|k| k.token).collect::<Vec<_>>()
        };
        assert_eq!(tokens(1), [1, 3]);
        assert_eq!(tokens(2), [1, 3]);
        assert_eq!(tokens(3), [1, 3, 4]);
        assert_eq!(tokens(4), [1, 2, 3, 4, 5]);
    }
}
