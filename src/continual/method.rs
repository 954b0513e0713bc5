//! The methods, a table: what each descends on a new task, and how it keeps the old ones.

use super::setting::{Range, Setting};

/// What is descended on the examples of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Base {
    /// COPR's fit of the sampling distributions (eq. 7), whose reference is the policy at the start of the task.
    Fit,
    /// The fit and the likelihood of the best response (eq. 11).
    FitAndLikelihood,
    /// The likelihood of the best response: supervised fine-tuning (SFT).
    Likelihood,
    /// DPO on all pairs of the ranking, the better response always winning; its reference is the policy at the start of
    /// the newest task, for replayed pairs too.
    Preferences,
    /// Preference ranking optimisation (PRO).
    Contrasts,
    /// Rank responses to align with human feedback (RRHF).
    Ranks,
    /// Self-play (SPIN): DPO with the best response as the winner and one of the policy at the last iteration,
    /// its reference, as the loser; in exact expectation over that response.
    SelfPlay,
    /// PPO with a clipped ratio on the exact rewards, in exact expectation over the responses of
    /// π_old, which is the policy of some steps before; the penalty's reference is the first policy.
    Reward,
    /// Chain of hindsight (CoH): the likelihood of the better response of every pair under good feedback,
    /// of the worse one under bad feedback. A bandit has no text to put feedback in, so there
    /// are two policies, whose parameters have a correlation (a setting: what features of the feedback would
    /// share): a step moves w_good by `g_good + ρ g_bad` and w_bad by `g_bad + ρ g_good`. Accuracy is that of
    /// good feedback. At ρ = 0 it is the likelihood of better responses.
    Feedback,
}

/// How the old tasks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeps {
    /// Not at all: tasks in order.
    Nothing,
    /// By training on all tasks so far at once, from the first policy, with as many steps for each: what a
    /// method without the old data is measured against.
    Everything,
    /// By the same loss on the replayed examples of each old task, weight 1 (experience replay, ER).
    Replay,
    /// By one constraint per old task on its replayed examples, `E divergence(P_θ, P_i*) − d_i ≤ 0`, with d_i its
    /// value at the start of the new task (eq. 13), and a multiplier for each, by gradient ascent (eq. 12).
    Constraints,
    /// The same with every d_i = 0: multipliers follow the fit of the old task itself.
    Fits,
    /// By a [pull](super::hooks::Pull) to the parameters at the start of the task.
    Pull(Weights),
    /// As MAS, whose importance is estimated on the hardest examples whenever the loss comes to a
    /// [plateau](super::hooks::Plateau), and by training on those examples too, half and half (TFCL).
    Plateaus,
    /// By a [projection](super::hooks::project) of the gradient off that of the likelihood on the replayed examples
    /// (A-GEM).
    Projection,
    /// By `strength · T² KL(p_old^{1/T} ‖ p^{1/T})` on the new task's prompts, p_old the policy at the
    /// start of the task, T = 2, from the second task on (learning without forgetting, LwF).
    Distillation,
    /// By a memory of examples with ln π of every arm as it was when they were stored (at the end of their task),
    /// [sampled](super::hooks::Reservoir) from all that was seen: the mean squared distance from those numbers, and the
    /// likelihood of its best responses, each with a weight (DER++; as logits have a free constant, ln π stands for them).
    Memory,
}

/// What a pull weights parameters by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// All alike (L2).
    Equal,
    /// The diagonal of the Fisher information, `E_π[(∂ ln π/∂w)²]`, exact and summed over the old tasks (EWC).
    Fisher,
    /// The sensitivity of the outputs, `E_x |∂‖ln π(·|x)‖²/∂w|`, summed over the old tasks (MAS).
    Outputs,
}

/// Method of continual learning.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Method {
    /// Its name in rows and on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// What it descends on a task.
    pub base: Base,
    /// How it keeps old tasks.
    pub keeps: Keeps,
    /// Settings to be tuned, and between what.
    pub settings: &'static [Range],
}

macro_rules! methods {
    ($($constant:ident = $name:literal, $base:expr, $keeps:expr, [$($setting:ident $range:tt),*], $about:literal;)*) => {
        impl Method {
            $(#[doc = $about] pub const $constant: Self = Self {
                name: $name,
                about: $about,
                base: $base,
                keeps: $keeps,
                settings: &[$(Range::of(Setting::$setting, $range)),*],
            };)*

            /// Every method: the paper's 15 rivals in the order of its Table 2, COPR, its ablations in that of its Table 3,
            /// and what else is to be compared with them.
            pub const ALL: &[Self] = &[$(Self::$constant),*];
        }
    };
}

