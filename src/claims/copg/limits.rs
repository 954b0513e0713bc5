//! Limits of CoPG, IPO and DPO, found numerically and compared with the paper's statements.

use nalgebra::{Matrix3, Vector3};

use super::super::{Finding, random_problems, toy};
use super::at::{gap, logits, mean, minimiser};
use crate::backend::nd::sigmoid;
use crate::backend::{Backend, nd::Var};
use crate::bandit::population::{Feed, evaluate_with};
use crate::magnitude::larger;

use crate::bandit::{
    Beta, Comparisons, Dataset, Edge, Evidence, PairLaw, Policy, Problem, Prompt, Shape,
    log_sum_exp, population, random_problem,
};
use crate::error::Result;
use crate::loss::{InputKind, Inputs, Objective, Pair, Response, on_tape};
use crate::random::{Purpose, Stream};
use crate::solve::fixed_point;
use crate::solve::flow::{Course, Frame, Numeric, follow};

/// The largest difference of two policies' probabilities.
fn apart(a: &Policy, b: &Policy) -> f64 {
    let (a, b) = (a.probabilities(), b.probabilities());
    gap(a.iter().flatten(), b.iter().flatten())
}

fn one_prompt(arms: usize, beta: f64, key: u64) -> Result<Problem> {
    let shape = Shape {
        prompts: 1,
        arms,
        beta,
        reward_scale: 1.0,
    };
    random_problem(shape, key)
}

type Loss<'a> = dyn Fn(&Inputs<Var>) -> Result<Var> + 'a;

/// `−(R_s(y) − R_s(y′))(u − u′)` with the first factor detached.
fn detached(inputs: &Inputs<Var>, scale: f64) -> Result<Var> {
    let Pair { first, second, .. } = inputs.pair()?;
    let (u, v) = (first.log_ratio()?, second.log_ratio()?);
    let weigh = |r: &Response<Var>, u: &Var| r.reward()?.sub(&u.affine(scale, 0.0)?);
    let contrast = weigh(first, &u)?.sub(&weigh(second, &v)?)?.detach()?;
    contrast.mul(&u.sub(&v)?)?.neg()
}

pub(super) fn weighted_likelihood() -> Result<Finding> {
    let problem = toy()?;
    let evidence = Evidence::population(&problem);
    let beta = problem.beta();
    let feed = Feed::of(&Objective::COPG.bind(&problem.given())?)?;
    let limit = |loss: &Loss<'_>| {
        let field = |theta: &[f64]| {
            let at = evaluate_with(&problem, &evidence, &feed, &[theta.to_vec()], |batch| {
                on_tape(InputKind::ScoredPairs, batch, loss)
            });
            at.ok()
                .map(|at| at.gradient.concat().iter().map(|g| -g).collect())
        };
        let start = problem.reference().log()[0].clone();
        let motion = Numeric::new(field, Frame::Logits(vec![start.len()]));
        let end = follow(&motion, start, Course::Basin);
        Policy::softmax(&[end.point])
    };
    let carried = limit(&|pair| Objective::COPG.loss(pair, beta));
    let dropped = limit(&|pair| detached(pair, beta / 2.0));
    let whole = limit(&|pair| detached(pair, beta));
    let optimum = problem.optimum().policy;
    let colder = problem.at(Beta::new("beta", beta / 2.0)?).optimum().policy;
    let at_half = apart(&dropped, &colder);
    let regret = problem.regret(&dropped);
    let evidence = format!(
        "toy: the gradient carried, |π − π*| = {:.1e}; detached, π*(β/2) to {at_half:.1e}; detached R_β, \
         π* to {:.1e}",
        apart(&carried, &optimum),
        apart(&whole, &optimum)
    );
    let under = apart(&carried, &optimum) < 1e-9 && apart(&whole, &optimum) < 1e-9;
    let finding = Finding::holds_if(under, at_half < 1e-9 && regret > 1e-3, evidence);
    Ok(finding.measure("regret with detached R_{β/2}", regret))
}

