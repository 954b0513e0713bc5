//! Draws proportional to weights.

use super::cut::Kept;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::simd::{sum, vectorised};
use crate::random::Stream;

/// Weights that are added up before any of them is looked at.
const BLOCK: usize = 256;

/// An index, with a probability proportional to its weight; one of weight 0 is never drawn.
pub(super) fn draw<T: Float>(weights: &[T], stream: &mut Stream) -> usize {
    let blocks: Vec<f64> = vectorised(
        #[inline(always)]
        || {
            let mut sums = Vec::with_capacity(weights.len().div_ceil(BLOCK));
            for block in weights.chunks(BLOCK) {
                sums.push(sum(
                    block,
                    block,
                    #[inline(always)]
                    |w, _| w.wide(),
                ));
            }
            sums
        },
    );
    let point = stream.uniform() * blocks.iter().sum::<f64>();
    let (block, point) = walk(blocks.iter().copied(), point);
    let from = block * BLOCK;
    let within = weights[from..].iter().take(BLOCK).map(|w| w.wide());
    from + walk(within, point).0
}

/// A token of a list.
pub(super) fn draw_of(kept: &[Kept], stream: &mut Stream) -> usize {
    let total: f64 = kept.iter().map(|k| k.weight).sum();
    let (at, _) = walk(kept.iter().map(|k| k.weight), stream.uniform() * total);
    kept[at].token as usize
}

/// Where the sum of the weights passes `point`, and how much of it is left there; beyond the end,
/// the last weight above 0 and infinity.
fn walk(weights: impl Iterator<Item = f64>, mut point: f64) -> (usize, f64) {
    let mut last = 0;
    for (at, weight) in weights.enumerate() {
        if weight > 0.0 {
            if point < weight {
                return (at, point);
            }
            last = at;
        }
        point -= weight;
    }
    (last, f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn draws_follow_the_weights_and_never_take_zero() {
        let weights: Vec<f32> = (0..1000)
            .map(|i| [0.0, 1.0, 3.0][i % 3] * (i / 500) as f32)
            .collect();
        let total: f32 = weights.iter().sum();
        let mut stream = Stream::new(4, Purpose::Generation, 0);
        let n = 200_000;
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..n {
            counts[draw(&weights, &mut stream)] += 1;
        }
        let mut chi_square = 0.0;
        for (&count, &w) in counts.iter().zip(&weights) {
            if w == 0.0 {
                assert_eq!(count, 0);
            } else {
                let expected = f64::from(n) * f64::from(w / total);
                chi_square += (f64::from(count) - expected).powi(2) / expected;
            }
        }
        // 333 outcomes: mean 332, standard deviation 26.
        assert!(chi_square < 332.0 + 5.0 * 26.0, "{chi_square}");
    }

    #[test]
    fn what_rounding_leaves_goes_to_the_last_weight() {
        assert_eq!(walk([0.5, 0.0, 0.25, 0.0].into_iter(), 0.75).0, 2);
        assert_eq!(walk([0.0, 0.5].into_iter(), 0.0), (1, 0.0));
    }
}
