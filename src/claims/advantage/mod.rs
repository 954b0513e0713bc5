//! The Advantage Model and selective rehearsal.

use super::{Claim, Finding, Paper, Verdict, random_problems, toy};
use crate::bandit::{Evidence, PairLaw, Policy, Problem, kl};
use crate::error::Result;
use crate::loss::InputKind;
use crate::magnitude::{larger, largest};
use crate::random::{Purpose, Stream};
use crate::sim::multitask::{
    Experiment, Labels, MultiTask, TASKS, VARIANTS, calibration, experiment, moments,
};
use crate::solve::advantage::{Form, estimator, fixed_point};
use crate::solve::calibration as calibrated;
use crate::solve::{self, FixedPoint};

/// The margin of the paper's experiments.
const MARGIN: f64 = 2.5;

/// Table 1: accuracy and ECE of the reward model and of the Advantage Model, in percent, on
/// HH-RLHF and on the proprietary data.
const TABLE_1: [[f64; 4]; 2] = [[69.25, 4.70, 74.75, 5.35], [69.43, 3.48, 75.28, 3.83]];

/// Table 2: win, lose, tie against the SFT model on the main and on the forget test set, for RM-PPO,
/// AM-PPO and AM-PPO-SR.
const TABLE_2: [[[f64; 3]; 2]; 3] = [
    [[12.72, 12.62, 74.66], [16.87, 29.28, 53.84]],
    [[14.87, 10.38, 74.74], [9.70, 8.44, 81.86]],
    [[15.78, 9.77, 74.45], [10.30, 7.95, 81.75]],
];

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
        ppo_objective,
    ),
    PAPER.claim(
        "advantage-model/differences-only",
        "section 3.1",
        "The reward-model loss fixes score differences only, so that scores of a prompt can lie \
         anywhere; the Advantage Model's loss fixes the scores themselves",
        Verdict::Holds,
        "",
        differences_only,
    ),
    PAPER.claim(
        "advantage-model/teacher-forcing",
        "eq. 4",
        "Teacher forcing on accepted responses maximises the sum of their token probabilities",
        Verdict::Misprint,
        "the logarithm is missing: teacher forcing, and the NLL that eq. 9's text names, sum ln π; the \
         printed sum is largest where all mass is on the most frequent response",
        teacher_forcing,
    ),
    PAPER.claim(
        "advantage-model/expected-advantage",
        "eq. 5",
        "Importance weights remove the bias of another policy's responses: the score less its \
         weighted mean is the advantage under the current policy",
        Verdict::HoldsIf,
        "π′ must give mass to every response of π_φ; then a = r − E_φ[r], of mean zero under π_φ \
         and the same for r and r + c",
        expected_advantage,
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
        several_proposals,
    ),
    PAPER.claim(
        "advantage-model/models-the-advantage",
        "eq. 5 and 6, section 4.3",
        "Training with eq. 6 models the advantage directly",
        Verdict::HoldsIf,
        "the scores are parametrised to have mean zero under π_φ, and the margin is wide against \
         the gaps; a free table's optimum has another mean, and at m = 2.5 smaller gaps",
        models_the_advantage,
    ),
    PAPER.claim(
        "advantage-model/bounded",
        "eq. 6",
        "The bounding loss keeps the gain of a good response and the loss of a bad one within the margin",
        Verdict::HoldsIf,
        "the table of scores is free, then |a| < m at the optimum, whatever the labels; centred under \
         a π_φ that has little mass where the comparisons are, a score can leave the margin",
        bounded,
    ),
    PAPER.claim(
        "advantage-model/well-calibrated-bound",
        "eq. 6, section 3.1",
        "The bounding loss leaves the score differences calibrated",
        Verdict::HoldsIf,
        "the margin is wide against the true gaps: two arms' gap can never exceed 2m/3 if pairs of a \
         response with itself are left out",
        well_calibrated,
    ),
    PAPER.claim(
        "advantage-model/better-calibrated",
        "section 4.3, Table 1",
        "The Advantage Model is better calibrated than the reward model",
        Verdict::HoldsIf,
        "labels are few and the reward model is fitted without a prior: the bound then does what a \
         prior would. With many labels the reward model's error vanishes and the Advantage Model's \
         does not",
        better_calibrated,
    ),
    PAPER.claim(
        "advantage-model/ranking-preserved",
        "section 1 and 4.3",
        "Bounding the scores preserves the ranking of the responses",
        Verdict::HoldsIf,
        "every pair is compared equally often: otherwise who wins and loses depends on the pair law, \
         and even the best response can change; rare, a fraction of a percent of pairs at m = 2.5",
        ranking_preserved,
    ),
    PAPER.claim(
        "advantage-model/stable-scales",
        "section 4.3, Figure 4",
        "Means and standard deviations of the Advantage Model's scores vary less from task to task \
         than reward scores do",
        Verdict::Holds,
        "comparisons within a prompt leave the level of a reward model open, so how far its means \
         differ is a matter of what it starts from and what its prompts share",
        stable_scales,
    ),
    PAPER.claim(
        "advantage-model/better-reward-for-ppo",
        "section 4.3, Figure 5 and Table 2",
        "PPO on the Advantage Model's scores ends with a better policy than PPO on reward scores",
        Verdict::HoldsIf,
        "prompts share a policy's parameters and their rewards differ in scale, where the loudest task \
         overrides the others; prompt by prompt the true reward is the best there is to optimise, and \
         the Advantage Model's limit has a regret",
        better_reward,
    ),
    PAPER.claim(
        "advantage-model/rehearsal-sign",
        "eq. 9",
        "Adding γ times the rehearsal term to the PPO objective keeps the rehearsed responses likely",
        Verdict::HoldsIf,
        "both are maximised and the term is the log-likelihood; the text calls it an NLL loss, which \
         would have to be subtracted (as a loss: −L_PPO − γ E[ln π])",
        rehearsal_sign,
    ),
    PAPER.claim(
        "advantage-model/rehearsal-as-divergence",
        "section 3.2",
        "Selective rehearsal amounts to a stronger divergence penalty on the prompts it keeps",
        Verdict::HoldsIf,
        "the responses are not selected by score: then the term is a forward divergence from the \
         initial policy; top-k responses pull even where the policy has not moved",
        rehearsal_as_divergence,
    ),
    PAPER.claim(
        "advantage-model/table-1",
        "section 4.3",
        "Accuracies and calibration errors, slightly higher and much lower for the Advantage Model on \
         both datasets, are those of Table 2",
        Verdict::Misprint,
        "they are in Table 1, and there as described; Table 2 holds shares of wins, losses and ties",
        table_1,
    ),
    PAPER.claim(
        "advantage-model/table-2-forgetting",
        "section 4.3, Table 2",
        "On the forget set PPO on reward scores falls behind the SFT model and PPO on the Advantage \
         Model's scores does not",
        Verdict::Holds,
        "by wins less losses; by wins alone, which the text speaks of, RM-PPO is ahead on that set",
        table_2_forgetting,
    ),
    PAPER.claim(
        "advantage-model/table-2-rehearsal",
        "section 4.3, Table 2",
        "Selective rehearsal raises the win rate on both test sets",
        Verdict::Holds,
        "by under one point, with no interval given",
        table_2_rehearsal,
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

fn ppo_objective() -> Result<Finding> {
    let problems = random_problems(200, 501)?;
    let (mut best, mut identity) = (f64::INFINITY, 0.0f64);
    for (problem, key) in problems.iter().zip(0..) {
        let optimum = problem.optimum();
        let other = random_policy(problem, 2.0, key);
        let short = optimum.objective - problem.objective(&other);
        best = best.min(short);
        identity = larger(identity, (short - problem.regret(&other)).abs());
    }
    Ok(Finding::holds(
        best > 0.0 && identity < 1e-11,
        format!(
            "{} random problems: no other policy reaches π*, each falls short by β KL(π‖π*) to {identity:.0e}",
            problems.len()
        ),
    )
    .measure("smallest shortfall", best))
}

fn differences_only() -> Result<Finding> {
    let problems = random_problems(100, 502)?;
    let (mut model, mut advantage) = (0.0f64, f64::INFINITY);
    for problem in &problems {
        let population = Evidence::population(problem);
        let pairs = population.of(InputKind::LabelledPairs)?;
        for (x, (prompt, share)) in problem.prompts().iter().zip(&pairs.prompts).enumerate() {
            let edges = share.compared().edges(&prompt.reward);
            let ranking = |shift: f64| -> f64 {
                let r = |a: u32| prompt.reward[a as usize] + shift;
                let loss = crate::backend::nd::softplus;
                let each = edges
                    .iter()
                    .map(|e| e.wins * loss(r(e.b) - r(e.a)) + e.losses * loss(r(e.a) - r(e.b)));
                each.sum()
            };
            model = larger(model, (ranking(3.0) - ranking(0.0)).abs());
            let found = solve::advantage::loss;
            let form = Form::SelfPairs;
            let row = &scores(problem, MARGIN, form)?[x];
            let at = |shift: f64| -> Result<f64> {
                let moved: Vec<f64> = row.iter().map(|a| a + shift).collect();
                Ok(found(prompt, share, MARGIN, form, &moved)?.0)
            };
            let lowest = at(0.0)?;
            advantage = advantage.min((at(0.1)? - lowest).min(at(-0.1)? - lowest));
        }
    }
    Ok(Finding::holds(
        model < 1e-13 && advantage > 0.0,
        format!(
            "{} random problems: a constant changes eq. 1 by {model:.0e} at most, and raises eq. 6 above its minimum by {advantage:.1e} at least",
            problems.len()
        ),
    ))
}

fn teacher_forcing() -> Result<Finding> {
    // Accepted responses follow a law p: which policy is best for it, with and without logarithm?
    let problems = random_problems(100, 503)?;
    let (mut log, mut printed) = (f64::INFINITY, f64::INFINITY);
    for (problem, key) in problems.iter().zip(0..) {
        let others = random_policy(problem, 3.0, key);
        for (prompt, other) in problem.prompts().iter().zip(others.log()) {
            let (p, _) = prompt.law.marginals();
            let mean =
                |v: &dyn Fn(usize) -> f64| -> f64 { (0..p.len()).map(|y| p[y] * v(y)).sum() };
            log = log.min(mean(&|y| p[y].ln()) - mean(&|y| other[y]));
            let mode = p.iter().copied().fold(0.0, larger);
            printed = printed.min(mode - mean(&|y| p[y]));
        }
    }
    Ok(Finding::misprint(
        log > 0.0,
        printed > 0.0,
        format!(
            "{} random problems, accepted responses of law p: with the logarithm π = p is better than any other tried by {log:.1e} at least; as printed all mass on the mode is better than π = p, by {printed:.1e} at least",
            problems.len()
        ),
    ))
}

fn expected_advantage() -> Result<Finding> {
    let problems = random_problems(200, 504)?;
    let (mut error, mut mean, mut shift, mut blind) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (problem, key) in problems.iter().zip(0..) {
        let current = random_policy(problem, 2.0, key).probabilities();
        let proposal = random_policy(problem, 2.0, 1000 + key).probabilities();
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let (current, mut proposal, r) = (&current[x], proposal[x].clone(), &prompt.reward);
            let a = estimator::importance(r, current, &proposal);
            error = larger(error, distance(&a, &estimator::advantage(r, current)));
            mean = larger(mean, estimator::mean(&a, current).abs());
            let shifted: Vec<f64> = r.iter().map(|r| r + 7.0).collect();
            shift = larger(
                shift,
                distance(&a, &estimator::importance(&shifted, current, &proposal)),
            );
            // A proposal that never shows the last response.
            let last = proposal.pop().unwrap_or(0.0);
            proposal.iter_mut().for_each(|q| *q /= 1.0 - last);
            proposal.push(0.0);
            let without = estimator::importance(r, current, &proposal);
            blind = larger(blind, distance(&without, &estimator::advantage(r, current)));
        }
    }
    let covered = error.max(mean).max(shift);
    Ok(Finding::holds_if(
        covered < 1e-13,
        blind > 0.01,
        format!(
            "{} random problems: error, mean and change under a shift {covered:.0e}; with one response never proposed it is off by up to {blind:.2}",
            problems.len()
        ),
    ))
}

