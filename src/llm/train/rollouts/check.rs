//! Settings of completions that the policy writes itself: what suits the objective, and what has no use.

use super::Feed;
use crate::error::{Error, Result};
use crate::llm::sample::reward::Specification;
use crate::llm::text::objective::TextObjective;
use crate::llm::train::enums::{
    Advantage, Annotator, LengthWeight, OldNumbers, OptimizerKind, Precision, ReferenceSource,
};
use crate::llm::train::limits::{COUNT, count, number};
use crate::llm::train::settings::Settings;
use crate::loss::{InputKind, Objective};
use crate::magnitude::MAGNITUDE;

impl Settings {
    /// Fills in how many completions a prompt has.
    pub(in crate::llm::train) fn resolve_rollouts(&mut self, objective: &TextObjective) {
        let (advantage, length_weight) = Feed::defaults(objective);
        self.advantage.get_or_insert(advantage);
        self.length_weight.get_or_insert(length_weight);
        let tokens = objective.takes_advantages();
        if self.prompts.is_some() {
            let of_group = self.advantage.is_some_and(Advantage::is_of_group);
            let own = match objective.kind() {
                InputKind::Groups | InputKind::Lists => 4,
                InputKind::LabelledPairs | InputKind::ScoredPairs if self.demonstrations => 1,
                InputKind::LabelledPairs | InputKind::ScoredPairs => 2,
                InputKind::Tokens if of_group || !tokens => 4,
                _ if of_group => 4,
                _ => 1,
            };
            self.completions.get_or_insert(own);
        }
    }

    /// Refuses what does not go together.
    pub(in crate::llm::train) fn check_rollouts(&self, objective: &TextObjective) -> Result<()> {
        if self.prompts.is_none() {
            return self.check_without_prompts();
        }
        let fail =
            |place: &str, problem: &str, remedy: &str| Err(Error::invalid(place, problem, remedy));
        let name = objective.name();
        let refused = match objective.kind() {
            _ if objective.scores() => {
                Some("it trains scores, and what gives scores writes no text")
            }
            InputKind::Lists if !objective.spec().best_only => {
                Some("it takes ranked lists, and completions have rewards")
            }
            _ => None,
        };
        if let Some(problem) = refused {
            return fail(
                "prompts",
                &format!("`{name}`: {problem}"),
                "give data in their place",
            );
        }
        if self.reward.is_empty() {
            let remedy =
                "say how completions are scored: --reward KIND:TEXT or FILE.toml (docs/rewards.md)";
            return fail("reward", "it is missing, and prompts are given", remedy);
        }
        Specification::parse(&self.reward).map_err(|e| e.in_file("reward"))?;
        for (place, given) in [
            ("data", self.data.is_some()),
            ("eval_rows", self.eval_rows.is_some()),
            ("eval_share", self.eval_share.is_some()),
            ("drop_last", self.drop_last),
            ("length_buckets", self.length_buckets.is_some()),
        ] {
            if given {
                let remedy = "leave it out, or give data in place of prompts";
                return fail(
                    place,
                    "prompts are given, and the policy writes the data",
                    remedy,
                );
            }
        }
        for (place, found) in [
            ("phases", self.phases.unwrap_or(1)),
            ("phase_epochs", self.phase_epochs),
            ("completions", self.completions.unwrap_or(1) as u64),
            ("max_new_tokens", self.max_new_tokens as u64),
        ] {
            count(place, found, COUNT)?;
        }
        number("redraws", self.redraws as f64, [0.0, 1e6])?;
        number("replay", self.replay as f64, [0.0, 1e9])?;
        number(
            "missing_eos_penalty",
            self.missing_eos_penalty,
            [0.0, MAGNITUDE],
        )?;
        number("discount", self.discount, [0.0, 1.0])?;
        number("gae_lambda", self.gae_lambda, [0.0, 1.0])?;
        if let Some(target) = self.kl_target
            && !(target > 0.0 && target <= MAGNITUDE)
        {
            let remedy = "give nats a completion, above 0";
            return fail("kl_target", &format!("it is {target}"), remedy);
        }
        if let Some(above) = self.above {
            number("above", above, [-MAGNITUDE, MAGNITUDE])?;
        }
        if !(self.temperature > 0.0 && self.temperature <= MAGNITUDE) {
            let problem = format!("it is {}", self.temperature);
            let remedy = "completions to learn from are drawn at a temperature above 0; 1 is the policy itself";
            return fail("temperature", &problem, remedy);
        }
        self.check_demonstrations(objective)?;
        self.check_kind(objective)?;
        self.check_numbers(objective)
    }

