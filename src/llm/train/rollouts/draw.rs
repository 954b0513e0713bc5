//! Drawing a phase: completions, their rewards and preferences, and the log-probabilities that are stored.

use rand_chacha::rand_core::RngCore;

use super::feed::moments;
use super::row::{Completion, Each, Phase, Row};
use super::running::Running;
use super::{Preference, Rollouts, gone};
use crate::error::{Error, Result};
use crate::llm::model::inference::{self, Numbers};
use crate::llm::model::network::{Network, Reduction};
use crate::llm::sample::generate::generate;
use crate::llm::train::completions;
use crate::llm::train::enums::Annotator;
use crate::llm::train::learner::Learner;
use crate::llm::train::reference::Reference;
use crate::llm::train::source::Networks;
use crate::observer::Observer;
use crate::random::{Purpose, Stream};

/// What a phase counted while it drew.
#[derive(Debug, Default)]
struct Counts {
    redrawn: usize,
    left_out: usize,
    /// Sum of the entropies of the completions that stay.
    entropy: f64,
}

/// A row as it was drawn, with the entropy of its completions.
struct Drawn {
    row: Row,
    entropy: f64,
}

impl Rollouts {
    /// Has the policy complete prompts and the reward score them; those without a preference are drawn again, and left
    /// out in the end. Then the numbers of policy and reference are stored.
    pub(super) fn draw(
        &mut self,
        phase: u64,
        networks: &Networks,
        observer: &dyn Observer,
    ) -> Result<Phase> {
        let mut pending: Vec<(usize, usize)> =
            self.indices(phase)?.into_iter().enumerate().collect();
        let mut rows: Vec<Option<Drawn>> = Vec::new();
        rows.resize_with(pending.len(), || None);
        let mut seeds = Stream::new(self.seed, Purpose::Rollouts, phase);
        let mut labels = Stream::new(self.seed, Purpose::Annotation, phase);
        let mut counts = Counts::default();
        for attempt in 0..=self.redraws {
            if attempt > 0 {
                counts.redrawn += pending.len();
            }
            let indices: Vec<usize> = pending.iter().map(|(_, index)| *index).collect();
            let drawn =
                self.complete(&indices, seeds.rng().next_u64(), networks.policy, observer)?;
            let mut again = Vec::new();
            for (at, mut drawn) in pending.into_iter().zip(drawn) {
                if self.prefer(&mut drawn.row, &mut labels) {
                    rows[at.0] = Some(drawn);
                } else {
                    again.push(at);
                }
            }
            pending = again;
            if pending.is_empty() {
                break;
            }
        }
        counts.left_out = pending.len();
        let drawn: Vec<Drawn> = rows.into_iter().flatten().collect();
        counts.entropy = drawn.iter().map(|d| d.entropy).sum();
        let mut rows: Vec<Row> = drawn.into_iter().map(|d| d.row).collect();
        if rows.is_empty() {
            return Err(Error::invalid(
                format!("phase {}", phase + 1),
                format!("none of {} prompts has a preference", counts.left_out),
                "every draw had one reward: give a reward that tells completions apart (a small part by length \
                 does), or more redraws",
            ));
        }
        self.store(&mut rows, networks)?;
        let scores = rows.iter().flat_map(|row| &row.completions);
        let running = self.running(phase)?.with(scores.map(|c| c.score));
        let kl = self.kl(&rows);
        self.last = Some((phase, running, kl));
        let metrics = self.metrics(&rows, &counts, running, kl);
        Ok(Phase {
            rows,
            metrics,
            running,
            kl,
        })
    }

    /// State of the rewards before a phase.
    fn running(&self, phase: u64) -> Result<Running> {
        let Some(before) = phase.checked_sub(1) else {
            return Ok(Running::new(self.beta));
        };
        let found = match (&self.last, &self.dir) {
            (Some((of, running, kl)), _) if *of == before => Some((*running, *kl)),
            (_, Some(dir)) => Phase::read(dir, before)?.map(|p| (p.running, p.kl)),
            _ => None,
        };
        let (running, kl) = found.ok_or_else(|| gone(before))?;
        Ok(match kl {
            Some(kl) => running.after(kl, self.rewarding.kl_target),
            None => running,
        })
    }