fn several_proposals() -> Result<Finding> {
    let problems = random_problems(200, 505)?;
    let (mut right, mut shrunk, mut off_mean, mut inversions) = (0.0f64, 0.0f64, 0.0f64, 0usize);
    for (problem, key) in problems.iter().zip(0..) {
        let current = random_policy(problem, 2.0, key).probabilities();
        let k = 1 + (key % 3) as usize;
        let n = (k as u64 + key % 2) as f64;
        let proposals: Vec<_> = (0..k as u64)
            .map(|k| random_policy(problem, 2.0, 10_000 + 10 * key + k).probabilities())
            .collect();
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let (pi, r) = (&current[x], &prompt.reward);
            let truth = estimator::advantage(r, pi);
            let others: Vec<Vec<f64>> = proposals.iter().map(|p| p[x].clone()).collect();
            right = larger(
                right,
                distance(&estimator::expected_estimate(r, pi, &others, n), &truth),
            );
            let on = estimator::printed_estimate(r, pi, &vec![pi.clone(); k], n);
            let less: Vec<f64> = truth.iter().map(|a| (1.0 - k as f64 / n) * a).collect();
            shrunk = larger(shrunk, distance(&on, &less));
            let off = estimator::printed_estimate(r, pi, &others, n);
            off_mean = larger(off_mean, estimator::mean(&off, pi).abs());
            let order = |v: &[f64], i: usize, j: usize| v[i] > v[j];
            let arms = 0..r.len();
            inversions += (arms.clone().flat_map(|i| arms.clone().map(move |j| (i, j))))
                .filter(|&(i, j)| order(&truth, i, j) && order(&off, j, i))
                .count();
        }
    }
    Ok(Finding::misprint(
        right < 1e-13 && shrunk < 1e-12,
        off_mean > 0.1 && inversions > 0,
        format!(
            "{} random problems, K of 1 to 3 and N of K or K + 1: as it must read {right:.0e} from eq. 5; as printed (1 − K/N)·a on policy to {shrunk:.0e}, off policy a mean up to {off_mean:.2} and {inversions} pairs in the wrong order",
            problems.len()
        ),
    ))
}

