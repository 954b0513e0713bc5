//! Task-free continual learning: a penalty whose strengths are brought up to date where the loss has come to rest, and
//! the hardest examples so far.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::course::write_json;
use super::importance::estimate;
use super::penalty::{self, pull};
use crate::continual::Weights;
use crate::continual::hooks::{
    Accumulation, Hardest, Importance, Plateau, PlateauWindow, Pull, Vectors,
};
use crate::error::Result;
use crate::file;
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::parameters::Parameters;
use crate::llm::text::example::Example;
use crate::llm::text::objective::TokenReduction;
use crate::llm::train::share::likelihood;
use crate::llm::train::step::Runs;
use crate::llm::train::{Hook, Learner, Leaves, Stepped};
use crate::observer::Silent;

/// Files of its state.
const STATE: &str = "plateaus.json";
const WEIGHTS: &str = "plateaus.importance.safetensors";
const ANCHOR: &str = "plateaus.anchor.safetensors";

const REMEDY: &str = "begin the sequence anew in another --out";

/// Numbers of task-free continual learning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    /// When a loss has come to rest.
    pub window: PlateauWindow,
    /// Strength of the penalty.
    pub strength: f64,
    /// Examples in the buffer of the hardest ones.
    pub capacity: usize,
    /// Weight of their likelihood beside the step's own.
    pub weight: f64,
    /// Most tokens that are run at once.
    pub budget: usize,
}

/// TFCL: at every plateau of the loss the examples of the newest steps join the buffer of the hardest ones (those of the
/// highest −ln π a token), ω of the penalty `strength/2 Σ ω (θ − θ′)²` becomes the running mean of estimates on that
/// buffer (as memory aware synapses have them), and θ′ the parameters as they are. Every step learns the
/// likelihood of the buffer too.
pub(super) struct Plateaus {
    of: Free,
    plateau: Plateau,
    /// Best responses of the newest steps, at most as many as the buffer has.
    newest: Vec<Sequence>,
    hardest: Hardest<Sequence>,
    importance: Option<Importance<Leaves>>,
    anchor: Option<Leaves>,
    pull: Option<Pull<Leaves>>,
}

/// Tokens of a sequence, how many of them are its prompt, and the weights of the others, unless all are 1.
type Tokens = (Vec<u32>, usize, Option<Vec<f64>>);

/// What a checkpoint has of it beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    losses: Vec<f64>,
    last: Option<(f64, f64)>,
    peak: bool,
    estimates: u64,
    newest: Vec<Tokens>,
    hardest: Vec<(f64, Tokens)>,
}

impl Plateaus {
    /// Before the first step of the first task.
    ///
    /// # Errors
    /// A window that cannot be.
    pub fn new(of: Free) -> Result<Self> {
        Ok(Self {
            plateau: Plateau::new(of.window)?,
            newest: Vec::new(),
            hardest: Hardest::new(of.capacity),
            importance: None,
            anchor: None,
            pull: None,
            of,
        })
    }

    /// Takes up the state that a run ended with.
    ///
    /// # Errors
    /// A file that is missing or broken.
    pub fn take_up(&mut self, dir: &Path, parameters: &Parameters) -> Result<()> {
        let saved: Saved = file::json::read(&dir.join(STATE), REMEDY)?;
        self.plateau.losses = saved.losses.into();
        self.plateau.last = saved.last;
        self.plateau.peak = saved.peak;
        let sequence = |(tokens, prompt, weights): Tokens| {
            let sequence = Sequence::new(tokens, prompt)?;
            match weights {
                Some(weights) => sequence.weighted(weights),
                None => Ok(sequence),
            }
        };
        let newest = saved.newest.into_iter().map(sequence);
        self.newest = newest.collect::<Result<_>>()?;
        let hardest = saved.hardest.into_iter();
        let hardest = hardest.map(|(loss, tokens)| Ok((loss, sequence(tokens)?)));
        self.hardest.kept = hardest.collect::<Result<_>>()?;
        if saved.estimates > 0 {
            let device = parameters.device();
            let read = |name: &str| penalty::read(&dir.join(name), parameters, device);
            let weights = read(WEIGHTS)?;
            let of = Importance::restored(Accumulation::Mean, weights, saved.estimates);
            self.importance = Some(of);
            self.anchor = Some(read(ANCHOR)?);
            self.make_pull()?;
        }
        Ok(())
    }