pub(super) fn theorem() -> Result<Finding> {
    let mut error = 0.0f64;
    let problems = random_problems(40, 2)?;
    for (key, problem) in problems.iter().enumerate() {
        let evidence = Evidence::population(problem);
        let start = logits(problem, key as u64, 3.0);
        let found = minimiser(problem, &evidence, Objective::COPG, &start)?;
        error = larger(error, apart(&found, &problem.optimum().policy));
    }
    let evidence = format!(
        "{} random problems, |π − π*| ≤ {error:.1e} by L-BFGS from random starts",
        problems.len()
    );
    Ok(Finding::holds(error < 1e-6, evidence))
}

/// Four arms whose two laws are given by which arms they show.
fn shown(problem: &Problem, first: [f64; 4], second: [f64; 4]) -> Problem {
    problem.map_prompts(|_, prompt| {
        prompt.law = PairLaw::Product {
            first: first.to_vec(),
            second: second.to_vec(),
        };
    })
}

pub(super) fn any_two_laws() -> Result<Finding> {
    let (mut stated, mut connected) = (0.0f64, 0.0f64);
    let (mut still, mut within) = (0.0f64, 0.0f64);
    let mut free = f64::INFINITY;
    let count = 20;
    for key in 0..count {
        let problem = one_prompt(4, 0.5, 900 + key)?;
        let find = |problem: &Problem, start: &[Vec<f64>]| {
            minimiser(
                problem,
                &Evidence::population(problem),
                Objective::COPG,
                start,
            )
        };
        let (here, there) = (logits(&problem, key, 1.5), logits(&problem, 50 + key, 1.5));
        let optimum = problem.optimum().policy;
        // Any two laws on the reference's support, such as data and the policy's own responses.
        let laws: Vec<[f64; 4]> = [here.clone(), there.clone()]
            .iter()
            .flat_map(|table| Policy::softmax(table).probabilities())
            .filter_map(|law| law.try_into().ok())
            .collect();
        for (first, second) in [(laws[0], laws[1]), (laws[0], laws[0])] {
            let found = find(&shown(&problem, first, second), &here)?;
            stated = larger(stated, apart(&found, &optimum));
        }
        // Disjoint supports; a point mass against all arms.
        for (first, second) in [
            ([0.4, 0.6, 0.0, 0.0], [0.0, 0.0, 0.3, 0.7]),
            ([1.0, 0.0, 0.0, 0.0], [0.25; 4]),
        ] {
            let found = find(&shown(&problem, first, second), &here)?;
            connected = larger(connected, apart(&found, &optimum));
        }
        // A point mass against itself shows no pair.
        let point = shown(&problem, [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]);
        still = larger(still, apart(&find(&point, &here)?, &Policy::softmax(&here)));
        // Two components: right within each, free between them.
        let mut two = problem.clone();
        two = two.map_prompts(|_, prompt| {
            prompt.law = PairLaw::Joint {
                arms: 4,
                entries: vec![(0, 1, 0.5), (2, 3, 0.5)],
            };
        });
        let (a, b) = (find(&two, &here)?, find(&two, &there)?);
        let share = |p: &Policy| p.log()[0][0].exp() + p.log()[0][1].exp();
        let inner = |p: &Policy| {
            let log = &p.log()[0];
            [log[0] - log[1], log[2] - log[3]]
        };
        within = larger(within, gap(&inner(&a), &inner(&optimum)));
        free = free.min((share(&a) - share(&b)).abs());
    }
    let evidence = format!(
        "{count} problems of 4 arms, |π − π*| ≤ {stated:.1e} for laws on the reference's support, \
         {connected:.1e} for others that connect the arms; two components, the odds within are right \
         to {within:.1e} and the split depends on the start; one arm only, nothing moves ({still:.1e})"
    );
    let beyond = connected < 1e-6 && still < 1e-12 && within < 1e-6 && free > 1e-6;
    Ok(Finding::holds(stated < 1e-6 && beyond, evidence))
}

