//! Setup of a memory estimate: from the settings of a run to what its memory depends on.

use super::batch::{Piece, Response, StepShape, heaviest};
use super::drawn::{evaluated, learned, of_lengths};
use super::machine::Machine;
use super::network::Role;
use super::run::{Outcome, Reference, Run};
use crate::error::{Error, Result};
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::example::Example;
use crate::llm::text::objective::TextObjective;
use crate::llm::train::step::beyond_one_run;
use crate::llm::train::{
    Feed, Of, ReferenceSource, Settings, ValueNetwork, ValuePer, adapter, new_adapter, survey,
};
use crate::loss::{Column, InputKind};
use crate::observer::Observer;

/// Lengths where there are no data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lengths {
    /// Tokens of every response, prompt and completion together.
    pub sequence: Option<usize>,
    /// Tokens of every prompt. Without, whatever takes most: one token for a policy, whose
    /// completions are then longest, all for a value network.
    pub prompt: Option<usize>,
    /// Responses of an example, where their number is free.
    pub responses: Option<usize>,
}

/// A run and its steps.
#[derive(Debug, Clone)]
pub struct Budget {
    /// The run.
    pub run: Run,
    /// Its steps, or one that is like all of them.
    pub steps: Vec<StepShape>,
    /// What is rehearsed in them.
    pub beside: Vec<StepShape>,
    /// True if their lengths are those of data.
    pub of_data: bool,
    /// True if they were given by `sequence`.
    pub sequence: bool,
    /// True to round products of f32 matrices to TF32; products of other precisions cannot be.
    pub tf32: bool,
}

impl Budget {
    /// The setup of a run of those [resolved](Settings::resolve) settings. Of the model's folder nothing is read but
    /// `config.json`; if data are given, and no `sequence`, the tokenizer and the data too.
    ///
    /// # Errors
    /// Settings that a run would refuse; a folder without `config.json`; lengths beyond the model's
    /// context.
    pub fn new(
        settings: &Settings,
        machine: Machine,
        lengths: Lengths,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let objective = settings.objective()?;
        let found = ModelFolder::find(settings.model_folder()?)?;
        let config = found.config()?;
        let context = config.sizes().context;
        let role = match (objective.scores(), objective.value(), settings.value) {
            (true, _, _) if objective.expects() => Role::Advantage,
            (true, _, _) => Role::Score,
            (_, true, ValueNetwork::Shared) => Role::PolicyWithValue(settings.value_per.rows()),
            _ => Role::Policy,
        };
        let reference = match (&settings.reference, objective.reference()) {
            (_, false) => Reference::None,
            // The model whose numbers are stored stays.
            (ReferenceSource::Precomputed, true) if settings.prompts.is_some() => {
                Reference::OfPhases
            }
            (ReferenceSource::Precomputed | ReferenceSource::Behaviour, true) => Reference::Numbers,
            (ReferenceSource::Live | ReferenceSource::Ema(_), true) => Reference::Live,
            (ReferenceSource::Model(dir), true) => {
                let other = ModelFolder::find(dir)?;
                Reference::NumbersOf(Box::new(other.config()?), other.adapter_config()?)
            }
        };
        let mut run = Run {
            role,
            value: (objective.value() && settings.value == ValueNetwork::Separate)
                .then(|| settings.value_per.rows()),
            reference,
            precision: settings.dtype,
            adapter: match settings.members {
                1 => adapter(settings, &found)?,
                _ => new_adapter(settings),
            },
            members: settings.members,
            goes_on: found.adapter().is_some(),
            recompute: settings.recompute,
            in_backward: settings.optimizer_in_backward,
            micro_batch: settings.micro_batch_tokens,
            one_step: settings.steps == Some(1),
            draws: Vec::new(),
            evaluates_kl: settings.evaluates_kl(&objective),
            machine,
            config,
        };
        let given = lengths.sequence.is_some();
        let lengths = match (&settings.prompts, given) {
            (Some(prompts), false) => {
                let (longest, draw) = learned(settings, prompts, &found, context, observer)?;
                run.draws.push(draw);
                longest
            }
            _ => lengths,
        };
        if !given && let Some(prompts) = &settings.eval_prompts {
            (run.draws).push(evaluated(settings, prompts, &found, context, observer)?);
        }
        let coupled = settings.value_per == ValuePer::Batch;
        let of_data = settings.data.is_some() && !given;
        let (mut steps, mut beside) = (Vec::new(), Vec::new());
        let of_run = of_data || settings.prompts.is_some() && !given;
        if of_data || settings.rehearses() && of_run {
            let visit = |of: Of, examples: &[Example]| match of {
                Of::Data => steps.push(StepShape::of(examples).coupled(coupled)),
                Of::Rehearsal => beside.push(StepShape::of(examples)),
            };
            let count = survey(settings, run.config.sizes(), observer, visit)?;
            run.one_step = count.map_or(run.one_step, |count| count == 1);
        }
        if !of_data {
            let step = uniform(settings, &objective, &run, context, lengths)?;
            if settings.rehearses() && !of_run {
                let like = step.examples.first().and_then(|e| e.first());
                let rows = settings.rehearse_batch;
                beside.extend(
                    like.map(|like| StepShape::uniform(rows, 1, [like.tokens, like.prompt])),
                );
            }
            steps.push(step.coupled(coupled));
        }
        if let (true, Some(samples)) = (given, settings.completions) {
            run.draws.extend(of_lengths(settings, samples, &steps));
        }
        let budget = Self {
            run,
            steps,
            beside,
            of_data,
            sequence: lengths.sequence.is_some(),
            tf32: settings.tf32,
        };
        let (parts, _) = budget.parts(budget.run.micro_batch);
        if budget.run.in_backward && parts > 1 {
            Err(beyond_one_run(
                "the largest step",
                budget.tokens()[0],
                parts,
            ))
        } else {
            Ok(budget)
        }
    }

