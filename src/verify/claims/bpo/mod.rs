//! Online preference optimisation in proximity to the behaviour policy (BPO).

mod exact;
mod tables;
mod training;

use super::{Claim, Finding, Paper, Verdict, random_problems, toy};
use crate::bandit::population::{self, Evaluation};
use crate::bandit::{Evidence, PairLaw, Policy, Problem, Prompt};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::solve::FixedPoint;
use crate::solve::bpo::{Inner, phase_problem};

pub(super) const CLAIMS: &[Claim] = &[
    Claim {
        name: "bpo/inner-losses",
        paper: Paper::Bpo,
        place: "eq. 2 to 4",
        statement: "DPO, IPO and SLiC are three functions of one log-ratio margin against the reference",
        verdict: Verdict::Holds,
        remark: "eq. 4 is the reference-normalised hinge; SLiC-HF has a margin in log-probabilities and an SFT term",
        check: exact::inner_losses,
    },
    Claim {
        name: "bpo/penalty",
        paper: Paper::Bpo,
        place: "eq. 1",
        statement: "A larger β keeps the optimum of the RL objective nearer to the reference",
        verdict: Verdict::Holds,
        remark: "",
        check: exact::penalty,
    },
    Claim {
        name: "bpo/dpo-optimum",
        paper: Paper::Bpo,
        place: "section 3.2, eq. 2",
        statement: "With Bradley–Terry labels DPO is minimised by the optimum of the RL objective, whatever law draws the pairs, as long as it connects the responses",
        verdict: Verdict::Holds,
        remark: "",
        check: exact::dpo_optimum,
    },
    Claim {
        name: "bpo/losses-bound-the-distance",
        paper: Paper::Bpo,
        place: "sections 1 and 4, eq. 2 to 4",
        statement: "The three losses keep the policy in a region around their reference",
        verdict: Verdict::HoldsIf,
        remark: "if labels are noisy; with noiseless labels DPO falls for ever and SLiC is 0 on a cone of policies, so only IPO holds the policy back",
        check: exact::losses_bound_the_distance,
    },
    Claim {
        name: "bpo/slic-ranks",
        paper: Paper::Bpo,
        place: "eq. 4",
        statement: "SLiC raises the better one of any two responses over the other",
        verdict: Verdict::HoldsIf,
        remark: "if labels are noiseless; with Bradley–Terry labels βu is an integer vector and many responses tie",
        check: exact::slic_ranks,
    },
    Claim {
        name: "bpo/offline",
        paper: Paper::Bpo,
        place: "section 4",
        statement: "One annotation phase (F = 1) is offline training against the initial policy",
        verdict: Verdict::Holds,
        remark: "exactly solved and sampled",
        check: exact::offline,
    },
    Claim {
        name: "bpo/dpo-phases",
        paper: Paper::Bpo,
        place: "eq. 5, Algorithm 1",
        statement: "F phases of DPO, each around the last policy and solved exactly, are one static phase at β/F",
        verdict: Verdict::Holds,
        remark: "what follows from eq. 5: moving the reference weakens the penalty to β/F and does nothing else",
        check: exact::dpo_phases,
    },
    Claim {
        name: "bpo/instability",
        paper: Paper::Bpo,
        place: "sections 1, 4 and 5.4",
        statement: "A reference that follows the policy can make training unstable",
        verdict: Verdict::Holds,
        remark: "exact phases have no interior fixed point: under DPO the odds of the best arm over the next are multiplied by e^{(R₁−R₂)/β} a phase",
        check: exact::instability,
    },
    Claim {
        name: "bpo/ipo-phases",
        paper: Paper::Bpo,
        place: "eq. 3 and 5",
        statement: "A phase of IPO on the policy's own pairs multiplies it by e^{P/β}, P being win rates against itself, and the runner-up's log-odds fall by (p₁₂ − ½)/β a phase in the end",
        verdict: Verdict::Holds,
        remark: "what follows from eq. 3 and 5; slower than DPO, the same collapse",
        check: exact::ipo_phases,
    },
    Claim {
        name: "bpo/more-phases",
        paper: Paper::Bpo,
        place: "section 5.2, fig. 4",
        statement: "More annotation phases give a better policy",
        verdict: Verdict::HoldsIf,
        remark: "if better means reward or win rate, as in the paper; eq. 1's own objective with the initial reference is met by the first exact DPO phase and lost with every further one",
        check: exact::more_phases,
    },
    Claim {
        name: "bpo/on-policy-proximity",
        paper: Paper::Bpo,
        place: "section 5.1",
        statement: "On-policy BPO keeps the policy in the proximity of the behaviour policy",
        verdict: Verdict::HoldsIf,
        remark: "if a phase has more than one update; with K = 1, as in section 5.1, every log-ratio is 0, the reference cancels and β is only a learning rate (for one model: the paper's five members may each differ from a merged reference)",
        check: training::on_policy_proximity,
    },
    Claim {
        name: "bpo/shared-rates",
        paper: Paper::Bpo,
        place: "section 5, implementation",
        statement: "One β and one learning rate put the three losses on an equal footing",
        verdict: Verdict::HoldsIf,
        remark: "if the optimiser divides the gradient's scale out, as Adam does; under SGD with K = 1 IPO's step is 2/β² times DPO's, 200 times at the paper's β = 0.1",
        check: training::shared_rates,
    },
    Claim {
        name: "bpo/loop-bounds",
        paper: Paper::Bpo,
        place: "Algorithm 1, line 3",
        statement: "Algorithm 1 makes T updates in F annotation phases",
        verdict: Verdict::HoldsIf,
        remark: "if `t := 0 to T` stops before T; with T included there are T + 1 updates and F + 1 phases",
        check: training::loop_bounds,
    },
    Claim {
        name: "bpo/fresh-pairs",
        paper: Paper::Bpo,
        place: "Algorithm 1, lines 6 to 15",
        statement: "Every batch comes from the behaviour policy that is its reference",
        verdict: Verdict::HoldsIf,
        remark: "if F divides T and M is K batches, as in section 5.2; with fewer pairs the store runs empty, with more it carries pairs of older policies",
        check: training::fresh_pairs,
    },
    Claim {
        name: "bpo/ema-static",
        paper: Paper::Bpo,
        place: "section 5.4, eq. 6",
        statement: "An averaged reference with τ = 0 is the static one",
        verdict: Verdict::Holds,
        remark: "and with τ = 1 it is BPO's",
        check: training::ema_static,
    },
    Claim {
        name: "bpo/ema-tiny",
        paper: Paper::Bpo,
        place: "section 5.4",
        statement: "τ of 1e-5 and below is almost the same as τ = 0",
        verdict: Verdict::Holds,
        remark: "on the toy with DPO solved exactly at every one of 625 steps",
        check: training::ema_tiny,
    },
    Claim {
        name: "bpo/ema-collapse",
        paper: Paper::Bpo,
        place: "section 5.4, fig. 7",
        statement: "Averaging the reference does not make BPO stable",
        verdict: Verdict::Holds,
        remark: "solved exactly, every τ > 0 ends where BPO does, 1/τ times slower",
        check: training::ema_collapse,
    },
    Claim {
        name: "bpo/merge-weights",
        paper: Paper::Bpo,
        place: "section 4",
        statement: "LoRA members are merged linearly",
        verdict: Verdict::HoldsIf,
        remark: "if the products BA are averaged; the product of averaged factors is another model. Whether merged is averaged or summed is left open",
        check: training::merge_weights,
    },
    Claim {
        name: "bpo/merge-loss",
        paper: Paper::Bpo,
        place: "sections 4 and 5.4",
        statement: "Merging an ensemble helps: the merged policy's loss is at most the members' mean",
        verdict: Verdict::Holds,
        remark: "for members averaged in logits; all three losses are convex in logits",
        check: training::merge_loss,
    },
    Claim {
        name: "bpo/table-1-means",
        paper: Paper::Bpo,
        place: "tables 1 and 5",
        statement: "Table 1 gives the means and standard deviations of table 5's seeds",
        verdict: Verdict::Refuted,
        remark: "24 of its 27 cells do; the three of SLiC on Harmfulness do not",
        check: tables::means,
    },
    Claim {
        name: "bpo/table-5-copied-row",
        paper: Paper::Bpo,
        place: "table 5",
        statement: "The row of offline SLiC gives its seeds on Harmfulness",
        verdict: Verdict::Misprint,
        remark: "the three numbers are those of offline IPO, whose cell of table 1 they explain; offline SLiC's own are not printed",
        check: tables::copied_row,
    },
    Claim {
        name: "bpo/table-1-deviations",
        paper: Paper::Bpo,
        place: "table 1",
        statement: "What follows ± is the standard deviation over three seeds",
        verdict: Verdict::HoldsIf,
        remark: "if it divides by n; the sample estimate (n − 1) is 1.22 times larger",
        check: tables::deviations,
    },
    Claim {
        name: "bpo/table-1-overall",
        paper: Paper::Bpo,
        place: "table 1, last column",
        statement: "Overall is the mean of the three tasks with its deviation",
        verdict: Verdict::HoldsIf,
        remark: "if ± is read as the mean of the three tasks' deviations; the deviation of the overall mean over table 5's seeds is less than half of it in the median row",
        check: tables::overall,
    },
    Claim {
        name: "bpo/all-variants",
        paper: Paper::Bpo,
        place: "section 5.1",
        statement: "Every BPO variant beats its on-policy and its offline baseline on every task",
        verdict: Verdict::Refuted,
        remark: "offline SLiC has 95.1 on Harmfulness and BPO 94.7; the other 17 comparisons of table 1 stand, and with table 5's cells this one would too, but its row of offline SLiC is a copy of offline IPO's",
        check: tables::all_variants,
    },
    Claim {
        name: "bpo/gold-helpfulness",
        paper: Paper::Bpo,
        place: "appendix A.1",
        statement: "The golden model wins 03.8% on Helpfulness",
        verdict: Verdict::Misprint,
        remark: "for 93.8%, seed 1 of BPO (DPO) in table 5, beside the 91.5% quoted for TL;DR",
        check: tables::gold_helpfulness,
    },
];