    /// The pull that importance and anchor make.
    fn make_pull(&mut self) -> Result<()> {
        if let (Some(importance), Some(anchor)) = (&self.importance, &self.anchor) {
            let [anchor, weights] = [anchor.copied()?, importance.weights.copied()?];
            self.pull = Some(Pull::new(self.of.strength, anchor, Some(weights))?);
        }
        Ok(())
    }

    /// Keeps the best responses of a step.
    fn hear(&mut self, examples: &[Example]) -> Result<()> {
        let best = likelihood(TokenReduction::Sum)?.select(examples.to_vec());
        let best = best
            .into_iter()
            .filter_map(|e| e.responses.into_iter().next());
        self.newest.extend(best.map(|r| r.sequence));
        let over = self.newest.len().saturating_sub(self.of.capacity);
        self.newest.drain(..over);
        Ok(())
    }

    /// Writes its state to a folder.
    fn write(&self, dir: &Path, parameters: &Parameters) -> Result<()> {
        let tokens = |s: &Sequence| {
            let weights = s.weights().map(<[f64]>::to_vec);
            (s.tokens().to_vec(), s.prompt().len(), weights)
        };
        let hardest = self.hardest.kept.iter();
        let saved = Saved {
            losses: self.plateau.losses.iter().copied().collect(),
            last: self.plateau.last,
            peak: self.plateau.peak,
            estimates: self.importance.as_ref().map_or(0, |of| of.estimates),
            newest: self.newest.iter().map(tokens).collect(),
            hardest: hardest.map(|(loss, s)| (*loss, tokens(s))).collect(),
        };
        write_json(&dir.join(STATE), &saved)?;
        if let (Some(importance), Some(anchor)) = (&self.importance, &self.anchor) {
            penalty::write(&dir.join(WEIGHTS), &importance.weights, parameters)?;
            penalty::write(&dir.join(ANCHOR), anchor, parameters)?;
        }
        Ok(())
    }
}

impl Hook for Plateaus {
    fn bend(&mut self, policy: &mut Learner) -> Result<Vec<(String, f64)>> {
        let mut found = Vec::new();
        if self.of.weight > 0.0 && !self.hardest.kept.is_empty() {
            let all: Vec<Sequence> = self.hardest.kept.iter().map(|(_, s)| s.clone()).collect();
            let loss = push_likelihood(policy, &all, self.of.weight, self.of.budget)?;
            found.push(("hardest/loss".into(), loss));
        }
        if let Some(of) = &self.pull {
            found.push(("penalty".into(), pull(of, policy)?));
        }
        Ok(found)
    }

    fn stepped(&mut self, stepped: &Stepped, policy: &Learner) -> Result<()> {
        self.hear(&stepped.examples)?;
        if !self.plateau.see(stepped.loss) {
            return Ok(());
        }
        let model = policy.model.decoder();
        let newest = std::mem::take(&mut self.newest);
        let loss =
            |s: &Sequence| -> Result<f64> { Ok(-model.sums(&[s])?[0] / s.weight().max(1.0)) };
        self.hardest.renew(newest, loss)?;
        let hardest: Vec<&Sequence> = self.hardest.kept.iter().map(|(_, s)| s).collect();
        let estimate = estimate(model, &hardest, Weights::Outputs, &Silent)?;
        let mut importance = match self.importance.take() {
            Some(importance) => importance,
            None => Importance::new(Accumulation::Mean, &estimate)?,
        };
        importance.take(&estimate)?;
        self.importance = Some(importance);
        self.anchor = Some(Leaves::of(model.parameters())?);
        self.make_pull()
    }

    fn save(&self, dir: &Path, policy: &Learner) -> Result<()> {
        self.write(dir, policy.model.parameters())
    }

    fn restore(&mut self, dir: &Path, policy: &Learner) -> Result<()> {
        self.take_up(dir, policy.model.parameters())
    }
}

/// Adds `weight` times the gradient of the mean of −ln π over all tokens of responses, and gives that mean.
fn push_likelihood(
    policy: &mut Learner,
    responses: &[Sequence],
    weight: f64,
    budget: usize,
) -> Result<f64> {
    let count: f64 = responses.iter().map(Sequence::weight).sum();
    let mut runs = Runs::new(policy.model.decoder(), Reduction::Sum, responses, budget)?;
    let sum: f64 = runs.numbers().sequences.iter().sum();
    let each = vec![-weight / count; responses.len()];
    runs.push(&each, &[], &mut policy.gradients)?;
    Ok(-sum / count)
}
