//! What each method is tuned by: as many settings of each that has some, tried alike.

use crate::continual::Method;
use crate::llm::continual::Settings;
use crate::llm::files::settings::{Fields, Given};
use anyhow::{Context, Result};

/// Methods that are run in other orders and with other shares of replay.
pub const VARIED: [&str; 2] = [Method::COPR.name, Method::DPO.name];

/// The paper's 15 rivals, COPR and its ablations.
pub fn methods() -> impl Iterator<Item = &'static str> {
    let own = Method::ALL
        .iter()
        .take_while(|m| m.name != Method::FIT.name);
    own.map(|method| method.name)
}

/// The method whose tuning says a method's setting: an ablation of COPR has that of COPR.
pub fn tuned_as(name: &str) -> &str {
    if name.starts_with(Method::COPR.name) {
        Method::COPR.name
    } else {
        name
    }
}

/// Settings of a method, as flags of `pistar continual` without their dashes; `-` where it has nothing to tune.
pub fn settings(name: &str) -> Vec<String> {
    let of = |flag: &str, values: [&str; 3]| -> Vec<String> {
        values
            .iter()
            .map(|value| format!("{flag}={value}"))
            .collect()
    };
    let is = |method: Method| method.name == name;
    if is(Method::SFT_L2) {
        return of("pull", ["0.1", "1", "10"]);
    }
    if is(Method::SFT_EWC) {
        return of("pull", ["0.01", "0.1", "1"]);
    }
    if is(Method::SFT_MAS) {
        return of("pull", ["0.0001", "0.001", "0.01"]);
    }
    if is(Method::SFT_TFCL) {
        let pulls = of("pull", ["0.0001", "0.001", "0.01"]);
        return pulls
            .iter()
            .map(|pull| format!("plateau_mean=2 {pull}"))
            .collect();
    }
    if is(Method::SFT_LWF) {
        return of("distillation", ["0.1", "0.3", "1"]);
    }
    if is(Method::SFT_DER) {
        return of("matching", ["0.0001", "0.001", "0.01"]);
    }
    if [Method::COH, Method::PRO, Method::RRHF]
        .map(is)
        .contains(&true)
    {
        return of("replay_weight", ["0.3", "1", "3"]);
    }
    if [Method::SPIN, Method::DPO].map(is).contains(&true) {
        return of("beta", ["0.1", "0.3", "1"]);
    }
    if is(Method::RLHF) {
        return of("beta", ["0.01", "0.05", "0.2"]);
    }
    if name.starts_with(Method::COPR.name) {
        let points = [("0.5", "1"), ("0.5", "3"), ("0.2", "1")];
        let each = points.map(|(beta, start)| format!("beta={beta} multiplier_start={start}"));
        return each.to_vec();
    }
    vec!["-".into()]
}

/// Lays a setting over others.
///
/// # Errors
/// One that is not known.
pub fn apply(setting: &str, settings: &mut Settings) -> Result<()> {
    for part in setting.split(' ').filter(|part| *part != "-") {
        let (name, value) = part.split_once('=').context("setting")?;
        if Settings::FIELDS.iter().any(|field| field.name == name) {
            settings.lay(name, vec![Given::Number(value.parse().context("setting")?)]);
        } else {
            settings.set.push(format!("numbers={{ {name} = {value} }}"));
        }
    }
    Ok(())
}
