//! Scores of several runs on several tasks, as rliable aggregates them (Agarwal et al., *Deep
//! Reinforcement Learning at the Edge of the Statistical Precipice*, 2021; rliable 1.2.0).
//!
//! Intervals are the percentile bootstrap's, stratified by task: every resample draws as many runs as
//! there are, with replacement, for each task by itself.

use super::bootstrap::Bootstrap;
use super::{Estimate, mean};
use crate::error::{Error, Result};
use crate::magnitude::in_range;
use crate::random::Stream;

/// Scores of runs (rows) on tasks (columns).
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Task by task.
    tasks: Vec<Vec<f64>>,
}

/// Statistic that runs and tasks are aggregated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aggregate {
    /// Mean over tasks of the mean over runs.
    Mean,
    /// Median over tasks of the mean over runs.
    Median,
    /// Interquartile mean: of all runs × tasks scores, sorted, the mean of those that are left when
    /// ⌊n/4⌋ are cut from either end.
    Iqm,
    /// `γ − mean(min(score, γ))` with γ = 1: how far from 1, where more than 1 is worth no more.
    OptimalityGap,
}

impl Aggregate {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mean, Self::Median, Self::Iqm, Self::OptimalityGap];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Median => "median",
            Self::Iqm => "iqm",
            Self::OptimalityGap => "optimality_gap",
        }
    }

    fn of(self, tasks: &[Vec<f64>]) -> f64 {
        let means = || tasks.iter().map(|task| mean(task)).collect::<Vec<_>>();
        let sorted = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        match self {
            Self::Mean => mean(&means()),
            Self::Median => super::quantile(&sorted(means()), 0.5),
            Self::Iqm => {
                let all = sorted(tasks.concat());
                let cut = all.len() / 4;
                mean(&all[cut..all.len() - cut])
            }
            Self::OptimalityGap => {
                let clipped: Vec<f64> = tasks.iter().flatten().map(|s| s.min(1.0)).collect();
                1.0 - mean(&clipped)
            }
        }
    }
}

