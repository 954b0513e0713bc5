//! A sequence of tasks, learned one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accuracy::{Examination, Examinations, Writing, metric};
use super::lesson::Taught;
use super::ranked::{self, Form, MARKS, Ranked};
use super::record;
use super::settings::Settings;
use super::tasks::{Task, Tasks, training};
use crate::continual::{Base, Keeps, Method};
use crate::error::{Error, Result};
use crate::file::{self, write_whole};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::identity::Identity;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::sample::generate::{Prompt, Sampling, generate};
use crate::llm::sample::reward::Specification;
use crate::llm::text::data::Reading;
use crate::llm::text::tokenizer::Tokenizer;
use crate::llm::train::{self, Ended, Lesson, METRICS, MODEL, completions, train_lesson};
use crate::loss::{Given, InputKind, Objective};
use crate::observer::{Observer, Until};

/// Version of what a sequence's folder holds.
const FORMAT: u32 = 1;

const MANIFEST: &str = "sequence.json";
const START: &str = "start.json";
/// Files of a task's folder.
const RANKED: &str = "ranked.jsonl";
const DATA: &str = "data.jsonl";
pub(super) const KEPT: &str = "kept.jsonl";
pub(super) const REFERENCE: &str = "reference.json";
/// Folder of what is kept of a task that was learned, and its files.
pub(super) const MEMORY: &str = "memory";
pub(super) const PREDICTED: &str = "predicted.safetensors";
pub(super) const IMPORTANCE: &str = "importance.safetensors";
const AFTER: &str = "after.json";

const REMEDY: &str = "put the old one back, or start a new sequence in another --out";

/// Reasons for which a sequence ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All tasks are learned. The sequence's folder.
    Complete(PathBuf),
    /// It was asked to stop, and goes on with `--resume`. Its folder.
    Interrupted(PathBuf),
}

/// What was found after a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct After {
    /// Accuracy on each task of the sequence.
    pub accuracy: Vec<f64>,
    /// The same after some steps of the task.
    pub history: Vec<(u64, Vec<f64>)>,
}

/// What was found before the first task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Start {
    /// Scores of the model's completions of each task's held-out prompts.
    scores: Vec<Vec<f64>>,
    accuracy: Vec<f64>,
}

/// Learns a sequence of tasks, or the rest of it.
///
/// # Errors
/// Settings, tasks or a model that cannot be used; a folder that holds another sequence; those of training.
pub fn run(settings: &Settings, stop: &AtomicBool, observer: &dyn Observer) -> Result<Outcome> {
    settings.check()?;
    let method = settings.method()?;
    let tasks = settings.sequence()?;
    let dir = match &settings.out {
        Some(out) => out.clone(),
        None => Path::new("out").join(format!("continual-{}", method.name)),
    };
    let mut course = Course::open(settings, method, &tasks, dir, stop, observer)?;
    for t in 0..tasks.task.len() {
        if !course.task(t)? {
            return Ok(Outcome::Interrupted(course.dir));
        }
        record::write(&course.dir, &tasks, &course.start.accuracy, &course.after)?;
    }
    Ok(Outcome::Complete(course.dir))
}

/// A sequence on its way.
pub(super) struct Course<'a> {
    pub settings: &'a Settings,
    pub method: Method,
    pub tasks: &'a Tasks,
    /// Settings of every task's training.
    pub training: train::Settings,
    pub dir: PathBuf,
    first: PathBuf,
    pub tokenizer: Tokenizer,
    pub context: usize,
    examinations: Examinations,
    start: Start,
    after: Vec<After>,
    stop: &'a AtomicBool,
    pub observer: &'a dyn Observer,
}

