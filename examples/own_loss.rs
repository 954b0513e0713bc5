//! A program with three losses of its own, and every command of pistar.
//!
//! ```sh
//! cargo run --release --example own_loss -- verify simpo --gamma 0.3
//! cargo run --release --example own_loss -- train simpo --model DIR --data pairs.jsonl --sweep gamma=0,0.5
//! ```

use std::process::ExitCode;

use pistar::prelude::*;

pistar::measure_memory!();

pistar::numbers! {
    /// Numbers of SimPO.
    pub struct SimPoNumbers {
        /// β, the scale of the mean log-probability of a token
        beta in above(0.0) = 2.0;
        /// γ, by how much the preferred response is to be ahead
        gamma in from(0.0) = 0.5;
    }
}

/// SimPO (Meng et al. 2024), `−ln σ(β(ℓ⁺/n⁺ − ℓ⁻/n⁻) − γ)`: no reference, and the mean over a response's n tokens.
struct SimPo;

impl Loss for SimPo {
    type Numbers = SimPoNumbers;

    fn spec(&self) -> Spec {
        Spec {
            formula: "−ln σ(β(ℓ⁺/n⁺ − ℓ⁻/n⁻) − γ)",
            source: "Meng et al. 2024",
            ..Spec::new("simpo", InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &SimPoNumbers, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let mean = |y: &Response<X>| y.log_policy().div(y.tokens()?);
        let ahead = mean(&pair.first)?.sub(&mean(&pair.second)?)?;
        ahead.affine(-n.beta, n.gamma)?.softplus()
    }
}

pistar::numbers! {
    /// Numbers of ListNet.
    pub struct ListNetNumbers {
        /// β, the temperature of the policy's scores
        beta in above(0.0) = 0.1;
        /// τ, the temperature of the labels
        tau in above(0.0) = 1.0;
    }
}

/// ListNet (Cao et al. 2007) on log-ratios: `−Σ softmax(A/τ) ln softmax(βu)` over a ranked list.
struct ListNet;

impl Loss for ListNet {
    type Numbers = ListNetNumbers;

    fn spec(&self) -> Spec {
        Spec {
            formula: "−Σ softmax(A/τ) ln softmax(βu)",
            source: "Cao et al. 2007",
            ..Spec::new("listnet", InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, n: &ListNetNumbers, inputs: &Inputs<X>) -> Result<X> {
        let list = inputs.group()?;
        let scores = list.responses.log_ratio()?.affine(n.beta, 0.0)?;
        let labels = list.responses.reward()?.affine(1.0 / n.tau, 0.0)?;
        let wanted = labels.log_softmax(&list.groups)?.exp()?;
        wanted
            .mul(&scores.log_softmax(&list.groups)?)?
            .segment_sum(&list.groups)?
            .neg()
    }
}

/// Policy gradient token by token with the group's mean as baseline, in the mean over all tokens of the batch (as
/// DAPO counts them): a long response weighs more, and every example depends on how long the others are.
struct TokenMean;

impl Loss for TokenMean {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "−⟦R_β − mean⟧ Σ_t ln π(y_t) / tokens",
            kind: Kind::Field,
            source: "Yu et al. 2025",
            ..Spec::new("token-mean", InputKind::Tokens)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Tokens {
            tokens,
            responses,
            groups,
            ..
        } = inputs.tokens()?;
        let u = tokens.log_ratio()?.segment_sum(responses)?;
        let reward = inputs.tokens()?.reward()?.sub(&u.affine(n.beta, 0.0)?)?;
        let sizes: Vec<f64> = (0..groups.groups())
            .map(|g| 1.0 / groups.size(g) as f64)
            .collect();
        let mean = reward.segment_sum(groups)?.mul(&reward.constant(&sizes)?)?;
        let advantage = reward.sub(&mean.spread(groups)?)?.detach()?;
        let each = tokens.log_policy().segment_sum(responses)?;
        let share = groups.groups() as f64 / responses.members() as f64;
        advantage
            .mul(&each)?
            .segment_sum(groups)?
            .affine(-share, 0.0)
    }
}

fn main() -> ExitCode {
    pistar::cli::main_with([
        Objective::of(&SimPo),
        Objective::of(&ListNet),
        Objective::of(&TokenMean),
    ])
}
