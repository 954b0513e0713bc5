//! `adapter_config.json` of PEFT.

use std::path::Path;

use fancy_regex::Regex;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::llm::files::fields::Fields;
use crate::llm::files::json::{self, Object};
use crate::llm::model::architecture::most;

/// Fields that change nothing. (`fan_in_fan_out` says how the base stores its matrices, which we
/// know; `init_lora_weights` is looked at.)
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "fan_in_fan_out",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Linear layers that are adapted.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// All but the output head.
    AllLinear,
    /// Those whose whole path matches a regular expression.
    Pattern(String),
    /// Those whose path is, or ends with a dot and, one of these.
    Names(Vec<String>),
}

impl Target {
    /// The ones of those paths that are adapted; `head` is the output head's path.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn pick<'a>(
        &self,
        paths: impl Iterator<Item = &'a str>,
        head: &str,
    ) -> Result<Vec<&'a str>> {
        let pattern = match self {
            Self::Pattern(pattern) => {
                let whole = Regex::new(&format!("^(?:{pattern})$"));
                Some(whole.map_err(|e| {
                    let remedy = "give a regular expression, or a list of names";
                    Error::invalid("target_modules", e.to_string(), remedy)
                })?)
            }
            _ => None,
        };
        let mut picked = Vec::new();
        for path in paths {
            let is_target = match (self, &pattern) {
                (Self::AllLinear, _) => path != head,
                (Self::Names(names), _) => names.iter().any(|name| named(path, name)),
                (_, Some(pattern)) => pattern.is_match(path).map_err(|e| {
                    let remedy = "simplify the regular expression";
                    Error::invalid("target_modules", e.to_string(), remedy)
                })?,
                (_, None) => false,
            };
            if is_target {
                picked.push(path);
            }
        }
        Ok(picked)
    }
}

/// True if a path is a name, or ends with it.
pub fn named(path: &str, name: &str) -> bool {
    (path.strip_suffix(name)).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Configuration of an adapter: rank, α and the adapted layers.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// r, the rank.
    pub rank: usize,
    /// α: what is added is `α/r · B A x`.
    pub alpha: f64,
    /// `α/√r` instead (rsLoRA).
    pub rank_stabilised: bool,
    /// Layers that are adapted.
    pub target: Target,
    /// Dropout before A, which is not supported in training.
    pub dropout: f64,
    /// Name or folder of the base.
    pub base: Option<String>,
}

impl AdapterConfig {
    /// An adapter of that rank and α, on those layers.
    pub fn new(rank: usize, alpha: f64, target: Target) -> Self {
        Self {
            rank,
            alpha,
            rank_stabilised: false,
            target,
            dropout: 0.0,
            base: None,
        }
    }

    /// Factor of `B A x`.
    pub fn scaling(&self) -> f64 {
        if self.rank_stabilised {
            self.alpha / (self.rank as f64).sqrt()
        } else {
            self.alpha / self.rank as f64
        }
    }

    /// The configuration in a file.
    ///
    /// # Errors
    /// A file that cannot be read, another kind of adapter, or a field that changes the arithmetic
    /// and is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let object = json::read(path)?;
        Self::new_from(&object).map_err(|e| e.in_file(&path.display().to_string()))
    }

    fn new_from(object: &Object) -> Result<Self> {
        // PEFT writes out every variant that is off: false, {} and [] say nothing.
        let mut said = object.clone();
        said.retain(|name, value| {
            let silent = match value {
                Value::Bool(on) => !*on,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            !silent || name == "init_lora_weights"
        });
        let fields = Fields::new(&said);
        if fields.text("peft_type")? != Some("LORA") {
            let found = fields.value("peft_type").unwrap_or(&Value::Null);
            return Err(fields.wrong("peft_type", found, "only LORA is supported"));
        }
        fields.only("bias", "none")?;
        match fields.value("init_lora_weights") {
            // Others change the base too.
            None | Some(Value::Bool(_)) => {}
            Some(value) if value == "gaussian" => {}
            Some(value) => {
                let right = "supported are true, false and gaussian";
                return Err(fields.wrong("init_lora_weights", value, right));
            }
        }
        if let Some(value) = fields.value("modules_to_save") {
            let heads = [json!("classifier"), json!("score")];
            let all_heads = (value.as_array()).is_some_and(|l| l.iter().all(|m| heads.contains(m)));
            if !all_heads {
                let right = "only the reward head, score, can be trained beside an adapter";
                return Err(fields.wrong("modules_to_save", value, right));
            }
        }
        let alpha = fields.number("lora_alpha")?;
        let target = match fields.value("target_modules") {
            Some(Value::String(all)) if all.to_lowercase() == "all-linear" => Target::AllLinear,
            Some(Value::String(pattern)) => Target::Pattern(pattern.clone()),
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => Target::Names(
                (names.iter().filter_map(Value::as_str))
                    .map(Into::into)
                    .collect(),
            ),
            other => {
                let right = "give a list of names, a regular expression, or all-linear";
                let found = other.unwrap_or(&Value::Null);
                return Err(fields.wrong("target_modules", found, right));
            }
        };
        let config = Self {
            rank: fields.count("r", most::RANK)?,
            alpha,
            rank_stabilised: fields.flag_or("use_rslora", false)?,
            target,
            dropout: fields.number_or("lora_dropout", 0.0)?,
            base: fields.text("base_model_name_or_path")?.map(Into::into),
        };
        fields.all_known("LoRA", HARMLESS)?;
        Ok(config)
    }

    /// The file's content, for an adapter of the layers with those paths. `conv` is GPT-2's way to
    /// store matrices; with `reward`, the score head is trained and saved too.
    ///
    /// Layers that were not given by name are listed one by one, as PEFT does for `all-linear`: to
    /// a pattern PEFT would hold activations and norms too, and fail.
    pub fn to_json(&self, paths: &[&str], conv: bool, reward: bool) -> Value {
        let target = match &self.target {
            Target::AllLinear | Target::Pattern(_) => json!(paths),
            Target::Names(names) => json!(names),
        };
        let (task, saved) = if reward {
            ("SEQ_CLS", json!(["classifier", "score"]))
        } else {
            ("CAUSAL_LM", Value::Null)
        };
        json!({
            "base_model_name_or_path": self.base,
            "bias": "none",
            "fan_in_fan_out": conv,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": saved,
            "peft_type": "LORA",
            "r": self.rank,
            "target_modules": target,
            "task_type": task,
            "use_rslora": self.rank_stabilised,
        })
    }
}
