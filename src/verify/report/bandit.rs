//! The bandit of a report, and the data that responses come from.

use crate::bandit::{Comparisons, Dataset, Edge, Evidence, PairLaw, Problem, Prompt};
use crate::error::{Error, Result};
use crate::loss::InputKind;
use crate::solve::general::groups;
use crate::solve::general::population::{Population, by_reward, with_laws};
use crate::solve::general::subject::Subject;

/// Most arms of all prompts together: limits are followed with Jacobians from differences.
const CAP: usize = 24;

/// The bandit of reports that name no other: rewards, β and laws of CoPG's, with a reference that is
/// not uniform, so that it shows whether a loss knows of it.
pub fn default() -> Result<Problem> {
    Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0], "reference": [0.2, 0.3, 0.5],
            "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
    )
}

/// Refuses what is too large to follow.
pub(super) fn check(problem: &Problem) -> Result<()> {
    if let Some(x) = problem.prompts().iter().position(|p| !p.knows_rewards()) {
        return Err(Error::invalid(
            format!("prompts[{x}].reward"),
            "it is missing, and a report says how far limits are from the optimum",
            "give every arm a reward",
        ));
    }
    let arms: usize = problem.prompts().iter().map(Prompt::arms).sum();
    if arms <= CAP {
        return Ok(());
    }
    Err(Error::invalid(
        "prompts",
        format!("they have {arms} arms in all"),
        format!("report on at most {CAP}: every limit is followed numerically"),
    ))
}

/// Kind of data behind a row's examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Data {
    /// The exact expectation, with Bradley–Terry labels where there are labels.
    Population,
    /// The exact expectation with noiseless labels: the response with more reward is preferred.
    Noiseless,
    /// A finite log that some policy explains perfectly: every other arm beats the least rewarded one,
    /// the most rewarded twice, the others once, and nothing else is compared.
    Log,
}

impl Data {
    /// Name of the kind, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Population => "population",
            Self::Noiseless => "noiseless labels",
            Self::Log => "separable log",
        }
    }
}

/// A row to be: where responses come from, and the population or why there is none.
pub(super) struct Situation<'a> {
    pub responses: String,
    pub data: Data,
    pub group: Option<usize>,
    pub population: std::result::Result<Population<'a>, String>,
}

/// Every situation of the page.
pub(super) fn situations<'a>(
    subject: &'a Subject,
    problem: &Problem,
) -> Result<Vec<Situation<'a>>> {
    let kind = subject.loss.inputs();
    let mut all = Vec::new();
    for &k in &subject.sizes {
        let name = |what: &str| match kind {
            kind if kind.is_groups() && subject.sizes.len() > 1 => format!("{what}, k = {k}"),
            kind if kind.is_groups() => format!("{what}, any k"),
            _ => what.to_string(),
        };
        let refused = (kind.is_groups())
            .then(|| groups::too_many(problem, k))
            .flatten();
        let mut add = |what: &str, data, population: Result<Population<'a>>| -> Result<()> {
            all.push(Situation {
                responses: name(what),
                data,
                group: (kind.is_groups()).then_some(k),
                population: match &refused {
                    Some(reason) => Err(reason.clone()),
                    None => Ok(population?.of_groups(k)),
                },
            });
            Ok(())
        };
        let of = |problem: &Problem| Population::new(subject, problem);
        let one = |law: &dyn Fn(&Prompt) -> Vec<f64>| {
            let prompts = problem.prompts();
            with_laws(problem, |x| [law(&prompts[x]), law(&prompts[x])])
        };
        if kind == InputKind::Lists {
            add("a ranked list of all arms", Data::Population, of(problem))?;
            continue;
        }
        add(
            "on policy",
            Data::Population,
            of(problem).map(Population::on_policy),
        )?;
        let reference = one(&|p| p.log_reference.iter().map(|l| l.exp()).collect());
        add("from π_ref", Data::Population, of(&reference))?;
        let mean = one(&|p| {
            let (first, second) = p.law.marginals();
            first
                .iter()
                .zip(&second)
                .map(|(p, q)| (p + q) / 2.0)
                .collect()
        });
        add("off policy, one law", Data::Population, of(&mean))?;
        let laws = match problem.prompts()[0].law {
            PairLaw::Product { .. } => "off policy, two laws",
            PairLaw::Joint { .. } => "off policy, a joint law",
        };
        add(laws, Data::Population, of(problem))?;
        if kind == InputKind::LabelledPairs {
            let evidence = noiseless(problem);
            let population = of(problem).map(|p| p.on(evidence));
            add("noiseless labels", Data::Noiseless, population)?;
        }
        match separable(problem)? {
            Some(evidence) => add(
                "a separable log",
                Data::Log,
                of(problem).map(|p| p.on(evidence)),
            )?,
            None => all.push(Situation {
                responses: name("a separable log"),
                data: Data::Log,
                group: None,
                population: Err("a prompt has one arm, which nothing is compared with".to_string()),
            }),
        }
    }
    Ok(all)
}

/// The population with the labels that an annotator without noise gives; ties by halves.
fn noiseless(problem: &Problem) -> Evidence {
    Evidence::population(problem).map_pairs(|share| {
        let Some(comparisons) = &share.comparisons else {
            return;
        };
        let decide = |edge: Edge| {
            let gap = share.reward[edge.a as usize] - share.reward[edge.b as usize];
            let wins = if gap == 0.0 {
                0.5
            } else {
                f64::from(u8::from(gap > 0.0))
            };
            Edge {
                wins: wins * edge.weight(),
                losses: (1.0 - wins) * edge.weight(),
                ..edge
            }
        };
        let edges = comparisons.edges(&share.reward).into_iter().map(decide);
        share.comparisons = Some(Comparisons::Listed {
            edges: edges.collect(),
            bradley_terry: false,
        });
    })
}

/// The log of [`Data::Log`], or none where a prompt has a single arm.
fn separable(problem: &Problem) -> Result<Option<Evidence>> {
    let mut lines = String::new();
    for (x, prompt) in problem.prompts().iter().enumerate() {
        let order = by_reward(prompt);
        let (Some((&worst, others)), Some(&best)) = (order.split_first(), order.last()) else {
            return Ok(None);
        };
        if others.is_empty() {
            return Ok(None);
        }
        for &a in others {
            let times = if a == best { 2 } else { 1 };
            let (first, second) = (prompt.kept()[a], prompt.kept()[worst]);
            let rewards = [prompt.reward[a], prompt.reward[worst]];
            for _ in 0..times {
                lines += &serde_json::json!({
                    "prompt": x, "first": first, "second": second, "rewards": rewards, "label": true,
                })
                .to_string();
                lines.push('\n');
            }
        }
    }
    let log = Dataset::read(lines.as_bytes(), "the separable log", problem)?;
    Ok(Some(Evidence::from_dataset(problem, &log)))
}
