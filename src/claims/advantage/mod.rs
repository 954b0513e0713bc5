//! The Advantage Model and selective rehearsal.

mod calibration;
mod rehearsal;
mod scores;
mod tables;
mod training;

use super::{Claim, Paper, Verdict};
use crate::bandit::{Evidence, Policy, Problem};
use crate::error::Result;
use crate::magnitude::largest;
use crate::random::{Purpose, Stream};
use crate::solve::FixedPoint;
use crate::solve::advantage::{Form, fixed_point};

/// The margin of the paper's experiments.
const MARGIN: f64 = 2.5;

const PAPER: Paper = Paper::AdvantageModel;

pub(super) const CLAIMS: &[Claim] = &[
    PAPER.claim(
        "advantage-model/ppo-objective",
        "eq. 2",
        "The quantity that PPO is run on is the expected reward less β times the divergence from \
         the initial policy, to be maximised",
        Verdict::Holds,
        "it is named L like the losses beside it, but the text calls it an objective: its maximiser \
         is π*, a minimiser would be something else",
        training::ppo_objective,
    ),
    PAPER.claim(
        "advantage-model/differences-only",
        "section 3.1",
        "The reward-model loss fixes score differences only, so that scores of a prompt can lie \
         anywhere; the Advantage Model's loss fixes the scores themselves",
        Verdict::Holds,
        "",
        scores::differences_only,
    ),
    PAPER.claim(
        "advantage-model/teacher-forcing",
        "eq. 4",
        "Teacher forcing on accepted responses maximises the sum of their token probabilities",
        Verdict::Misprint,
        "the logarithm is missing: teacher forcing, and the NLL that eq. 9's text names, sum ln π; the \
         printed sum is largest where all mass is on the most frequent response",
        training::teacher_forcing,
    ),
    PAPER.claim(
        "advantage-model/expected-advantage",
        "eq. 5",
        "Importance weights remove the bias of another policy's responses: the score less its \
         weighted mean is the advantage under the current policy",
        Verdict::HoldsIf,
        "π′ must give mass to every response of π_φ; then a = r − E_φ[r], of mean zero under π_φ \
         and the same for r and r + c",
        scores::expected_advantage,
    ),
    PAPER.claim(
        "advantage-model/several-proposals",
        "eq. 8",
        "With K other policies and a weight N the expected reward of eq. 5 is the current policy's \
         share plus one importance-weighted term for each of the K",
        Verdict::Misprint,
        "the terms must read r(x, y_k) π_φ(y_k|x)/π′_k(y_k|x) with y_k drawn from π′_k; read with the \
         scored y they shrink the advantage by 1 − K/N on policy, and off policy it has another mean \
         and can have another order",
        scores::several_proposals,
    ),
    PAPER.claim(
        "advantage-model/models-the-advantage",
        "eq. 5 and 6, section 4.3",
        "Training with eq. 6 models the advantage directly",
        Verdict::HoldsIf,
        "the scores are parametrised to have mean zero under π_φ, and the margin is wide against \
         the gaps; a free table's optimum has another mean, and at m = 2.5 smaller gaps",
        scores::models_the_advantage,
    ),
    PAPER.claim(
        "advantage-model/bounded",
        "eq. 6",
        "The bounding loss keeps the gain of a good response and the loss of a bad one within the margin",
        Verdict::HoldsIf,
        "the table of scores is free, then |a| < m at the optimum, whatever the labels; centred under \
         a π_φ that has little mass where the comparisons are, a score can leave the margin",
        scores::bounded,
    ),
    PAPER.claim(
        "advantage-model/well-calibrated-bound",
        "eq. 6, section 3.1",
        "The bounding loss leaves the score differences calibrated",
        Verdict::HoldsIf,
        "the margin is wide against the true gaps: two arms' gap can never exceed 2m/3 if pairs of a \
         response with itself are left out",
        calibration::well_calibrated,
    ),
    PAPER.claim(
        "advantage-model/better-calibrated",
        "section 4.3, Table 1",
        "The Advantage Model is better calibrated than the reward model",
        Verdict::HoldsIf,
        "labels are few and the reward model is fitted without a prior: the bound then does what a \
         prior would. With many labels the reward model's error vanishes and the Advantage Model's \
         does not",
        calibration::better_calibrated,
    ),
    PAPER.claim(
        "advantage-model/ranking-preserved",
        "section 1 and 4.3",
        "Bounding the scores preserves the ranking of the responses",
        Verdict::HoldsIf,
        "every pair is compared equally often: otherwise who wins and loses depends on the pair law, \
         and even the best response can change; rare, a fraction of a percent of pairs at m = 2.5",
        calibration::ranking_preserved,
    ),
    PAPER.claim(
        "advantage-model/stable-scales",
        "section 4.3, Figure 4",
        "Means and standard deviations of the Advantage Model's scores vary less from task to task \
         than reward scores do",
        Verdict::Holds,
        "comparisons within a prompt leave the level of a reward model open, so how far its means \
         differ is a matter of what it starts from and what its prompts share",
        calibration::stable_scales,
    ),
    PAPER.claim(
        "advantage-model/better-reward-for-ppo",
        "section 4.3, Figure 5 and Table 2",
        "PPO on the Advantage Model's scores ends with a better policy than PPO on reward scores",
        Verdict::HoldsIf,
        "prompts share a policy's parameters and their rewards differ in scale, where the loudest task \
         overrides the others; prompt by prompt the true reward is the best there is to optimise, and \
         the Advantage Model's limit has a regret",
        training::better_reward,
    ),
    PAPER.claim(
        "advantage-model/rehearsal-sign",
        "eq. 9",
        "Adding γ times the rehearsal term to the PPO objective keeps the rehearsed responses likely",
        Verdict::HoldsIf,
        "both are maximised and the term is the log-likelihood; the text calls it an NLL loss, which \
         would have to be subtracted (as a loss: −L_PPO − γ E[ln π])",
        rehearsal::rehearsal_sign,
    ),
    PAPER.claim(
        "advantage-model/rehearsal-as-divergence",
        "section 3.2",
        "Selective rehearsal amounts to a stronger divergence penalty on the prompts it keeps",
        Verdict::HoldsIf,
        "the responses are not selected by score: then the term is a forward divergence from the \
         initial policy; top-k responses pull even where the policy has not moved",
        rehearsal::rehearsal_as_divergence,
    ),
    PAPER.claim(
        "advantage-model/clusters",
        "section 4.3, Figure 6",
        "How many clusters rehearsal keeps examples of hardly matters for the scores that are reached",
        Verdict::Holds,
        "at the paper's γ of 0.01; it says no more than that the examples hardly matter then: at ten times that scores \
         differ by an eighth of what training gains",
        rehearsal::clusters,
    ),
    PAPER.claim(
        "advantage-model/table-1",
        "section 4.3",
        "Accuracies and calibration errors, slightly higher and much lower for the Advantage Model on \
         both datasets, are those of Table 2",
        Verdict::Misprint,
        "they are in Table 1, and there as described; Table 2 holds shares of wins, losses and ties",
        tables::table_1,
    ),
    PAPER.claim(
        "advantage-model/table-2-forgetting",
        "section 4.3, Table 2",
        "On the forget set PPO on reward scores falls behind the SFT model and PPO on the Advantage \
         Model's scores does not",
        Verdict::Holds,
        "by wins less losses; by wins alone, which the text speaks of, RM-PPO is ahead on that set",
        tables::table_2_forgetting,
    ),
    PAPER.claim(
        "advantage-model/table-2-rehearsal",
        "section 4.3, Table 2",
        "Selective rehearsal raises the win rate on both test sets",
        Verdict::Holds,
        "by under one point: less than a deviation, unless most answers to a prompt were the same; how they pair \
         up is not given",
        tables::table_2_rehearsal,
    ),
    PAPER.claim(
        "advantage-model/ranking-accuracy",
        "section 4.3, Table 1",
        "The Advantage Model is slightly more accurate than the reward model, or as accurate, on all datasets",
        Verdict::Holds,
        "on HH-RLHF by a quarter of a deviation, so as accurate; of the proprietary data the number of test \
         examples is not given",
        tables::ranking_accuracy,
    ),
    PAPER.claim(
        "advantage-model/table-2-sizes",
        "section 4.1, Table 2",
        "The shares of Table 2 are of the 2,623 prompts of the main and of the 1,704 of the forget test set",
        Verdict::HoldsIf,
        "if some answers were left out, of each policy another number: none of the rows can be counts over the \
         stated numbers",
        tables::table_2_sizes,
    ),
];

/// A policy of random logits in ±`scale` for every prompt.
fn random_policy(problem: &Problem, scale: f64, key: u64) -> Policy {
    let mut stream = Stream::new(key, Purpose::Start, 0);
    let mut row = |arms| -> Vec<f64> {
        (0..arms)
            .map(|_| scale * (2.0 * stream.uniform() - 1.0))
            .collect()
    };
    let logits: Vec<Vec<f64>> = problem.prompts().iter().map(|p| row(p.arms())).collect();
    Policy::softmax(&logits)
}

fn optimum(problem: &Problem, margin: f64, form: Form) -> Result<FixedPoint> {
    fixed_point(problem, &Evidence::population(problem), margin, form)
}

fn scores(problem: &Problem, margin: f64, form: Form) -> Result<Vec<Vec<f64>>> {
    Ok(optimum(problem, margin, form)?.table.unwrap_or_default())
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    largest(a.iter().zip(b).map(|(a, b)| a - b))
}
