//! A sequence of tasks, from a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::file;
use crate::llm::sample::reward::Specification;
use crate::llm::train::Settings;

/// The tasks of a sequence in order, and how each is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// Settings of every task's training: fields of `pistar train`.
    #[serde(default)]
    pub train: toml::Table,
    /// The same for one objective of methods that have several, such as `[stages.ppo]`, over those of `train`.
    #[serde(default)]
    pub stages: BTreeMap<String, toml::Table>,
    /// The tasks.
    pub task: Vec<Task>,
}

/// One task: what is learned, and how well it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name, which folders and rows have.
    pub name: String,
    /// Ranked responses: rows with `prompt` and `completions` with `scores` or `ranks`, or `chosen` and `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// In place of them prompts, which the model that the sequence starts from completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// The reward by which these completions are ranked, as in `pistar score`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reward: Vec<String>,
    /// Completions of each prompt.
    #[serde(default = "completions")]
    pub completions: usize,
    /// Prompts on which it is measured.
    pub held_out: PathBuf,
    /// What scores a completion of these [default: `reward`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub score: Vec<String>,
    /// How a score becomes an accuracy.
    #[serde(default)]
    pub accuracy: Accuracy,
}

/// A task's accuracy, a number in [0, 1]: the mean over completions of held-out prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Accuracy {
    /// Of the score as it is, which must be in [0, 1].
    #[default]
    Score,
    /// Of `(score − low)/(high − low)`, cut to [0, 1].
    Between {
        /// Score that counts 0.
        low: f64,
        /// Score that counts 1.
        high: f64,
    },
    /// Of 1 where the score is above that of the first model's completion of the same prompt, ½ where it is equal.
    Wins,
}

fn completions() -> usize {
    4
}

const REMEDY: &str = "its tables are [train] and [[task]]: `pistar continual --help`";

impl Tasks {
    /// Reads a file; paths in it are from its folder.
    ///
    /// # Errors
    /// A file that cannot be read, or what cannot be a sequence of tasks.
    pub fn read(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let mut tasks: Self = file::from_toml(&file::read(path)?, &origin, REMEDY)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for task in &mut tasks.task {
            let files = [task.data.as_mut(), task.prompts.as_mut()];
            let files = files.into_iter().flatten().chain([&mut task.held_out]);
            files.for_each(|file| *file = folder.join(&*file));
        }
        tasks.check().map_err(|e| e.in_file(&origin))?;
        Ok(tasks)
    }

    /// # Errors
    /// What cannot be a sequence of tasks.
    pub fn check(&self) -> Result<()> {
        if self.task.is_empty() {
            return Err(Error::invalid(
                "task",
                "there is none",
                "give a table [[task]] for each",
            ));
        }
        for (i, task) in self.task.iter().enumerate() {
            task.check()
                .map_err(|e| e.in_file(&format!("task {}", i + 1)))?;
            if self.task[..i].iter().any(|other| other.name == task.name) {
                return Err(Error::invalid(
                    format!("task {}: name", i + 1),
                    format!("`{}` is there twice", task.name),
                    "name each task once",
                ));
            }
        }
        let stages = self
            .stages
            .iter()
            .map(|(name, table)| (name.as_str(), table));
        for (place, table) in std::iter::once(("train", &self.train)).chain(stages) {
            if let Some(field) = OWN.into_iter().find(|field| table.contains_key(*field)) {
                return Err(Error::invalid(
                    format!("{place}: {field}"),
                    "every task has its own",
                    "leave it out: the method, the task and the command say it",
                ));
            }
        }
        Ok(())
    }
}

/// Fields of training that the sequence itself gives.
const OWN: [&str; 14] = [
    "objective",
    "model",
    "data",
    "prompts",
    "reward",
    "reference",
    "rehearse",
    "eval_data",
    "eval_prompts",
    "eval_reward",
    "eval_every",
    "optimizer_in_backward",
    "members",
    "sweep",
];

impl Task {
    /// The rewards that score completions of held-out prompts.
    pub fn scores(&self) -> &[String] {
        if self.score.is_empty() {
            &self.reward
        } else {
            &self.score
        }
    }