impl Scores {
    /// Scores from rows, one row per run.
    ///
    /// # Errors
    /// No run, no task, rows of unlike lengths, or a score that is not finite or beyond 1e100 in size.
    pub fn new(runs: &[Vec<f64>]) -> Result<Self> {
        let tasks = runs.first().map_or(0, Vec::len);
        let fail = |problem: String, remedy: &str| Err(Error::invalid("scores", problem, remedy));
        if tasks == 0 {
            return fail(
                "there are none".into(),
                "give a score of each run on each task",
            );
        }
        for (i, run) in runs.iter().enumerate() {
            if run.len() != tasks {
                let problem = format!(
                    "run {} has {} tasks and run 1 has {tasks}",
                    i + 1,
                    run.len()
                );
                return fail(problem, "give a score of each run on each task");
            }
            for &score in run {
                in_range(format_args!("scores: run {}", i + 1), score)?;
            }
        }
        let column = |task: usize| runs.iter().map(|run| run[task]).collect();
        Ok(Self {
            tasks: (0..tasks).map(column).collect(),
        })
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.tasks[0].len()
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// An aggregate of all runs and tasks.
    pub fn aggregate(&self, aggregate: Aggregate) -> f64 {
        aggregate.of(&self.tasks)
    }

    /// An aggregate with its stratified bootstrap interval.
    pub fn estimate(&self, aggregate: Aggregate, bootstrap: &Bootstrap) -> Estimate {
        let value = self.aggregate(aggregate);
        bootstrap.estimate(value, |stream| aggregate.of(&self.resampled(stream)))
    }

    fn resampled(&self, stream: &mut Stream) -> Vec<Vec<f64>> {
        let mut one = |task: &Vec<f64>| -> Vec<f64> {
            let draw = |_| task[stream.below(task.len() as u32) as usize];
            (0..task.len()).map(draw).collect()
        };
        self.tasks.iter().map(&mut one).collect()
    }
}

/// An aggregate of `x` less that of `y`. Runs of either are drawn anew for the interval.
pub fn difference(x: &Scores, y: &Scores, aggregate: Aggregate, bootstrap: &Bootstrap) -> Estimate {
    let value = x.aggregate(aggregate) - y.aggregate(aggregate);
    bootstrap.estimate(value, |stream| {
        let x = aggregate.of(&x.resampled(stream));
        x - aggregate.of(&y.resampled(stream))
    })
}

/// `P(x > y)`, ties counted half, averaged over tasks: how likely a run of `x` is to be better than one
/// of `y` on a task (the Mann–Whitney statistic over the number of pairs). Runs of either are drawn
/// anew for the interval.
///
/// # Errors
/// Another number of tasks.
pub fn probability_of_improvement(
    x: &Scores,
    y: &Scores,
    bootstrap: &Bootstrap,
) -> Result<Estimate> {
    if x.tasks() != y.tasks() {
        return Err(Error::Shape {
            operation: "probability of improvement",
            left: x.tasks(),
            right: y.tasks(),
        });
    }
    let value = improvement(&x.tasks, &y.tasks);
    Ok(bootstrap.estimate(value, |stream| {
        let x = x.resampled(stream);
        improvement(&x, &y.resampled(stream))
    }))
}

fn improvement(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    let each: Vec<f64> = x.iter().zip(y).map(|(x, y)| wins(x, y)).collect();
    mean(&each)
}

/// Share of all pairs in which `x` is greater, ties counted half.
pub fn wins(x: &[f64], y: &[f64]) -> f64 {
    let mut sorted = y.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Counts and halves of counts: the sum is exact, whatever its order.
    let won = |a: &f64| {
        let below = sorted.partition_point(|b| b < a);
        let not_above = sorted.partition_point(|b| b <= a);
        0.5 * (below + not_above) as f64
    };
    x.iter().map(won).sum::<f64>() / (x.len() * y.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iqm_cuts_whole_scores() {
        let of = |scores: &[f64]| {
            let runs: Vec<Vec<f64>> = scores.iter().map(|&s| vec![s]).collect();
            Scores::new(&runs).unwrap().aggregate(Aggregate::Iqm)
        };
        assert_eq!(of(&[100.0, 1.0, 2.0, -50.0]), 1.5);
        // ⌊7/4⌋ = 1, ⌊3/4⌋ = 0.
        assert_eq!(of(&[7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 60.0]), 21.0 / 5.0);
        assert_eq!(of(&[1.0, 2.0, 6.0]), 3.0);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        for runs in [
            vec![],
            vec![vec![]],
            vec![vec![1.0, 2.0], vec![1.0]],
            vec![vec![f64::NAN]],
        ] {
            assert!(Scores::new(&runs).is_err());
        }
        let one = Scores::new(&[vec![1.0]]).unwrap();
        let two = Scores::new(&[vec![1.0, 2.0]]).unwrap();
        assert!(probability_of_improvement(&one, &two, &Bootstrap::default()).is_err());
        assert_eq!(wins(&[1.0, 2.0], &[1.0, 0.0]), 3.5 / 4.0);
        assert!(Scores::new(&[vec![1.1e100]]).is_err());
    }

    #[test]
    fn a_difference_of_means_has_the_spread_of_both() {
        let column = |of: fn(i32) -> i32| {
            let runs: Vec<Vec<f64>> = (0..200).map(|i| vec![f64::from(of(i))]).collect();
            Scores::new(&runs).unwrap()
        };
        let (x, y) = (column(|i| (i * 37) % 101), column(|i| (i * 29) % 53));
        let bootstrap = Bootstrap::default();
        let found = difference(&x, &y, Aggregate::Mean, &bootstrap);
        let value = x.aggregate(Aggregate::Mean) - y.aggregate(Aggregate::Mean);
        assert_eq!(found.value, value);
        // Normal in the limit: 1.96 of √(Var x/200 + Var y/200), variances dividing by n.
        let squared = |s: &Scores| {
            let centre = mean(&s.tasks[0]);
            let squares: f64 = s.tasks[0].iter().map(|v| (v - centre).powi(2)).sum();
            squares / 200.0 / 200.0
        };
        let half = 1.959_964 * (squared(&x) + squared(&y)).sqrt();
        for bound in [value - found.low, found.high - value] {
            assert!((bound / half - 1.0).abs() < 0.05, "{bound} {half}");
        }
    }

    #[test]
    fn wins_are_those_over_all_pairs() {
        let mut stream = Stream::new(5, crate::random::Purpose::Noise, 0);
        for (n, m) in [(1, 1), (3, 7), (50, 40)] {
            // Few values, so that there are ties; both zeros are equal.
            let mut draw = |n: usize| -> Vec<f64> {
                let values = [-1.0, -0.0, 0.0, 2.0];
                (0..n).map(|_| values[stream.below(4) as usize]).collect()
            };
            let (x, y) = (draw(n), draw(m));
            let mut won = 0.0;
            for a in &x {
                for b in &y {
                    won += f64::from(u8::from(a > b)) + 0.5 * f64::from(u8::from(a == b));
                }
            }
            assert_eq!(wins(&x, &y), won / (n * m) as f64);
        }
    }
}
