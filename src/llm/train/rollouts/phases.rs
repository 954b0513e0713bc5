//! Phases of a run: which steps learn from which completions.

use std::ops::Range;

use super::super::settings::Settings;
use crate::error::{Error, Result};

/// T steps in phases of K: at the beginning of each, the completions of all its steps are written. A last phase is
/// shorter where K does not divide T.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    steps: u64,
    each: u64,
    epochs: u64,
}

impl Phases {
    /// `steps` in so many phases, `K = ⌈steps / phases⌉`, each of which goes `epochs` times through its completions;
    /// without a number of phases, in as many as there can be: `K = epochs`, on-policy where that is 1.
    ///
    /// # Errors
    /// More phases than steps, or phases that are too short for their epochs.
    pub fn new(steps: u64, phases: Option<u64>, epochs: u64) -> Result<Self> {
        let each = match phases {
            None => epochs,
            Some(phases) if phases > steps => {
                let remedy = format!("give at most {steps}, or leave it out: a phase a step");
                let problem = format!("it is {phases}, and there are {steps} steps");
                return Err(Error::invalid("phases", problem, remedy));
            }
            Some(phases) => steps.div_ceil(phases.max(1)),
        };
        if each < epochs {
            let problem = format!("a phase has {each} steps, too few for {epochs} passes");
            let remedy = "give fewer phases or phase_epochs";
            return Err(Error::invalid("phase_epochs", problem, remedy));
        }
        Ok(Self {
            steps,
            each,
            epochs,
        })
    }

    /// Those of [resolved](Settings::resolve) settings, on so many prompts.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_run(settings: &Settings, prompts: usize) -> Result<Self> {
        let steps = match settings.steps {
            Some(steps) => steps,
            None => (settings.epochs * Self::per_epoch(settings, prompts) as f64).ceil() as u64,
        };
        Self::new(steps, settings.phases, settings.phase_epochs)
    }

    /// Steps of one pass over so many prompts.
    pub(super) fn per_epoch(settings: &Settings, prompts: usize) -> u64 {
        let passes = prompts.div_ceil(settings.rows_of_a_step()) as u64;
        passes.saturating_mul(settings.phase_epochs)
    }

    /// T
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Number of phases.
    pub fn count(&self) -> u64 {
        self.steps.div_ceil(self.each)
    }

    /// The phase of the step after `done` others.
    pub fn of(&self, done: u64) -> u64 {
        done / self.each
    }

    /// The steps of a phase.
    pub fn range(&self, phase: u64) -> Range<u64> {
        let from = phase * self.each;
        from..self.steps.min(from + self.each)
    }

    /// Steps of one pass through a phase's completions.
    pub fn pass(&self, phase: u64) -> u64 {
        let range = self.range(phase);
        (range.end - range.start).div_ceil(self.epochs)
    }

    /// Steps of one pass through those of every phase before.
    pub fn passes_before(&self, phase: u64) -> u64 {
        phase * self.each.div_ceil(self.epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_cover_all_steps_once() {
        for steps in 1..40 {
            for phases in std::iter::once(None).chain((1..=steps).map(Some)) {
                let all = Phases::new(steps, phases, 1).unwrap();
                let ranges: Vec<_> = (0..all.count()).map(|p| all.range(p)).collect();
                let visited: Vec<u64> = ranges.iter().cloned().flatten().collect();
                assert_eq!(visited, (0..steps).collect::<Vec<_>>());
                for (phase, range) in ranges.iter().enumerate() {
                    assert!(range.clone().all(|step| all.of(step) == phase as u64));
                    let before: u64 = (0..phase as u64).map(|p| all.pass(p)).sum();
                    assert_eq!(all.passes_before(phase as u64), before);
                }
                // Only the last is shorter.
                let lengths: Vec<u64> = ranges.iter().map(|r| r.end - r.start).collect();
                let (last, others) = lengths.split_last().unwrap();
                assert!(others.iter().all(|l| l == &lengths[0]) && *last <= lengths[0]);
                match phases {
                    Some(phases) if steps % phases == 0 => assert_eq!(all.count(), phases),
                    Some(phases) => assert!(all.count() <= phases),
                    None => assert_eq!(all.count(), steps),
                }
            }
        }
        // The paper's 625 steps in 6 phases of 105, the last of 100.
        let paper = Phases::new(625, Some(6), 1).unwrap();
        assert_eq!((paper.count(), paper.range(5)), (6, 525..625));
    }

    #[test]
    fn passes_share_a_phase() {
        let all = Phases::new(10, None, 4).unwrap();
        assert_eq!((all.count(), all.pass(0), all.pass(2)), (3, 1, 1));
        let all = Phases::new(10, Some(2), 2).unwrap();
        assert_eq!((all.count(), all.pass(0), all.passes_before(1)), (2, 3, 3));
        assert!(Phases::new(10, Some(11), 1).is_err());
        assert!(Phases::new(10, Some(10), 2).is_err());
    }
}