/// The evidence of a prompt's listed pairs.
fn listed(problem: &Problem, edges: Vec<Edge>, bradley_terry: bool) -> Evidence {
    Evidence::population(problem).map_pairs(|share| {
        share.comparisons = Some(Comparisons::Listed {
            edges: edges.clone(),
            bradley_terry,
        });
    })
}

/// A random tree over a problem's arms: each arm compared with one before it.
fn tree(problem: &Problem, stream: &mut Stream) -> Evidence {
    let arms = problem.prompts()[0].arms() as u32;
    let edges = (1..arms)
        .map(|b| {
            let (a, w) = (stream.below(b), 1.0 / f64::from(arms - 1));
            let (wins, losses) = (0.5 * w, 0.5 * w);
            Edge { a, b, wins, losses }
        })
        .collect();
    listed(problem, edges, true)
}

pub(super) fn empirical_sign() -> Result<Finding> {
    let (mut ascends, mut unbounded) = (true, true);
    let mut stream = Stream::new(1, Purpose::Responses, 3);
    let count = 100;
    for key in 0..count {
        let problem = one_prompt(2 + (key % 4) as usize, 0.5, 300 + key)?;
        let evidence = tree(&problem, &mut stream);
        // ℓ̂, as printed.
        let value = |logits: &[Vec<f64>]| -> Result<f64> {
            Ok(-population::evaluate(&problem, &evidence, Objective::COPG, logits)?.value)
        };
        let top = value(problem.optimum().policy.log())?;
        let at = logits(&problem, key, 2.0);
        ascends &= value(&at)? < top;
        let far = |scale: f64| {
            let mut far = problem.reference().log().to_vec();
            far[0][0] += scale;
            value(&far)
        };
        unbounded &= far(1e2)? < -1e2 && far(1e4)? < 1e3 * far(1e2)?;
    }
    let evidence = format!(
        "{count} random datasets: ℓ̂ is largest at π*, and falls without bound as a logit grows"
    );
    Ok(Finding::misprint(ascends, unbounded, evidence))
}

pub(super) fn finite_data() -> Result<Finding> {
    let (mut exact, mut numeric) = (0.0f64, 0.0f64);
    let mut stream = Stream::new(2, Purpose::Responses, 3);
    let count = 100;
    let mut least_wrong = f64::INFINITY;
    for key in 0..count {
        let problem = one_prompt(2 + (key % 4) as usize, 0.5, 300 + key)?;
        let evidence = tree(&problem, &mut stream);
        let optimum = problem.optimum().policy;
        let at = population::evaluate(&problem, &evidence, Objective::COPG, optimum.log())?;
        exact = larger(exact, crate::magnitude::largest(at.gradient.concat()));
        if key % 5 == 0 {
            let start = logits(&problem, key, 2.0);
            let found = minimiser(&problem, &evidence, Objective::COPG, &start)?;
            numeric = larger(numeric, apart(&found, &optimum));
        }
        if problem.prompts()[0].arms() > 2 {
            let (a, b, wins, losses) = (0, 1, 0.5, 0.5);
            let one_pair = listed(&problem, vec![Edge { a, b, wins, losses }], true);
            let limit = fixed_point(Objective::COPG, &problem, &one_pair)?;
            least_wrong = least_wrong.min(limit.regret.unwrap_or(0.0));
        }
    }
    let evidence = format!(
        "{count} datasets whose pairs form a random tree: ∇L̂(π*) ≤ {exact:.1e}, |π − π*| ≤ \
         {numeric:.1e} by L-BFGS; with one pair of arms only, regret ≥ {least_wrong:.1e}"
    );
    let problem = toy()?;
    let prompt = &problem.prompts()[0];
    let (first, second) = prompt.law.marginals();
    let finding = Finding::holds_if(
        exact < 1e-12 && numeric < 1e-6,
        least_wrong > 1e-6,
        evidence,
    );
    Ok(finding
        .measure(
            "toy: share of pairs that differ",
            1.0 - mean(&first, &second),
        )
        .measure(
            "toy, 10⁴ pairs, reward noise of deviation 0.5: mean regret",
            noisy(&problem, 2_000)?,
        ))
}

