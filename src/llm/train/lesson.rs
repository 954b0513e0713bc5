//! What a step learns from and is bound by beside its objective.

use std::mem;

use super::constraints::{Ascent, Constraints};
use super::distillation::Distillation;
use super::evaluation::Evaluation;
use super::hook::Hook;
use super::share::{Role, Share};
use super::trainer::Trainer;
use crate::error::Result;
use crate::llm::tensor::tape::LeafGradients;

/// What a run has beside what its settings say: what a step learns from and is bound by besides its objective, all of
/// which acts on the policy, and what is evaluated besides.
#[derive(Default)]
pub struct Lesson<'a> {
    /// Other objectives on other examples.
    pub shares: Vec<Share<'a>>,
    /// How the multipliers of shares that are [bounded](Role::Bounded) move.
    pub ascent: Ascent,
    /// Teachers.
    pub distillations: Vec<Distillation<'a>>,
    /// What changes the gradient by the parameters alone.
    pub hooks: Vec<Box<dyn Hook + 'a>>,
    /// Evaluations, which metrics have as `eval_NAME`.
    pub evaluations: Vec<Box<dyn Evaluation + 'a>>,
    /// Steps between them, in place of the settings' `eval_every`.
    pub every: Option<u64>,
}

impl Trainer<'_> {
    /// Adds to the objective's gradient what the step learns from beside it, and binds it.
    ///
    /// # Errors
    /// Those of data and networks.
    pub(super) fn beside(&mut self) -> Result<()> {
        let mut lesson = mem::take(&mut self.lesson);
        let found = self.learn(&mut lesson);
        self.lesson = lesson;
        found
    }

    fn learn(&mut self, lesson: &mut Lesson) -> Result<()> {
        let done = self.state.steps;
        for share in &lesson.shares {
            if let Role::Added { weight } = share.role {
                let loss = self.push_share(share, weight)?;
                self.state.meter.mean(&format!("{}/loss", share.name), loss);
            }
        }
        for distillation in &lesson.distillations {
            let loss = distillation.push(done, &mut self.policy)?;
            let name = format!("{}/loss", distillation.name);
            self.state.meter.mean(&name, loss);
        }
        self.constrain(lesson)?;
        for hook in &mut lesson.hooks {
            for (name, value) in hook.bend(&mut self.policy)? {
                self.state.meter.mean(&name, value);
            }
        }
        for share in &lesson.shares {
            if share.role == Role::Projected {
                self.project(share)?;
            }
        }
        Ok(())
    }

    /// COPR: `g ← (g + Σ λ_i g_i)/Λ`, and the multipliers of the step after it.
    fn constrain(&mut self, lesson: &Lesson) -> Result<()> {
        let bounded = || lesson.shares.iter().filter(|s| s.role == Role::Bounded);
        if bounded().next().is_none() {
            return Ok(());
        }
        let mut constraints = match self.state.constraints.take() {
            Some(constraints) => constraints,
            None => {
                let thresholds = bounded().map(|share| {
                    if lesson.ascent.from_zero {
                        Ok(0.0)
                    } else {
                        self.mean_loss(share)
                    }
                });
                Constraints::new(thresholds.collect::<Result<_>>()?, &lesson.ascent)
            }
        };
        let multipliers = constraints.multipliers.clone();
        let losses = (bounded().zip(&multipliers))
            .map(|(share, lambda)| self.push_share(share, *lambda))
            .collect::<Result<Vec<_>>>()?;
        self.policy
            .gradients
            .scale(1.0 / constraints.normaliser())?;
        for (i, share) in bounded().enumerate() {
            let violation = losses[i] - constraints.thresholds[i];
            let each = [("constraint", violation), ("multiplier", multipliers[i])];
            for (what, value) in each {
                self.state
                    .meter
                    .mean(&format!("{}/{what}", share.name), value);
            }
        }
        constraints.ascend(&losses, &lesson.ascent);
        self.state.constraints = Some(constraints);
        Ok(())
    }

    /// A-GEM: `g ← g − (g·g′/‖g′‖²) g′` where `g·g′ < 0`, with g′ the gradient of a share.
    fn project(&mut self, share: &Share) -> Result<()> {
        let leaves = self.policy.model.leaves();
        let own = mem::replace(&mut self.policy.gradients, LeafGradients::new(leaves));
        let pushed = self.push_share(share, 1.0);
        let theirs = mem::replace(&mut self.policy.gradients, own);
        let loss = pushed?;
        let turned = self.policy.project(&theirs)?;
        self.state.meter.mean(&format!("{}/loss", share.name), loss);
        let turned = f64::from(u8::from(turned));
        self.state
            .meter
            .mean(&format!("{}/projected", share.name), turned);
        Ok(())
    }

    /// Adds the gradient of a share of the step, and gives its loss before its weight.
    fn push_share(&mut self, share: &Share, weight: f64) -> Result<f64> {
        let (text, examples) = share.plan.batch(self.state.steps)?;
        let mut loss = 0.0;
        for mut part in share.plan.parts(&text, &examples) {
            self.refer_to(&share.plan, &mut part)?;
            part.weight.iter_mut().for_each(|w| *w *= weight);
            loss += self.push(Some(&share.plan), &part)?.loss;
        }
        // A multiplier that fell to nothing says nothing of the loss.
        Ok(if weight == 0.0 { 0.0 } else { loss / weight })
    }

    /// The mean loss over all rows of a share.
    fn mean_loss(&self, share: &Share) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for done in 0..share.all.steps() {
            let (loss, _, examples) = self.look(&share.all, done)?;
            sum += loss * examples.len() as f64;
            count += examples.len() as f64;
        }
        Ok(sum / count)
    }
}
