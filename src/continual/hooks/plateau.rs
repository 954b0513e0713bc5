//! When a loss has come to a plateau, seen without being told where tasks begin.

use std::collections::VecDeque;

use crate::error::{Error, Result};

/// What counts as a plateau.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauWindow {
    /// Losses looked at together: the newest ones.
    pub length: usize,
    /// On a plateau their mean is below this.
    pub mean: f64,
    /// And their variance (mean squared distance from their mean) below this.
    pub variance: f64,
}

impl Default for PlateauWindow {
    /// The authors' defaults, for the loss of a classifier: on text they are to be rescaled.
    fn default() -> Self {
        Self {
            length: 5,
            mean: 0.2,
            variance: 0.1,
        }
    }
}

/// The plateau detector of task-free continual learning (TFCL). All of its state is in its fields.
///
/// A plateau is reported when the window is full, its mean and variance are below the thresholds, and since
/// the plateau before there was a peak: a window whose mean was greater than that plateau's by
/// more than its standard deviation. The first plateau needs no peak.
///
/// Source: Aljundi et al. 2019 (*Task-free continual learning*), section 3.2, and the authors' code.
#[derive(Debug, Clone, PartialEq)]
pub struct Plateau {
    /// What counts as one.
    pub window: PlateauWindow,
    /// The newest losses, oldest first.
    pub losses: VecDeque<f64>,
    /// Mean and variance of the last plateau; none before the first.
    pub last: Option<(f64, f64)>,
    /// Whether there was a peak since.
    pub peak: bool,
}

impl Plateau {
    /// Before any loss.
    ///
    /// # Errors
    /// A window of no losses, or a threshold that is not a number.
    pub fn new(window: PlateauWindow) -> Result<Self> {
        let fail = |place: &str, problem: String, remedy: &str| {
            Err(Error::invalid(format!("plateau {place}"), problem, remedy))
        };
        if window.length == 0 {
            return fail("window", "it is 0".into(), "look at one loss at least");
        }
        for (place, threshold) in [("mean", window.mean), ("variance", window.variance)] {
            if threshold.is_nan() {
                return fail(place, "it is NaN".into(), "give a number, or inf");
            }
        }
        Ok(Self {
            window,
            losses: VecDeque::new(),
            last: None,
            peak: false,
        })
    }

    /// Sees the next loss; true where a plateau is reached with it.
    pub fn see(&mut self, loss: f64) -> bool {
        self.losses.push_back(loss);
        while self.losses.len() > self.window.length {
            self.losses.pop_front();
        }
        if self.losses.len() < self.window.length {
            return false;
        }
        let count = self.losses.len() as f64;
        let mean = self.losses.iter().sum::<f64>() / count;
        let variance = self.losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / count;
        self.peak = match self.last {
            None => true,
            Some((level, spread)) => self.peak || mean > level + spread.sqrt(),
        };
        let reached = self.peak && mean < self.window.mean && variance < self.window.variance;
        if reached {
            self.last = Some((mean, variance));
            self.peak = false;
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(detector: &mut Plateau, losses: &[f64]) -> Vec<usize> {
        let reached = losses.iter().map(|&loss| detector.see(loss));
        let places = reached.enumerate().filter(|(_, reached)| *reached);
        places.map(|(i, _)| i).collect()
    }

    fn detector() -> Plateau {
        Plateau::new(PlateauWindow {
            length: 3,
            mean: 1.0,
            variance: 0.01,
        })
        .unwrap()
    }

    /// Falls to a plateau, stays, rises to a peak, and falls to another.
    const COURSE: [f64; 15] = [
        4.0, 2.0, 0.9, 0.85, 0.85, 0.8, 0.8, 0.8, 5.0, 1.2, 0.7, 0.6, 0.6, 0.6, 0.6,
    ];

    #[test]
    fn one_plateau_after_each_peak() {
        // The first window below the thresholds is that of 0.9, 0.85, 0.85; after the peak that of 0.7, 0.6, 0.6.
        assert_eq!(seen(&mut detector(), &COURSE), [4, 12]);
        // A mean that is low enough is not enough while the loss still moves.
        assert!(seen(&mut detector(), &[0.9, 0.5, 0.1]).is_empty());
        // Nor is a loss that stands still where it is high.
        assert!(seen(&mut detector(), &[2.0; 6]).is_empty());
        // A rise within a standard deviation of the plateau is no peak: 0.8 ± 0.08, then 0.85.
        let mut one = detector();
        assert_eq!(seen(&mut one, &[0.7, 0.8, 0.9]), [2]);
        assert!(seen(&mut one, &[0.85; 9]).is_empty());
        assert!(!one.peak);
    }

    #[test]
    fn its_state_is_its_fields() {
        let mut whole = detector();
        let all = seen(&mut whole, &COURSE);
        for cut in 0..COURSE.len() {
            let mut first = detector();
            let mut found = seen(&mut first, &COURSE[..cut]);
            let Plateau {
                window,
                losses,
                last,
                peak,
            } = first;
            let losses = losses.into_iter().collect();
            let mut second = Plateau {
                window,
                losses,
                last,
                peak,
            };
            let rest = seen(&mut second, &COURSE[cut..]);
            found.extend(rest.iter().map(|i| i + cut));
            assert_eq!(found, all);
            assert_eq!(second, whole);
        }
    }

    #[test]
    fn bad_windows_are_refused() {
        for window in [
            PlateauWindow {
                length: 0,
                ..PlateauWindow::default()
            },
            PlateauWindow {
                mean: f64::NAN,
                ..PlateauWindow::default()
            },
            PlateauWindow {
                variance: f64::NAN,
                ..PlateauWindow::default()
            },
        ] {
            let error = Plateau::new(window).unwrap_err();
            assert!(error.to_string().starts_with("plateau "), "{error}");
        }
    }
}