/// A loss and its gradient on the population of a problem.
fn on_population(problem: &Problem, inner: Inner, table: &[Vec<f64>]) -> Result<Evaluation> {
    let evidence = Evidence::population(problem);
    population::evaluate(problem, &evidence, inner.objective(), table)
}

/// The policy of an answer that has one.
fn policy_of(point: &FixedPoint) -> Result<&Policy> {
    point.policy.as_ref().ok_or_else(|| {
        Error::invalid(
            "fixed point",
            "it has no policy",
            "ask for an objective that has one",
        )
    })
}

/// One number in ±`scale` per arm.
fn random_table(problem: &Problem, scale: f64, seed: u64) -> Vec<Vec<f64>> {
    let mut stream = Stream::new(seed, Purpose::Start, 0);
    let mut row = |prompt: &Prompt| -> Vec<f64> {
        (0..prompt.arms())
            .map(|_| scale * (2.0 * stream.uniform() - 1.0))
            .collect()
    };
    problem.prompts().iter().map(&mut row).collect()
}

/// The problem of a phase whose reference is not its behaviour policy.
fn stage(problem: &Problem, reference: &Policy, behaviour: &Policy) -> Result<Problem> {
    let laws = behaviour.probabilities();
    let referred = phase_problem(problem, reference)?;
    Ok(referred.map_prompts(|x, prompt| {
        let (first, second) = (laws[x].clone(), laws[x].clone());
        prompt.law = PairLaw::Product { first, second };
    }))
}

/// `E[R]`.
fn reward(problem: &Problem, policy: &Policy) -> f64 {
    let rows = problem.prompts().iter().zip(policy.probabilities());
    rows.map(|(prompt, p)| prompt.weight * dot(&p, &prompt.reward))
        .sum()
}

/// How often a policy is preferred to the reference.
fn win_rate(problem: &Problem, policy: &Policy) -> f64 {
    let rows = problem.prompts().iter().zip(policy.probabilities());
    0.5 + rows
        .map(|(prompt, p)| prompt.weight * dot(&p, &prompt.win_margins(&prompt.log_reference)))
        .sum::<f64>()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The largest absolute difference of two tables, NaN if there is one.
fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let gaps = a.iter().flatten().zip(b.iter().flatten());
    gaps.map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d <= m { m } else { d })
}