    /// What only some kinds of objectives have a use for.
    fn check_kind(&self, objective: &TextObjective) -> Result<()> {
        let (kind, completions) = (objective.kind(), self.completions.unwrap_or(1));
        let fail = |place: &str, problem: String, remedy: &str| {
            Err(Error::invalid(place, problem, remedy))
        };
        let wrong = match kind {
            _ if self.demonstrations => None,
            InputKind::LabelledPairs if completions % 2 == 1 => Some("pairs need an even number"),
            InputKind::ScoredPairs | InputKind::Groups if completions < 2 => {
                Some("the objective compares completions of a prompt: give 2 or more")
            }
            _ if self.advantage.is_some_and(Advantage::is_of_group) && completions < 2 => {
                Some("that advantage compares completions of a prompt: give 2 or more")
            }
            _ => None,
        };
        if let Some(remedy) = wrong {
            return fail("completions", format!("it is {completions}"), remedy);
        }
        let best_only = TextObjective::all().filter(|o| o.spec().best_only);
        let best_only: Vec<&str> = best_only.map(Objective::name).collect();
        let best_only = best_only.join(" and ");
        let singles = kind == InputKind::Singles;
        // Token by token with advantages: with a critic, or without one.
        let of_tokens = objective.takes_advantages();
        let critic = objective.has_critic();
        let plain = of_tokens && !critic;
        let own = Self::default();
        let pairs = kind == InputKind::LabelledPairs;
        for (place, given, of) in [
            (
                "advantage",
                self.advantage != Some(Advantage::Reward) && !singles && !plain,
                "objectives of single responses",
            ),
            (
                "length_weight",
                self.length_weight != Some(LengthWeight::Sum) && !singles && !of_tokens,
                "objectives of single responses",
            ),
            (
                "annotator",
                self.annotator != Annotator::Greater && !pairs,
                "objectives of labelled pairs",
            ),
            (
                "normalise_rewards",
                self.normalise_rewards && pairs,
                "objectives that take rewards; annotators label by scores",
            ),
            (
                "missing_eos_penalty",
                self.missing_eos_penalty != own.missing_eos_penalty && pairs,
                "objectives that take rewards; annotators label by scores",
            ),
            (
                "kl_target",
                self.kl_target.is_some() && !of_tokens,
                "objectives token by token",
            ),
            (
                "discount",
                self.discount != own.discount && !critic,
                "objectives with a critic",
            ),
            (
                "gae_lambda",
                self.gae_lambda != own.gae_lambda && !critic,
                "objectives with a critic",
            ),
            (
                "whiten_advantages",
                self.whiten_advantages != own.whiten_advantages && !critic,
                "objectives with a critic",
            ),
            (
                "above",
                self.above.is_some() && !objective.spec().best_only,
                &best_only,
            ),
        ] {
            if given {
                let problem = format!("`{}` has no use for it", objective.name());
                return fail(place, problem, &format!("leave it out; it is for {of}"));
            }
        }
        Ok(())
    }

    /// What a second source goes with.
    fn check_demonstrations(&self, objective: &TextObjective) -> Result<()> {
        let fail =
            |place: &str, problem: &str, remedy: &str| Err(Error::invalid(place, problem, remedy));
        if !self.demonstrations {
            if self.annotator == Annotator::Demonstration {
                let remedy = "give demonstrations too, or another annotator";
                return fail("annotator", "there are no demonstrations", remedy);
            }
            return Ok(());
        }
        if let Some(why) = objective.spec().own_responses_only {
            let problem = format!("`{}`: {why}", objective.name());
            return fail("demonstrations", &problem, "leave them out");
        }
        if self.old == OldNumbers::Sampled {
            let remedy = "give old recomputed: the sampler did not write them";
            return fail("old", "it is sampled, and there are demonstrations", remedy);
        }
        Ok(())
    }

