//! Methods on text: which objectives they train there.

use super::method::{Base, Keeps, Method};
use crate::loss::Objective;

impl Method {
    /// Objectives that are trained one after the other on a task in text, the last of them the policy: one, but for RLHF,
    /// which learns the best responses and a reward model first.
    pub fn objectives(&self) -> &'static [Objective] {
        match self.base {
            Base::Fit => &[Objective::COPR],
            Base::FitAndLikelihood => &[Objective::COPR_SFT],
            Base::Likelihood | Base::Feedback => &[Objective::SFT],
            Base::Preferences | Base::SelfPlay => &[Objective::DPO],
            Base::Contrasts => &[Objective::PRO],
            Base::Ranks => &[Objective::RRHF],
            Base::Reward => &[Objective::SFT, Objective::REWARD_MODEL, Objective::PPO],
        }
    }

    /// Objective on what is kept of old tasks: the fit where there are constraints, else the task's own.
    pub fn objective_on_kept(&self) -> Objective {
        match (self.base, self.keeps) {
            (Base::Fit | Base::FitAndLikelihood, _) | (_, Keeps::Constraints | Keeps::Fits) => {
                Objective::COPR
            }
            _ => self.objectives()[0],
        }
    }

    /// Whether it keeps some of a task's examples in text.
    pub fn keeps_examples(&self) -> bool {
        matches!(
            self.keeps,
            Keeps::Replay | Keeps::Constraints | Keeps::Fits | Keeps::Projection | Keeps::Memory
        )
    }

    /// Whether what it keeps is held against the policy before its own task, and not before the newest one.
    pub fn remembers(&self) -> bool {
        self.keeps_examples() && self.objective_on_kept() == Objective::COPR
    }
}