impl<'a> Course<'a> {
    /// Opens a folder for a sequence, new or gone on with, and measures the model that it starts from.
    fn open(
        settings: &'a Settings,
        method: Method,
        tasks: &'a Tasks,
        dir: PathBuf,
        stop: &'a AtomicBool,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        let mut training = training(&tasks.train, &settings.set)?;
        training.seed = settings.seed;
        let first = settings.model.clone().ok_or_else(|| {
            Error::invalid("model", "it is missing", "give the folder of a model")
        })?;
        let given = ModelFolder::find(&first)?;
        let (tokenizer, context) = (given.tokenizer()?, given.config()?.sizes().context);
        let mut inputs = Identity::default();
        inputs.network("model", &given)?;
        inputs.texts("model", &given)?;
        let resources = training.resources()?;
        let writing = Writing {
            sampling: Sampling {
                temperature: settings.temperature,
                max_new_tokens: settings.max_new_tokens,
                samples: settings.samples,
                ..Sampling::default()
            },
            seed: settings.seed,
            batch: training.generation_batch,
        };
        writing.sampling.check()?;
        let mark = (method.base == Base::Feedback).then_some(MARKS[0]);
        let mut examinations = Vec::new();
        for task in &tasks.task {
            let name = &task.name;
            let (held, hash) = read_prompts(&task.held_out, &tokenizer, context, observer)?;
            inputs.hash(format!("{name}/held_out"), hash);
            for (what, file) in [("data", &task.data), ("prompts", &task.prompts)] {
                if let Some(file) = file {
                    inputs.file(format!("{name}/{what}"), file)?;
                }
            }
            for (what, rewards) in [("reward", &task.reward), ("score", &task.score)] {
                if !rewards.is_empty() {
                    let reward = Specification::parse(rewards)?;
                    let place = format!("{name}/{what}");
                    for uncovered in reward.identify(&mut inputs, &place, &training.depends)? {
                        observer.tell(&uncovered);
                    }
                }
            }
            let tokenizer = tokenizer.clone();
            let of = Examination::new(task, &held, tokenizer, context, mark, &writing, &resources)?;
            examinations.push(of);
        }
        claim(&dir, settings, tasks, &inputs)?;
        let mut course = Self {
            settings,
            method,
            tasks,
            training,
            dir,
            first,
            tokenizer,
            context,
            examinations: Examinations(examinations),
            start: Start::default(),
            after: Vec::new(),
            stop,
            observer,
        };
        course.measure_start()?;
        Ok(course)
    }

    /// Scores of the first policy, which accuracies may be held against.
    fn measure_start(&mut self) -> Result<()> {
        let path = self.dir.join(START);
        self.start = if path.exists() {
            file::json::read(&path, REMEDY)?
        } else {
            let policy = self.decoder(&self.first)?;
            let until = self.until();
            let all = &mut self.examinations.0;
            let scores = all.iter_mut().map(|of| of.scores(&policy, &until));
            let scores = scores.collect::<Result<Vec<_>>>()?;
            Start {
                scores,
                accuracy: Vec::new(),
            }
        };
        let examinations = std::mem::take(&mut self.examinations.0);
        let with = examinations.into_iter().zip(&self.start.scores);
        self.examinations.0 = with.map(|(of, first)| of.against(first.clone())).collect();
        let all = self.examinations.0.iter().zip(&self.start.scores);
        let accuracy = all.map(|(of, scores)| of.accuracy(scores));
        self.start.accuracy = accuracy.collect::<Result<_>>()?;
        write_json(&path, &self.start)
    }

    /// Learns a task, unless it was before. False if it was stopped.
    fn task(&mut self, t: usize) -> Result<bool> {
        let path = self.folder(t).join(AFTER);
        if path.exists() {
            self.after.push(file::json::read(&path, REMEDY)?);
            return Ok(true);
        }
        let dir = self.folder(t);
        fs::create_dir_all(&dir).map_err(Error::io(&dir, "create"))?;
        let task = &self.tasks.task[t];
        self.observer.tell(&format!(
            "task {} of {}: {}",
            t + 1,
            self.tasks.task.len(),
            task.name
        ));
        let found = self.learn(t);
        match found {
            Err(Error::Interrupted { .. }) => Ok(false),
            Err(error) => Err(error),
            Ok(false) => Ok(false),
            Ok(true) => {
                let after = self.measured(t)?;
                write_json(&path, &after)?;
                self.after.push(after);
                Ok(true)
            }
        }
    }