fn models_the_advantage() -> Result<Finding> {
    let problems = random_problems(60, 506)?;
    let (mut wide, mut mean, mut gap) = (0.0f64, 0.0f64, 0.0f64);
    for (problem, key) in problems.iter().zip(0..) {
        let policy = random_policy(problem, 1.0, key).probabilities();
        let problem = problem.map_prompts(|x, prompt| prompt.centre = Some(policy[x].clone()));
        let centred = scores(&problem, 60.0, Form::Centred)?;
        let free = scores(&problem, MARGIN, Form::SelfPairs)?;
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let truth = estimator::advantage(&prompt.reward, &policy[x]);
            wide = larger(wide, distance(&centred[x], &truth));
            mean = larger(mean, estimator::mean(&free[x], &policy[x]).abs());
            let moved = estimator::advantage(&free[x], &policy[x]);
            gap = larger(gap, distance(&moved, &truth));
        }
    }
    Ok(Finding::holds_if(
        wide < 1e-9,
        mean > 0.1 && gap > 0.1,
        format!(
            "{} random problems: centred at m = 60 it is r − E_φ[r] to {wide:.0e}; free at m = 2.5 its mean is up to {mean:.2}, and centred afterwards it is off by up to {gap:.2}",
            problems.len()
        ),
    ))
}

