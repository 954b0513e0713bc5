//! Bounds on how much longer a text may become before it is cut into tokens.

use serde::Deserialize;
use serde_json::Value;

/// Times that replacements may lengthen a text, one after another. (A space that becomes `▁` is 3.)
const MOST: f64 = 10_000.0;

/// The parts of `tokenizer.json` that replace.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    decoder: Option<Value>,
}

/// Refuses replacements that would make gigabytes of a text.
///
/// # Errors
/// What is too long.
pub(super) fn bounded(text: &str) -> tokenizers::Result<()> {
    // What is wrong with the file otherwise is said by who reads it whole.
    let Ok(parts) = serde_json::from_str::<Parts>(text) else {
        return Ok(());
    };
    for (name, part) in [("normalizer", parts.normalizer), ("decoder", parts.decoder)] {
        let longer = part.as_ref().map_or(1.0, times);
        if longer > MOST {
            return Err(format!(
                "{name}: its replacements can make a text {longer:.0} times as long"
            )
            .into());
        }
    }
    Ok(())
}

/// How many times as long a text can become.
fn times(part: &Value) -> f64 {
    match part {
        Value::Array(list) => list.iter().map(times).product(),
        Value::Object(fields) => {
            let inside: f64 = fields.values().map(times).product();
            let length = |value: &Value| value.as_str().map_or(0, str::len) as f64;
            let own = match fields.get("type").and_then(Value::as_str) {
                // An expression may match one character, or none.
                Some("Replace") => {
                    let pattern = fields.get("pattern").and_then(|p| p.get("String"));
                    let content = fields.get("content").map_or(0.0, length);
                    content / pattern.map_or(1.0, length).max(1.0)
                }
                Some("Prepend") => fields.get("prepend").map_or(0.0, length),
                _ => 1.0,
            };
            inside * own.max(1.0)
        }
        _ => 1.0,
    }
}