    /// Makes a task's rows, trains on them, and keeps what later tasks need.
    fn learn(&mut self, t: usize) -> Result<bool> {
        self.make_rows(t)?;
        let ended = if self.method.base == Base::Reward {
            self.judged(t)?
        } else {
            let objective = self.method.objectives()[0];
            let settings = self.stage(t, objective, &self.before(t))?;
            let settings = train::Settings {
                data: Some(self.folder(t).join(DATA)),
                ..settings
            };
            self.train(t, settings, true)?
        };
        if !ended {
            return Ok(false);
        }
        self.keep(t)?;
        Ok(true)
    }

    /// Iterated RLHF: a policy on the best responses of all tasks, a reward model on all of them, and the policy on what
    /// it writes for that.
    fn judged(&mut self, t: usize) -> Result<bool> {
        let all = (0..=t)
            .map(|i| self.ranked(i))
            .collect::<Result<Vec<_>>>()?;
        let all: Vec<&Ranked> = all.iter().flatten().collect();
        let [best, judge, policy] = *self.method.objectives() else {
            let remedy = "this is a bug of pistar";
            return Err(Error::invalid("method", "it has no reward model", remedy));
        };
        let dir = self.folder(t);
        let prompts = dir.join("prompts.jsonl");
        let lines = all
            .iter()
            .map(|r| json!({"prompt": r.prompt}).to_string() + "\n");
        write_once(&prompts, || Ok(lines.collect()))?;
        for objective in [best, judge] {
            let data = dir.join(format!("{}.jsonl", objective.name()));
            write_once(&data, || {
                ranked::rows(&all, form(objective, Base::Likelihood), &[])
            })?;
            let settings = train::Settings {
                data: Some(data),
                ..self.stage(t, objective, &self.first)?
            };
            if !self.train(t, settings, false)? {
                return Ok(false);
            }
        }
        let start = dir.join(best.name()).join(MODEL);
        let reward = dir.join(judge.name()).join(MODEL);
        let settings = train::Settings {
            prompts: Some(prompts),
            reward: vec![format!("model:{}", reward.display())],
            ..self.stage(t, policy, &start)?
        };
        self.train(t, settings, true)
    }

    /// One run of training; `whole` with what the method adds to it.
    fn train(&mut self, t: usize, settings: train::Settings, whole: bool) -> Result<bool> {
        let (stop, observer) = (self.stop, self.observer);
        let mut examinations = std::mem::replace(&mut self.examinations, Examinations(Vec::new()));
        let ended = if whole {
            let taught = Taught::read(self, t, &settings)?;
            let mut lesson = taught.lesson(self)?;
            if self.settings.every > 0 {
                lesson.evaluations.push(Box::new(&mut examinations));
                lesson.every = Some(self.settings.every);
            }
            train_lesson(settings, lesson, stop, observer)
        } else {
            train_lesson(settings, Lesson::default(), stop, observer)
        };
        self.examinations = examinations;
        match ended? {
            Ended::Complete(_) | Ended::Before(_) => Ok(true),
            Ended::Interrupted { .. } => Ok(false),
        }
    }

    /// Accuracy on all tasks after one, and along it.
    fn measured(&mut self, t: usize) -> Result<After> {
        if self.settings.every == 0 {
            let policy = self.decoder(&self.model(t))?;
            let until = self.until();
            let all = self.examinations.0.iter_mut();
            let accuracy = all
                .map(|of| of.of(&policy, &until))
                .collect::<Result<_>>()?;
            let history = Vec::new();
            return Ok(After { accuracy, history });
        }
        let path = self.last_run(t).join(METRICS);
        let text = file::read(&path)?;
        let mut history = Vec::new();
        for line in text.lines() {
            let row: Value = file::json::line(line, &path.display().to_string(), REMEDY)?;
            let of = |task: &Task| row[format!("{}{}", train::EVAL, metric(&task.name))].as_f64();
            let each: Option<Vec<f64>> = self.tasks.task.iter().map(of).collect();
            history.extend(row["step"].as_u64().zip(each));
        }
        let last = history.last().map(|(_, accuracy)| accuracy.clone());
        let accuracy = last.ok_or_else(|| Error::Format {
            origin: path.display().to_string(),
            message: "it has no accuracy".into(),
            remedy: REMEDY.into(),
        })?;
        Ok(After { accuracy, history })
    }

