//! The linear layers of a model, as transformers has them.

use super::HEAD;
use super::config::{self, AdapterConfig, Target};
use crate::error::{Error, Result};
use crate::llm::model::config::Config;
use crate::llm::model::decoder::Decoder;

/// An adapted linear layer of the file: one of ours, or several that share A (GPT-2's `c_attn`).
#[derive(Debug, Clone)]
pub(in crate::llm) struct Module {
    /// Its path in transformers.
    pub path: String,
    /// Our names, with `[out, in]`.
    pub parts: Vec<(String, [usize; 2])>,
    /// Rows of B that the parts give in turn; 0 if each gives all of its own at once.
    pub turns: usize,
}

impl Module {
    /// A's name, and its number of columns.
    pub fn a(&self) -> (String, [usize; 1]) {
        let (name, [_, input]) = &self.parts[0];
        (format!("{name}.lora_A.weight"), [*input])
    }
}

/// The name of a part's B.
pub(in crate::llm) fn b_name(part: &str) -> String {
    format!("{part}.lora_B.weight")
}

impl Decoder {
    /// The linear layers of the file that a configuration adapts.
    ///
    /// # Errors
    /// A target that matches none of them; with `all_named`, one that names something else.
    pub(super) fn modules(&self, config: &AdapterConfig, all_named: bool) -> Result<Vec<Module>> {
        let Some(of) = self.config() else {
            let problem = "the model was not made from a config.json";
            let remedy = "load it, or make it with `from_config`";
            return Err(Error::invalid("adapter", problem, remedy));
        };
        Module::picked(of, self.has_head(), config, all_named)
    }
}

impl Module {
    /// The linear layers of a model, with its output head or without, that a configuration adapts.
    ///
    /// # Errors
    /// As [`Decoder::modules`].
    pub fn picked(
        of: &Config,
        with_head: bool,
        config: &AdapterConfig,
        all_named: bool,
    ) -> Result<Vec<Self>> {
        let modules = Self::all(of, with_head);
        let paths = || modules.iter().map(|m| m.path.as_str());
        let picked = config.target.pick(paths(), HEAD)?;
        let unused = match &config.target {
            Target::Names(names) if all_named => {
                (names.iter()).find(|n| !picked.iter().any(|path| config::named(path, n)))
            }
            _ => None,
        };
        if picked.is_empty() || unused.is_some() {
            let mut kinds: Vec<&str> = paths().map(|p| p.rsplit('.').next().unwrap_or(p)).collect();
            kinds.sort_unstable();
            kinds.dedup();
            let problem = match unused {
                Some(name) => format!("no linear layer is called {name}"),
                None => format!("{:?} matches no linear layer", config.target),
            };
            let remedy = format!("there are {}", kinds.join(", "));
            return Err(Error::invalid("target_modules", problem, remedy));
        }
        let is_picked = |m: &Self| picked.contains(&m.path.as_str());
        Ok(modules.iter().filter(|m| is_picked(m)).cloned().collect())
    }

    /// All linear layers, as transformers has them.
    fn all(config: &Config, with_head: bool) -> Vec<Self> {
        let sizes = config.sizes();
        let mut modules: Vec<Self> = (config.family.names.layout(&config.graph, false))
            .into_iter()
            .filter(|entry| entry.of_layer)
            .map(|entry| Self {
                turns: entry.turns,
                path: bare(&entry.name).into(),
                parts: (entry.parts.iter())
                    .map(|(name, shape)| (bare(name).into(), [shape[0], shape[1]]))
                    .collect(),
            })
            .collect();
        if with_head {
            modules.push(Self {
                path: HEAD.into(),
                parts: vec![(HEAD.into(), [sizes.vocabulary, sizes.width])],
                turns: 0,
            });
        }
        modules
    }
}

fn bare(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}
