//! What a run writes itself: how many completions at once, and how long they can be.

use std::path::Path;

use super::batch::StepShape;
use super::setup::Lengths;
use crate::error::Result;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::sample::generate::{Draw, Prompt};
use crate::llm::train::{Phases, Settings, demonstrations};
use crate::observer::Observer;

/// The completions of prompts that a run learns from: their lengths, and how they are drawn.
///
/// # Errors
/// Prompts that a run would refuse, or phases that do not suit the number of steps.
pub fn learned(
    settings: &Settings,
    prompts: &Path,
    model: &ModelFolder,
    context: usize,
    observer: &dyn Observer,
) -> Result<(Lengths, Draw)> {
    let tokenizer = model.tokenizer()?;
    let (prompts, _) = Prompt::read(prompts, &settings.reading(), &tokenizer, context, observer)?;
    let samples = settings.completions.unwrap_or(1);
    let in_phase = Phases::of_run(settings, prompts.len())?.pass(0) as usize;
    let in_phase = in_phase.saturating_mul(settings.rows_of_a_step());
    let draw = draw(
        settings,
        &prompts,
        in_phase,
        [samples, settings.max_new_tokens],
        context,
    );
    let theirs = if settings.demonstrations {
        let theirs = demonstrations(settings, &prompts, &tokenizer, context, observer)?;
        let whole = prompts.iter().zip(&theirs);
        let whole = whole.map(|(p, d)| p.tokens.len() + d.tokens.len());
        whole.max().unwrap_or(0)
    } else {
        0
    };
    let lengths = Lengths {
        sequence: Some(draw.longest.max(theirs).min(context)),
        prompt: Some(draw.prompt),
        responses: None,
    };
    Ok((lengths, draw))
}

/// The completions that are written at evaluations.
///
/// # Errors
/// Prompts that a run would refuse.
pub fn evaluated(
    settings: &Settings,
    prompts: &Path,
    model: &ModelFolder,
    context: usize,
    observer: &dyn Observer,
) -> Result<Draw> {
    let (tokenizer, reading) = (model.tokenizer()?, settings.reading());
    let (prompts, _) = Prompt::read(prompts, &reading, &tokenizer, context, observer)?;
    let form = [settings.eval_samples, settings.eval_max_new_tokens];
    Ok(draw(settings, &prompts, prompts.len(), form, context))
}

/// Completions that a run learns from, where no prompt is there and lengths are given; none if the steps have none.
pub fn of_lengths(settings: &Settings, samples: usize, steps: &[StepShape]) -> Option<Draw> {
    let responses = steps.iter().flat_map(|step| step.examples.iter().flatten());
    let longest = responses.max_by_key(|r| r.tokens)?;
    // Without the number of steps, a phase may be long.
    let known = settings.phases.is_none() || settings.steps.is_some();
    let passes = if known {
        Phases::of_run(settings, 1).map_or(u64::MAX, |phases| phases.pass(0))
    } else {
        u64::MAX
    };
    let all = (passes as usize).saturating_mul(settings.rows_of_a_step().saturating_mul(samples));
    Some(Draw {
        sequences: settings.generation_batch.min(all),
        samples,
        prompt: longest.prompt,
        longest: longest.tokens,
    })
}

/// So many completions of each prompt of a draw of `count`, of so many tokens at most.
fn draw(
    settings: &Settings,
    prompts: &[Prompt],
    count: usize,
    [samples, new]: [usize; 2],
    context: usize,
) -> Draw {
    let longest = prompts.iter().map(|p| p.tokens.len()).max().unwrap_or(1);
    Draw {
        sequences: (settings.generation_batch).min(count.saturating_mul(samples)),
        samples,
        prompt: longest,
        longest: longest.saturating_add(new).min(context),
    }
}
