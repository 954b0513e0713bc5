//! What several test files need.

mod cases;
pub mod golden;
pub mod numeric;
pub mod strategies;

use pistar::bandit::population::Feed;
use pistar::bandit::{Evidence, Policy, Problem};
use pistar::loss::{Bound, Objective};

/// The CoPG paper's bandit (section 5).
pub fn toy() -> Problem {
    Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"weight": 1.0, "reward": [2.5, 2.0, 1.0],
            "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
    )
    .unwrap()
}

/// Largest entry of the population gradient at a policy (as logits) or a table of scores.
pub fn gradient_size(
    problem: &Problem,
    evidence: &Evidence,
    objective: Objective,
    table: &[Vec<f64>],
) -> f64 {
    let gradient = pistar::bandit::population::evaluate(problem, evidence, objective, table)
        .unwrap()
        .gradient;
    gradient.iter().flatten().fold(0.0, |m, g| g.abs().max(m))
}

/// Largest difference of two tables.
pub fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    (a.iter().zip(b))
        .flat_map(|(a, b)| {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).map(|(a, b)| (a - b).abs())
        })
        .fold(0.0, f64::max)
}

/// Largest difference of the probabilities of two policies.
pub fn apart(a: &Policy, b: &Policy) -> f64 {
    distance(&a.probabilities(), &b.probabilities())
}

/// An objective with a problem's numbers; what must be given and is not is an example.
pub fn bound(objective: Objective, problem: &Problem) -> Bound {
    let given = objective.with_examples(problem.given());
    objective.bind(&given).unwrap()
}

/// What an objective is fed on a problem.
pub fn feed(objective: Objective, problem: &Problem) -> Feed {
    Feed::of(&bound(objective, problem)).unwrap()
}