/// CoPG's mean regret on the toy's laws when 10⁴ pairs are logged and each reward is seen with
/// normal noise of deviation 0.5: the least squares of the differences seen. The mean of the n
/// differences of two arms is drawn at once.
fn noisy(problem: &Problem, draws: usize) -> Result<f64> {
    let mut stream = Stream::new(1, Purpose::Labels, 99);
    let mut normal = || {
        let radius = (-2.0 * (1.0 - stream.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * stream.uniform()).cos()
    };
    let reward = &problem.prompts()[0].reward;
    let evidence = Evidence::population(problem);
    let edges = evidence.of(InputKind::ScoredPairs)?.prompts[0]
        .compared()
        .edges(reward);
    let mut sum = 0.0;
    for _ in 0..draws {
        // L v = r with the mean of v at 0.
        let (mut left, mut right) = (Matrix3::<f64>::repeat(1.0), Vector3::<f64>::zeros());
        for e in edges.iter().filter(|e| e.a != e.b) {
            let (a, b, w) = (e.a as usize, e.b as usize, e.weight());
            let deviation = 0.5 * (2.0 / (w * 1e4)).sqrt();
            let seen = reward[a] - reward[b] + deviation * normal();
            left[(a, a)] += w;
            left[(b, b)] += w;
            left[(a, b)] -= w;
            left[(b, a)] -= w;
            right[a] += w * seen;
            right[b] -= w * seen;
        }
        let v = left.lu().solve(&right).unwrap_or(Vector3::repeat(f64::NAN));
        let logits: Vec<f64> = v.iter().map(|v| v / problem.beta()).collect();
        sum += problem.regret(&Policy::softmax(&[logits]));
    }
    Ok(sum / draws as f64)
}

/// `∝ π_ref e^{P/β}` with `P(y) = E_{y′~law} σ(R(y) − R(y′))`: the optimum of an expected preference.
fn preferred(prompt: &Prompt, law: &[f64], beta: f64) -> Vec<f64> {
    let reward = &prompt.reward;
    let preference = |r: &f64| -> f64 {
        law.iter()
            .zip(reward)
            .map(|(p, s)| p * sigmoid(r - s))
            .sum()
    };
    let mut log: Vec<f64> = (reward.iter().zip(&prompt.log_reference))
        .map(|(r, l)| l + preference(r) / beta)
        .collect();
    let normaliser = log_sum_exp(&log);
    log.iter_mut().for_each(|l| *l -= normaliser);
    log
}

fn as_printed(problem: &Problem) -> Policy {
    let row = |p: &Prompt| preferred(p, &p.law.marginals().1, problem.beta());
    Policy::from_log(problem.prompts().iter().map(row).collect())
}

pub(super) fn ipo_objective() -> Result<Finding> {
    let (mut same, mut two) = (0.0f64, 0.0f64);
    for (key, problem) in random_problems(48, 4)?.iter().enumerate() {
        let one_law = problem.map_prompts(|_, prompt| {
            let (first, _) = prompt.law.marginals();
            let second = first.clone();
            prompt.law = PairLaw::Product { first, second };
        });
        let numeric = |problem: &Problem| {
            let start = logits(problem, key as u64, 1.0);
            minimiser(
                problem,
                &Evidence::population(problem),
                Objective::IPO,
                &start,
            )
        };
        same = larger(same, apart(&numeric(&one_law)?, &as_printed(&one_law)));
        let two_arms = one_prompt(2, 0.5, 700 + key as u64)?;
        two = larger(two, apart(&numeric(&two_arms)?, &as_printed(&two_arms)));
    }
    let problem = toy()?;
    let truth = fixed_point(Objective::IPO, &problem, &Evidence::population(&problem))?;
    let (truth, printed) = (
        truth.regret.unwrap_or(f64::NAN),
        problem.regret(&as_printed(&problem)),
    );
    // How often the best arm is not IPO's.
    let (draws, mut wrong) = (400, 0);
    for key in 0..draws {
        let problem = one_prompt(5, 0.5, 5_000 + key)?;
        let limit = fixed_point(Objective::IPO, &problem, &Evidence::population(&problem))?;
        let Some(policy) = limit.policy else { continue };
        let prompt = &problem.prompts()[0];
        let top = |of: &dyn Fn(usize) -> f64| {
            (0..5).max_by(|&a, &b| of(a).total_cmp(&of(b))).unwrap_or(0)
        };
        let best = top(&|a| prompt.reward[a]);
        wrong += usize::from(best != top(&|a| policy.log()[0][a] - prompt.log_reference[a]));
    }
    let evidence = format!(
        "48 random problems: with one law |π − formula| ≤ {same:.1e}, with two arms ≤ {two:.1e}; toy: \
         regret {truth:.12}, of the formula {printed:.12}"
    );
    let finding = Finding::holds_if(
        same < 1e-6 && two < 1e-6,
        (truth - printed).abs() > 1e-5,
        evidence,
    );
    Ok(finding.measure(
        "share of random problems of 5 arms where IPO raises another arm most",
        wrong as f64 / draws as f64,
    ))
}

pub(super) fn dpo() -> Result<Finding> {
    let mut error = 0.0f64;
    let problems = random_problems(24, 6)?;
    for (key, problem) in problems.iter().enumerate() {
        let start = logits(problem, key as u64, 1.0);
        let found = minimiser(
            problem,
            &Evidence::population(problem),
            Objective::DPO,
            &start,
        )?;
        error = larger(error, apart(&found, &problem.optimum().policy));
    }
    let problem = toy()?;
    let mut finite = 0.0;
    for seed in 0..20 {
        let data = Dataset::preferences(&problem, 10_000, seed, 0);
        let evidence = Evidence::from_dataset(&problem, &data);
        let limit = fixed_point(Objective::DPO, &problem, &evidence)?;
        finite += limit.regret.unwrap_or(f64::NAN) / 20.0;
    }
    let evidence = format!(
        "{} random problems, |π − π*| ≤ {error:.1e} by L-BFGS",
        problems.len()
    );
    let finding = Finding::holds(error < 1e-5, evidence);
    Ok(finding.measure("toy, mean regret on 20 datasets of 10⁴ pairs", finite))
}

pub(super) fn dpo_rankings() -> Result<Finding> {
    let problem = toy()?;
    // Every way to rank each pair of arms once.
    let mut least = f64::INFINITY;
    for labels in 0..8u32 {
        let edge = |i: u32, a: u32, b: u32| {
            let won = f64::from(labels >> i & 1) / 3.0;
            let (wins, losses) = (won, 1.0 / 3.0 - won);
            Edge { a, b, wins, losses }
        };
        let edges = vec![edge(0, 0, 1), edge(1, 0, 2), edge(2, 1, 2)];
        let limit = fixed_point(Objective::DPO, &problem, &listed(&problem, edges, false))?;
        least = least.min(limit.regret.unwrap_or(0.0));
    }
    let regret = |n: usize| -> Result<f64> {
        let data = Dataset::preferences(&problem, n, 3, 0);
        let evidence = Evidence::from_dataset(&problem, &data);
        let limit = fixed_point(Objective::DPO, &problem, &evidence)?;
        Ok(limit.regret.unwrap_or(f64::NAN))
    };
    let many = regret(1_000_000)?;
    let evidence = format!(
        "toy: of the 8 ways to rank each pair once none gives a regret below {least:.3}; with 10⁶ \
         rankings it is {many:.1e}"
    );
    Ok(Finding::holds(least > 0.05 && many < 1e-3, evidence))
}
