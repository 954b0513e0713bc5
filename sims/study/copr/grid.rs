//! What each method is tuned by: as many settings of each, tried alike.

use crate::continual::recipe::{ALL, Recipe};
use crate::llm::continual::Settings;
use anyhow::{Context, Result};

/// Methods that are run in other orders and with other shares of replay.
pub const VARIED: [&str; 2] = ["copr", "dpo"];

/// All methods.
pub fn methods() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|recipe: &Recipe| recipe.name)
}

/// Settings of a method, as `--FLAG=VALUE` of `pistar continual`; `-` where it has nothing to tune.
pub fn settings(method: &str) -> Vec<String> {
    let of = |flag: &str, values: &[&str]| -> Vec<String> {
        values
            .iter()
            .map(|value| format!("{flag}={value}"))
            .collect()
    };
    match method {
        "l2" => of("strength", &["0.1", "1", "10", "100"]),
        "ewc" => of("strength", &["0.01", "0.1", "1", "10"]),
        "mas" => of("strength", &["0.0001", "0.001", "0.01", "0.1"]),
        "tfcl" => ["0.0001", "0.001", "0.01", "0.1"]
            .map(|s| format!("plateau_mean=2 strength={s}"))
            .to_vec(),
        "lwf" => of("strength", &["0.03", "0.1", "0.3", "1"]),
        "der" => of("strength", &["0.0001", "0.001", "0.01", "0.1"]),
        "a-gem" | "sft" | "multitask" => vec!["-".into()],
        "coh" => of("replay_weight", &["0.3", "1", "3", "10"]),
        "pro" => ["0.3", "1", "3", "10"]
            .map(|w| format!("replay_weight={w}"))
            .to_vec(),
        "rrhf" => of("replay_weight", &["0.3", "1", "3", "10"]),
        "spin" | "dpo" => of("beta", &["0.03", "0.1", "0.3", "1"]),
        "rlhf" => of("beta", &["0.01", "0.03", "0.1", "0.3"]),
        "copr-no-constraint" => of("beta", &["0.1", "0.3", "0.5", "1"]),
        "copr-replay" => of("beta", &["0.1", "0.3", "0.5", "1"]),
        _ => [("0.5", "1"), ("0.5", "3"), ("0.2", "1"), ("1", "1")]
            .map(|(beta, start)| format!("beta={beta} multiplier_start={start}"))
            .to_vec(),
    }
}

/// Lays a setting over others.
///
/// # Errors
/// One that is not known.
pub fn apply(setting: &str, settings: &mut Settings) -> Result<()> {
    for part in setting.split(' ').filter(|part| *part != "-") {
        let (name, value) = part.split_once('=').context("setting")?;
        let number: f64 = value.parse().context("setting")?;
        match name {
            "strength" => settings.strength = number,
            "replay_weight" => settings.replay_weight = number,
            "plateau_mean" => settings.plateau_mean = number,
            "multiplier_start" => settings.multiplier_start = number,
            _ => settings.set.push(format!("numbers={{ {name} = {value} }}")),
        }
    }
    Ok(())
}
