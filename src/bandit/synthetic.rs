//! Random problems, for tests and for trying things out.

use ndarray::Array1;
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::{Exp1, StandardNormal};

use super::law::PairLaw;
use super::problem::{Beta, Problem, Prompt, Simplex};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Most arms of all prompts together.
const MOST_ARMS: usize = 10_000_000;

/// Size and scale of a random problem.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of prompts.
    pub prompts: usize,
    /// Arms of each prompt.
    pub arms: usize,
    /// Temperature.
    pub beta: f64,
    /// Standard deviation of the rewards.
    pub reward_scale: f64,
}

/// Normal rewards; weights, references and both laws uniform on their simplices. A value up to one
/// `reward_scale` below V*, a random ranking of some arms, and a margin of 2.5 `reward_scale`.
///
/// # Errors
/// No prompt, no arm, or a temperature or scale that is not positive and finite.
pub fn random_problem(shape: Shape, seed: u64) -> Result<Problem> {
    let Shape {
        prompts,
        arms,
        beta,
        reward_scale,
    } = shape;
    if prompts == 0 || arms == 0 {
        return Err(Error::invalid(
            "random problem",
            format!("{prompts} prompts of {arms} arms"),
            "ask for at least one of each",
        ));
    }
    let beta = Beta::new("beta", beta)?;
    let scale = reward_scale;
    if !(scale.is_finite() && scale > 0.0) {
        let problem = format!("it is {}", crate::text::exact(scale));
        return Err(Error::invalid(
            "reward scale",
            problem,
            "give a finite number greater than 0",
        ));
    }
    if prompts.saturating_mul(arms) > MOST_ARMS {
        return Err(Error::invalid(
            "random problem",
            format!("{prompts} prompts of {arms} arms"),
            format!("ask for at most {MOST_ARMS} arms in all"),
        ));
    }
    let mut stream = Stream::new(seed, Purpose::Problem, 0);
    // Normalised exponentials are uniform on the simplex.
    let mut simplex = |n: usize| {
        let e: Array1<f64> = Array1::random_using(n, Exp1, stream.rng());
        let sum = e.sum();
        Simplex::new("random law", e.iter().map(|v| v / sum).collect())
    };
    let weights = simplex(prompts)?;
    let laws = (0..prompts)
        .map(|_| {
            Ok((
                simplex(arms)?,
                PairLaw::product(simplex(arms)?, simplex(arms)?),
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut stream = Stream::new(seed, Purpose::Problem, 1);
    let prompts = (laws.iter().zip(weights.iter()).enumerate())
        .map(|(x, ((reference, law), &weight))| {
            let reward: Array1<f64> = Array1::random_using(arms, StandardNormal, stream.rng());
            let reward: Vec<f64> = reward.iter().map(|r| scale * r).collect();
            Prompt::new(&format!("prompts[{x}]"), weight, &reward, reference, law)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut stream = Stream::new(seed, Purpose::Problem, 2);
    let problem = Problem::new(beta, prompts)?.with_margin(2.5 * scale)?;
    Ok(problem.map_prompts(|_, prompt| {
        let (best, _) = prompt.optimum(beta.get());
        prompt.value = Some(best - scale * stream.uniform());
        let mut ranking: Vec<u32> = (0..arms as u32).collect();
        stream.shuffle(&mut ranking);
        ranking.truncate(1 + stream.below(arms as u32) as usize);
        prompt.ranking = Some(ranking);
    }))
}