    /// Settings of a stage of a task: an objective from a model, in a folder of its own.
    fn stage(&self, t: usize, objective: Objective, model: &Path) -> Result<train::Settings> {
        let name = objective.name();
        let training = match self.tasks.stages.get(name) {
            None => self.training.clone(),
            Some(own) => {
                let mut table = self.tasks.train.clone();
                table.extend(own.clone());
                train::Settings {
                    seed: self.settings.seed,
                    ..training(&table, &self.settings.set)?
                }
            }
        };
        // What a policy wrote may be empty: its only token is then EOS.
        let written = self.method.base == Base::SelfPlay
            || (self.tasks.task.iter().take(t + 1)).any(|task| task.prompts.is_some());
        Ok(train::Settings {
            allow_empty: training.allow_empty || written,
            objective: Some(name.into()),
            numbers: numbers_of(objective, &training.numbers),
            model: Some(model.to_path_buf()),
            out: Some(self.folder(t).join(name)),
            resume: Some("latest".into()),
            ..training
        })
    }

    /// Writes the rows that a task learns from, and those that later ones see of it.
    fn make_rows(&self, t: usize) -> Result<()> {
        let dir = self.folder(t);
        let own = self.ranked(t)?;
        let own: Vec<&Ranked> = own.iter().collect();
        let method = self.method;
        let drawn = if method.base == Base::SelfPlay {
            self.drawn(t, &own)?
        } else {
            Vec::new()
        };
        let form_of = |objective| form(objective, method.base);
        let objective = method.objectives()[0];
        if method.base != Base::Reward {
            let path = dir.join(DATA);
            if method.keeps == Keeps::Everything {
                let all = (0..=t)
                    .map(|i| self.ranked(i))
                    .collect::<Result<Vec<_>>>()?;
                let all: Vec<&Ranked> = all.iter().flatten().collect();
                write_once(&path, || ranked::rows(&all, form_of(objective), &[]))?;
            } else {
                write_once(&path, || ranked::rows(&own, form_of(objective), &drawn))?;
            }
        }
        if !method.keeps_examples() || self.settings.replay == 0.0 {
            return Ok(());
        }
        let rows = ranked::kept(self.settings.replay, own.len(), self.settings.seed, t);
        let kept: Vec<&Ranked> = rows.iter().map(|&r| own[r]).collect();
        let drawn: Vec<Value> = (rows.iter())
            .filter_map(|&r| drawn.get(r).cloned())
            .collect();
        let form = form_of(method.objective_on_kept());
        write_once(&dir.join(KEPT), || ranked::rows(&kept, form, &drawn))?;
        if method.remembers() {
            self.remember(t)?;
        }
        Ok(())
    }

    /// The ranked responses of a task: those of its file, or of what the first policy writes to its prompts.
    fn ranked(&self, t: usize) -> Result<Vec<Ranked>> {
        let task = &self.tasks.task[t];
        if let Some(data) = &task.data {
            return ranked::read(data);
        }
        let path = self.folder(t).join(RANKED);
        if !path.exists() {
            write_whole(&path, self.write_ranked(task)?.as_bytes())?;
        }
        ranked::read(&path)
    }