    /// Where numbers of policy and reference come from.
    fn check_numbers(&self, objective: &TextObjective) -> Result<()> {
        let fail =
            |place: &str, problem: &str, remedy: &str| Err(Error::invalid(place, problem, remedy));
        let moves = matches!(
            self.reference,
            ReferenceSource::Behaviour | ReferenceSource::Ema(_)
        );
        self.reference.rate()?;
        if moves && !objective.reference() {
            let remedy = "the objective looks at no reference; leave it out";
            return fail("reference", "nothing has a use for it", remedy);
        }
        if self.reference == ReferenceSource::Behaviour && self.eval_data.is_some() {
            let remedy = "no policy wrote those rows: leave it out, or give another reference";
            return fail("eval_data", "the reference is behaviour", remedy);
        }
        if self.eval_data.is_some() && objective.takes_advantages() {
            let remedy = "leave it out; eval_prompts has the policy write what is evaluated";
            let problem =
                "the objective takes advantages of tokens, which rows of a file do not have";
            return fail("eval_data", problem, remedy);
        }
        if moves && objective.anchored() {
            let remedy = "z₀ is estimated from responses whose numbers are not stored: give initial or a \
                          folder, or an objective without z₀";
            return fail("reference", "it moves, and the objective has z₀", remedy);
        }
        if matches!(self.reference, ReferenceSource::Ema(_)) && self.dtype == Precision::Bf16 {
            let remedy = "give dtype f32: small steps of an average are lost in bf16";
            return fail(
                "reference",
                "it is a moving average, and dtype is bf16",
                remedy,
            );
        }
        let sampled = self.old == OldNumbers::Sampled;
        if sampled && objective.kind() == InputKind::Tokens {
            let remedy = "the sampler keeps sums over tokens: give old recomputed";
            return fail(
                "old",
                "it is sampled, and the objective takes tokens",
                remedy,
            );
        }
        let pulls = objective.reference() && objective.takes_advantages();
        if self.kl_target.is_some() && !pulls {
            let remedy = "give a beta above 0, from which it starts";
            return fail("kl_target", "no KL is in the reward", remedy);
        }
        if sampled && objective.tempered() && self.temperature != 1.0 {
            let remedy = "the sampler's numbers are those of temperature 1: give old recomputed";
            return fail("old", "it is sampled, and the temperature is not 1", remedy);
        }
        Ok(())
    }

    /// Refuses what is for prompts only.
    fn check_without_prompts(&self) -> Result<()> {
        let own = Self::default();
        let moves = matches!(
            self.reference,
            ReferenceSource::Behaviour | ReferenceSource::Ema(_)
        );
        for (place, given) in [
            ("reward", !self.reward.is_empty()),
            ("demonstrations", self.demonstrations),
            ("completions", self.completions.is_some()),
            ("max_new_tokens", self.max_new_tokens != own.max_new_tokens),
            ("temperature", self.temperature != own.temperature),
            ("phases", self.phases.is_some()),
            ("phase_epochs", self.phase_epochs != own.phase_epochs),
            ("replay", self.replay != own.replay),
            ("annotator", self.annotator != own.annotator),
            ("redraws", self.redraws != own.redraws),
            (
                "advantage",
                self.advantage.is_some_and(|a| a != Advantage::Reward),
            ),
            (
                "length_weight",
                self.length_weight.is_some_and(|w| w != LengthWeight::Sum),
            ),
            ("normalise_rewards", self.normalise_rewards),
            (
                "missing_eos_penalty",
                self.missing_eos_penalty != own.missing_eos_penalty,
            ),
            ("kl_target", self.kl_target.is_some()),
            ("discount", self.discount != own.discount),
            ("gae_lambda", self.gae_lambda != own.gae_lambda),
            (
                "whiten_advantages",
                self.whiten_advantages != own.whiten_advantages,
            ),
            ("above", self.above.is_some()),
            ("old", self.old != own.old),
            ("reference", moves),
        ] {
            if given {
                let problem = "it is for completions that the policy writes itself";
                let remedy = "give prompts too, or leave it out";
                return Err(Error::invalid(place, problem, remedy));
            }
        }
        Ok(())
    }

    /// What gradient descent has no use for.
    pub(in crate::llm::train) fn check_optimizer(&self) -> Result<()> {
        if self.optimizer != OptimizerKind::Sgd {
            return Ok(());
        }
        let fail =
            |place: &str, problem: &str, remedy: &str| Err(Error::invalid(place, problem, remedy));
        if self.weight_decay != 0.0 {
            let remedy = "leave it out, or give optimizer adamw";
            return fail("weight_decay", "sgd does not decay weights", remedy);
        }
        if self.dtype == Precision::Bf16 {
            let remedy = "give dtype f32, or optimizer adamw, which keeps f32 master weights";
            return fail("optimizer", "it is sgd, and dtype is bf16", remedy);
        }
        if self.optimizer_in_backward {
            let remedy = "leave it out, or give optimizer adamw";
            return fail("optimizer_in_backward", "the optimizer is sgd", remedy);
        }
        Ok(())
    }
}
