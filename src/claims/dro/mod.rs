//! Direct Reward Optimisation: a policy and a value from single responses, and its KTO baseline.

mod algorithm;
mod kto;
mod optimum;
mod row;
mod tables;
mod value;

use super::{Claim, Paper, Verdict};
use Verdict::{Holds, HoldsIf, Misprint};

const PAPER: Paper = Paper::Dro;

pub(super) const CLAIMS: &[Claim] = &[
    PAPER.claim(
        "dro/optimum",
        "eq. 1 and 2",
        "The optimum of the KL-regularised problem is π_ref e^{(r − V*)/τ} with \
         V* = τ ln E_ref e^{r/τ}",
        Holds,
        "and V* is the optimal objective itself",
        optimum::optimum,
    ),
    PAPER.claim(
        "dro/theorem-1",
        "Thm. 1",
        "(π*, V*) is a global optimum of L(π, V), and the only one where the supports of μ and π_ref \
         coincide",
        Holds,
        "the support is needed: where μ misses arms every V above the shown arms' own soft value V_S \
         has a policy of loss 0, with e^{(V_S − V)/τ} of the mass on those arms, in the right \
         proportions",
        optimum::theorem,
    ),
    PAPER.claim(
        "dro/theorem-1-remark",
        "remarks on Thm. 1",
        "ln π* + V* = ln π_ref + r/τ",
        Misprint,
        "V*/τ, as eq. 2 has it",
        optimum::remark,
    ),
    PAPER.claim(
        "dro/ipo-form",
        "section 2",
        "IPO is the pairwise loss of f(z) = (z − 1)² at z = β times the difference of log-ratios",
        HoldsIf,
        "if that β is twice IPO's own temperature: the target is then 1/β, not IPO's 1/(2β). At the \
         same β it is another policy",
        optimum::ipo_form,
    ),
    PAPER.claim(
        "dro/value",
        "Prop. 1",
        "The value that minimises L at a policy is V^π = E_μ[r − τ ln π/π_ref]",
        Holds,
        "",
        value::best_value,
    ),
    PAPER.claim(
        "dro/v-eliminated",
        "section 3.2",
        "π* minimises π ↦ L(π, V^π)",
        Holds,
        "this loss is half of E Var_μ(r − τu): where both laws agree CoPG's L is Var_μ(r)/τ less 2/τ \
         times it, and where they differ CoPG adds the square of the laws' difference in means",
        value::eliminated,
    ),
    PAPER.claim(
        "dro/fixed-value",
        "Prop. 1",
        "A fixed value V has one policy π_V that minimises L(·, V)",
        HoldsIf,
        "if V ≤ V*, where the only stationary point is the minimum; above V* there may be several \
         minima, and two may tie for the lowest",
        value::one_minimum,
    ),
    PAPER.claim(
        "dro/equation-5",
        "Prop. 1, eq. 5",
        "π_V ∝ π_ref exp([r − (π_V/μ)(V^{π_V} − V)]/τ)",
        Holds,
        "the factor of proportionality is e^{−V/τ}; necessary, not sufficient: every stationary point \
         satisfies it",
        value::equation_5,
    ),
    PAPER.claim(
        "dro/equation-6",
        "Prop. 1, eq. 6",
        "|ln π_V/π*| ≤ (2/τ) max |(V^{π_V} − V)(1 − π_V/μ)|",
        Holds,
        "sharper: (|V^{π_V} − V|/τ)(max π_V/μ − min π_V/μ)",
        value::equation_6,
    ),
    PAPER.claim(
        "dro/constant-value",
        "section 3.2, second remark",
        "The best value that is the same for all prompts is V_c = E_ρ V^π",
        Holds,
        "",
        value::best_constant,
    ),
    PAPER.claim(
        "dro/constant-value-optimum",
        "section 3.2, second remark",
        "With the best constant value π* is recovered if V* is the same for all prompts",
        Holds,
        "and in general only then: elsewhere the limit keeps a regret",
        value::constant_optimum,
    ),
    PAPER.claim(
        "dro/value-gradient",
        "eq. 7",
        "The gradient of the loss with respect to the value is Σ (V − r + τ ln π/π_ref) ∇V",
        Holds,
        "",
        algorithm::value_gradient,
    ),
    PAPER.claim(
        "dro/policy-gradient",
        "eq. 8",
        "The policy gradient of the loss is −τ Σ (∇ln π (r − V) − (τ/2) ∇(ln π/π_ref)²)",
        Holds,
        "r − V is a constant for this gradient",
        algorithm::policy_gradient,
    ),
    PAPER.claim(
        "dro/not-a-baseline",
        "section 3.3",
        "Off policy, leaving V out or replacing it biases the policy gradient; on policy it would not",
        Holds,
        "",
        algorithm::not_a_baseline,
    ),
    PAPER.claim(
        "dro/l2-and-kl",
        "section 3.3",
        "The gradient of the ℓ₂ regularisation is that of the KL if the sampling is on policy, and \
         another otherwise",
        Holds,
        "the sampling law being held fixed",
        algorithm::l2_and_kl,
    ),
    PAPER.claim(
        "dro/algorithm-1",
        "Algorithm 1",
        "Eq. 8 divided by τ has the ℓ₂ coefficient ½",
        Misprint,
        "τ/2, which is ½ at the paper's default τ = 1 only; the printed value update is right, so no \
         rescaling absorbs the factor. This concerns the printed line, not the authors' code",
        algorithm::coefficient,
    ),
    PAPER.claim(
        "dro/algorithm-1-limit",
        "Algorithm 1",
        "The updates of Algorithm 1 lead to (π*, V*)",
        HoldsIf,
        "if τ = 1, or with τ/2 in the place of ½, which is right at every τ; as printed it is biased \
         for τ < 1, and above τ = 1/(1 − min μ) policies far enough on the rarest arm run off to \
         infinity, the reference often among them",
        algorithm::limit,
    ),
    PAPER.claim(
        "dro/figure-3",
        "section 4.1, Fig. 3",
        "Learning the value faster improves the win rate monotonically, by little",
        Holds,
        "read off the printed row",
        tables::figure_3,
    ),
    PAPER.claim(
        "dro/rate-range",
        "section 4.1, Fig. 3",
        "The win rate is very stable where learning rates change by an order of magnitude",
        HoldsIf,
        "if the order of magnitude is 5e-5 to 5e-4, where it moves by 0.5 with both rates and by 1.1 \
         with the value's; from the default 1e-4 down to 1e-5 both rates lose 5.2",
        tables::rate_range,
    ),
    PAPER.claim(
        "dro/figure-4",
        "section 4.1, Fig. 4",
        "Of τ = 0.1, 1 and 5 the best for DRO-V is 1; it is far from the best for KTO, which is 5",
        Holds,
        "KTO is not monotone in τ, and its best is the end of the grid, so it may not be KTO's best; \
         DRO-V at its worst τ is still above it",
        tables::figure_4,
    ),
    PAPER.claim(
        "dro/figures-1-and-2",
        "section 4.1, Fig. 1 and 2",
        "DRO-V and KTO beat SFT side by side, and DRO-V beats KTO, with T5-L and with T5-XL",
        Holds,
        "whatever ± is a deviation of. By Bradley–Terry the win rates over SFT predict 64.3 and 55.1 for \
         DRO-V over KTO: 0.7 and 1.1 deviations of the difference off what is printed, or 1.5 and 2.6 if \
         ± is of one fold and not of the mean of five",
        tables::side_by_side,
    ),
    PAPER.claim(
        "dro/single-value",
        "section 3.3, Fig. 5",
        "A single value per batch hurts",
        HoldsIf,
        "if policy and value are two networks; with one the single value has 57.6 and several have 55.5. \
         Fig. 5 gives no deviations",
        tables::single_value,
    ),
    PAPER.claim(
        "dro/figure-5",
        "section 4.1, Fig. 5",
        "With two networks several values per batch gain 4.5 % over one, and most of the loss from \
         sharing comes from having one network",
        Holds,
        "read off the printed row",
        tables::figure_5,
    ),
    PAPER.claim(
        "dro/kto-biased",
        "section 2",
        "KTO's assumptions lead it to suboptimal policies",
        Holds,
        "as run here, on thumbs made of rewards, it cannot see their size: undesirable arms go to \
         probability 0, and the others balance by how often they are shown",
        kto::biased,
    ),
    PAPER.claim(
        "dro/kto-one-level",
        "section 3.1",
        "KTO assumes a constant partition function for all prompts of a batch",
        Holds,
        "with thumbs by the batch's mean reward a prompt whose arms are all above it ends on a policy \
         that ignores its rewards, and one whose arms are all below it on a single arm",
        kto::one_level,
    ),
    PAPER.claim(
        "dro/kto-thumbs",
        "section 4, KTO baseline",
        "A reward greater or less than the minibatch's mean makes a completion desirable or not",
        HoldsIf,
        "if no reward equals the mean; a batch of one and the same arm, frequent on the toy, ties, and \
         rounding of the mean then decides",
        kto::thumbs,
    ),
    PAPER.claim(
        "dro/kto-kl",
        "section 4, KTO baseline",
        "KTO's estimate of the KL from mismatched pairs stands for the KL of the policy",
        HoldsIf,
        "if the responses come from the policy: under another law μ it is E_μ[ln π/π_ref], which may \
         be negative (and is then cut to 0)",
        kto::kl_estimate,
    ),
];
