//! Several adapters on one frozen base, trained side by side, and the one policy that they make.

use std::path::{Path, PathBuf};

use super::enums::Merge;
use super::learner::{Learner, Model};
use super::settings::Settings;
use super::step::Outcome;
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::lora::AdapterConfig;
use crate::llm::tensor::parameters::Parameters;

/// L adapters on one frozen base, each trained on the same batches by its own loss and optimiser (BPO, section 4).
///
/// The run's policy is their average of products, `W + α/r · 1/L Σₗ BₗAₗ`, or the sum: one adapter of rank Lr whose
/// A is their A one below the other, and whose B is their B side by side. It writes, is evaluated and is kept; only
/// the members are trained.
pub struct Ensemble {
    members: Vec<Learner>,
}

impl Ensemble {
    /// That of members from [`decoders`], before its first step.
    ///
    /// # Errors
    /// Constants of the optimiser that are out of range.
    pub fn new(members: Vec<Box<dyn Model>>, settings: &Settings, lr: f64) -> Result<Self> {
        let learner = |model| Learner::new(model, settings, lr);
        let members = members.into_iter().map(learner).collect::<Result<_>>()?;
        Ok(Self { members })
    }

    /// The members in turn.
    pub fn each(&self) -> impl Iterator<Item = &Learner> {
        self.members.iter()
    }

    /// The mean of what each comes to: of the loss, and of the trained numbers that it saw.
    ///
    /// # Errors
    /// The first that fails.
    pub fn mean(&mut self, mut of: impl FnMut(&mut Learner) -> Result<Outcome>) -> Result<Outcome> {
        let share = 1.0 / self.members.len() as f64;
        let mut mean: Option<Outcome> = None;
        for member in &mut self.members {
            let mut found = of(member)?;
            found.loss *= share;
            let numbers = found.batch.log_policy.iter_mut().flatten();
            numbers.for_each(|x| *x *= share);
            match &mut mean {
                None => mean = Some(found),
                Some(mean) => {
                    mean.loss += found.loss;
                    let own = mean.batch.log_policy.iter_mut().flatten();
                    let theirs = found.batch.log_policy.iter().flatten();
                    own.zip(theirs).for_each(|(x, y)| *x += y);
                }
            }
        }
        mean.ok_or_else(|| Error::invalid("members", "there are none", "give 1 or more"))
    }

    /// Mean of the gradients' norms.
    ///
    /// # Errors
    /// A failing device.
    pub fn norm(&self) -> Result<f64> {
        let norms: Vec<f64> = self.each().map(Learner::norm).collect::<Result<_>>()?;
        Ok(norms.iter().sum::<f64>() / norms.len() as f64)
    }

    /// A step of each member along its gradient, clipped by its own norm; then the policy is made of them again.
    ///
    /// # Errors
    /// A failing device.
    pub fn update(&mut self, factor: f64, policy: &Parameters) -> Result<()> {
        for member in &mut self.members {
            let norm = member.norm()?;
            member.update(norm, factor)?;
        }
        self.merge_into(policy)
    }

    /// Forgets the gradients.
    pub fn clear(&mut self) {
        (self.members.iter_mut()).for_each(|member| member.gradients.clear());
    }

    /// Gives the policy's adapter, of rank Lr, the members' numbers.
    ///
    /// # Errors
    /// A policy of other layers, or a failing device.
    pub fn merge_into(&self, policy: &Parameters) -> Result<()> {
        for (l, member) in self.members.iter().enumerate() {
            let own = member.model.parameters();
            for part in own.iter().filter(|p| p.trainable) {
                let merged = policy.find(&part.name).ok_or_else(|| {
                    let remedy = "this is a bug of pistar";
                    Error::invalid(&part.name, "the policy lacks it", remedy)
                })?;
                // A is [r, in] and B [out, r].
                let along = usize::from(part.name.ends_with(".lora_B.weight"));
                let rank = part.tensor.dims()[along];
                let merged = &policy.get(merged).tensor;
                merged.slice_set(&part.tensor.contiguous()?, along, l * rank)?;
            }
        }
        Ok(())
    }

    /// Writes the members to a folder that is there.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        for (l, member) in self.members.iter().enumerate() {
            let dir = folder(dir, l);
            std::fs::create_dir(&dir).map_err(Error::io(&dir, "create"))?;
            member.save(&dir, None)?;
        }
        Ok(())
    }

    /// Takes up the members' optimisers; they were loaded from the same folder.
    ///
    /// # Errors
    /// A file that is missing or broken.
    pub fn restore(&mut self, dir: &Path) -> Result<()> {
        let mut members = self.members.iter_mut().enumerate();
        members.try_for_each(|(l, member)| member.restore(&folder(dir, l)))
    }
}

/// A member's folder in that of a checkpoint.
fn folder(dir: &Path, member: usize) -> PathBuf {
    dir.join(format!("member-{}", member + 1))
}

/// The adapter of the policy that members with that one make.
pub(in crate::llm) fn merged(each: AdapterConfig, settings: &Settings) -> AdapterConfig {
    let members = settings.members;
    AdapterConfig {
        rank: each.rank * members,
        // It is divided by the rank, which is L times as large: of a mean by L more than of a member.
        alpha: match settings.merge {
            Merge::Mean => each.alpha,
            Merge::Sum => each.alpha * members as f64,
        },
        ..each
    }
}

/// The members' decoders, which share a base: new ones, each with an A of its own, or those of a checkpoint.
///
/// # Errors
/// Layers that there are not, or a checkpoint that is missing or broken.
pub(super) fn decoders(
    base: &Decoder,
    each: &AdapterConfig,
    settings: &Settings,
    checkpoint: Option<&Path>,
) -> Result<Vec<Decoder>> {
    let member = |l: usize| {
        let mut decoder = base.frozen()?;
        match checkpoint {
            None => decoder.add_adapter_of(each.clone(), settings.seed, l as u64)?,
            Some(dir) => {
                decoder.load_adapter(folder(dir, l))?;
                decoder.train_adapter()?;
            }
        }
        Ok(decoder)
    };
    (0..settings.members).map(member).collect()
}
