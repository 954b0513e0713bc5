//! The reference numbers of `fixtures/golden.json`, computed independently of this crate.

use pistar::bandit::{Policy, Problem};
use serde_json::Value;

/// A number, a decimal string or a fraction.
pub fn number(v: &Value) -> f64 {
    match v {
        Value::String(s) => match s.split_once('/') {
            Some((n, d)) => n.parse::<f64>().unwrap() / d.parse::<f64>().unwrap(),
            None => s.parse().unwrap(),
        },
        other => other.as_f64().unwrap(),
    }
}

/// A list of them.
pub fn row(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(number).collect()
}

/// A list of lists.
pub fn table(v: &Value) -> Vec<Vec<f64>> {
    v.as_array().unwrap().iter().map(row).collect()
}

/// Each instance: its name, all its numbers, its problem with value, ranking, policy and margin.
pub fn instances() -> Vec<(String, Value, Problem)> {
    let golden: Value = serde_json::from_str(include_str!("../fixtures/golden.json")).unwrap();
    let instances = golden["instances"].as_object().unwrap().clone();
    assert_eq!(instances.len(), 3);
    (instances.into_iter())
        .map(|(name, instance)| {
            let inputs = &instance["inputs"];
            let prompts: Vec<Value> = (0..row(&inputs["rho"]).len())
                .map(|x| {
                    serde_json::json!({
                        "weight": number(&inputs["rho"][x]),
                        "reward": row(&inputs["R"][x]),
                        "reference": row(&inputs["ref"][x]),
                        "behavior": [row(&inputs["mu1"][x]), row(&inputs["mu2"][x])],
                        "value": number(&inputs["V"][x]),
                        "ranking": inputs["Y"][x],
                        "policy": Policy::softmax(&[row(&inputs["th"][x])]).probabilities()[0],
                    })
                })
                .collect();
            let (beta, margin) = (number(&inputs["beta"]), number(&inputs["m"]));
            let file = serde_json::json!({ "beta": beta, "margin": margin, "prompts": prompts });
            let problem = Problem::from_json(&file.to_string()).unwrap();
            (name, instance, problem)
        })
        .collect()
}
