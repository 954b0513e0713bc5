//! The examples of a run's steps, without its networks.

use super::batches::Batches;
use super::settings::Settings;
use super::sources::Sources;
use crate::error::{Error, Result};
use crate::llm::model::graph::Sizes;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::example::Example;
use crate::observer::Observer;

/// Reads the data of a run on a model of those sizes and gives `each` the examples of every
/// step of an epoch (or of all steps, if they are fewer), in their order. Returns the steps of the
/// whole run.
///
/// # Errors
/// A tokenizer, data or settings that cannot be used: those of a run.
pub fn survey(
    settings: &Settings,
    sizes: Sizes,
    observer: &dyn Observer,
    mut each: impl FnMut(&[Example]),
) -> Result<u64> {
    let objective = settings.objective()?;
    let tokenizer = ModelFolder::find(settings.model_folder()?)?.tokenizer()?;
    tokenizer.fits(sizes.vocabulary)?;
    let context = sizes.context;
    let mut sources = Sources::open(settings, &objective, tokenizer, context, observer)?;
    sources.survey(observer)?;
    let Some(trained) = sources.parts(settings)?.0 else {
        return Err(Error::invalid(
            "data",
            "they are not written yet",
            "give a sequence length",
        ));
    };
    let plan = Batches::new(settings, context, &trained)?;
    let steps = plan.steps().min(plan.per_epoch());
    let work = observer.begin("lengths", steps);
    for done in 0..steps {
        each(&plan.batch(done)?.1);
        work.advance(1);
    }
    Ok(plan.steps())
}
