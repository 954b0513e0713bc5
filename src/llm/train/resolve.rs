//! Settings that suit their objective.

use std::path::Path;

use super::enums::{Merge, Precision, ReferenceSource, ValueNetwork, ValuePer};
use super::evaluation::{self, EVAL};
use super::generation;
use super::networks::another;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::objective::TextObjective;
use crate::llm::train::schedule::Schedule;
use crate::loss::{InputKind, Objective, Value};

impl Settings {
    /// The folder of the model to start from.
    ///
    /// # Errors
    /// None was given.
    pub fn model_folder(&self) -> Result<&Path> {
        self.model.as_deref().ok_or_else(|| {
            let remedy = "give the folder of the model to start from";
            Error::invalid("model", "it is missing", remedy)
        })
    }

    /// The objective with its numbers.
    ///
    /// # Errors
    /// None, one that cannot be trained on text, or numbers that do not suit it.
    pub fn objective(&self) -> Result<TextObjective> {
        let Some(name) = &self.objective else {
            let known: Vec<_> = TextObjective::names().collect();
            let remedy = format!("name one of {}", known.join(", "));
            return Err(Error::invalid("objective", "it is missing", remedy));
        };
        let (numbers, reduction) = (&self.numbers, self.token_reduction);
        if self.prompts.is_some() {
            TextObjective::of_own_responses(name, numbers, reduction)
        } else {
            TextObjective::new(name, numbers, reduction)
        }
    }

    /// The settings with the defaults that depend on the objective filled in, so that `config.toml` says them.
    ///
    /// # Errors
    /// Those of [`objective`](Self::objective), or a number that is out of range or has no use.
    pub fn resolve(mut self) -> Result<Self> {
        let objective = self.objective()?;
        self.objective = Some(objective.name().into());
        self.numbers = objective.numbers().clone();
        self.limits()?;
        self.find_models()?;
        // Numbers computed before are of whole responses.
        let tokens = objective.kind() == InputKind::Tokens
            && objective.reference()
            && self.prompts.is_none();
        if tokens && self.reference == ReferenceSource::Precomputed {
            self.reference = ReferenceSource::Live;
        }
        if objective.has_critic() {
            if self.value_per == ValuePer::Batch {
                let remedy = "a critic has a value of every token: leave it out";
                return Err(Error::invalid("value_per", "it is batch", remedy));
            }
            self.value_per = ValuePer::Token;
        }
        let lr = if objective.reference() { 1e-6 } else { 2e-5 };
        self.lr.get_or_insert(lr);
        if !objective.scores() {
            self.token_reduction
                .get_or_insert(objective.token_reduction());
        }
        if objective.value() && self.value == ValueNetwork::Separate {
            self.value_lr = self.value_lr.or(self.lr);
        }
        if self.lora_rank > 0 {
            self.lora_alpha.get_or_insert(2.0 * self.lora_rank as f64);
        }
        if self.evaluates() {
            self.eval_every.get_or_insert(500);
        }
        self.resolve_rollouts(&objective);
        self.check_rollouts(&objective)?;
        self.check_optimizer()?;
        self.check(&objective)?;
        self.check_evaluation(&objective)?;
        Ok(self)
    }

    /// Names models by the folders that hold them, so that `config.toml` says which they were, and
    /// takes rank and α of an adapter that is to be trained further. What is not found is left to
    /// who reads it.
    fn find_models(&mut self) -> Result<()> {
        if let ReferenceSource::Model(dir) = &mut self.reference
            && let Ok(found) = ModelFolder::find(&dir)
        {
            *dir = found.name();
        }
        let Some(Ok(found)) = self.model.as_ref().map(ModelFolder::find) else {
            return Ok(());
        };
        self.model = Some(found.name());
        let Some(config) = found.adapter_config()? else {
            return Ok(());
        };
        let rank = config.rank;
        if self.lora_rank != 0 && self.lora_rank != rank {
            let given = self.lora_rank.to_string();
            return Err(another(
                &found,
                "lora_rank",
                &given,
                &format!("rank {rank}"),
            ));
        }
        if let Some(alpha) = self.lora_alpha.filter(|alpha| *alpha != config.alpha) {
            let has = format!("{}", config.alpha);
            return Err(another(&found, "lora_alpha", &alpha.to_string(), &has));
        }
        if self.members > 1 {
            let given = self.members.to_string();
            return Err(another(&found, "members", &given, "no others beside it"));
        }
        self.lora_rank = rank;
        self.lora_alpha = Some(config.alpha);
        Ok(())
    }

