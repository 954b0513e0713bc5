//! Trained to its end on all that it may write, a phase leaves the transformer at the policy that is solved for.

use pistar::bandit::{PairLaw, Policy, Simplex};
use pistar::llm::language::{Bandit, Language, normal_rewards, walk};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::text::example::{Beside, Example, Response, Stored};
use pistar::llm::train::reference::Reference;
use pistar::llm::train::schedule::Shape;
use pistar::llm::train::{Batches, Networks, Settings, Source, Trainer};
use pistar::loss::Given;
use pistar::observer::{Observer, Silent};
use pistar::solve::bpo::{Inner, phases};

use crate::language::transformer;
use crate::train::settings;

const PHASES: usize = 2;
const STEPS: u64 = 600;

/// What may be wrong with the loop.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The reference stays what it was in the first phase.
    Still,
    /// The label is that of the other pair.
    Turned,
}

/// All preferences over what a policy may write, with their probabilities: what a phase draws, in expectation.
struct Expected<'a> {
    bandit: &'a Bandit,
    fault: Fault,
    /// ln π of the reference, of each prompt and response.
    reference: &'a mut Option<Policy>,
    examples: Vec<Example>,
}

impl Source for Expected<'_> {
    fn steps(&self) -> u64 {
        STEPS
    }

    fn per_epoch(&self) -> u64 {
        STEPS
    }

    fn examples(&self, _: u64) -> pistar::Result<Vec<Example>> {
        Ok(self.examples.clone())
    }

    fn prepare(
        &mut self,
        done: u64,
        networks: &Networks,
        _: &dyn Observer,
    ) -> pistar::Result<Vec<(String, f64)>> {
        if done > 0 {
            return Ok(Vec::new());
        }
        let language = self.bandit.language();
        let behaviour = walk(networks.policy.model.decoder(), language)?;
        if self.reference.is_none() || self.fault != Fault::Still {
            *self.reference = Some(behaviour.clone());
        }
        let reference = self.reference.as_ref().unwrap();
        let mut all: Vec<(Vec<Response>, f64)> = Vec::new();
        for (x, prompt) in self.bandit.problem().prompts().iter().enumerate() {
            let response = |arm: usize| -> pistar::Result<Response> {
                let sequence = language.sequence(x, arm)?;
                Ok(Response {
                    stored: Some(Stored {
                        tokens: None,
                        old: behaviour.log()[x][arm],
                        reference: reference.log()[x][arm],
                    }),
                    ..Response::new(sequence, prompt.reward[arm])
                })
            };
            let p = |arm: usize| behaviour.log()[x][arm].exp();
            for (won, lost) in
                (0..prompt.arms()).flat_map(|a| (0..prompt.arms()).map(move |b| (a, b)))
            {
                if won == lost {
                    continue;
                }
                let label = 1.0 / (1.0 + (prompt.reward[lost] - prompt.reward[won]).exp());
                let (won, lost) = if self.fault == Fault::Turned {
                    (lost, won)
                } else {
                    (won, lost)
                };
                let share = prompt.weight * p(won) * p(lost) * label;
                all.push((vec![response(won)?, response(lost)?], share));
            }
        }
        let count = all.len() as f64;
        // Examples weigh 1 on average; equal pairs, which have no gradient, are left out.
        let total: f64 = all.iter().map(|(_, share)| share).sum();
        let example = |(row, (responses, share)): (usize, (Vec<Response>, f64))| Example {
            row: row as u64,
            responses,
            beside: Beside {
                weight: share / total * count,
                ..Beside::default()
            },
        };
        self.examples = all.into_iter().enumerate().map(example).collect();
        Ok(Vec::new())
    }
}

/// The policies after each phase.
fn trained(
    bandit: &Bandit,
    start: &Decoder,
    inner: Inner,
    fault: Fault,
    phases: usize,
) -> Vec<Policy> {
    let settings = Settings {
        numbers: Given::new().with("beta", bandit.problem().beta()),
        lr: Some(5e-3),
        weight_decay: 0.0,
        clip: 0.0,
        schedule: Shape::Cosine,
        warmup: 0.0,
        steps: Some(STEPS),
        ..settings(inner.objective().name())
    };
    let mut model = start.copy().unwrap();
    let mut reference = None;
    let mut found = Vec::new();
    for _ in 0..phases {
        let source = Expected {
            bandit,
            fault,
            reference: &mut reference,
            examples: Vec::new(),
        };
        let plan = Batches::fed(settings.objective().unwrap(), &settings, 64, source).unwrap();
        let stored = Reference::Stored(None);
        let mut trainer = Trainer::new(&settings, plan, Box::new(model), None, stored).unwrap();
        for _ in 0..STEPS {
            trainer.prepare(&Silent).unwrap();
            trainer.step(None).unwrap();
        }
        model = trainer.policy.model.decoder().copy().unwrap();
        found.push(walk(&model, bandit.language()).unwrap());
    }
    found
}

fn apart(a: &Policy, b: &Policy) -> f64 {
    super::apart(&a.log().concat(), &b.log().concat())
}

#[test]
fn phases_of_a_transformer_are_the_solved_ones() {
    let language = Language::with_prompts(2, 2, 1).unwrap();
    let start = transformer(&language, 2);
    let law = |_: usize, reference: &[f64]| -> pistar::Result<PairLaw> {
        let law = Simplex::new("law", reference.to_vec())?;
        Ok(PairLaw::product(law.clone(), law))
    };
    let bandit = Bandit::around(&start, language, 1.0, normal_rewards(3, 0.5), law).unwrap();
    for inner in [Inner::Dpo, Inner::Ipo] {
        let solved: Vec<Policy> = (phases(bandit.problem(), inner, PHASES).unwrap().into_iter())
            .map(|point| point.policy.unwrap())
            .collect();
        for pair in solved.windows(2) {
            assert!(apart(&pair[0], &pair[1]) > 0.1, "{inner:?}: nothing moves");
        }
        let found = trained(&bandit, &start, inner, Fault::None, PHASES);
        for (k, (found, solved)) in found.iter().zip(&solved).enumerate() {
            let off = apart(found, solved);
            println!("{inner:?} phase {}: {off:.1e}", k + 1);
            assert!(off < 1e-9, "{inner:?} {k}: {off:e}");
        }
        if inner == Inner::Dpo {
            let still = trained(&bandit, &start, inner, Fault::Still, 2);
            assert!(apart(&still[0], &solved[0]) < 1e-9);
            assert!(apart(&still[1], &solved[1]) > 0.1);
            let turned = trained(&bandit, &start, inner, Fault::Turned, 1);
            assert!(apart(&turned[0], &solved[0]) > 0.1);
        }
    }
}