    /// Memory that it takes: the most of all steps.
    ///
    /// # Errors
    /// A target of the adapter that names no linear layer.
    pub fn outcome(&self) -> Result<Outcome> {
        self.with(&self.run)
    }

    /// The same of another run on the same data.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub fn with(&self, run: &Run) -> Result<Outcome> {
        let mut most: Option<Outcome> = None;
        let mut beside = heaviest(&self.beside, run.micro_batch, false);
        if beside.is_empty() {
            beside.push(Vec::new());
        }
        for parts in heaviest(&self.steps, run.micro_batch, run.reads_prompts()) {
            for beside in &beside {
                let outcome = run.take(&parts, beside)?;
                if most
                    .as_ref()
                    .is_none_or(|most| outcome.bytes() > most.bytes())
                {
                    most = Some(outcome);
                }
            }
        }
        most.ok_or_else(|| Error::invalid("data", "they have no step", "give one example or more"))
    }

    /// Tokens of the largest step, and of the largest example.
    pub fn tokens(&self) -> [usize; 2] {
        let of = |responses: &Vec<Response>| responses.iter().map(|r| r.tokens).sum::<usize>();
        let step = |step: &StepShape| step.examples.iter().map(of).sum();
        let example = |step: &StepShape| step.examples.iter().map(of).max();
        [
            self.steps.iter().map(step).max().unwrap_or(0),
            self.steps.iter().filter_map(example).max().unwrap_or(0),
        ]
    }

    /// Parts of the largest step, and the largest of them; of coupled examples, the pieces that the one part is run
    /// in.
    pub fn parts(&self, micro_batch: usize) -> (usize, Piece) {
        let cut = self.steps.iter().map(|step| {
            let parts = step.parts(micro_batch);
            if step.coupled {
                parts
                    .iter()
                    .flat_map(|part| part.cut(micro_batch))
                    .collect()
            } else {
                parts
            }
        });
        let most = cut.max_by_key(|parts| parts.iter().map(Piece::tokens).sum::<usize>());
        let parts = most.unwrap_or_default();
        let count = parts.len();
        let largest = parts.into_iter().max_by_key(Piece::tokens);
        (count, largest.unwrap_or_default())
    }
}

