//! Sequences that run together.

use std::time::Instant;

use rayon::prelude::*;

use super::Generated;
use super::machine::{Machine, Next};
use super::sampling::{Sampler, Sampling};
use crate::error::{Error, Result};
use crate::llm::tensor::ops::float::Float;
use crate::observer::Work;
use crate::random::{Purpose, Stream};

/// Logits beyond so many are looked through by all threads.
const SHARED: usize = 1 << 14;

/// What is to be generated.
pub(super) struct Job<'a> {
    pub ends: &'a [u32],
    pub prompts: &'a [Vec<u32>],
    pub sampling: &'a Sampling,
    pub seed: u64,
    pub batch_size: usize,
    /// Most tokens of a sequence.
    pub context: usize,
}

/// A sequence that is being generated.
struct Live<S> {
    /// Which of the results it is.
    index: usize,
    state: S,
    stream: Stream,
    /// Most tokens it may have.
    room: usize,
    so_far: Generated,
}

/// A prompt that was run, and the logits of the first token after it.
struct Prefilled<S, T> {
    prompt: usize,
    state: S,
    logits: Vec<T>,
}

impl Job<'_> {
    /// All completions, in order.
    pub fn run<M: Machine>(&self, mut machine: M, work: &dyn Work) -> Result<Vec<Generated>> {
        let count = self.prompts.len() * self.sampling.samples;
        let mut results: Vec<Option<Generated>> =
            std::iter::repeat_with(|| None).take(count).collect();
        let mut live: Vec<Live<M::State>> = Vec::new();
        let mut waiting = 0..count;
        let mut last: Option<Prefilled<M::State, M::Number>> = None;
        let mut logits = Vec::new();
        let mut samplers: Vec<Sampler<M::Number>> = Vec::new();
        let (start, mut done, mut tokens) = (Instant::now(), 0, 0);
        while done < count {
            if work.is_unwanted() {
                return Err(Error::Interrupted { work: "generating" });
            }
            let free = self.batch_size - live.len();
            let next: Vec<usize> = waiting.by_ref().take(free).collect();
            let old = live.len();
            if next.is_empty() {
                let mut last = Vec::with_capacity(live.len());
                last.extend(live.iter().map(|l| *l.so_far.tokens.last().unwrap_or(&0)));
                let mut inputs: Vec<Next<M::State>> = (live.iter_mut())
                    .zip(&last)
                    .map(|(live, token)| (&mut live.state, std::slice::from_ref(token)))
                    .collect();
                machine.next(&mut inputs, &mut logits)?;
                tokens += live.len();
                self.choose(&mut live, &logits, &mut samplers)?;
            } else {
                self.admit(&mut machine, &next, &mut live, &mut last, &mut logits)?;
                tokens += next.len();
                self.choose(&mut live[old..], &logits, &mut samplers)?;
            }
            let before = done;
            live.retain_mut(|live| {
                let over = live.so_far.ended || live.so_far.tokens.len() == live.room;
                if over {
                    let generated = std::mem::take(&mut live.so_far);
                    results[live.index] = Some(self.finished(live.index, generated));
                    done += 1;
                }
                !over
            });
            let rate = tokens as f64 / start.elapsed().as_secs_f64();
            work.note(format_args!("generating, {rate:.0} tokens/s"));
            work.advance((done - before) as u64);
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Begins sequences: their prompts are run end to end, each once. `logits` then has their rows.
    fn admit<M: Machine>(
        &self,
        machine: &mut M,
        next: &[usize],
        live: &mut Vec<Live<M::State>>,
        last: &mut Option<Prefilled<M::State, M::Number>>,
        logits: &mut Vec<M::Number>,
    ) -> Result<()> {
        let samples = self.sampling.samples;
        let known = last.as_ref().map(|l| l.prompt);
        let mut fresh: Vec<usize> = next.iter().map(|index| index / samples).collect();
        fresh.dedup();
        fresh.retain(|&prompt| Some(prompt) != known);
        let mut states: Vec<M::State> = fresh.iter().map(|_| machine.start()).collect();
        let mut first = Vec::new();
        if !fresh.is_empty() {
            let mut inputs: Vec<Next<M::State>> = (states.iter_mut().zip(&fresh))
                .map(|(state, &prompt)| (state, &self.prompts[prompt][..]))
                .collect();
            machine.next(&mut inputs, &mut first)?;
        }
        let width = first.len() / fresh.len().max(1);
        let rows = first.chunks(width.max(1)).map(<[_]>::to_vec);
        let mut run: Vec<Prefilled<M::State, M::Number>> = last.take().into_iter().collect();
        run.extend(
            (fresh.iter().zip(states).zip(rows)).map(|((&prompt, state), logits)| Prefilled {
                prompt,
                state,
                logits,
            }),
        );
        logits.clear();
        for &index in next {
            let (prompt, sample) = (index / samples, index % samples);
            let Some(from) = run.iter().find(|r| r.prompt == prompt) else {
                unreachable!("the prompt of every sequence was run");
            };
            logits.extend_from_slice(&from.logits);
            let tokens = self.prompts[prompt].len();
            live.push(Live {
                index,
                state: from.state.clone(),
                stream: self.stream(prompt, sample),
                room: (self.context - tokens).min(self.sampling.max_new_tokens),
                so_far: Generated::default(),
            });
        }
        // Samples of the last prompt may still be waiting.
        let more = next.last().is_some_and(|last| (last + 1) % samples > 0);
        *last = run.pop().filter(|_| more);
        Ok(())
    }

    /// Draws a token for each sequence.
    fn choose<S: Send, T: Float>(
        &self,
        live: &mut [Live<S>],
        logits: &[T],
        samplers: &mut Vec<Sampler<T>>,
    ) -> Result<()> {
        let threads = if logits.len() > SHARED {
            rayon::current_num_threads().min(live.len())
        } else {
            1
        };
        let size = live.len().div_ceil(threads.max(1)).max(1);
        let vocabulary = logits.len() / live.len().max(1);
        samplers.resize_with(threads.max(samplers.len()), Sampler::default);
        let some = |live: &mut [Live<S>], logits: &[T], sampler: &mut Sampler<T>| {
            for (live, logits) in live.iter_mut().zip(logits.chunks_exact(vocabulary)) {
                self.extend(live, logits, sampler)?;
            }
            Ok(())
        };
        match threads {
            1 => some(live, logits, &mut samplers[0]),
            _ => (live.par_chunks_mut(size))
                .zip(logits.par_chunks(size * vocabulary))
                .zip(samplers)
                .try_for_each(|((live, logits), sampler)| some(live, logits, sampler)),
        }
    }

    fn extend<S, T: Float>(
        &self,
        live: &mut Live<S>,
        logits: &[T],
        sampler: &mut Sampler<T>,
    ) -> Result<()> {
        let so_far = &mut live.so_far;
        let forbidden = if so_far.tokens.len() < self.sampling.min_new_tokens {
            self.ends
        } else {
            &[]
        };
        let choice = sampler.choose(logits, self.sampling, forbidden, &mut live.stream)?;
        so_far.tokens.push(choice.token);
        so_far.log_prob += choice.log_prob;
        so_far.entropy += choice.entropy;
        so_far.ended = self.ends.contains(&choice.token);
        Ok(())
    }

    fn finished(&self, index: usize, mut generated: Generated) -> Generated {
        let prompt = self.prompts[index / self.sampling.samples].len();
        let tokens = generated.tokens.len();
        let full = prompt + tokens == self.context && tokens < self.sampling.max_new_tokens;
        generated.context_full = full && !generated.ended;
        generated
    }

    fn stream(&self, prompt: usize, sample: usize) -> Stream {
        let index = (prompt as u64) << 32 | sample as u64;
        Stream::new(self.seed, Purpose::Generation, index)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::machine::{Cached, Plain};
    use super::*;
    use crate::llm::language::Language;
    use crate::llm::model::decoder::Decoder;
    use crate::observer::Silent;

    #[test]
    fn caches_change_nothing() {
        let language = Language::with_prompts(7, 4, 3).unwrap();
        let architecture = language.architecture(16, 2);
        let model = Decoder::random(architecture, 0.4, 5, DType::F64, &Device::Cpu).unwrap();
        let sampling = Sampling {
            temperature: 0.9,
            top_p: 0.95,
            max_new_tokens: 4,
            samples: 5,
            ..Sampling::default()
        };
        for batch_size in [1, 4, 100] {
            let job = Job {
                ends: &[language.boundary()],
                prompts: language.prompts(),
                sampling: &sampling,
                seed: 2,
                batch_size,
                context: model.sizes().context,
            };
            let cached = Cached::<f64>::new(&model, 100).unwrap();
            let cached = job.run(cached, &Silent).unwrap();
            let plain = job.run(Plain(&model), &Silent).unwrap();
            assert_eq!(cached.len(), 15);
            for (a, b) in cached.iter().zip(&plain) {
                assert_eq!((&a.tokens, a.ended), (&b.tokens, b.ended));
                assert!((a.log_prob - b.log_prob).abs() < 1e-12);
                assert!((a.entropy - b.entropy).abs() < 1e-12);
            }
        }
    }
}
