//! Continual optimal policy regularisation: fitting sampling distributions, task after task.

mod ablations;
mod benchmark;
mod cases;
mod mass;
mod metrics;
mod multipliers;
mod objectives;
mod rankings;
mod ranks;
mod retention;
mod sequences;
mod table_2;
mod table_5;

use super::{Claim, Paper, Verdict};
use Verdict::{Holds, HoldsIf, Misprint, Refuted};

const PAPER: Paper = Paper::Copr;

pub(super) const CLAIMS: &[Claim] = &[
    PAPER.claim(
        "copr/dpo-gap",
        "section 2.1",
        "DPO drives the preferred response's probability to 1 and its implicit reward gap to infinity",
        HoldsIf,
        "if the labels are deterministic or separable, as COPR's strict rankings are; under \
         Bradley–Terry labels of the population it stops at π*",
        objectives::dpo_gap,
    ),
    PAPER.claim(
        "copr/joint-objective",
        "eq. 3 and 4",
        "One policy minimises its divergences to the optimal policies of all tasks and is each task's \
         optimal policy",
        HoldsIf,
        "if tasks have prompts of their own; on a prompt that t tasks share the minimiser weights \
         the s-th advantage by (t − s + 1)/t, so the newest least, where eq. 3 weights all by 1",
        objectives::joint,
    ),
    PAPER.claim(
        "copr/sampling-distribution",
        "Def. 1 and eq. 5",
        "The optimal policy conditioned on a set of responses needs no partition function",
        Holds,
        "the struck-out factor of eq. 5 should read 1/Z",
        objectives::definition,
    ),
    PAPER.claim(
        "copr/proposition-1",
        "Prop. 1",
        "A policy is π* if and only if it has the sampling distributions of π* on all proper subsets \
         of more than one response",
        HoldsIf,
        "if there are at least 3 responses (with 2 there is no such subset, a pedantic gap); any \
         family of sets that connects the responses is enough, the whole set alone included",
        objectives::proposition,
    ),
    PAPER.claim(
        "copr/printed-code",
        "section 3.2.1",
        "Four lines of PyTorch implement the fit of eq. 7",
        Misprint,
        "kl_div(log P_θ, P*) is KL(P*‖P_θ), divided by the number of elements; eq. 7 is \
         kl_div(log P*, P_θ, reduction=\"sum\"). Both vanish at the same place when it can be reached",
        objectives::printed_code,
    ),
    PAPER.claim(
        "copr/printed-code-batched",
        "section 3.2.1",
        "The printed lines compute the mean over prompts of each prompt's divergence",
        HoldsIf,
        "if they are given one prompt at a time: sum() without a dimension normalises over the whole \
         batch, which ties the masses of different prompts' responses to each other",
        objectives::batched,
    ),
    PAPER.claim(
        "copr/advantage-mean",
        "eq. 14 and 16",
        "The linear advantage has mean zero under the policy, as an advantage does",
        HoldsIf,
        "if the policy is uniform on the ranked responses; harmless, since a constant cancels (A.4). \
         It runs over ±(J − 1)/J in steps of 2/J, and has no rule for ties or duplicates",
        ranks::mean,
    ),
    PAPER.claim(
        "copr/ranking-gradient",
        "A.3, eq. 27",
        "Early in training on pairwise losses, rewards that start equal are linear in the rank",
        Holds,
        "G_i in the last line should be G_j; one step of size 2/J gives eq. 16 exactly, later steps \
         bend away from linear",
        ranks::gradient,
    ),
    PAPER.claim(
        "copr/invariance",
        "A.4, eq. 28",
        "The sampling distribution does not depend on the expected reward of the prompt",
        Holds,
        "",
        ranks::invariance,
    ),
    PAPER.claim(
        "copr/lower-bound",
        "A.2, eq. 21 to 24",
        "A policy that is γπ* on the ranked responses is at least γp ln γ + (1 − γp) ln((1 − γp)/(1 − p)) \
         from π*",
        Holds,
        "it is the divergence of a coin of bias γp from one of bias p, for 0 ≤ γ ≤ 1/p and p < 1; \
         equality iff the policy is proportional to π* off the ranked responses",
        mass::bound,
    ),
    PAPER.claim(
        "copr/gamma-risk",
        "A.2, Fig. 4(a)",
        "A decrease of γ is riskier than an increase",
        HoldsIf,
        "if p > 1/2, as the paper assumes in words, and the ends of the range are compared; for equal \
         small steps to either side it is the increase that costs more there",
        mass::riskier,
    ),
    PAPER.claim(
        "copr/gamma-from-fit",
        "A.2",
        "The objective of eq. 7 determines the size of γ",
        HoldsIf,
        "if the start is given: gradient flow of eq. 7 from it ends at one γ, which depends on Adv/β. The \
         objective alone does not tell: its gradient vanishes off the ranked responses, so every γ has \
         a policy without loss, and another start (or parameters that prompts share) ends at another",
        mass::from_fit,
    ),
    PAPER.claim(
        "copr/likelihood-mitigates",
        "A.2",
        "Learning the best response by likelihood mitigates the risk of a decrease of γ",
        HoldsIf,
        "if γ did decrease and p is large: the term over-corrects, all mass goes to the ranked \
         responses (γ = 1/p), which is further from π* than a γ near 1",
        mass::mitigates,
    ),
    PAPER.claim(
        "copr/simultaneous-fit",
        "section 3.2.3",
        "With the likelihood of the best response added, the policy fits the optimal policy and that \
         response simultaneously",
        HoldsIf,
        "if the likelihood has a vanishing weight; at the paper's weight of 1 the minimiser is P* e^c off \
         the best response, c < 0, a sharper distribution than P*. Both terms do raise the best response",
        mass::simultaneous,
    ),
    PAPER.claim(
        "copr/multiplier-update",
        "eq. 10 and 12",
        "Ascent on ln λ follows α λ J_C",
        Holds,
        "λ never reaches 0; its start is not given",
        multipliers::update,
    ),
    PAPER.claim(
        "copr/multiplier-trades",
        "section 3.2.3",
        "The multiplier controls how much new learning gives way to the old optimal policy",
        Holds,
        "exactly, on a shared prompt: eq. 7's divergence ends at P₁* e^{Adv₂/(β(1+λ))}, a temperature \
         of β(1 + λ); the printed code's at the mixture (P₂* + λP₁*)/(1 + λ)",
        multipliers::temperature,
    ),
    PAPER.claim(
        "copr/multiplier-balances",
        "section 3.2.3",
        "Alternating updates keep λ from over-emphasising one objective",
        HoldsIf,
        "if the constraints can be met; a violation J_C that persists sends λ to infinity in finite \
         time 1/(α λ₀ J_C), so it needs a clip",
        multipliers::finite_time,
    ),
    PAPER.claim(
        "copr/normalised-loss",
        "eq. 11",
        "Division by Λ = 1 + Σλ normalises the loss",
        Holds,
        "the weights then sum to one and the minimiser stays; for plain descent it is a step size, \
         for Adam at constant λ nothing but ε",
        multipliers::normaliser,
    ),
    PAPER.claim(
        "copr/threshold",
        "eq. 9 and 13",
        "The threshold d_i, the old divergence at the initial parameters, is positive",
        HoldsIf,
        "if the old task was not fitted exactly; otherwise d_i = 0, only P_i* is allowed on its \
         prompts and no point satisfies the constraint strictly. (Initial parameters read as those at \
         the start of the new task)",
        multipliers::threshold,
    ),
    PAPER.claim(
        "copr/forgetting-range",
        "C, eq. 31",
        "A task's forgetting is its loss from the best accuracy at the times 1 to k − 1",
        Misprint,
        "a_ij is defined for i ≥ j only, so the maximum runs over i = j to k − 1; FM and BWT at k = 1 \
         are 0/0. As corrected FM ≥ −BWT always",
        metrics::range,
    ),
    PAPER.claim(
        "copr/table-2-average",
        "Table 2",
        "AA is the mean of a row's three scores (eq. 29)",
        Misprint,
        "the row of SFT in order prints .720 where its scores average .7077; every other row agrees",
        rankings::averages,
    ),
    PAPER.claim(
        "copr/alignment-beats-sft",
        "section 4.2",
        "All alignment methods of Table 2 outperform the SFT-based ones",
        Refuted,
        "by the table's own AA, CoH and RRHF (.725) are below most SFT rows and below DER++ (.743); \
         SPIN, PRO, DPO and COPR are above all of them",
        rankings::alignment,
    ),
    PAPER.claim(
        "copr/ranking-beats-spin",
        "section 4.2",
        "Rank-based methods, which use real negative responses, outperform SPIN",
        HoldsIf,
        "if it is said of DPO and COPR: by the table's own AA, PRO (.745) and RRHF (.725) are below \
         SPIN (.755)",
        rankings::ranking,
    ),
    PAPER.claim(
        "copr/retains-most",
        "section 4.2, Fig. 2 and Table 2",
        "COPR retains the most knowledge of old tasks",
        HoldsIf,
        "if it is what old tasks end with; of what they had when learned COPR loses more than most \
         methods, three of the four that Fig. 2 compares it with included. It had more to lose",
        retention::retained,
    ),
    PAPER.claim(
        "copr/table-2-forgetting",
        "Table 2",
        "RRHF forgets least (bold FM)",
        HoldsIf,
        "if the methods compared are the alignment ones; four of the SFT-based ones have a lower FM. Its \
         BWT, bold too, is the best of all",
        retention::least_forgetting,
    ),
    PAPER.claim(
        "copr/upper-bound",
        "section 4.2, Table 2",
        "Iterated RLHF can be regarded as the upper bound of the benchmark",
        HoldsIf,
        "if it is of scores after the last task: there it is ahead of every method on every task. On HH \
         COPR was above it when that task was just learned, as its four metrics imply; Iterated RLHF has \
         none printed",
        retention::upper_bound,
    ),
    PAPER.claim(
        "copr/multi-tasks",
        "section 4.2, Table 2",
        "SFT on all tasks at once outperforms SFT in order significantly",
        HoldsIf,
        "if it is said of HH and IMDB; on TL;DR three seeds do not tell them apart",
        retention::multi_tasks,
    ),
    PAPER.claim(
        "copr/table-3-constraints",
        "section 4.3, Table 3",
        "Without the constraints, which there are from the second task on, AA is .700, AIA .706 and BWT −.054",
        HoldsIf,
        "if that run was worse on the first task already, whose training is the same: else AIA leaves the two \
         tasks so little after the second that they would have to rise while the third is learned without \
         constraints",
        ablations::no_constraints,
    ),
    PAPER.claim(
        "copr/replay-share",
        "section 4.4, Table 4",
        "COPR is not notably sensitive to the share of the data that is replayed",
        HoldsIf,
        "if that is 2 % or more; from 1 % to 10 % AA rises by more than multipliers are worth in Table 3, and \
         BWT halves",
        ablations::replay,
    ),
    PAPER.claim(
        "copr/outperforms",
        "abstract and section 6, Table 2",
        "COPR outperforms other methods of continual learning",
        HoldsIf,
        "if it is by the AA of Table 2, where it is the highest (not told from DPO's on three seeds); on random \
         bandits, every strength chosen alike, it is level with L2 and below EWC, which replay nothing",
        sequences::outperforms,
    ),
    PAPER.claim(
        "copr/table-5-invariance",
        "A.5, Table 5",
        "PPO is not invariant to the level of the rewards, RRHF and COPR are",
        HoldsIf,
        "if it is said of the update on given responses; in expectation over its own responses the level cancels \
         in PPO too, and its limit does not move",
        table_5::invariance,
    ),
    PAPER.claim(
        "copr/table-5-pairwise",
        "A.5, Table 5",
        "PPO is pairwise",
        HoldsIf,
        "if the comparisons that its reward model is trained on are meant; PPO itself takes responses one by one",
        table_5::pairwise,
    ),
    PAPER.claim(
        "copr/imdb-sizes",
        "B, against Table 1",
        "IMDB has 25k training, 5k validation and 5k test examples",
        HoldsIf,
        "if the source is meant: the benchmark draws 200 and 1,000 for validation and test, and those 200 cannot \
         come out of the 25k along with Table 1's 24.9k",
        benchmark::sizes,
    ),
];