    /// Completions of a task's prompts by the first policy, ranked by its reward: of several with one score the first,
    /// and prompts with fewer than two are left out.
    fn write_ranked(&self, task: &Task) -> Result<String> {
        let Some(file) = &task.prompts else {
            return Ok(String::new());
        };
        let (prompts, _) = read_prompts(file, &self.tokenizer, self.context, self.observer)?;
        let texts = self.complete(&self.first, &prompts, task.completions)?;
        let mut reward = Specification::parse(&task.reward)?.build(&self.training.resources()?)?;
        let prompt = |i: usize| (i, &prompts[i]);
        let scores =
            completions::scores(&mut reward, prompt, task.completions, &texts, self.observer)?;
        let mut all = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let mut distinct: Vec<usize> = Vec::new();
            for one in i * task.completions..(i + 1) * task.completions {
                if distinct.iter().all(|&other| scores[other] != scores[one]) {
                    distinct.push(one);
                }
            }
            if distinct.len() > 1 {
                let text = |&one: &usize| texts[one].clone().into();
                let score = |&one: &usize| scores[one];
                let written = distinct.iter().map(text).collect();
                let scores: Vec<f64> = distinct.iter().map(score).collect();
                let own = prompt.fields.get("prompt").cloned();
                let prompt = own.unwrap_or_else(|| prompt.text.clone().into());
                all.push(Ranked::sorted(prompt, written, &scores));
            }
        }
        let left = prompts.len() - all.len();
        if left > 0 {
            let name = &task.name;
            let told = format!("{name}: {left} prompts have one score only and are left out");
            self.observer.tell(&told);
        }
        ranked::rows(&all.iter().collect::<Vec<_>>(), Form::Lists, &[])
    }

    /// A response to each prompt by the policy before a task.
    fn drawn(&self, t: usize, all: &[&Ranked]) -> Result<Vec<Value>> {
        let path = self.folder(t).join("drawn.json");
        if !path.exists() {
            let lines = all
                .iter()
                .map(|r| json!({"prompt": r.prompt}).to_string() + "\n");
            let prompts = self.folder(t).join("prompts.jsonl");
            write_whole(&prompts, lines.collect::<String>().as_bytes())?;
            let (prompts, _) =
                read_prompts(&prompts, &self.tokenizer, self.context, self.observer)?;
            let texts = self.complete(&self.before(t), &prompts, 1)?;
            write_json(&path, &texts)?;
        }
        file::json::read(&path, REMEDY)
    }

    /// Texts that a policy writes to prompts.
    fn complete(&self, model: &Path, prompts: &[Prompt], samples: usize) -> Result<Vec<String>> {
        let policy = self.decoder(model)?;
        let tokens: Vec<Vec<u32>> = prompts.iter().map(|p| p.tokens.clone()).collect();
        let sampling = Sampling {
            samples,
            max_new_tokens: self.settings.max_new_tokens,
            ..Sampling::default()
        };
        let (ends, seed) = (self.tokenizer.ends(), self.settings.seed);
        let found = generate(
            &policy,
            ends,
            &tokens,
            &sampling,
            seed,
            self.training.generation_batch,
            &self.until(),
        )?;
        completions::texts(&self.tokenizer, |i| (i, &prompts[i]), samples, &found)
    }

    /// A model for inference.
    pub fn decoder(&self, folder: &Path) -> Result<Decoder> {
        let (dtype, device) = (self.training.dtype.dtype(), self.training.device()?);
        ModelFolder::find(folder)?.decoder(dtype, &device)
    }

    /// Device of the models.
    pub fn device(&self) -> Result<Device> {
        self.training.device()
    }

    /// An observer whose work is not wanted any more once the sequence is to stop.
    fn until(&self) -> Until<'a> {
        let (observer, stop) = (self.observer, self.stop);
        Until { observer, stop }
    }

    /// Folder of a task.
    pub fn folder(&self, t: usize) -> PathBuf {
        let name = format!("{}-{}", t + 1, self.tasks.task[t].name);
        self.dir.join("tasks").join(name)
    }

    /// The run whose model a task ends with.
    fn last_run(&self, t: usize) -> PathBuf {
        let last = self.method.objectives().last();
        self.folder(t)
            .join(last.map_or("", |objective| objective.name()))
    }

    /// Rows of a task's own, as it learned from them.
    pub fn own_rows(&self, t: usize) -> PathBuf {
        self.folder(t).join(DATA)
    }

    /// The model after a task.
    pub fn model(&self, t: usize) -> PathBuf {
        self.last_run(t).join(MODEL)
    }

    /// The model that a task's training starts from.
    pub fn before(&self, t: usize) -> PathBuf {
        match t.checked_sub(1) {
            Some(last) if self.method.keeps != Keeps::Everything => self.model(last),
            _ => self.first.clone(),
        }
    }

    /// A tokenizer that rows share.
    pub fn shared_tokenizer(&self) -> Arc<Tokenizer> {
        Arc::new(self.tokenizer.clone())
    }
}