fn bounded() -> Result<Finding> {
    let mut ratio = 0.0f64;
    let problems = random_problems(200, 507)?;
    for (problem, i) in problems.iter().zip(0..) {
        let margin = [0.1, 0.5, 2.5, 10.0][i % 4];
        for form in [Form::SelfPairs, Form::Distinct] {
            let table = scores(problem, margin, form)?;
            ratio = larger(ratio, largest(table.into_iter().flatten()) / margin);
        }
    }
    let problem = Problem::from_json(
        r#"{"beta": 1, "prompts": [{"reward": [2.19, 1.53, -6.19],
            "behavior": [[0.005, 0.99, 0.005], [0.005, 0.005, 0.99]]}]}"#,
    )?
    .map_prompts(|_, prompt| prompt.centre = Some(vec![0.143, 0.855, 0.002]));
    let centred = scores(&problem, MARGIN, Form::Centred)?;
    let outside = largest(centred.into_iter().flatten()) / MARGIN;
    Ok(Finding::holds_if(
        ratio < 1.0,
        outside > 1.0,
        format!(
            "{} random problems at four margins, with and without self pairs: largest |a|/m {ratio:.2}; a centred counterexample has {outside:.2}",
            problems.len()
        ),
    )
    .measure("largest |a|/m, free", ratio)
    .measure("|a|/m, centred", outside))
}

