//! Memories of old examples that are filled without being told where tasks begin.

use crate::random::{Purpose, Stream};

/// A uniform sample of all that was ever offered (reservoir sampling, as DER++ fills its memory).
///
/// After n offers every one of them is kept with probability `min(1, capacity/n)`. Its choices are those of a
/// seed and of how many offers there were, so what is saved of it is its fields.
///
/// Source: Vitter 1985, algorithm R; Buzzega et al. 2020, algorithm 2.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservoir<T> {
    /// Most examples kept.
    pub capacity: usize,
    /// Seed of the choices.
    pub seed: u64,
    /// Examples offered so far.
    pub offers: u64,
    /// The examples kept.
    pub kept: Vec<T>,
}

impl<T> Reservoir<T> {
    /// An empty one.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            capacity,
            seed,
            offers: 0,
            kept: Vec::new(),
        }
    }

    /// Offers an example, which is kept in place of another, or not.
    pub fn offer(&mut self, example: T) {
        let before = self.offers;
        self.offers += 1;
        if self.kept.len() < self.capacity {
            self.kept.push(example);
            return;
        }
        // 53 bits: uniform on as many offers as anybody makes.
        let at = Stream::new(self.seed, Purpose::Memory, before).uniform() * self.offers as f64;
        if let Some(place) = self.kept.get_mut(at as usize) {
            *place = example;
        }
    }
}

/// The examples of the highest loss (the hard buffer of task-free continual learning).
///
/// Losses are as they were when [measured](Self::renew).
///
/// Source: Aljundi et al. 2019 (*Task-free continual learning*), section 3.3.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardest<T> {
    /// Most examples kept.
    pub capacity: usize,
    /// Losses and examples, the highest loss first.
    pub kept: Vec<(f64, T)>,
}

impl<T> Hardest<T> {
    /// An empty one.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            kept: Vec::new(),
        }
    }

    /// Offers new examples, and measures what was kept again: of all of them those of the highest loss are kept,
    /// of equals those that are there already, then those offered first. What has no loss (NaN) comes last.
    ///
    /// # Errors
    /// Those of `loss`.
    pub fn renew<E>(
        &mut self,
        offered: impl IntoIterator<Item = T>,
        mut loss: impl FnMut(&T) -> Result<f64, E>,
    ) -> Result<(), E> {
        let kept = std::mem::take(&mut self.kept);
        let all = kept.into_iter().map(|(_, example)| example).chain(offered);
        for example in all {
            self.kept.push((loss(&example)?, example));
        }
        let key = |loss: f64| {
            if loss.is_nan() {
                f64::NEG_INFINITY
            } else {
                loss
            }
        };
        (self.kept).sort_by(|(a, _), (b, _)| key(*b).total_cmp(&key(*a)));
        self.kept.truncate(self.capacity);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_reservoir_is_a_uniform_sample() {
        let (capacity, offers, seeds) = (3, 10, 20_000);
        let mut count = [0u32; 10];
        for seed in 0..seeds {
            let mut reservoir = Reservoir::new(capacity, seed);
            (0..offers).for_each(|i| reservoir.offer(i));
            assert_eq!(reservoir.kept.len(), capacity);
            reservoir.kept.iter().for_each(|&i: &usize| count[i] += 1);
        }
        let share = capacity as f64 / offers as f64;
        let sd = (seeds as f64 * share * (1.0 - share)).sqrt();
        for c in count {
            assert!(
                (f64::from(c) - seeds as f64 * share).abs() < 5.0 * sd,
                "{count:?}"
            );
        }
    }

    #[test]
    fn a_reservoir_goes_on_from_its_fields() {
        let mut whole = Reservoir::new(4, 7);
        (0..50).for_each(|i| whole.offer(i));
        let mut first = Reservoir::new(4, 7);
        (0..20).for_each(|i| first.offer(i));
        let mut second = Reservoir {
            capacity: first.capacity,
            seed: first.seed,
            offers: first.offers,
            kept: first.kept.clone(),
        };
        (20..50).for_each(|i| second.offer(i));
        assert_eq!(second, whole);
        assert_ne!(first.kept, whole.kept);
        let mut none = Reservoir::new(0, 7);
        (0..5).for_each(|i| none.offer(i));
        assert!(none.kept.is_empty());
    }

    #[test]
    fn the_hardest_are_kept_and_measured_again() {
        let mut memory = Hardest::new(3);
        let mut renew = |offered: &[i32], loss: fn(i32) -> f64| -> Vec<i32> {
            let measure = |example: &i32| Ok::<_, Infallible>(loss(*example));
            memory.renew(offered.iter().copied(), measure).unwrap();
            memory.kept.iter().map(|(_, example)| *example).collect()
        };
        assert_eq!(renew(&[1, 5, 3, 4], f64::from), [5, 4, 3]);
        assert_eq!(renew(&[2, 6], f64::from), [6, 5, 4]);
        // What was hard may not be any more.
        assert_eq!(renew(&[0], |i| -f64::from(i)), [0, 4, 5]);
        // Of equals the older stay, and what has no loss goes first.
        assert_eq!(renew(&[9], |_| 1.0), [0, 4, 5]);
        let lost = |i: i32| if i == 0 { f64::NAN } else { 1.0 };
        assert_eq!(renew(&[8], lost), [4, 5, 8]);
    }
}