    /// True if something is to be evaluated.
    pub fn evaluates(&self) -> bool {
        let split =
            self.eval_data.is_some() || self.eval_rows.is_some() || self.eval_share.is_some();
        split || self.eval_prompts.is_some()
    }

    fn check(&self, objective: &TextObjective) -> Result<()> {
        Schedule::new(self.schedule, self.warmup, 1)?;
        let (alone, another) = (
            self.value == ValueNetwork::Shared,
            matches!(self.reference, ReferenceSource::Model(_)),
        );
        let on_text = |o: &Objective| o.spec().bandits_only.is_none();
        let valued = |o: &Objective| matches!(o.spec().value, Some(Value::Own | Value::Tokens));
        let has_value = Objective::known()
            .into_iter()
            .filter(on_text)
            .filter(valued);
        let names: Vec<&str> = has_value.map(Objective::name).collect();
        let names = names.join(" and ");
        let only_value = &format!("only {names} has a value network");
        useless("value", alone && !objective.value(), only_value)?;
        let other = self.value_per != ValuePer::Prompt;
        useless("value_per", other && !objective.value(), only_value)?;
        let responses = [self.batch, self.accumulation, self.completions.unwrap_or(1)];
        if self.value_per == ValuePer::Batch && responses == [1; 3] {
            return Err(Error::invalid(
                "value_per",
                "it is batch, and a step has one response, whose mean is its own value",
                "give a batch of 2 or more, or leave value_per out",
            ));
        }
        let separate = objective.value() && !alone;
        let only_separate = &format!("only {names} with a separate value network has one");
        useless(
            "value_lr",
            self.value_lr.is_some() && !separate,
            only_separate,
        )?;
        let no_reference = "the objective looks at no reference; leave it out";
        useless("reference", another && !objective.reference(), no_reference)?;
        let full = self.lora_rank == 0;
        let only_lora = "give a lora_rank too, or leave it out";
        useless("lora_alpha", full && self.lora_alpha.is_some(), only_lora)?;
        useless(
            "lora_targets",
            full && !self.lora_targets.is_empty(),
            only_lora,
        )?;
        self.check_members(objective)?;
        self.check_rehearsal(objective)?;
        self.check_machine()
    }

    /// What rehearsal does not go with.
    fn check_rehearsal(&self, objective: &TextObjective) -> Result<()> {
        let own = Self::default();
        let none = self.rehearse.is_none();
        let remedy = "give rehearse too, or leave it out";
        let weighs = self.rehearse_weight != own.rehearse_weight;
        useless("rehearse_weight", none && weighs, remedy)?;
        let sized = self.rehearse_batch != own.rehearse_batch;
        useless("rehearse_batch", none && sized, remedy)?;
        if none {
            return Ok(());
        }
        let fail = |problem: &str, remedy| Err(Error::invalid("rehearse", problem, remedy));
        if objective.scores() {
            let problem = "the objective trains scores, and likelihoods are a policy's";
            return fail(problem, "leave it out");
        }
        if self.optimizer_in_backward {
            let problem = "optimizer_in_backward takes one gradient a step";
            return fail(problem, "leave one of them out");
        }
        if self.prompts.is_some() && objective.tempered() && self.temperature != 1.0 {
            let problem = "the temperature is not 1, at which likelihoods are taken";
            return fail(problem, "give temperature 1, or leave it out");
        }
        Ok(())
    }