/// Two arms under uniform laws, `gap` apart.
fn two_arms(gap: f64) -> Result<Problem> {
    Problem::from_json(&format!(
        r#"{{"beta": 1, "prompts": [{{"reward": [{gap}, 0], "behavior": [[0.5, 0.5]]}}]}}"#
    ))
}

fn well_calibrated() -> Result<Finding> {
    let problem = toy()?;
    let at = |margin| -> Result<f64> {
        calibrated::error(&problem, &scores(&problem, margin, Form::SelfPairs)?)
    };
    let (narrow, middle, wide) = (at(2.5)?, at(5.0)?, at(10.0)?);
    let gap = |truth: f64| -> Result<f64> {
        let table = scores(&two_arms(truth)?, MARGIN, Form::Distinct)?;
        Ok(table[0][0] - table[0][1])
    };
    let (near, far) = (gap(2.5)?, gap(20.0)?);
    let shrinks = near < 2.5 && far <= 2.0 * MARGIN / 3.0 + 1e-9;
    Ok(Finding::holds_if(
        wide < 1e-3 && wide < middle && middle < narrow,
        narrow > 0.05 && shrinks,
        format!(
            "toy population, E|σ(δ) − p| {narrow:.4} at m = 2.5, {middle:.4} at 5, {wide:.0e} at 10; two arms at m = 2.5: a true gap of 2.5 becomes {near:.2}, one of 20 {far:.2}"
        ),
    )
    .measure("calibration error, m = 2.5", narrow)
    .measure("calibration error, m = 5", middle)
    .measure("calibration error, m = 10", wide))
}

fn better_calibrated() -> Result<Finding> {
    let mean = |labels: usize| -> Result<[f64; 3]> {
        let study = Labels {
            labels,
            arms: 8,
            scale: 1.5,
            margin: MARGIN,
            seeds: 100,
        };
        let rows = calibration(&study)?;
        let of = |model: &str| {
            let own = rows.iter().filter(|row| row.model == model);
            own.map(|row| row.error).sum::<f64>() / study.seeds as f64
        };
        Ok([of("advantage"), of("reward"), of("reward, prior")])
    };
    let (few, some, many) = (mean(30)?, mean(100)?, mean(10_000)?);
    Ok(Finding::holds_if(
        few[0] < few[1],
        some[0] > some[1] && many[0] > 3.0 * many[1],
        format!(
            "100 bandits of 8 arms, advantage/reward model: {:.3}/{:.3} at 30 labels, {:.3}/{:.3} at 100, {:.3}/{:.3} at 10,000; with a normal prior the reward model has {:.3} at 30",
            few[0], few[1], some[0], some[1], many[0], many[1], few[2]
        ),
    )
    .measure("advantage model, 30 labels", few[0])
    .measure("reward model, 30 labels", few[1])
    .measure("reward model with a prior, 30 labels", few[2])
    .measure("advantage model, 10,000 labels", many[0])
    .measure("reward model, 10,000 labels", many[1]))
}

fn ranking_preserved() -> Result<Finding> {
    let problems = random_problems(1200, 510)?;
    let (mut uniform, mut pairs, mut wrong, mut prompts, mut tops) = (0, 0, 0, 0, 0);
    for problem in &problems {
        let even = problem.map_prompts(|_, prompt| {
            let law = vec![1.0 / prompt.arms() as f64; prompt.arms()];
            prompt.law = PairLaw::Product {
                first: law.clone(),
                second: law,
            };
        });
        let table = scores(&even, MARGIN, Form::SelfPairs)?;
        uniform += usize::from(calibrated::inversion(&even, &table).is_some());
        let table = scores(problem, MARGIN, Form::SelfPairs)?;
        for (prompt, row) in problem.prompts().iter().zip(&table) {
            let (r, arms) = (&prompt.reward, prompt.arms());
            let ordered = (0..arms).flat_map(|i| (0..arms).map(move |j| (i, j)));
            for (i, j) in ordered.filter(|&(i, j)| r[i] > r[j]) {
                pairs += 1;
                wrong += usize::from(row[j] > row[i]);
            }
            let best = |v: &[f64]| (0..arms).max_by(|&i, &j| v[i].total_cmp(&v[j]));
            prompts += 1;
            tops += usize::from(best(r) != best(row));
        }
    }
    let share = |part: usize, of: usize| 100.0 * part as f64 / of as f64;
    let (wrong, tops) = (share(wrong, pairs), share(tops, prompts));
    Ok(Finding::holds_if(
        uniform == 0,
        wrong > 0.0,
        format!(
            "{} random problems at m = 2.5: none inverted under uniform laws; under random laws {wrong:.2} % of pairs and {tops:.2} % of best arms",
            problems.len()
        ),
    )
    .measure("inverted pairs, %", wrong)
    .measure("wrong best arm, %", tops))
}

