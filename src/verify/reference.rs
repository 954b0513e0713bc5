//! Value of each loss where π = π_ref and every score is 0, from its formula.

use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, log_sum_exp, population};
use crate::loss::Objective;

/// The population loss at the reference: every log-ratio is 0. Fields have none.
pub(super) fn value(objective: Objective, problem: &Problem, evidence: &Evidence) -> Option<f64> {
    use Objective as O;
    let beta = problem.beta();
    let view = evidence.of(objective.spec().inputs).ok()?;
    let mean = |of: &dyn Fn(usize, &Prompt, &PromptEvidence) -> f64| -> f64 {
        let rows = problem.prompts().iter().zip(&view.prompts).enumerate();
        rows.map(|(x, (prompt, share))| share.mass * of(x, prompt, share))
            .sum()
    };
    let squared = |value: &dyn Fn(&Prompt, &PromptEvidence) -> f64| {
        mean(&|_, prompt, share| {
            let v = value(prompt, share);
            let law = share.mean_law();
            law.iter()
                .zip(&share.reward)
                .map(|(m, r)| 0.5 * m * (r - v).powi(2))
                .sum()
        })
    };
    let pooled = view.threshold().at;
    // E A and ln E e^{A/β} under the reference on the list.
    let list = |prompt: &Prompt| -> (Vec<f64>, Vec<f64>, f64) {
        let list = prompt.ranking.clone().unwrap_or_default();
        let on: Vec<f64> = list
            .iter()
            .map(|&a| prompt.log_reference[a as usize])
            .collect();
        let total = log_sum_exp(&on);
        let p: Vec<f64> = on.iter().map(|l| (l - total).exp()).collect();
        let n = list.len();
        let a: Vec<f64> = (1..=n)
            .map(|j| population::linear_advantage(j, n))
            .collect();
        let normaliser = p
            .iter()
            .zip(&a)
            .map(|(p, a)| p * (a / beta).exp())
            .sum::<f64>()
            .ln();
        (p, a, normaliser)
    };
    let reverse = |prompt: &Prompt| {
        let (p, a, normaliser) = list(prompt);
        normaliser - p.iter().zip(&a).map(|(p, a)| p * a / beta).sum::<f64>()
    };
    let forward = |prompt: &Prompt| {
        let (p, a, normaliser) = list(prompt);
        let tilted = |(p, a): (&f64, &f64)| p * (a / beta - normaliser).exp() * a / beta;
        p.iter().zip(&a).map(tilted).sum::<f64>() - normaliser
    };
    let best = |prompt: &Prompt| {
        let best = prompt.ranking.as_ref().and_then(|r| r.last().copied());
        best.map_or(0.0, |a| -prompt.log_reference[a as usize])
    };
    match objective {
        O::Copg | O::CopgCompleted => Some(0.0),
        O::CopgSquared => Some(mean(&|_, prompt, _| {
            let k = prompt.arms();
            let gap = |i: usize| prompt.reward[i / k] - prompt.reward[i % k];
            let table = prompt.law.table();
            (table.iter().enumerate())
                .map(|(i, p)| p * gap(i).powi(2))
                .sum()
        })),
        O::Dpo | O::RewardModel => Some(std::f64::consts::LN_2),
        O::Ipo => Some(0.25 / (beta * beta)),
        O::IpoCopg => Some(0.25),
        O::IpoGpo | O::Slic => Some(1.0),
        O::DroV | O::DroFixed => Some(squared(&|prompt, _| prompt.value.unwrap_or(f64::NAN))),
        O::DroConstant => Some(squared(&|_, _| pooled)),
        O::DroVEliminated => Some(mean(&|_, prompt, _| {
            let (first, second) = prompt.law.marginals();
            let law = || {
                first
                    .iter()
                    .zip(&second)
                    .map(|(p, q)| 0.5 * (p + q))
                    .zip(&prompt.reward)
            };
            let average: f64 = law().map(|(m, r)| m * r).sum();
            law().map(|(m, r)| 0.5 * m * (r - average).powi(2)).sum()
        })),
        O::Kto | O::KtoPerPrompt | O::KtoNoKl => Some(0.5),
        O::Copr => Some(mean(&|_, prompt, _| reverse(prompt))),
        O::CoprForward => Some(mean(&|_, prompt, _| forward(prompt))),
        O::CoprForwardMean => Some(mean(&|_, prompt, _| {
            forward(prompt) / prompt.ranking.as_ref().map_or(1, Vec::len) as f64
        })),
        O::Sft => Some(mean(&|_, prompt, _| best(prompt))),
        O::CoprSft => Some(mean(&|_, prompt, _| reverse(prompt) + best(prompt))),
        O::AdvantageModel | O::AdvantageModelCentred | O::AdvantageModelDistinct => {
            let margin = problem.margin()?;
            let each = std::f64::consts::LN_2 + 2.0 * (-margin).exp().ln_1p();
            let self_pairs = mean(&|_, prompt, _| {
                let table = prompt.law.table();
                table.iter().step_by(prompt.arms() + 1).sum()
            });
            let kept = match objective {
                O::AdvantageModelDistinct => 1.0 - self_pairs,
                _ => 1.0,
            };
            Some(kept * each)
        }
        O::Rloo
        | O::PgZero
        | O::PgValue
        | O::PgSoftValue
        | O::DroAlgorithm1
        | O::DroAlgorithm1Corrected => None,
    }
}
