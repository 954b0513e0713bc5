//! Judgement of a policy on the main and on the forget set, against the initial policy's completions of the same prompts.

use std::cmp::Ordering;

use crate::llm::model::decoder::Decoder;
use crate::llm::model::inference;
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::generate::Generated;
use crate::llm::sample::reward::{Reward, Weighted};
use crate::llm::text::example::Example;
use crate::observer::Silent;
use anyhow::Result;
use serde_json::Map;

use super::super::judge::mean;
use super::super::world::{candidates, sequence};
use super::tasks::{Draw, Tasks};
use crate::rows::study_rehearsal::{FORGET, MAIN, Row, Setting};

/// Tokens that are run at once.
const TOKENS: usize = 8192;

/// Prompts with the rewards of the initial policy's completions.
struct Set {
    prompts: Vec<Vec<u32>>,
    rule: Weighted,
    rewards: Vec<f64>,
}

/// What policies are judged by.
pub struct Judge<'a> {
    tasks: &'a Tasks,
    initial: Decoder,
    main: Set,
    forget: Set,
    /// What the policy learns from.
    scorer: Weighted,
    /// The rehearsal set.
    rehearsed: Vec<Sequence>,
}

/// One completion's numbers.
struct Judged {
    reward: f64,
    against: Ordering,
    score: Option<f64>,
    kl: f64,
    tokens: f64,
}

impl<'a> Judge<'a> {
    /// The judge of a trial that learns from that scorer.
    ///
    /// # Errors
    /// Those of the model and of the rules.
    pub fn new(tasks: &'a Tasks, scorer: Weighted, rehearsed: &[Example]) -> Result<Self> {
        let initial = tasks.initial()?;
        let set = |prompts: Vec<Vec<u32>>, mut rule: Weighted| -> Result<Set> {
            let drawn = tasks.generate(&initial, &prompts, 1, Draw::Evaluation)?;
            let rewards = tasks.world.rewards(&mut rule, &prompts, &drawn)?;
            Ok(Set {
                prompts,
                rule,
                rewards,
            })
        };
        let main = set(tasks.held(), tasks.world.rule()?)?;
        let forget = set(tasks.forget.held.clone(), Tasks::skill()?)?;
        let rehearsed = rehearsed.iter().map(|e| e.responses[0].sequence.clone());
        Ok(Self {
            tasks,
            main,
            forget,
            scorer,
            rehearsed: rehearsed.collect(),
            initial,
        })
    }

    /// Judges a policy, always with the random numbers that the initial policy's completions were drawn with: a policy
    /// that is the initial one ties with it everywhere.
    ///
    /// # Errors
    /// Those of the model and of the rules.
    pub fn rows(
        &mut self,
        policy: &Decoder,
        setting: &Setting,
        seed: u64,
        written: u64,
    ) -> Result<Vec<Row>> {
        let nll = self.nll(policy)?;
        let row = |set: String, judged: &[Judged]| {
            let of = |f: &dyn Fn(&Judged) -> f64| mean(&judged.iter().map(f).collect::<Vec<_>>());
            let share = |which: Ordering| of(&|j| f64::from(j.against == which));
            let scores: Option<Vec<f64>> = judged.iter().map(|j| j.score).collect();
            Row {
                method: setting.method.clone(),
                clusters: setting.clusters,
                gamma: setting.gamma,
                seed,
                written,
                set,
                prompts: judged.len() as u64,
                win: share(Ordering::Greater),
                lose: share(Ordering::Less),
                reward: of(&|j| j.reward),
                score: scores.map(|scores| mean(&scores)),
                kl: of(&|j| j.kl),
                nll,
                tokens: of(&|j| j.tokens),
            }
        };
        let tasks = self.tasks;
        let main = judged(
            tasks,
            &self.initial,
            &mut self.main,
            policy,
            Some(&mut self.scorer),
        )?;
        let forget = judged(tasks, &self.initial, &mut self.forget, policy, None)?;
        let mut rows = vec![row(MAIN.into(), &main), row(FORGET.into(), &forget)];
        for (class, judged) in tasks.classes.iter().zip(main.chunks(tasks.sizes.held)) {
            rows.push(row(format!("{MAIN}: {}", class.word), judged));
        }
        Ok(rows)
    }

    /// `−ln π` of a token of the rehearsal set.
    fn nll(&self, policy: &Decoder) -> Result<f64> {
        let numbers = inference::numbers(policy, Reduction::Sum, &self.rehearsed, TOKENS)?;
        let tokens: usize = self.rehearsed.iter().map(|s| s.completion().len()).sum();
        Ok(-numbers.sequences.iter().sum::<f64>() / tokens as f64)
    }
}

/// The policy's completions of a set.
fn judged(
    tasks: &Tasks,
    initial: &Decoder,
    set: &mut Set,
    policy: &Decoder,
    scorer: Option<&mut Weighted>,
) -> Result<Vec<Judged>> {
    let prompts = &set.prompts;
    let drawn: Vec<Generated> = tasks.generate(policy, prompts, 1, Draw::Evaluation)?;
    let texts = tasks.world.texts(prompts, &drawn)?;
    let fields = Map::new();
    let rows = candidates(&texts, &fields);
    let rewards = set.rule.score(&rows, &Silent)?;
    let scores = scorer.map(|s| s.score(&rows, &Silent)).transpose()?;
    let sequences: Vec<Sequence> = (prompts.iter().zip(&drawn))
        .map(|(prompt, drawn)| sequence(prompt, drawn))
        .collect::<Result<_>>()?;
    let of_initial = inference::numbers(initial, Reduction::Sum, &sequences, TOKENS)?.sequences;
    let all = drawn.iter().enumerate().map(|(i, drawn)| Judged {
        reward: rewards[i],
        against: rewards[i].total_cmp(&set.rewards[i]),
        score: scores.as_ref().map(|s| s[i]),
        kl: drawn.log_prob - of_initial[i],
        tokens: drawn.tokens.len() as f64,
    });
    Ok(all.collect())
}