    /// What an ensemble of adapters does not go with.
    fn check_members(&self, objective: &TextObjective) -> Result<()> {
        let merges = self.merge != Merge::Mean;
        let remedy = "give members above 1 too, or leave it out";
        useless("merge", merges && self.members == 1, remedy)?;
        if self.members == 1 {
            return Ok(());
        }
        let problem = format!("it is {}", self.members);
        let remedy = if self.lora_rank == 0 {
            "members are adapters: give a lora_rank too, or leave it out"
        } else if objective.scores() || objective.value() {
            "members are policies' adapters, and the objective trains another head: leave it out"
        } else if self.optimizer_in_backward {
            "leave out optimizer_in_backward, which changes one network"
        } else {
            return Ok(());
        };
        Err(Error::invalid("members", problem, remedy))
    }

    fn check_machine(&self) -> Result<()> {
        if self.tf32 && (self.dtype != Precision::F32 || self.device == "cpu") {
            let (dtype, device) = (self.dtype.dtype().as_str(), &self.device);
            return Err(Error::invalid(
                "tf32",
                format!("dtype is {dtype} and device {device}, and nothing has a use for it"),
                "it is for products of f32 matrices on a GPU: leave it out, or give dtype f32 and \
                 device cuda",
            ));
        }
        if self.optimizer_in_backward && self.clip > 0.0 {
            return Err(Error::invalid(
                "optimizer_in_backward",
                format!(
                    "clip is {}, and gradients are used before their norm is known",
                    self.clip
                ),
                "give clip 0, or leave out optimizer_in_backward",
            ));
        }
        Ok(())
    }

    fn check_evaluation(&self, objective: &TextObjective) -> Result<()> {
        let splits = [
            ("eval_data", self.eval_data.is_some()),
            ("eval_rows", self.eval_rows.is_some()),
            ("eval_share", self.eval_share.is_some()),
        ];
        let mut given = splits.iter().filter(|(_, given)| *given);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            let problem = format!("{second} is given too");
            return Err(Error::invalid(*first, problem, "give one of them"));
        }
        if let Some(share) = self.eval_share
            && !(share > 0.0 && share < 1.0)
        {
            let problem = format!("it is {share}");
            return Err(Error::invalid(
                "eval_share",
                problem,
                "give more than 0, less than 1",
            ));
        }
        let none = !self.evaluates();
        let remedy = "give eval_data, eval_rows, eval_share or eval_prompts too, or leave it out";
        useless("eval_every", none && self.eval_every.is_some(), remedy)?;
        useless("eval_on_start", none && self.eval_on_start, remedy)?;
        useless("keep_best", none && self.keep_best.is_some(), remedy)?;
        generation::check(self, objective)?;
        let chosen = self.eval_rows.is_some() || self.eval_share.is_some();
        let chosen = chosen || self.eval_prompts.is_some();
        let remedy = "give eval_rows, eval_share or eval_prompts too, or leave it out";
        useless("eval_seed", !chosen && self.eval_seed != 0, remedy)?;
        let Some(metric) = &self.keep_best else {
            let mode = self.keep_best_mode.is_some();
            return useless(
                "keep_best_mode",
                mode,
                "give keep_best too, or leave it out",
            );
        };
        let split = if splits.iter().any(|(_, given)| *given) {
            evaluation::names(objective)
        } else {
            Vec::new()
        };
        let known: Vec<String> = (split.into_iter())
            .chain(generation::names(self, objective))
            .map(|name| format!("{EVAL}{name}"))
            .collect();
        if !known.contains(metric) {
            let problem = format!("nothing that is evaluated is called `{metric}`");
            let remedy = format!("name one of {}", known.join(", "));
            return Err(Error::invalid("keep_best", problem, remedy));
        }
        if self.best().is_none() {
            let problem = format!("it is not known whether a high {metric} is good");
            return Err(Error::invalid("keep_best_mode", problem, "give min or max"));
        }
        match self.eval_every {
            Some(0) => useless("keep_best", true, "give an eval_every above 0"),
            _ => Ok(()),
        }
    }
}

fn useless(place: &str, given: bool, remedy: &str) -> Result<()> {
    if given {
        Err(Error::invalid(place, "nothing has a use for it", remedy))
    } else {
        Ok(())
    }
}