    /// KL to the reference in nats a completion: the mean of `ln π_old/π_ref`, where it is stored and of what is drawn
    /// from.
    fn kl(&self, rows: &[Row]) -> Option<f64> {
        if self.sampling.temperature != 1.0 && !self.tempered {
            return None;
        }
        let completions = rows.iter().flat_map(|row| &row.completions);
        let ratio = |c: &Completion| match (&c.each, c.reference) {
            (Some(each), _) if !each.reference.is_empty() => Some(each.log_ratios().sum::<f64>()),
            (_, reference) => Some(c.old - reference?),
        };
        let ratios: Vec<f64> = completions.map(ratio).collect::<Option<_>>()?;
        Some(ratios.iter().sum::<f64>() / ratios.len() as f64)
    }

    /// One draw of all completions of those prompts.
    fn complete(
        &mut self,
        indices: &[usize],
        seed: u64,
        policy: &Learner,
        observer: &dyn Observer,
    ) -> Result<Vec<Drawn>> {
        let tokens: Vec<Vec<u32>> = (indices.iter())
            .map(|&index| self.prompts[index].tokens.clone())
            .collect();
        let (decoder, ends) = (policy.model.decoder(), &self.ends);
        let found = generate(
            decoder,
            ends,
            &tokens,
            &self.sampling,
            seed,
            self.generation_batch,
            observer,
        )?;
        let samples = self.sampling.samples;
        let prompts = &self.prompts;
        let prompt = |i: usize| (indices[i], &prompts[indices[i]]);
        let texts = completions::texts(&self.tokenizer, prompt, samples, &found)?;
        let scores = completions::scores(&mut self.reward, prompt, samples, &texts, observer)?;
        let mut all = texts.into_iter().zip(found).zip(scores);
        let row = |&index: &usize| {
            let (mut completions, mut entropy) = (Vec::with_capacity(samples), 0.0);
            for ((text, one), score) in all.by_ref().take(samples) {
                entropy += one.entropy;
                completions.push(Completion {
                    text,
                    tokens: one.tokens,
                    ended: one.ended,
                    score,
                    old: one.log_prob,
                    ..Completion::default()
                });
            }
            let row = Row {
                index,
                prompt: self.prompts[index].text.clone(),
                completions,
                demonstration: None,
                preferred: Vec::new(),
            };
            Drawn { row, entropy }
        };
        let mut drawn: Vec<Drawn> = indices.iter().map(row).collect();
        if !self.demonstrations.is_empty() {
            let text = |&index: &usize| self.demonstrations[index].text.clone();
            let texts: Vec<String> = indices.iter().map(text).collect();
            let prompt = |i: usize| (indices[i], &prompts[indices[i]]);
            let scores = completions::scores(&mut self.reward, prompt, 1, &texts, observer)?;
            for ((drawn, &index), score) in drawn.iter_mut().zip(indices).zip(scores) {
                let theirs = self.demonstrations[index].clone();
                drawn.row.demonstration = Some(Completion {
                    text: theirs.text,
                    tokens: theirs.tokens,
                    ended: theirs.ended,
                    score,
                    ..Completion::default()
                });
            }
        }
        Ok(drawn)
    }

    /// Labels the pairs of a row. False if it has none to learn from, where one is needed.
    fn prefer(&self, row: &mut Row, labels: &mut Stream) -> bool {
        match self.preference {
            Preference::None => true,
            Preference::Above => !self.feed.kept(row).is_empty(),
            Preference::Labelled(annotator) => {
                let label = |[first, second]: [&Completion; 2]| {
                    let difference = first.score - second.score;
                    let of_first = match annotator {
                        _ if first.tokens == second.tokens => return None,
                        Annotator::Greater if difference == 0.0 => return None,
                        Annotator::Greater => difference > 0.0,
                        Annotator::BradleyTerry => {
                            labels.uniform() < 1.0 / (1.0 + (-difference).exp())
                        }
                        Annotator::Demonstration => true,
                    };
                    Some(u8::from(!of_first))
                };
                let found: Option<Vec<u8>> = row.pairs().into_iter().map(label).collect();
                let all = found.is_some();
                row.preferred = found.unwrap_or_default();
                all
            }
        }
    }

