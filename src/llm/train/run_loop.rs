//! The course of a run: steps, rows, evaluations, checkpoints.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::folder::Folder;
use super::metrics::MetricsRow;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::observer::{Observer, Until, Work};

/// Reasons for which a run that did not fail ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// All steps are done. The run's folder.
    Complete(PathBuf),
    /// They were done before, from the same inputs. The run's folder.
    Before(PathBuf),
    /// It was asked to stop, and goes on with `--resume`.
    Interrupted {
        /// The run's folder.
        dir: PathBuf,
        /// Steps done, all of which are in a checkpoint.
        steps: u64,
    },
}

/// What rates are made of.
struct Clock {
    began: Instant,
    /// Seconds that evaluations took.
    apart: f64,
    /// Training seconds and tokens at the last row.
    last: (f64, u64),
}

impl Clock {
    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Tokens per second of training since it was last asked.
    fn rate(&mut self, tokens: u64) -> f64 {
        let now = self.now() - self.apart;
        let (before, had) = std::mem::replace(&mut self.last, (now, tokens));
        (tokens - had) as f64 / (now - before)
    }
}

impl Trainer<'_> {
    /// All steps that are left, with rows, evaluations and checkpoints in the run's folder. Once
    /// `stop` is set, the step that is being done is the last one, and a checkpoint follows.
    /// Returns whether all steps are done.
    ///
    /// # Errors
    /// Those of [`step`](Self::step) and [`evaluate`](Self::evaluate), or a folder that cannot be
    /// written.
    pub fn run(
        &mut self,
        folder: &mut Folder,
        stop: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<bool> {
        let settings = self.settings;
        let eval_every = self.lesson.every.or(settings.eval_every).unwrap_or(0);
        let work = observer.begin("training", self.plan.steps());
        work.skip(self.state.steps);
        let mut clock = Clock {
            began: Instant::now(),
            apart: 0.0,
            last: (0.0, self.state.num_tokens),
        };
        if settings.eval_on_start && self.state.steps == 0 {
            self.evaluated_aside(folder, &mut clock, &*work, observer)?;
        }
        while self.state.steps < self.plan.steps() {
            if stop.load(Ordering::Relaxed) {
                drop(work);
                self.interrupted(folder)?;
                return Ok(false);
            }
            if let Err(error) = self.prepare(&Until { observer, stop }) {
                // What was trained so far is not lost with a program that fails.
                drop(work);
                self.interrupted(folder)?;
                return match error {
                    Error::Interrupted { .. } => Ok(false),
                    error => Err(error),
                };
            }
            self.step(Some(folder))?;
            let steps = self.state.steps;
            let last = steps == self.plan.steps();
            let due = |every: u64| every > 0 && (last || steps.is_multiple_of(every));
            if due(settings.log_every) {
                let row = self.row(&mut clock);
                folder.row(&row)?;
                work.note(format_args!("{row}"));
            }
            let mut save = due(settings.checkpoint_every);
            if due(eval_every) {
                save |= self.evaluated_aside(folder, &mut clock, &*work, observer)?;
            }
            if save {
                self.checkpoint(folder, false)?;
            }
            work.advance(1);
        }
        Ok(true)
    }

    /// The row of what was measured since the last one.
    fn row(&mut self, clock: &mut Clock) -> MetricsRow {
        MetricsRow {
            step: self.state.steps,
            epoch: self.plan.epochs(self.state.steps),
            metrics: self.state.meter.take(),
            num_tokens: self.state.num_tokens,
            seconds: clock.now(),
            tokens_per_second: Some(clock.rate(self.state.num_tokens)),
            eval_runtime: None,
        }
    }

    /// [`evaluated`](Self::evaluated), aside from the training that goes on.
    fn evaluated_aside(
        &mut self,
        folder: &mut Folder,
        clock: &mut Clock,
        training: &dyn Work,
        observer: &dyn Observer,
    ) -> Result<bool> {
        let mut best = Ok(false);
        training.aside(&mut || best = self.evaluated(folder, clock, observer));
        best
    }

    /// Evaluates, and writes the row. Returns whether the weights are to be kept as the best.
    fn evaluated(
        &mut self,
        folder: &mut Folder,
        clock: &mut Clock,
        observer: &dyn Observer,
    ) -> Result<bool> {
        let began = Instant::now();
        let metrics = self.evaluate(observer)?;
        let took = began.elapsed().as_secs_f64();
        clock.apart += took;
        let best = self.state.is_best(self.settings, &metrics);
        folder.row(&MetricsRow {
            step: self.state.steps,
            epoch: self.plan.epochs(self.state.steps),
            metrics,
            num_tokens: self.state.num_tokens,
            seconds: clock.now(),
            tokens_per_second: None,
            eval_runtime: Some(took),
        })?;
        Ok(best)
    }

    /// Saves what was done, unless it is in a checkpoint already, or is nothing.
    fn interrupted(&self, folder: &mut Folder) -> Result<()> {
        let steps = self.state.steps;
        if steps == 0 || checkpoint::path(folder.dir(), steps).exists() {
            Ok(())
        } else {
            self.checkpoint(folder, true)
        }
    }
}
