//! The examples of a run's steps, without its networks.

use super::batches::Batches;
use super::settings::Settings;
use super::share::Share;
use super::sources::Sources;
use super::split::Rows;
use crate::error::Result;
use crate::llm::model::graph::Sizes;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::example::Example;
use crate::observer::Observer;

/// What examples of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Those of the data.
    Data,
    /// Those that are rehearsed.
    Rehearsal,
}

/// Reads the data of a run on a model of those sizes and gives `each` the examples of every
/// step of an epoch (or of all steps, if they are fewer), in their order; then what is rehearsed, a pass over it.
/// Returns the steps of the whole run; none where the policy writes its data itself.
///
/// # Errors
/// A tokenizer, data or settings that cannot be used: those of a run.
pub fn survey(
    settings: &Settings,
    sizes: Sizes,
    observer: &dyn Observer,
    mut each: impl FnMut(Of, &[Example]),
) -> Result<Option<u64>> {
    let objective = settings.objective()?;
    let tokenizer = ModelFolder::find(settings.model_folder()?)?.tokenizer()?;
    tokenizer.fits(sizes.vocabulary)?;
    let context = sizes.context;
    let mut sources = Sources::open(settings, &objective, tokenizer, context, observer)?;
    sources.survey(observer)?;
    let mut visit = |of: Of, plan: &Batches, steps: u64| -> Result<()> {
        let work = observer.begin("lengths", steps);
        for done in 0..steps {
            each(of, &plan.batch(done)?.1);
            work.advance(1);
        }
        Ok(())
    };
    let mut steps = None;
    if let Some(trained) = sources.parts(settings)?.0 {
        let plan = Batches::new(settings, context, &trained)?;
        visit(Of::Data, &plan, plan.steps().min(plan.per_epoch()))?;
        steps = Some(plan.steps());
    }
    if let Some(rehearsal) = sources.rehearsal.as_ref().filter(|_| settings.rehearses()) {
        let rows = Rows::all(rehearsal);
        let plan = Share::rehearsal(settings, context, &rows)?.plan;
        visit(Of::Rehearsal, &plan, plan.per_epoch())?;
    }
    Ok(steps)
}