    /// Gives every completion ln π_old and the reference's number; token by token also those of its tokens, and the
    /// values of a critic.
    fn store(&self, rows: &mut [Row], networks: &Networks) -> Result<()> {
        let mut sequences = Vec::new();
        for row in rows.iter() {
            let prompt = &self.prompts[row.index].tokens;
            for c in row.all() {
                sequences.push(Row::sequence(prompt, &c.tokens)?);
            }
        }
        let numbers = |network: &dyn Network| -> Result<Numbers> {
            inference::numbers(network, Reduction::Sum, &sequences, self.micro_batch)
        };
        let own = if self.recompute {
            Some(numbers(&*networks.policy.model)?)
        } else {
            None
        };
        let theirs = match networks.reference {
            Reference::Stored(Some(network)) => Some(numbers(&**network)?),
            Reference::Average(average) if self.tokens => Some(numbers(&average.model)?),
            _ => None,
        };
        let values = match (&self.rewarding.estimator, networks.value) {
            (None, _) => None,
            (Some(_), Some(value)) => Some(numbers(&*value.model)?.pieces),
            (Some(_), None) => own.as_ref().map(|own| own.token_values.clone()),
        };
        let behaviour = matches!(networks.reference, Reference::Stored(None));
        let stored = matches!(networks.reference, Reference::Stored(_));
        for (i, c) in (rows.iter_mut().flat_map(Row::all_mut)).enumerate() {
            if let Some(own) = &own {
                c.old = own.sequences[i];
            }
            c.reference = match &theirs {
                Some(theirs) if stored => Some(theirs.sequences[i]),
                _ => behaviour.then_some(c.old),
            };
            if let (true, Some(own)) = (self.tokens, &own) {
                let old = own.pieces[i].clone();
                c.each = Some(Each {
                    reference: match &theirs {
                        Some(theirs) => theirs.pieces[i].clone(),
                        None if behaviour => old.clone(),
                        None => Vec::new(),
                    },
                    old,
                    value: values.as_ref().map_or(Vec::new(), |v| v[i].clone()),
                });
            }
        }
        Ok(())
    }

    /// What was drawn, in numbers, under TRL's names.
    fn metrics(
        &self,
        rows: &[Row],
        counts: &Counts,
        running: Running,
        kl: Option<f64>,
    ) -> Vec<(String, f64)> {
        let completions = || rows.iter().flat_map(|row| &row.completions);
        let count = completions().count() as f64;
        let mean = |of: &dyn Fn(&Completion) -> f64| completions().map(of).sum::<f64>() / count;
        let alike = |row: &&Row| {
            let [_, deviation] = moments(row.completions.iter().map(|c| c.score));
            deviation == 0.0
        };
        let scores = mean(&|c| c.score);
        let mut all = vec![("objective/scores", scores)];
        let drawn_from_itself = self.sampling.temperature == 1.0;
        if let Some(kl) = kl {
            let penalty = running.kl_coefficient * kl;
            all.push(("objective/kl", kl));
            all.push(("objective/rlhf_reward", scores - penalty));
            if self.rewarding.penalised {
                all.push(("objective/non_score_reward", -penalty));
                all.push(("objective/kl_coef", running.kl_coefficient));
            }
        }
        if drawn_from_itself {
            all.push(("objective/entropy", counts.entropy / count));
        }
        all.push(("completions/mean_length", mean(&|c| c.tokens.len() as f64)));
        if self.tokens {
            let ended = completions().filter(|c| c.ended).count();
            all.push(("val/num_eos_tokens", ended as f64));
        }
        let cut = mean(&|c| f64::from(!c.ended));
        all.push(("completions/clipped_ratio", cut));
        if self.sampling.samples > 1 {
            let share = rows.iter().filter(alike).count() as f64 / rows.len() as f64;
            all.push(("frac_reward_zero_std", share));
        }
        let theirs: Vec<f64> = (rows.iter().flat_map(|row| &row.demonstration))
            .map(|c| c.score)
            .collect();
        if !theirs.is_empty() {
            let [mean, _] = moments(theirs.into_iter());
            all.push(("demonstrations/scores", mean));
        }
        if self.preference != Preference::None {
            all.push(("rollouts/redrawn", counts.redrawn as f64));
            all.push(("rollouts/left_out", counts.left_out as f64));
        }
        let named = |(name, value): (&str, f64)| (name.to_string(), value);
        all.into_iter().map(named).collect()
    }
}
