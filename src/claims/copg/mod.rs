//! Contrastive policy gradient: an off-policy loss whose optimum is π*, and its bandit experiment.

mod algebra;
mod at;
mod baselines;
mod limits;
mod properties;
mod temperatures;
mod toy;

use super::{Claim, Paper, Verdict};
use Verdict::{Holds, HoldsIf, Misprint};

const PAPER: Paper = Paper::Copg;

pub(super) const CLAIMS: &[Claim] = &[
    PAPER.claim(
        "copg/optimum",
        "eq. 12",
        "The unique maximiser of the regularised objective J is π_ref e^{R/β}, normalised",
        Holds,
        "J(π) = J* − β KL(π‖π*)",
        algebra::optimum,
    ),
    PAPER.claim(
        "copg/on-policy-baseline",
        "eq. 3",
        "On policy, a baseline that does not depend on the response leaves the gradient of J \
         unbiased",
        Holds,
        "",
        algebra::on_policy_baseline,
    ),
    PAPER.claim(
        "copg/importance-sampling",
        "eq. 4",
        "With importance weights π/μ any law μ gives J and its gradient, at a variance that grows \
         as π moves away from μ",
        Holds,
        "",
        algebra::importance_sampling,
    ),
    PAPER.claim(
        "copg/weighted-likelihood",
        "after eq. 5",
        "The loss can be seen as a log-likelihood weighted by contrasted rewards",
        HoldsIf,
        "if the weights R_{β/2} carry their gradient, as the paper's appendix insists; detached they \
         lead to the optimum at temperature β/2, and detached weights must be R_β (eq. 9)",
        limits::weighted_likelihood,
    ),
    PAPER.claim(
        "copg/rewritten-objective",
        "after eq. 6",
        "L is a sum of two weighted log-likelihoods, each with the other law's mean reward as its \
         baseline",
        Holds,
        "",
        algebra::rewritten,
    ),
    PAPER.claim(
        "copg/theorem-1",
        "Thm. 1",
        "If both laws and the reference have the same support, the unique maximiser of L is π*",
        Holds,
        "sufficient, not necessary: a connected comparison graph is enough",
        limits::theorem,
    ),
    PAPER.claim(
        "copg/any-two-laws",
        "section 3.2",
        "The main constraint on the two laws is that they share the prompts",
        Holds,
        "with the supports that Theorem 1 states, any two laws will do. Less is enough: pairs that connect \
         the reference's arms, disjoint supports included. Where they do not, the policy is right \
         within each component and the split of mass between them is free (and an arm outside the \
         reference's support must not occur: ln 0)",
        limits::any_two_laws,
    ),
    PAPER.claim(
        "copg/gradient",
        "eq. 7",
        "The gradient of L is two off-policy policy gradients, each with the other law's mean \
         regularised reward as its baseline",
        Holds,
        "in logits it is the comparison graph's Laplacian applied to R − βu, so linear",
        algebra::gradient,
    ),
    PAPER.claim(
        "copg/one-law",
        "after eq. 7",
        "With one law for both responses the gradient is 2 E_μ[(R_β − E_μ R_β) ∇ln π]",
        Holds,
        "",
        algebra::one_law,
    ),
    PAPER.claim(
        "copg/only-this-baseline",
        "section 3.1",
        "Off policy it cannot be any baseline, it must be this specific one",
        HoldsIf,
        "if what is asked for is the gradient of L; to have π* as the limit, E_ν[R_β] under any law \
         ν, that of π included, does as well where the laws cover the reference",
        baselines::only_this,
    ),
    PAPER.claim(
        "copg/empirical-sign",
        "eq. 8",
        "CoPG minimises the empirical mean of ℓ over pairs",
        Misprint,
        "ℓ is to be maximised, as the gradient ascent named two lines below does; it has no minimum",
        limits::empirical_sign,
    ),
    PAPER.claim(
        "copg/finite-data",
        "section 3.2",
        "Maximising the empirical mean over a dataset of scored pairs solves the problem",
        HoldsIf,
        "if the dataset's pairs connect the arms; then the optimum is π* exactly, without statistical \
         error (noisy rewards leave a weighted least-squares error)",
        limits::finite_data,
    ),
    PAPER.claim(
        "copg/pair-gradient",
        "eq. 9 and 16",
        "The gradient of ℓ on a pair is (R_β(y) − R_β(y′)) (∇ln π(y) − ∇ln π(y′))",
        Holds,
        "",
        algebra::pair_gradient,
    ),
    PAPER.claim(
        "copg/proportional",
        "after eq. 9",
        "A step raises the response of higher reward in proportion to the difference of rewards",
        HoldsIf,
        "if rewards means the regularised ones: beyond Δu = ΔR/β the step turns back",
        properties::proportional,
    ),
    PAPER.claim(
        "copg/square",
        "before Algorithm 1",
        "The gradient of ℓ is proportional to the negated gradient of (R_β(y) − R_β(y′))²",
        Holds,
        "exactly −1/(2β) times it, so the square's learning rate is 2β times as effective",
        algebra::square,
    ),
    PAPER.claim(
        "copg/algorithm-1",
        "Algorithm 1",
        "The update is θ − η ∇g, g being the gradient of the squared form",
        Misprint,
        "one ∇ too many: θ − η g descends the square to π*; ∇g is a matrix that no reward enters",
        properties::algorithm,
    ),
    PAPER.claim(
        "copg/property-1",
        "Prop. 1",
        "Under π itself the expected gradient of ℓ is twice that of J",
        Holds,
        "the gradient is taken through ℓ only, not through the law",
        properties::policy_gradient,
    ),
    PAPER.claim(
        "copg/property-2",
        "Prop. 2",
        "On two samples the gradient of ℓ is RLOO's",
        Holds,
        "and for any k, RLOO is 1/(k−1) times the sum over all pairs",
        properties::rloo,
    ),
    PAPER.claim(
        "copg/rloo-off-policy",
        "section 4, appendix",
        "RLOO is valid with samples of any law",
        Holds,
        "its expectation under k draws of μ is k/2 times CoPG's gradient under μ and μ (the paper's \
         sum, not divided by k)",
        properties::rloo_off_policy,
    ),
    PAPER.claim(
        "copg/property-3",
        "Prop. 3",
        "With rewards ±¼ the gradient of ℓ is −1/(2β) (½ − βΔu)²",
        Misprint,
        "the right side lacks its ∇, which the appendix's last line has; with it the identity and \
         the scale hold, and IPO's usual form has the same minimiser",
        properties::ipo,
    ),
    PAPER.claim(
        "copg/property-3-proof",
        "proof of Prop. 3",
        "The proof redefines R(y) = −R(y′) = −¼",
        Misprint,
        "+¼, as in the statement: with −¼ the next line is wrong by the sign of ½",
        properties::ipo_proof,
    ),
    PAPER.claim(
        "copg/completed-square",
        "eq. 15",
        "β times ℓ is half of (ΔR)² − (ΔR − ΔV)², V = β ln π/π_ref",
        Holds,
        "",
        algebra::completed_square,
    ),
    PAPER.claim(
        "copg/square-wording",
        "after eq. 15",
        "Line (b) is a partial square of the form ½(ΔV)² − ΔV ΔR",
        Misprint,
        "the negative of that",
        algebra::square_wording,
    ),
    PAPER.claim(
        "copg/toy-copg",
        "section 5, Fig. 1",
        "On the toy bandit CoPG achieves zero regret after 100 epochs of Adam at 1e-3",
        HoldsIf,
        "if trained longer or faster: Adam moves a logit by about the rate a step, some logit has to \
         move by 1.5 or more, and 2,000 steps at 1e-3 do not quite get there (for a table of logits; \
         the paper names no parametrisation). The limit is 0, and “Thm. A” in the text is Thm. 1",
        toy::copg,
    ),
    PAPER.claim(
        "copg/toy-ipo",
        "section 5, Fig. 1",
        "On the toy bandit IPO converges to a biased solution",
        Holds,
        "the bias is in the population, so more data does not remove it",
        toy::ipo,
    ),
    PAPER.claim(
        "copg/ipo-objective",
        "section 5",
        "IPO optimises the expected preference E_{y′~μ₂} σ(R(y) − R(y′))",
        HoldsIf,
        "if both laws agree, or with two arms; otherwise it solves a least squares on the comparison \
         graph and can even rank arms wrongly. That it is biased stands",
        limits::ipo_objective,
    ),
    PAPER.claim(
        "copg/toy-no-baseline",
        "section 5, Fig. 1",
        "Off-policy policy gradient without a baseline has increasing regret",
        Holds,
        "but it does not diverge: it converges to a point of regret 0.638",
        baselines::none,
    ),
    PAPER.claim(
        "copg/toy-value-baseline",
        "section 5, Fig. 1",
        "Policy gradient with a value baseline converges to a biased solution",
        HoldsIf,
        "if the value is E_π[R]; with section 2's own value, E_π[R_β], it converges to π*",
        baselines::value,
    ),
    PAPER.claim(
        "copg/toy-value-worse",
        "section 5, Fig. 1",
        "In the sampled runs the value baseline ends above CoPG",
        HoldsIf,
        "if trained to convergence: at 1e-3 it is level with or below CoPG until epoch 50, and at 100 \
         the unbiased E_π[R_β] is above CoPG too",
        toy::value_baseline,
    ),
    PAPER.claim(
        "copg/dpo-optimises-reward",
        "section 6.1",
        "When preferences follow a Bradley–Terry model of the reward, DPO optimises the reward",
        Holds,
        "with an infinite sample; on the toy's 10⁴ pairs it keeps an error where CoPG has none",
        limits::dpo,
    ),
    PAPER.claim(
        "copg/dpo-many-rankings",
        "section 6.2",
        "DPO needs several rankings of the same completions to find the right solution",
        Holds,
        "",
        limits::dpo_rankings,
    ),
    PAPER.claim(
        "copg/effective-beta",
        "section 6.2",
        "IPO's best runs have a far smaller temperature than those of CoPG and of IPO",
        Misprint,
        "the second IPO is DPO: the β chosen are 0.06, 0.1 and 0.01 for CoPG, DPO and IPO",
        temperatures::effective_beta,
    ),
];