    fn check(&self) -> Result<()> {
        let fail = |place: &str, problem: &str, remedy: &str| {
            Err(Error::invalid(place, problem.to_string(), remedy))
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if self.name.is_empty() || !self.name.chars().all(plain) {
            let remedy = "give letters, digits, - and _: folders are called by it";
            return fail("name", &format!("it is `{}`", self.name), remedy);
        }
        match (&self.data, &self.prompts) {
            (Some(_), Some(_)) => {
                return fail("prompts", "there are data too", "leave one of them out");
            }
            (None, None) => {
                let remedy = "give a file of ranked responses, or prompts and a reward";
                return fail("data", "it is missing", remedy);
            }
            (None, Some(_)) if self.reward.is_empty() => {
                let remedy = "give what ranks the completions of prompts";
                return fail("reward", "it is missing", remedy);
            }
            _ => {}
        }
        if self.prompts.is_some() && !(2..=64).contains(&self.completions) {
            let problem = format!("it is {}", self.completions);
            return fail("completions", &problem, "give 2 to 64");
        }
        if self.scores().is_empty() {
            let remedy = "give what scores completions of held-out prompts, as in `pistar score`";
            return fail("score", "it is missing", remedy);
        }
        for (place, rewards) in [("reward", &self.reward), ("score", &self.score)] {
            if !rewards.is_empty() {
                Specification::parse(rewards).map_err(|e| e.in_file(place))?;
            }
        }
        if let Accuracy::Between { low, high } = self.accuracy
            && !(low.is_finite() && high.is_finite() && low < high)
        {
            let problem = format!("it is between {low} and {high}");
            return fail("accuracy", &problem, "give finite numbers, low below high");
        }
        Ok(())
    }
}

/// Settings of training with those of a table, and `NAME = VALUE` lines over them.
///
/// # Errors
/// A field that is not known, that every task has of its own, or a value of another type.
pub fn training(table: &toml::Table, over: &[String]) -> Result<Settings> {
    let mut table = table.clone();
    for text in over {
        let place = || format!("--set {text}");
        let Some((name, value)) = text.split_once('=') else {
            return Err(Error::invalid(
                place(),
                "it has no =",
                "give FIELD=VALUE, such as lr=1e-4",
            ));
        };
        let name = name.trim().replace('-', "_");
        if OWN.contains(&name.as_str()) {
            return Err(Error::invalid(
                place(),
                "every task has its own",
                "leave it out: the method, the task and the command say it",
            ));
        }
        let value = value.trim();
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
        let value = match parsed.ok().and_then(|mut table| table.remove("value")) {
            Some(value) => value,
            None => toml::Value::String(value.into()),
        };
        table.insert(name, value);
    }
    let text = toml::to_string(&table).map_err(|e| Error::Format {
        origin: "train".into(),
        message: e.to_string(),
        remedy: "give fields of `pistar train`".into(),
    })?;
    Settings::parse(&text, "train")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Tasks> {
        let tasks: Tasks = file::from_toml(text, "tasks.toml", REMEDY)?;
        tasks.check().map(|()| tasks)
    }

    const TASK: &str = "[[task]]\nname = \"a\"\ndata = \"a.jsonl\"\nheld_out = \"h.jsonl\"\nscore = [\"length\"]\n";

    #[test]
    fn what_is_no_sequence_is_refused_by_name() {
        assert_eq!(parsed(TASK).unwrap().task[0].accuracy, Accuracy::Score);
        let with = |more: &str| format!("{TASK}{more}");
        for (text, why) in [
            ("task = []".into(), "there is none"),
            (format!("{TASK}{TASK}"), "`a` is there twice"),
            (TASK.replace("\"a\"", "\"a/b\""), "it is `a/b`"),
            (with("prompts = \"p.jsonl\""), "there are data too"),
            (TASK.replace("data = \"a.jsonl\"\n", ""), "it is missing"),
            (
                TASK.replace("data", "prompts"),
                "give what ranks the completions",
            ),
            (
                TASK.replace("score = [\"length\"]\n", ""),
                "score: it is missing",
            ),
            (
                with("accuracy = { between = { low = 1, high = 1 } }"),
                "low below high",
            ),
            (with("acuracy = \"wins\""), "unknown field"),
            (
                format!("train = {{ model = \"m\" }}\n{TASK}"),
                "train: model",
            ),
        ] {
            let error = parsed(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let wins = parsed(&with("accuracy = \"wins\"")).unwrap();
        assert_eq!(wins.task[0].accuracy, Accuracy::Wins);
    }

    #[test]
    fn fields_are_laid_over_those_of_the_file() {
        let table = toml::from_str("lr = 1e-3\nbatch = 4\n").unwrap();
        let over = ["lr=2e-3", "schedule = constant", "lora-rank=2"].map(String::from);
        let settings = training(&table, &over).unwrap();
        assert_eq!((settings.lr, settings.batch), (Some(2e-3), 4));
        assert_eq!(settings.lora_rank, 2);
        for (over, why) in [
            ("lr", "it has no ="),
            ("model=x", "every task has its own"),
            ("learning=1", "unknown field"),
            ("lr=fast", "invalid type"),
        ] {
            let error = training(&table, &[over.into()]).unwrap_err().to_string();
            assert!(error.contains(why), "{over}: {error}");
        }
    }
}
