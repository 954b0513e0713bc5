//! Online preference optimisation in proximity to the behaviour policy (BPO).

mod exact;
mod significance;
mod tables;
mod training;

use super::{Claim, Finding, Paper, Verdict, random_problems, toy};
use crate::bandit::population::{self, Evaluation};
use crate::bandit::{Evidence, PairLaw, Policy, Problem, Prompt};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use crate::solve::FixedPoint;
use crate::solve::bpo::{Inner, phase_problem};

const PAPER: Paper = Paper::Bpo;

pub(super) const CLAIMS: &[Claim] = &[
    PAPER.claim(
        "bpo/inner-losses",
        "eq. 2 to 4",
        "DPO, IPO and SLiC are three functions of one log-ratio margin against the reference",
        Verdict::Holds,
        "eq. 4 is the reference-normalised hinge; SLiC-HF has a margin in log-probabilities and an SFT term",
        exact::inner_losses,
    ),
    PAPER.claim(
        "bpo/penalty",
        "eq. 1",
        "A larger β keeps the optimum of the RL objective nearer to the reference",
        Verdict::Holds,
        "",
        exact::penalty,
    ),
    PAPER.claim(
        "bpo/dpo-optimum",
        "section 3.2, eq. 2",
        "With Bradley–Terry labels DPO is minimised by the optimum of the RL objective, whatever law draws the pairs, as long as it connects the responses",
        Verdict::Holds,
        "",
        exact::dpo_optimum,
    ),
    PAPER.claim(
        "bpo/losses-bound-the-distance",
        "sections 1 and 4, eq. 2 to 4",
        "The three losses keep the policy in a region around their reference",
        Verdict::HoldsIf,
        "if labels are noisy; with noiseless labels DPO falls for ever and SLiC is 0 on a cone of policies, so only IPO holds the policy back",
        exact::losses_bound_the_distance,
    ),
    PAPER.claim(
        "bpo/slic-ranks",
        "eq. 4",
        "SLiC raises the better one of any two responses over the other",
        Verdict::HoldsIf,
        "if labels are noiseless; with Bradley–Terry labels βu is an integer vector and many responses tie",
        exact::slic_ranks,
    ),
    PAPER.claim(
        "bpo/offline",
        "section 4",
        "One annotation phase (F = 1) is offline training against the initial policy",
        Verdict::Holds,
        "exactly solved and sampled",
        exact::offline,
    ),
    PAPER.claim(
        "bpo/dpo-phases",
        "eq. 5, Algorithm 1",
        "F phases of DPO, each around the last policy and solved exactly, are one static phase at β/F",
        Verdict::Holds,
        "what follows from eq. 5: moving the reference weakens the penalty to β/F and does nothing else",
        exact::dpo_phases,
    ),
    PAPER.claim(
        "bpo/instability",
        "sections 1, 4 and 5.4",
        "A reference that follows the policy can make training unstable",
        Verdict::Holds,
        "exact phases have no interior fixed point: under DPO the odds of the best arm over the next are multiplied by e^{(R₁−R₂)/β} a phase",
        exact::instability,
    ),
    PAPER.claim(
        "bpo/ipo-phases",
        "eq. 3 and 5",
        "A phase of IPO on the policy's own pairs multiplies it by e^{P/β}, P being win rates against itself, and the runner-up's log-odds fall by (p₁₂ − ½)/β a phase in the end",
        Verdict::Holds,
        "what follows from eq. 3 and 5; slower than DPO, the same collapse",
        exact::ipo_phases,
    ),
    PAPER.claim(
        "bpo/more-phases",
        "section 5.2, fig. 4",
        "More annotation phases give a better policy",
        Verdict::HoldsIf,
        "if better means reward or win rate, as in the paper; eq. 1's own objective with the initial reference is met by the first exact DPO phase and lost with every further one",
        exact::more_phases,
    ),
    PAPER.claim(
        "bpo/on-policy-proximity",
        "section 5.1",
        "On-policy BPO keeps the policy in the proximity of the behaviour policy",
        Verdict::HoldsIf,
        "if a phase has more than one update; with K = 1, as in section 5.1, every log-ratio is 0, the reference cancels and β is only a learning rate (for one model: the paper's five members may each differ from a merged reference)",
        training::on_policy_proximity,
    ),
    PAPER.claim(
        "bpo/shared-rates",
        "section 5, implementation",
        "One β and one learning rate put the three losses on an equal footing",
        Verdict::HoldsIf,
        "if the optimiser divides the gradient's scale out, as Adam does; under SGD with K = 1 IPO's step is 2/β² times DPO's, 200 times at the paper's β = 0.1",
        training::shared_rates,
    ),
    PAPER.claim(
        "bpo/loop-bounds",
        "Algorithm 1, line 3",
        "Algorithm 1 makes T updates in F annotation phases",
        Verdict::HoldsIf,
        "if `t := 0 to T` stops before T; with T included there are T + 1 updates and F + 1 phases",
        training::loop_bounds,
    ),
    PAPER.claim(
        "bpo/fresh-pairs",
        "Algorithm 1, lines 6 to 15",
        "Every batch comes from the behaviour policy that is its reference",
        Verdict::HoldsIf,
        "if F divides T and M is K batches, as in section 5.2; with fewer pairs the store runs empty, with more it carries pairs of older policies",
        training::fresh_pairs,
    ),
    PAPER.claim(
        "bpo/whole-phases",
        "Algorithm 1, line 2; sections 5 and 5.2",
        "Every phase of the study of F has K = T/F updates, a whole number",
        Verdict::HoldsIf,
        "if TL;DR is trained for section 5.2's own T = 600; section 5 says 625, which none of F = 2, 6, 15 and 600 divides. The F = 1 cell that section 5.2 compares with is table 1's: either it was trained on 4 % more pairs than F = 2, or one T is a slip",
        training::whole_phases,
    ),
    PAPER.claim(
        "bpo/ema-static",
        "section 5.4, eq. 6",
        "An averaged reference with τ = 0 is the static one",
        Verdict::Holds,
        "and with τ = 1 it is BPO's",
        training::ema_static,
    ),
    PAPER.claim(
        "bpo/ema-tiny",
        "section 5.4",
        "τ of 1e-5 and below is almost the same as τ = 0",
        Verdict::Holds,
        "on the toy with DPO solved exactly at every one of 625 steps",
        training::ema_tiny,
    ),
    PAPER.claim(
        "bpo/ema-collapse",
        "section 5.4, fig. 7",
        "Averaging the reference does not make BPO stable",
        Verdict::Holds,
        "solved exactly, every τ > 0 ends where BPO does, 1/τ times slower",
        training::ema_collapse,
    ),
    PAPER.claim(
        "bpo/merge-weights",
        "section 4",
        "LoRA members are merged linearly",
        Verdict::HoldsIf,
        "if the products BA are averaged; the product of averaged factors is another model. Whether merged is averaged or summed is left open",
        training::merge_weights,
    ),
    PAPER.claim(
        "bpo/merge-loss",
        "sections 4 and 5.4",
        "Merging an ensemble helps: the merged policy's loss is at most the members' mean",
        Verdict::Holds,
        "for members averaged in logits; all three losses are convex in logits",
        training::merge_loss,
    ),
    PAPER.claim(
        "bpo/table-1-means",
        "tables 1 and 5",
        "Table 1 gives the means and standard deviations of table 5's seeds",
        Verdict::Refuted,
        "24 of its 27 cells do; the three of SLiC on Harmfulness do not",
        tables::means,
    ),
    PAPER.claim(
        "bpo/table-5-copied-row",
        "table 5",
        "The row of offline SLiC gives its seeds on Harmfulness",
        Verdict::Misprint,
        "the three numbers are those of offline IPO, whose cell of table 1 they explain; offline SLiC's own are not printed",
        tables::copied_row,
    ),
    PAPER.claim(
        "bpo/table-1-deviations",
        "table 1",
        "What follows ± is the standard deviation over three seeds",
        Verdict::HoldsIf,
        "if it divides by n; the sample estimate (n − 1) is 1.22 times larger",
        tables::deviations,
    ),
    PAPER.claim(
        "bpo/table-1-overall",
        "table 1, last column",
        "Overall is the mean of the three tasks with its deviation",
        Verdict::HoldsIf,
        "if ± is read as the mean of the three tasks' deviations; the deviation of the overall mean over table 5's seeds is less than half of it in the median row",
        tables::overall,
    ),
    PAPER.claim(
        "bpo/all-variants",
        "section 5.1",
        "Every BPO variant beats its on-policy and its offline baseline on every task",
        Verdict::Refuted,
        "offline SLiC has 95.1 on Harmfulness and BPO 94.7; the other 17 comparisons of table 1 stand, and with table 5's cells this one would too, but its row of offline SLiC is a copy of offline IPO's",
        tables::all_variants,
    ),
    PAPER.claim(
        "bpo/figure-3",
        "section 5.1, fig. 3",
        "By the mean, the median and the IQM of all runs BPO is significantly better than offline and on-policy methods, by a stratified bootstrap at 95 %",
        Verdict::Holds,
        "intervals are disjoint with a stratum for every loss and task. With three tasks as strata those of the medians overlap, but no interval of a difference has 0, nor with table 1's cells where table 5 contradicts them. Resampled triples are narrow: their variance is that which divides by n",
        significance::aggregates,
    ),
    PAPER.claim(
        "bpo/table-2",
        "section 5.1, table 2",
        "Head to head BPO (DPO) beats offline and on-policy DPO by significant margins on every task",
        Verdict::HoldsIf,
        "if Helpfulness and Harmfulness against on-policy DPO are left out: 57.4 ± 5.1 and 79.9 ± 9.9 over three seeds are not told from 50 at 5 %, two-sided (one-sided the second is). All six means are above 50",
        significance::head_to_head,
    ),
    PAPER.claim(
        "bpo/two-phases-over-offline",
        "section 5.2, fig. 1 and 4",
        "With F = 2 BPO (DPO) is significantly better than offline DPO on TL;DR and on Helpfulness",
        Verdict::HoldsIf,
        "if Helpfulness is left out: the mean is 6.9 higher there, which three seeds, one of offline DPO's far below the others, do not tell from 0 at 5 %",
        significance::two_phases_over_offline,
    ),
    PAPER.claim(
        "bpo/two-phases-over-on-policy",
        "section 5.2",
        "With F = 2 BPO (DPO) is significantly better than on-policy DPO on TL;DR",
        Verdict::HoldsIf,
        "if significant means that fig. 4's bars of one deviation are apart; three seeds do not tell the difference of 3.0 from 0 at 5 %, one-sided or two-sided",
        significance::two_phases_over_on_policy,
    ),
    PAPER.claim(
        "bpo/two-phases-match",
        "section 5.2, fig. 4",
        "With F = 2 BPO (DPO) at least matches on-policy DPO on TL;DR and on Helpfulness",
        Verdict::HoldsIf,
        "if a match is a difference that three seeds do not tell from 0; on Helpfulness the mean is 1.5 lower. That is no evidence of equality",
        significance::two_phases_match,
    ),
    PAPER.claim(
        "bpo/gold-helpfulness",
        "appendix A.1",
        "The golden model wins 03.8% on Helpfulness",
        Verdict::Misprint,
        "for 93.8%, seed 1 of BPO (DPO) in table 5, beside the 91.5% quoted for TL;DR",
        tables::gold_helpfulness,
    ),
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