fn stable_scales() -> Result<Finding> {
    let worlds = 10;
    let (mut held, mut example) = (0, [0.0; 4]);
    for seed in 0..worlds {
        let tasks = MultiTask::draw(&TASKS, 8, 0.1, 0.1, seed)?;
        let rows = moments(&tasks, None, MARGIN, seed)?;
        let range = |model: &str, of: fn(&calibrated::Moments) -> f64| -> f64 {
            let all = rows.iter().filter(|row| row.model == model);
            let values: Vec<f64> = all.map(|row| of(&row.moments)).collect();
            let fold =
                |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(f64::NAN);
            fold(f64::max) - fold(f64::min)
        };
        let mean: fn(&calibrated::Moments) -> f64 = |m| m.mean;
        let spread: fn(&calibrated::Moments) -> f64 = |m| m.spread;
        let seen = [
            range("advantage", mean),
            range("true reward", mean),
            range("advantage", spread),
            range("true reward", spread),
        ];
        held += u64::from(seen[0] < seen[1] && seen[2] < seen[3]);
        (example.iter_mut().zip(seen)).for_each(|(e, s)| *e += s / worlds as f64);
    }
    Ok(Finding::holds(
        held == worlds,
        format!(
            "{worlds} worlds of four tasks: means {:.2} apart against {:.2} for the rewards, standard deviations {:.2} against {:.2}",
            example[0], example[1], example[2], example[3]
        ),
    ))
}

fn better_reward() -> Result<Finding> {
    let config = Experiment {
        seeds: 6,
        ..Experiment::default()
    };
    let variants = VARIANTS.map(|v| v.name);
    let named = |name: &str| {
        variants
            .iter()
            .position(|v| *v == name)
            .map(|i| VARIANTS[i])
    };
    let compared: Vec<_> = ["reward", "advantage"]
        .into_iter()
        .filter_map(named)
        .collect();
    let rows = experiment(&config, &compared)?;
    let win = |variant: &str| -> f64 {
        let last = rows.iter().filter(|m| {
            m.variant == variant && m.row.task == "forget" && m.row.round == config.settings.rounds
        });
        last.map(|m| m.row.win).sum::<f64>() / config.seeds as f64
    };
    let (reward, advantage) = (win("reward"), win("advantage"));
    let toy = toy()?;
    let regret = optimum(&toy, MARGIN, Form::SelfPairs)?
        .regret
        .unwrap_or(f64::NAN);
    let own = solve::fixed_point(
        crate::loss::Objective::REWARD_MODEL,
        &toy,
        &Evidence::population(&toy),
    )?;
    let best = own.regret.unwrap_or(f64::NAN);
    Ok(Finding::holds_if(
        advantage > 0.5 && reward < 0.5,
        regret > 0.01 && best < 1e-12,
        format!(
            "{} worlds with shared features, win rate on the forget set {advantage:.3} against {reward:.3}; on the toy bandit the regret is {regret:.4} against {best:.0e}",
            config.seeds
        ),
    )
    .measure("regret of the advantage model on the toy", regret)
    .measure("win rate on the forget set, advantage", advantage)
    .measure("win rate on the forget set, reward", reward))
}

