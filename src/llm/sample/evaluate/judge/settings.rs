//! Judges as flags name them.

use std::path::PathBuf;

use serde::Serialize;

use super::{ByScore, Causal, Judge, LABELS, Program, Template, labels};
use crate::error::{Error, Result};
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::sample::evaluate::load::Loaded;
use crate::llm::sample::reward::{Command, ModelSettings, Resources, Rule, Scores};

/// A judge, and what a causal model is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeSettings {
    /// A command, or a model.
    #[serde(flatten)]
    rule: Rule,
    /// File of the template; without one it is [`TEMPLATE`](super::TEMPLATE).
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<PathBuf>,
    /// The labels; without them, [`LABELS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<[String; 2]>,
}

impl JudgeSettings {
    /// Reads flags: `command:LINE` or `model:DIR`, with fields before the colon as rewards have them,
    /// a template's file, and two labels with a comma between.
    ///
    /// # Errors
    /// A kind or field that is not known, a value that does not suit, a template or labels for a
    /// program.
    pub fn parse(judge: &str, template: Option<PathBuf>, of: Option<&str>) -> Result<Self> {
        let settings = Self {
            rule: Rule::of_judge(judge)?,
            template,
            labels: of.map(labels).transpose()?,
        };
        if matches!(settings.rule, Rule::Command(_)) {
            settings.has_no_text("a program is given the texts themselves")?;
        }
        Ok(settings)
    }

    /// Makes the judge ready: reads template and model, and looks whether they fit.
    ///
    /// # Errors
    /// A file or folder that cannot be read, a template without a placeholder, labels that the model
    /// does not tell apart, fields that mean nothing to it.
    pub fn build(&self, resources: &Resources) -> Result<Box<dyn Judge>> {
        Ok(match &self.rule {
            Rule::Command(settings) => {
                Box::new(Program(Command::new(settings, resources.timeout)?))
            }
            Rule::Model(settings) => {
                let template = match &self.template {
                    Some(path) => Template::read(path)?,
                    None => Template::default(),
                };
                let found = settings.find()?;
                if found.is_reward()? {
                    self.has_no_text("a reward model scores prompt and completion alone")?;
                    Box::new(ByScore::new(Scores::load(settings, resources)?))
                } else {
                    Box::new(self.causal(settings, found, template, resources)?)
                }
            }
            other => {
                let problem = format!("`{}` is no kind of judge", other.kind());
                return Err(Error::invalid(
                    "judge",
                    problem,
                    "name a command or a model",
                ));
            }
        })
    }

    fn causal(
        &self,
        settings: &ModelSettings,
        found: ModelFolder,
        template: Template,
        resources: &Resources,
    ) -> Result<Causal> {
        if settings.max_length.or(settings.max_prompt_length).is_some() {
            let place = settings.folder.display().to_string();
            let problem = "it is a language model, whose text is not cut";
            let remedy = "leave out max_length and max_prompt_length, or name a reward model";
            return Err(Error::invalid(place, problem, remedy));
        }
        let loaded = Loaded::new(found, resources.dtype, &resources.device)?;
        let labels = self.labels.clone();
        let labels = labels.unwrap_or_else(|| LABELS.map(String::from));
        Causal::new(loaded, template, labels, resources.batch_tokens)
    }

    /// Refuses template and labels where nothing is shown them.
    fn has_no_text(&self, why: &str) -> Result<()> {
        let flag = match (&self.template, &self.labels) {
            (None, None) => return Ok(()),
            (Some(_), _) => "--judge-template",
            (None, Some(_)) => "--judge-labels",
        };
        Err(Error::invalid(flag, why, "leave it out"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_judge_is_named() {
        for (judge, labels, expected) in [
            ("exact:answer", None, "`exact` is no kind of judge"),
            ("oracle:x", None, "use one of command:COMMAND, model:FOLDER"),
            ("", None, "it names no kind"),
            ("judge.toml", None, "`judge.toml` is no kind of judge"),
            ("model", None, "missing field `folder`"),
            ("command,weight=2:cat", None, "a name or a weight"),
            ("command,timeuot=2:cat", None, "unknown field `timeuot`"),
            ("command:cat", Some("A,B"), "--judge-labels: a program"),
            ("model:x", Some("A"), "not two labels"),
        ] {
            let error = JudgeSettings::parse(judge, None, labels).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{judge}: {error}");
        }
        let template = Some("judge.txt".into());
        let error = JudgeSettings::parse("command:cat", template, Some("A,B")).unwrap_err();
        assert!(error.to_string().contains("--judge-template"), "{error}");
    }
}
