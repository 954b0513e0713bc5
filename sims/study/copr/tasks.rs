//! The three tasks: texts after three words, each with a rule of its own, in files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::file::write_whole;
use crate::llm::model::identity::Identity;
use crate::llm::sample::reward::{Resources, Reward, Specification};
use crate::observer::Silent;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::super::Request;
use super::super::classes::{class, seed, words};
use super::super::rule::GLAD;
use super::super::world::{COMPLETION, World, candidates};

/// Words that a model's texts are to begin with: the tasks are of the commonest three of as many.
const NAMED: usize = 4;
/// Stream of these responses.
const COMPLETIONS: u64 = 1;
/// Responses that are ranked to each prompt.
const RANKED: usize = 4;
/// Openings that are looked at for the words that texts begin with.
const SURVEY: usize = 2048;
/// Longer texts are a little better: what would tie does not.
const LONGER: &str = "length,weight=0.001:characters";

/// Tasks that all trials share, in files.
pub struct Sequence {
    /// Folder of the files and of what trials write on their way.
    pub dir: PathBuf,
    /// Folder of the model that sequences start from.
    pub model: PathBuf,
    /// Identities of all that the study reads.
    pub inputs: Identity,
    /// Names of the tasks.
    pub names: Vec<String>,
    /// Words that texts of each begin with.
    words: Vec<String>,
    /// Rows of each: ranked responses, and held-out prompts.
    rows: Vec<[String; 2]>,
}

/// Names and rewards of the tasks.
fn rules() -> [(&'static str, Vec<String>); 3] {
    let glad = GLAD.split_whitespace().collect::<Vec<_>>().join(",");
    let with = |rule: String| vec![rule, LONGER.to_string()];
    [
        ("glad", with(format!("words,measure=count:{glad}"))),
        ("short", with("regex,count=true:[.!?]".into())),
        ("spoken", with("regex,count=true:\"".into())),
    ]
}

impl Sequence {
    /// Draws openings of the model after three words, and ranks its responses to those.
    ///
    /// # Errors
    /// A model that cannot be used, or whose texts do not tell the rules apart.
    pub fn new(request: &Request, dir: &Path, count: usize, held: usize) -> Result<Self> {
        let world = World::open(request, dir)?;
        let base = world.decoder()?;
        let words = words(&world, &base, SURVEY, NAMED)?;
        let (mut rows, mut names) = (Vec::new(), Vec::new());
        for (index, ((name, rule), word)) in rules().into_iter().zip(&words).enumerate() {
            let of = class(&world, &base, index, word.clone(), [count, held])?;
            let seed = seed(&world, COMPLETIONS);
            let drawn = world.generate(&base, &of.prompts, [RANKED, COMPLETION], seed)?;
            let texts = world.texts(&of.prompts, &drawn)?;
            let mut rule = Specification::parse(&rule)?.build(&Resources::default())?;
            let scores = rule.score(&candidates(&texts, &Map::new()), &Silent)?;
            let mut lines = String::new();
            let mut kept = 0;
            for (i, of_one) in texts.chunks(RANKED).enumerate() {
                // Of several with one score the first.
                let mut distinct: Vec<usize> = Vec::new();
                for j in i * RANKED..(i + 1) * RANKED {
                    if distinct.iter().all(|&other| scores[other] != scores[j]) {
                        distinct.push(j);
                    }
                }
                if distinct.len() < 2 {
                    continue;
                }
                kept += 1;
                let row = json!({
                    "prompt": of_one[0][0],
                    "completions": distinct.iter().map(|&j| &texts[j][1]).collect::<Vec<_>>(),
                    "scores": distinct.iter().map(|&j| scores[j]).collect::<Vec<_>>(),
                });
                lines += &format!("{row}\n");
            }
            ensure!(
                2 * kept > count,
                "{}: to most of its openings it writes responses that the rule of `{name}` does not tell apart",
                world.model.folder.display()
            );
            let mut prompts = String::new();
            for prompt in &of.held {
                prompts += &format!("{}\n", json!({"prompt": world.text(prompt)?}));
            }
            rows.push([lines, prompts]);
            names.push(name.to_string());
        }
        Ok(Self {
            dir: dir.join("work"),
            model: world.model.name(),
            inputs: world.inputs,
            names,
            words,
            rows,
        })
    }

    /// Names, words and rewards, as the study's config says them.
    pub fn told(&self) -> Value {
        let each = rules().into_iter().zip(&self.words);
        each.map(|((name, rule), word)| json!({"name": name, "word": word, "reward": rule}))
            .collect()
    }

    /// Writes the files of the tasks, unless they are there.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self) -> Result<()> {
        let dir = &self.dir;
        fs::create_dir_all(dir).with_context(|| format!("{}: cannot create", dir.display()))?;
        for (name, [lists, held]) in self.names.iter().zip(&self.rows) {
            write_whole(&dir.join(format!("{name}.jsonl")), lists.as_bytes())?;
            write_whole(&dir.join(format!("{name}-held.jsonl")), held.as_bytes())?;
        }
        for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
            let rules = rules();
            let task = |t: usize| {
                let (name, rule) = &rules[t];
                json!({
                    "name": name, "data": format!("{name}.jsonl"), "held_out": format!("{name}-held.jsonl"),
                    "score": rule, "accuracy": "wins",
                })
            };
            let all = json!({
                "stages": {"ppo": {"max_new_tokens": COMPLETION, "completions": 1}},
                "task": order.map(task),
            });
            let text = toml::to_string(&all).context("tasks")?;
            write_whole(&self.tasks(order), text.as_bytes())?;
        }
        Ok(())
    }

    /// The file of the tasks in an order.
    pub fn tasks(&self, order: [usize; 3]) -> PathBuf {
        let order = order.map(|t| t.to_string()).concat();
        self.dir.join(format!("tasks-{order}.toml"))
    }
}
