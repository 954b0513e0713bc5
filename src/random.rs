//! Seeded randomness with streams that never change: same seed (some fields call it the key), same numbers, on
//! every machine and for any number of threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Purpose of a random stream; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// A random problem.
    Problem = 1,
    /// The responses of a dataset.
    Responses = 2,
    /// The labels of a dataset.
    Labels = 3,
    /// The order of minibatches.
    Order = 4,
    /// Random starting points.
    Start = 5,
    /// Choice of the prompts of an old task that are replayed.
    Replay = 6,
    /// The noise in the rewards of a dataset.
    Noise = 7,
    /// The tokens of generated text.
    Generation = 8,
    /// The resamples of a bootstrap.
    Bootstrap = 9,
    /// Choice of the rows held out for evaluation.
    Split = 10,
    /// The random inputs of an examination of a device.
    Doctor = 11,
    /// The seeds of what a policy that is trained writes, a stream a phase.
    Rollouts = 12,
    /// The drawn labels of such pairs.
    Annotation = 13,
    /// The order in which a phase's completions are learned from again.
    Phases = 14,
    /// Which examples a memory keeps that is filled as they come.
    Memory = 15,
}

/// One stream of random numbers, keyed by (seed, purpose, index).
///
/// The key *is* the ChaCha8 key, so different keys cannot collide.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of that key.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        key[16..24].copy_from_slice(&index.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// The generator itself, for crates that draw from one.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// Uniform on [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform on `0..n` without bias (Lemire's method); `n` must not be 0.
    pub fn below(&mut self, n: u32) -> u32 {
        let mut product = u64::from(self.0.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.0.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// A uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

/// A distribution over `0..n`, drawn from by bisecting its cumulative sums.
#[derive(Debug, Clone)]
pub struct Categorical {
    cumulative: Vec<f64>,
    last: usize,
}

impl Categorical {
    /// The distribution proportional to `weights`, which must be finite, non-negative and not all
    /// zero.
    pub fn new(weights: &[f64]) -> Self {
        let cumulative: Vec<f64> = (weights.iter())
            .scan(0.0, |sum, w| {
                *sum += w;
                Some(*sum)
            })
            .collect();
        let last = weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
        Self { cumulative, last }
    }

    /// One draw. An outcome of weight zero is never drawn.
    pub fn draw(&self, stream: &mut Stream) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let point = stream.uniform() * total;
        (self.cumulative.partition_point(|&c| c <= point)).min(self.last)
    }
}

/// Draws without replacement: outcomes `0..n` with weights, each of which is gone once drawn. A draw takes
/// time that grows with the logarithm of n.
#[derive(Debug, Clone)]
pub struct Urn {
    /// Sums of weights: node i has the children 2i and 2i + 1, the leaves are at the end.
    sums: Vec<f64>,
    leaves: usize,
    drawn: Vec<(usize, f64)>,
}

impl Urn {
    /// An urn of outcomes with these weights, which must be finite and non-negative.
    pub fn new(weights: &[f64]) -> Self {
        let leaves = weights.len().next_power_of_two();
        let mut sums = vec![0.0; 2 * leaves];
        sums[leaves..leaves + weights.len()].copy_from_slice(weights);
        for i in (1..leaves).rev() {
            sums[i] = sums[2 * i] + sums[2 * i + 1];
        }
        Self {
            sums,
            leaves,
            drawn: Vec::new(),
        }
    }

    /// One draw in proportion to the weights of what is left; none where nothing of positive weight is.
    pub fn draw(&mut self, stream: &mut Stream) -> Option<usize> {
        let mut point = (self.sums[1] > 0.0).then(|| stream.uniform() * self.sums[1])?;
        let mut at = 1;
        while at < self.leaves {
            let (left, right) = (self.sums[2 * at], self.sums[2 * at + 1]);
            // Rounding may carry the point past all that is left.
            at = if right > 0.0 && (left <= 0.0 || point >= left) {
                point -= left;
                2 * at + 1
            } else {
                2 * at
            };
        }
        self.drawn.push((at, self.sums[at]));
        self.set(at, 0.0);
        Some(at - self.leaves)
    }

    /// Puts back all that was drawn.
    pub fn refill(&mut self) {
        while let Some((at, weight)) = self.drawn.pop() {
            self.set(at, weight);
        }
    }

    fn set(&mut self, mut at: usize, weight: f64) {
        self.sums[at] = weight;
        while at > 1 {
            at /= 2;
            // Sums are made anew, so that what is empty weighs exactly nothing.
            self.sums[at] = self.sums[2 * at] + self.sums[2 * at + 1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // ChaCha8 with an all-zero key, first word (RFC 7539 block function, 8 rounds).
        let mut zero = ChaCha8Rng::from_seed([0; 32]);
        assert_eq!(zero.next_u32(), 0x2fef_003e);
        let draw = |seed, purpose, index| Stream::new(seed, purpose, index).uniform();
        let one = draw(1, Purpose::Labels, 2);
        assert_eq!(one, draw(1, Purpose::Labels, 2));
        assert_ne!(one, draw(2, Purpose::Labels, 2));
        assert_ne!(one, draw(1, Purpose::Order, 2));
        assert_ne!(one, draw(1, Purpose::Labels, 3));
    }

    #[test]
    fn categorical_follows_its_weights_and_never_draws_zero() {
        let law = Categorical::new(&[0.0, 0.2, 0.0, 0.8, 0.0]);
        let mut stream = Stream::new(7, Purpose::Responses, 0);
        let n = 100_000;
        let mut count = [0u32; 5];
        for _ in 0..n {
            count[law.draw(&mut stream)] += 1;
        }
        assert_eq!((count[0], count[2], count[4]), (0, 0, 0));
        let sd = (f64::from(n) * 0.2 * 0.8).sqrt();
        assert!((f64::from(count[1]) - 0.2 * f64::from(n)).abs() < 5.0 * sd);
    }

    #[test]
    fn an_urn_draws_what_a_law_without_the_drawn_does() {
        for n in [1, 2, 5, 64, 100] {
            let weights: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % 11) / 7.0).collect();
            let mut urn = Urn::new(&weights);
            for seed in 0..50 {
                let stream = || Stream::new(seed, Purpose::Responses, 0);
                let (mut of_urn, mut of_law) = (stream(), stream());
                let mut left = weights.clone();
                while left.iter().any(|&w| w > 0.0) {
                    let expected = Categorical::new(&left).draw(&mut of_law);
                    left[expected] = 0.0;
                    assert_eq!(urn.draw(&mut of_urn), Some(expected), "{n} {seed}");
                }
                assert_eq!(urn.draw(&mut of_urn), None);
                urn.refill();
            }
        }
        assert_eq!(
            Urn::new(&[0.0, 0.0]).draw(&mut Stream::new(0, Purpose::Noise, 0)),
            None
        );
        assert_eq!(
            Urn::new(&[]).draw(&mut Stream::new(0, Purpose::Noise, 0)),
            None
        );
    }

    #[test]
    fn shuffle_is_uniform_over_orders() {
        let mut stream = Stream::new(3, Purpose::Order, 0);
        let mut count = std::collections::BTreeMap::new();
        let n = 60_000;
        for _ in 0..n {
            let mut items = [0, 1, 2];
            stream.shuffle(&mut items);
            *count.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(count.len(), 6);
        let expected = f64::from(n) / 6.0;
        let chi2: f64 = (count.values())
            .map(|&c| (f64::from(c) - expected).powi(2) / expected)
            .sum();
        // 5 degrees of freedom: 25.7 has probability 1e-4.
        assert!(chi2 < 25.7, "chi-square {chi2}");
    }
}