/// What rows an objective takes of ranked responses.
fn form(objective: Objective, base: Base) -> Form {
    match (base, objective.spec().inputs) {
        (Base::Feedback, _) => Form::Marked,
        (Base::SelfPlay, _) => Form::Drawn,
        (_, InputKind::LabelledPairs) => Form::Pairs,
        _ => Form::Lists,
    }
}

/// The numbers that an objective has, of those that were given.
pub(super) fn numbers_of(objective: Objective, given: &Given) -> Given {
    let has = |name: &str| objective.numbers().iter().any(|n| n.name == name);
    let own = given.iter().filter(|(name, _)| has(name));
    own.fold(Given::new(), |all, (name, value)| all.with(name, value))
}

fn read_prompts(
    file: &Path,
    tokenizer: &Tokenizer,
    context: usize,
    observer: &dyn Observer,
) -> Result<(Vec<Prompt>, String)> {
    Prompt::read(file, &Reading::default(), tokenizer, context, observer)
}

/// Writes a file that is not there.
pub(super) fn write_once(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    write_whole(path, make()?.as_bytes())
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::io(path, "write")(e.into()))?;
    write_whole(path, (text + "\n").as_bytes())
}

/// Says whose a folder is, or finds that it is this sequence's.
fn claim(dir: &Path, settings: &Settings, tasks: &Tasks, inputs: &Identity) -> Result<()> {
    let path = dir.join(MANIFEST);
    let now = json!({"format": FORMAT, "settings": settings, "tasks": tasks, "inputs": inputs});
    if path.exists() && !settings.overwrite {
        if !settings.resume {
            return Err(Error::invalid(
                dir.display().to_string(),
                "there is a sequence in it already",
                "pass --resume to go on with it, --overwrite to replace it, or choose another --out",
            ));
        }
        let begun: Value = file::json::read(&path, REMEDY)?;
        for (what, value) in now.as_object().into_iter().flatten() {
            if begun.get(what) != Some(value) {
                return Err(Error::invalid(
                    path.display().to_string(),
                    format!(
                        "its {what} are others than those of now: {}",
                        differs(&begun[what], value)
                    ),
                    "go on with the old ones, or start a new sequence in another --out",
                ));
            }
        }
        return Ok(());
    }
    if dir.exists() && !path.exists() && !file::names(dir)?.is_empty() {
        return Err(Error::invalid(
            dir.display().to_string(),
            "there is something else in it",
            "choose another --out",
        ));
    }
    if path.exists() {
        for name in [MANIFEST, START, record::ACCURACY, record::METRICS, "tasks"] {
            let old = dir.join(name);
            if old.exists() {
                file::discard(&old)?;
            }
        }
    }
    fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
    write_json(&path, &now)
}

/// The first field in which two values differ.
fn differs(old: &Value, new: &Value) -> String {
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let names = a.keys().chain(b.keys());
        for name in names {
            if a.get(name) != b.get(name) {
                let none = Value::Null;
                let [a, b] = [a, b].map(|of| of.get(name).unwrap_or(&none));
                return format!("{name}: {}", differs(a, b));
            }
        }
    }
    format!("{old} then, {new} now")
}
