//! Many tasks, one policy: reward hacking and forgetting on bandits whose policies share features.
//!
//! A tabular policy can neither transfer a habit from one task to another nor forget: its prompts
//! do not know of each other. Here the policy is log-linear, `π_θ(y|x) ∝ π_init(y|x) e^{θ·φ(x,y)}`,
//! with features that prompts share. All training is in exact expectation.

mod calibration;
mod experiment;
pub mod rehearsal;
mod training;

pub use calibration::{CalibrationRow, Labels, MomentsRow, calibration, moments};
pub use experiment::{
    Experiment, GAMMA, Measured, REHEARSED, Scores, VARIANTS, Variant, experiment,
};
pub use training::{Critic, Row, Settings, train, train_with};

use crate::bandit::{Beta, PairLaw, Policy, Problem, Prompt, Simplex};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::sim::log_linear::Logits;

/// A category of prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task {
    /// Its name in the rows.
    pub name: &'static str,
    /// Number of prompts.
    pub prompts: usize,
    /// Added to every reward.
    pub offset: f64,
    /// Reward per unit of quality.
    pub scale: f64,
    /// Reward of style, in units of quality; in some tasks it is a habit to be avoided.
    pub style: f64,
    /// Skill of the initial policy at the task: it is `∝ e^{aligned·(quality + style)}`.
    pub aligned: f64,
    /// True if its prompts are trained on; otherwise they are only measured (a forget set).
    pub trained: bool,
}

/// The tasks of the experiments: rewards of very different place and scale, as a reward model
/// learns them, and style that pays in the loudest task only. "Expert" prompts are those the initial
/// policy already answers well; "forget" are more of them, never trained on.
pub const TASKS: [Task; 4] = [
    Task {
        name: "code",
        prompts: 6,
        offset: 4.0,
        scale: 3.0,
        style: 1.0,
        aligned: 0.0,
        trained: true,
    },
    Task {
        name: "qa",
        prompts: 12,
        offset: -2.0,
        scale: 0.5,
        style: -1.0,
        aligned: 0.0,
        trained: true,
    },
    Task {
        name: "expert",
        prompts: 6,
        offset: 0.0,
        scale: 1.0,
        style: -1.0,
        aligned: 1.5,
        trained: true,
    },
    Task {
        name: "forget",
        prompts: 12,
        offset: 0.0,
        scale: 1.0,
        style: -1.0,
        aligned: 1.5,
        trained: false,
    },
];

/// Prompts of several tasks with what they share.
#[derive(Debug, Clone)]
pub struct MultiTask {
    problem: Problem,
    tasks: Vec<Task>,
    group: Vec<usize>,
    features: Vec<Vec<Vec<f64>>>,
    logits: Logits,
    embeddings: Vec<Vec<f64>>,
}

impl MultiTask {
    /// Random prompts of `tasks` with `arms` responses each. A response has a quality and a style,
    /// independent standard normals; its reward is `offset + scale·(quality + style·its style)`.
    ///
    /// Features: quality and style, shared by all tasks, and `private` times the same for its task
    /// alone (a forget set shares those of the trained task before it). Embeddings: the task's
    /// direction plus noise. Behaviour: the initial policy, twice.
    ///
    /// # Errors
    /// No trained task, fewer than two arms, or numbers that are not finite.
    pub fn draw(tasks: &[Task], arms: usize, beta: f64, private: f64, seed: u64) -> Result<Self> {
        if arms < 2 || !tasks.iter().any(|t| t.trained && t.prompts > 0) {
            return Err(Error::invalid(
                "tasks",
                format!("{} tasks with {arms} responses a prompt", tasks.len()),
                "give a trained task with prompts, and two or more responses",
            ));
        }
        // A forget set looks like the trained task before it.
        let mut kind = 0;
        let kinds: Vec<usize> = (tasks.iter().enumerate())
            .map(|(i, task)| {
                kind = if task.trained { i } else { kind };
                kind
            })
            .collect();
        let width = 2 * (1 + tasks.len());
        let mut stream = Stream::new(seed, Purpose::Problem, 0);
        // Box and Muller: the stream's own uniforms, so the draws are its published ones.
        let mut normal = || {
            let radius = (-2.0 * (1.0 - stream.uniform()).ln()).sqrt();
            radius * (std::f64::consts::TAU * stream.uniform()).cos()
        };
        let total: usize = tasks.iter().map(|t| t.prompts).sum();
        let mut world = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, task) in tasks.iter().enumerate() {
            for _ in 0..task.prompts {
                let arm: Vec<(f64, f64)> = (0..arms).map(|_| (normal(), normal())).collect();
                let worth: Vec<f64> = arm.iter().map(|(q, s)| q + task.style * s).collect();
                let reward: Vec<f64> = worth.iter().map(|w| task.offset + task.scale * w).collect();
                let known: Vec<f64> = worth.iter().map(|w| task.aligned * w).collect();
                let initial = Policy::softmax(&[known]).probabilities().remove(0);
                let initial = Simplex::new("initial policy", initial)?;
                let law = PairLaw::product(initial.clone(), initial.clone());
                let weight = 1.0 / total as f64;
                world
                    .0
                    .push(Prompt::new("tasks", weight, &reward, &initial, &law)?);
                world.1.push(i);
                let feature = |&(q, s): &(f64, f64)| {
                    let mut f = vec![0.0; width];
                    (f[0], f[1]) = (q, s);
                    let own = 2 * (1 + kinds[i]);
                    (f[own], f[own + 1]) = (private * q, private * s);
                    f
                };
                world.2.push(arm.iter().map(feature).collect());
                let mut embedding: Vec<f64> = (0..tasks.len()).map(|_| 0.3 * normal()).collect();
                embedding[kinds[i]] += 2.0;
                world.3.push(embedding);
            }
        }
        let (prompts, group, features, embeddings) = world;
        let initial: Vec<Vec<f64>> = prompts.iter().map(|p| p.log_reference.clone()).collect();
        Ok(Self {
            problem: Problem::new(Beta::new("beta", beta)?, prompts)?,
            tasks: tasks.to_vec(),
            group,
            logits: Logits::linear(&initial, &features),
            features,
            embeddings,
        })
    }

    /// Its prompts; the reference is the initial policy.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Its tasks.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task of each prompt.
    pub fn groups(&self) -> &[usize] {
        &self.group
    }

    /// True if a prompt is trained on.
    pub fn trained(&self, prompt: usize) -> bool {
        self.tasks[self.group[prompt]].trained
    }

    /// φ(x, y).
    pub fn features(&self) -> &[Vec<Vec<f64>>] {
        &self.features
    }

    /// The embedding of each prompt.
    pub fn embeddings(&self) -> &[Vec<f64>] {
        &self.embeddings
    }

    /// Length of φ and of θ.
    pub fn width(&self) -> usize {
        self.features[0][0].len()
    }

    /// `π_θ ∝ π_init e^{θ·φ}`.
    pub fn policy(&self, theta: &[f64]) -> Policy {
        let prompts = 0..self.logits.rows().len();
        Policy::from_log(prompts.map(|x| self.logits.log_policy(theta, x)).collect())
    }
}