fn rehearsal_sign() -> Result<Finding> {
    // One small step of ascent on J + γ·term, from where J alone is stationary.
    let problems = random_problems(100, 513)?;
    let (mut likelihood, mut negative) = (f64::INFINITY, f64::NEG_INFINITY);
    for problem in &problems {
        let optimum = problem.optimum().policy;
        for log in optimum.log() {
            // Rehearse the response that is least likely now.
            let y = (0..log.len())
                .min_by(|&i, &j| log[i].total_cmp(&log[j]))
                .unwrap_or(0);
            let step = |sign: f64| -> f64 {
                let own = |a: usize| if a == y { 1.0 } else { 0.0 };
                let logits = (0..log.len()).map(|a| log[a] + sign * 0.01 * (own(a) - log[a].exp()));
                Policy::softmax(&[logits.collect()]).log()[0][y] - log[y]
            };
            likelihood = likelihood.min(step(1.0));
            negative = larger(negative, step(-1.0));
        }
    }
    Ok(Finding::holds_if(
        likelihood > 0.0,
        negative < 0.0,
        format!(
            "{} random problems, from J's maximum: plus log-likelihood raises ln π of the rehearsed response by {likelihood:.1e} at least, plus NLL lowers it by {:.1e} at least",
            problems.len(),
            -negative
        ),
    ))
}

fn rehearsal_as_divergence() -> Result<Finding> {
    let problems = random_problems(100, 514)?;
    let (mut same, mut lowest, mut gained) = (0.0f64, f64::INFINITY, f64::INFINITY);
    for (problem, key) in problems.iter().zip(0..) {
        let policy = random_policy(problem, 2.0, key);
        for (prompt, log) in problem.prompts().iter().zip(policy.log()) {
            let initial = &prompt.log_reference;
            // The NLL of responses of π_init, and its forward divergence from there.
            let nll =
                |log: &[f64]| -> f64 { initial.iter().zip(log).map(|(i, l)| -i.exp() * l).sum() };
            let over = nll(log) - nll(initial);
            same = larger(same, (over - kl(initial, log)).abs());
            lowest = lowest.min(over);
            // The best response alone: a step towards it from π_init lowers its NLL, while a divergence
            // from π_init can only rise.
            let best = (0..initial.len())
                .max_by(|&i, &j| prompt.reward[i].total_cmp(&prompt.reward[j]))
                .unwrap_or(0);
            let mut moved = initial.clone();
            moved[best] += 0.01;
            let moved = Policy::softmax(&[moved]);
            gained = gained.min(moved.log()[0][best] - initial[best]);
        }
    }
    Ok(Finding::holds_if(
        same < 1e-12 && lowest > 0.0,
        gained > 0.0,
        format!(
            "{} random problems: on unselected responses the NLL is KL(π_init‖π) plus a constant to {same:.0e}, least at π_init; with the best response selected it falls on leaving π_init, by {gained:.1e} at least for a hundredth of a logit",
            problems.len()
        ),
    ))
}

fn table_1() -> Result<Finding> {
    let [reward, advantage] = TABLE_1;
    let better = |column: usize| advantage[column] - reward[column];
    let as_described = [0, 2].iter().all(|&c| better(c) > 0.0 && better(c) < 1.0)
        && [1, 3].iter().all(|&c| better(c) < -1.0);
    // Win, lose and tie are shares of the same comparisons: no accuracies, and no calibration errors.
    let off = TABLE_2
        .iter()
        .flatten()
        .map(|row| (row.iter().sum::<f64>() - 100.0).abs());
    let shares = off.fold(0.0, larger);
    Ok(Finding::misprint(
        as_described,
        shares < 0.02,
        format!(
            "Table 1: accuracy {:+.2} and {:+.2}, ECE {:+.2} and {:+.2} points; every row of Table 2 sums to 100 within {shares:.2}",
            better(0),
            better(2),
            better(1),
            better(3)
        ),
    ))
}

fn table_2_forgetting() -> Result<Finding> {
    let net = |row: [f64; 3]| row[0] - row[1];
    let [reward, advantage, _] = TABLE_2;
    let (reward, advantage) = (reward[1], advantage[1]);
    Ok(Finding::holds(
        net(reward) < 0.0 && net(advantage) > 0.0,
        format!(
            "wins less losses {:+.2} against {:+.2} points; wins alone {:.2} against {:.2}",
            net(reward),
            net(advantage),
            reward[0],
            advantage[0]
        ),
    ))
}

fn table_2_rehearsal() -> Result<Finding> {
    let gain = |set: usize| TABLE_2[2][set][0] - TABLE_2[1][set][0];
    Ok(Finding::holds(
        gain(0) > 0.0 && gain(1) > 0.0,
        format!(
            "wins {:+.2} points on the main set, {:+.2} on the forget set",
            gain(0),
            gain(1)
        ),
    ))
}