/// A step of examples that are all alike.
fn uniform(
    settings: &Settings,
    objective: &TextObjective,
    run: &Run,
    context: usize,
    lengths: Lengths,
) -> Result<StepShape> {
    let fail =
        |place: &str, problem: String, remedy: String| Err(Error::invalid(place, problem, remedy));
    let (place, tokens) = match (lengths.sequence, settings.max_length) {
        (Some(tokens), _) => ("sequence", tokens),
        (None, Some(tokens)) => ("max_length", tokens.min(context)),
        (None, None) => ("max_length", context),
    };
    if tokens > context {
        let remedy = format!("the model takes at most {context} tokens");
        return fail(place, format!("it is {tokens}"), remedy);
    }
    if tokens < 2 {
        let remedy = "a response has a token of the prompt and one of the completion at least";
        return fail(place, format!("it is {tokens}"), remedy.into());
    }
    let most = if run.reads_prompts() { tokens - 1 } else { 1 };
    let prompt = lengths.prompt.unwrap_or(most);
    if prompt == 0 || prompt >= tokens {
        let remedy = format!("give 1 or more, below the sequence's {tokens} tokens");
        return fail("prompt", format!("it is {prompt}"), remedy);
    }
    let responses = match (objective.kind(), lengths.responses) {
        // A pair and its proposals, of which one is the fewest.
        (InputKind::LabelledPairs, None) if objective.reads(Column::Proposals) => 3,
        (InputKind::LabelledPairs, Some(count)) if objective.reads(Column::Proposals) => {
            if count < 3 {
                let remedy = "an example has a pair and one proposal or more".into();
                return fail("responses", format!("it is {count}"), remedy);
            }
            count
        }
        (InputKind::LabelledPairs, None | Some(2)) => 2,
        (InputKind::Singles | InputKind::Rated, None | Some(1)) => 1,
        (InputKind::LabelledPairs | InputKind::Singles | InputKind::Rated, Some(count)) => {
            let has = match objective.kind() {
                InputKind::LabelledPairs => "two",
                _ => "one",
            };
            let remedy = format!("an example of {} has {has}: leave it out", objective.name());
            return fail("responses", format!("it is {count}"), remedy);
        }
        (_, Some(count)) if count < 2 => {
            let remedy = "an example has two or more".into();
            return fail("responses", format!("it is {count}"), remedy);
        }
        (_, count) => count.unwrap_or(2),
    };
    let prompts = settings.rows_of_a_step();
    // Completions of a prompt make one example, or several.
    let (examples, responses) = match settings.completions {
        Some(count) => {
            let of = Feed::new(settings, objective).shape(count, settings.demonstrations);
            (prompts.saturating_mul(of[0]), of[1])
        }
        None => (prompts, responses),
    };
    if examples.saturating_mul(responses) > MOST {
        let remedy = format!("a step of at most {MOST} responses can be planned");
        return fail("batch", format!("a step has {examples} examples"), remedy);
    }
    let all = examples.saturating_mul(responses).saturating_mul(tokens);
    if all > MOST_TOKENS {
        let remedy = format!("a step of at most {MOST_TOKENS} tokens can be planned");
        return fail("batch", format!("a step has {all} tokens"), remedy);
    }
    Ok(StepShape::uniform(examples, responses, [tokens, prompt]))
}

/// Most responses of a step without data.
const MOST: usize = 1 << 22;

/// Most tokens of it: times the widths of an [`Architecture`](crate::llm::model::architecture::most) they
/// are numbers of 64 bits.
const MOST_TOKENS: usize = 1 << 34;
