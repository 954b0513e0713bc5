//! The data of a run: what is trained on, and what is evaluated on.

use std::path::Path;
use std::sync::Arc;

use super::settings::Settings;
use super::split::Rows;
use crate::error::{Error, Result};
use crate::llm::text::data::{Form, Source};
use crate::llm::text::objective::TextObjective;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// The files of a run.
pub(super) struct Sources {
    /// None where the policy writes them itself.
    pub data: Option<Source>,
    evaluation: Option<Source>,
    /// Responses that are rehearsed.
    pub rehearsal: Option<Source>,
}

impl Sources {
    /// Opens them; no row is looked at before the [survey](Self::survey).
    pub fn open(
        settings: &Settings,
        objective: &TextObjective,
        tokenizer: Tokenizer,
        context: usize,
        observer: &dyn Observer,
    ) -> Result<Self> {
        if settings.data.is_none() && settings.prompts.is_none() {
            let remedy = "give a file of examples (docs/data.md says which kinds there are), or prompts and a reward, and \
                          the policy writes them";
            return Err(Error::invalid("data", "it is missing", remedy));
        }
        let tokenizer = Arc::new(tokenizer);
        let open = |file: &Path, form: Form| {
            let (reading, rows) = (settings.reading(), settings.rows());
            let tokenizer = tokenizer.clone();
            Source::read(file, &reading, form, tokenizer, context, rows, observer)
        };
        let own = |file: &Path| open(file, Form::from(objective.registered()));
        Ok(Self {
            data: settings.data.as_deref().map(own).transpose()?,
            evaluation: settings.eval_data.as_deref().map(own).transpose()?,
            rehearsal: (settings.rehearse.as_deref())
                .map(|file| open(file, Form::Demonstration))
                .transpose()?,
        })
    }

    /// Reads every row once, and says what was found.
    pub fn survey(&mut self, observer: &dyn Observer) -> Result<()> {
        if let Some(data) = &mut self.data {
            observer.tell(&data.survey(observer)?.to_string());
        }
        if let Some(evaluation) = &mut self.evaluation {
            let report = evaluation.survey(observer)?;
            observer.tell(&format!("evaluation: {report}"));
        }
        if let Some(rehearsal) = &mut self.rehearsal {
            let report = rehearsal.survey(observer)?;
            observer.tell(&format!("rehearsal: {report}"));
        }
        Ok(())
    }

    /// SHA-256 of the data, and of those of the evaluation if it has its own.
    pub fn hashes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let evaluation = (self.evaluation.as_ref()).map(|of| ("eval_data", of.hash()));
        let data = (self.data.as_ref()).map(|of| ("data", of.hash()));
        let rehearsal = (self.rehearsal.as_ref()).map(|of| ("rehearse", of.hash()));
        data.into_iter().chain(evaluation).chain(rehearsal)
    }

    /// The rows that are trained on, and those that are evaluated on.
    pub fn parts(&self, settings: &Settings) -> Result<(Option<Rows<'_>>, Option<Rows<'_>>)> {
        let data = self.data.as_ref();
        if let Some(evaluation) = &self.evaluation {
            return Ok((data.map(|of| Rows::all(of)), Some(Rows::all(evaluation))));
        }
        let Some(data) = data else {
            return Ok((None, None));
        };
        let share = |share: f64| (share * data.len() as f64).ceil() as usize;
        match settings.eval_rows.or(settings.eval_share.map(share)) {
            None => Ok((Some(Rows::all(data)), None)),
            Some(held) => {
                let [trained, held] = Rows::split(data, held, settings.eval_seed)?;
                Ok((Some(trained), Some(held)))
            }
        }
    }
}