methods! {
    SFT = "sft", Base::Likelihood, Keeps::Nothing, [],
        "supervised fine-tuning on the best responses, task after task";
    SFT_ALL = "sft-all", Base::Likelihood, Keeps::Everything, [],
        "supervised fine-tuning on all tasks at once";
    SFT_L2 = "sft+l2", Base::Likelihood, Keeps::Pull(Weights::Equal),
        [Pull (1e-4, 1.0)],
        "SFT with a pull to the last parameters";
    SFT_EWC = "sft+ewc", Base::Likelihood, Keeps::Pull(Weights::Fisher),
        [Pull (0.03, 30.0)],
        "SFT with elastic weight consolidation: a pull weighted by Fisher information";
    SFT_MAS = "sft+mas", Base::Likelihood, Keeps::Pull(Weights::Outputs),
        [Pull (1e-4, 0.1)],
        "SFT with memory aware synapses: a pull weighted by the sensitivity of outputs";
    SFT_AGEM = "sft+agem", Base::Likelihood, Keeps::Projection, [],
        "SFT with A-GEM: gradients projected off that of replayed examples";
    SFT_LWF = "sft+lwf", Base::Likelihood, Keeps::Distillation,
        [Distillation (0.01, 3.0)],
        "SFT with learning without forgetting: distillation on new prompts";
    SFT_TFCL = "sft+tfcl", Base::Likelihood, Keeps::Plateaus,
        [Pull (1e-3, 0.3), PlateauMean (0.3, 1.5)],
        "SFT with task-free continual learning: MAS at plateaus, hard examples replayed";
    SFT_DER = "sft+der++", Base::Likelihood, Keeps::Memory,
        [Matching (0.003, 3.0), Rehearsal (0.1, 3.0)],
        "SFT with dark experience replay (DER++): stored outputs and labels";
    SPIN = "spin+er", Base::SelfPlay, Keeps::Replay,
        [Beta (0.1, 10.0)],
        "self-play against the last iterate (SPIN), with replay";
    RLHF = "rlhf", Base::Reward, Keeps::Everything,
        [Beta (0.1, 10.0)],
        "iterated RLHF: PPO on exact rewards of all tasks at once";
    COH = "coh+er", Base::Feedback, Keeps::Replay,
        [Coupling (-0.9, 0.9)],
        "chain of hindsight: good and bad feedback, with replay";
    PRO = "pro+er", Base::Contrasts, Keeps::Replay,
        [Likelihood (0.01, 3.0), Contrast (0.1, 10.0)],
        "preference ranking optimisation, with replay";
    RRHF = "rrhf+er", Base::Ranks, Keeps::Replay,
        [Likelihood (0.03, 30.0)],
        "probabilities in the order of the ranking (RRHF), with replay";
    DPO = "dpo+er", Base::Preferences, Keeps::Replay,
        [Beta (0.1, 10.0)],
        "DPO on the pairs of the ranking, with replay";
    COPR = "copr", Base::FitAndLikelihood, Keeps::Constraints,
        [MultiplierStart (0.1, 10.0), MultiplierRate (1e-4, 10.0), Likelihood (0.01, 3.0), Beta (0.03, 3.0)],
        "COPR: fit and likelihood under constraints, Algorithm 1";
    COPR_NO_FIT = "copr-no-fit", Base::Likelihood, Keeps::Constraints,
        [MultiplierStart (0.1, 10.0), MultiplierRate (1e-4, 10.0), Beta (0.03, 3.0)],
        "COPR without the fit of the new task";
    COPR_NO_CONSTRAINTS = "copr-no-constraints", Base::FitAndLikelihood, Keeps::Nothing,
        [Likelihood (0.01, 3.0), Beta (0.03, 3.0)],
        "COPR without constraints";
    COPR_NO_LIKELIHOOD = "copr-no-sft", Base::Fit, Keeps::Constraints,
        [MultiplierStart (0.1, 10.0), MultiplierRate (1e-4, 10.0), Beta (0.03, 3.0)],
        "COPR without the likelihood of the best response";
    COPR_FIXED = "copr-lambda-1", Base::FitAndLikelihood, Keeps::Replay,
        [Likelihood (0.01, 3.0), Beta (0.03, 3.0)],
        "COPR with every multiplier held at 1, which is replay of weight 1";
    COPR_FITS = "copr-replay-fit", Base::FitAndLikelihood, Keeps::Fits,
        [MultiplierStart (0.1, 10.0), MultiplierRate (1e-4, 10.0), Likelihood (0.01, 3.0), Beta (0.03, 3.0)],
        "COPR with the old tasks' fits in place of the constraints: no thresholds";
    FIT = "fit", Base::Fit, Keeps::Nothing,
        [Beta (0.03, 3.0)],
        "COPR's fit alone, task after task";
    FIT_REPLAY = "fit+er", Base::Fit, Keeps::Replay,
        [Beta (0.03, 3.0)],
        "COPR's fit with replay of the old ones, weight 1";
    FIT_L2 = "fit+l2", Base::Fit, Keeps::Pull(Weights::Equal),
        [Pull (0.001, 1.0), Beta (0.03, 3.0)],
        "COPR's fit with a pull to the last parameters";
    FIT_EWC = "fit+ewc", Base::Fit, Keeps::Pull(Weights::Fisher),
        [Pull (0.03, 10.0), Beta (0.03, 3.0)],
        "COPR's fit with elastic weight consolidation";
    FIT_ALL = "fit-all", Base::Fit, Keeps::Everything,
        [Beta (0.03, 3.0)],
        "COPR's fit of all tasks at once";
}

impl Method {
    /// The method of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.name == name)
    }

    /// Whether it needs a policy with one vector of [parameters](crate::sim::Parameters).
    pub fn acts_on_parameters(self) -> bool {
        self.base == Base::Feedback
            || matches!(
                self.keeps,
                Keeps::Pull(_) | Keeps::Plateaus | Keeps::Projection
            )
    }

    /// Whether it sees the data of all tasks so far at every step.
    pub fn sees_all(self) -> bool {
        self.keeps == Keeps::Everything
    }
}
