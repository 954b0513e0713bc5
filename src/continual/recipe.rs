//! Methods of continual learning as facts: what each learns from, keeps of old tasks, and adds to the gradient.

use crate::loss::Objective;

/// A method of continual learning.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// Its subject, in a line.
    pub about: &'static str,
    /// Objective on a task's data.
    pub objective: Objective,
    /// Objective on what is kept of old tasks.
    pub kept: Objective,
    /// What these data are.
    pub data: Data,
    /// What is kept of old tasks, and what becomes of it.
    pub memory: Memory,
    /// Penalty on the parameters.
    pub penalty: Penalty,
    /// True if predictions on the task's own prompts are kept near those of the policy before the task.
    pub distils: bool,
}

/// Data of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// Its ranked responses.
    Own,
    /// Those of all tasks so far, learned from the first policy.
    All,
    /// The best responses, each beside one that the policy before the task writes.
    Drawn,
    /// The best and the worst responses after words that say which they are.
    Marked,
    /// Those of all tasks so far: a policy learns the best ones, a reward model all, and the policy then writes
    /// responses for it.
    Judged,
}

/// What is kept of old tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Memory {
    /// Nothing.
    None,
    /// Some of their responses, learned from as the task's own, each with the reference that those have.
    Replayed,
    /// The same, each with the reference that it had then.
    Remembered,
    /// The same; their loss is to stay below what it was (COPR's constraints).
    Bounded,
    /// Some of their responses; a step that would raise their loss is projected (A-GEM).
    Projected,
    /// Some of their responses, and what the policy predicted of them (DER++).
    Predicted,
}

/// Penalty `strength/2 Σ ω (θ − θ′)²` on parameters θ that were θ′ before the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Penalty {
    /// None.
    None,
    /// ω = 1.
    Equal,
    /// ω is the diagonal of the Fisher information, summed over old tasks (EWC).
    Fisher,
    /// ω is the mean size of the gradient of the squared length of the logits (MAS).
    Sensitivity,
    /// The same, brought up to date where the loss has come to rest, whatever the task (TFCL).
    Plateaus,
}

impl Recipe {
    /// The method of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|recipe| recipe.name == name)
    }

    /// True if it keeps something of old tasks' data.
    pub fn replays(&self) -> bool {
        self.memory != Memory::None
    }
}

/// What a method of [judged](Data::Judged) responses trains one after the other: a policy on the best responses, a
/// reward model, and the policy on what it writes.
pub const JUDGED: [Objective; 3] = [Objective::SFT, Objective::REWARD_MODEL, Objective::PPO];

const SFT: Recipe = Recipe {
    name: "sft",
    about: "likelihood of the best responses, task after task",
    objective: Objective::SFT,
    kept: Objective::SFT,
    data: Data::Own,
    memory: Memory::None,
    penalty: Penalty::None,
    distils: false,
};

const COPR: Recipe = Recipe {
    name: "copr",
    about: "fit of the optimal policy's sampling distribution and likelihood of the best response, under a constraint \
            for each old task (Algorithm 1)",
    objective: Objective::COPR_SFT,
    kept: Objective::COPR,
    memory: Memory::Bounded,
    ..SFT
};

/// Every method, COPR and its ablations first.
pub const ALL: &[Recipe] = &[
    COPR,
    Recipe {
        name: "copr-no-fit",
        about: "copr without the fit of the task: its likelihood alone under the constraints",
        objective: Objective::SFT,
        ..COPR
    },
    Recipe {
        name: "copr-no-constraint",
        about: "copr without what is kept of old tasks",
        memory: Memory::None,
        ..COPR
    },
    Recipe {
        name: "copr-no-sft",
        about: "copr without the likelihood",
        objective: Objective::COPR,
        ..COPR
    },
    Recipe {
        name: "copr-replay",
        about: "copr with the fit of what is kept added with weight 1, in place of constraints",
        memory: Memory::Remembered,
        ..COPR
    },
    SFT,
    Recipe {
        name: "multitask",
        about: "likelihood of the best responses of all tasks so far at once, from the first policy",
        data: Data::All,
        ..SFT
    },
    Recipe {
        name: "l2",
        about: "sft, and a pull to the parameters before the task",
        penalty: Penalty::Equal,
        ..SFT
    },
    Recipe {
        name: "ewc",
        about: "sft, and a pull as strong as the Fisher information (elastic weight consolidation)",
        penalty: Penalty::Fisher,
        ..SFT
    },
    Recipe {
        name: "mas",
        about: "sft, and a pull as strong as the logits' sensitivity (memory aware synapses)",
        penalty: Penalty::Sensitivity,
        ..SFT
    },
    Recipe {
        name: "a-gem",
        about: "sft, whose steps are projected where they would raise the loss of what is kept",
        memory: Memory::Projected,
        ..SFT
    },
    Recipe {
        name: "lwf",
        about: "sft, and predictions on the task's prompts near those before it (learning without forgetting)",
        distils: true,
        ..SFT
    },
    Recipe {
        name: "tfcl",
        about: "sft, and a pull whose strengths are brought up to date where the loss has come to rest (task-free \
                continual learning)",
        penalty: Penalty::Plateaus,
        ..SFT
    },
    Recipe {
        name: "der",
        about: "sft, and likelihood and stored logits of what is kept (DER++)",
        memory: Memory::Predicted,
        ..SFT
    },
    Recipe {
        name: "spin",
        about: "best responses preferred to those that the policy before the task writes, with replay",
        objective: Objective::DPO,
        kept: Objective::DPO,
        data: Data::Drawn,
        memory: Memory::Replayed,
        ..SFT
    },
    Recipe {
        name: "rlhf",
        about: "sft, a reward model and PPO anew on all tasks so far (iterated RLHF)",
        data: Data::Judged,
        ..SFT
    },
    Recipe {
        name: "coh",
        about: "best and worst responses after words that say which they are (chain of hindsight), with replay",
        data: Data::Marked,
        memory: Memory::Replayed,
        ..SFT
    },
    Recipe {
        name: "pro",
        about: "preference ranking optimisation, with replay",
        objective: Objective::PRO,
        kept: Objective::PRO,
        memory: Memory::Replayed,
        ..SFT
    },
    Recipe {
        name: "rrhf",
        about: "ranking of mean log-probabilities and likelihood of the best response, with replay",
        objective: Objective::RRHF,
        kept: Objective::RRHF,
        memory: Memory::Replayed,
        ..SFT
    },
    Recipe {
        name: "dpo",
        about: "pairs of the ranking, with replay",
        objective: Objective::DPO,
        kept: Objective::DPO,
        memory: Memory::Replayed,
        ..SFT
    },
];
