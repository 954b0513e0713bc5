//! Weight of each message of a conversation in the loss.

use serde_json::Value;

use super::values::{Parsed, fault, kind};
use crate::llm::text::chat::Message;

/// Fields of a message that say what it weighs: a number (OpenAI), or whether it is trained on
/// (axolotl, ms-swift).
const FIELDS: [&str; 5] = ["weight", "train", "training", "loss", "loss_scale"];

/// Fields that weigh parts of a message, which nothing here does.
const PARTS: [&str; 2] = ["train_detail", "training_detail"];

/// Whether a field of a message is read here.
pub(super) fn is_weight(field: &str) -> bool {
    FIELDS.contains(&field)
}

/// The weights of the turns of a conversation, unless none has one. What the assistant says weighs 1 if
/// it does not say otherwise, what others say 0.
///
/// # Errors
/// A weight that is none, two in one message, a message of another than the assistant that is to be
/// trained on.
pub(super) fn of_turns(column: &str, turns: &[Message]) -> Parsed<Option<Vec<f64>>> {
    let mut any = false;
    let mut weights = Vec::with_capacity(turns.len());
    for turn in turns {
        let said = of_message(column, turn)?;
        any |= said.is_some();
        weights.push(match (said, turn.is_answer()) {
            (Some(weight), true) => weight,
            (None, true) => 1.0,
            (None | Some(0.0), false) => 0.0,
            (Some(weight), false) => {
                return fault(
                    format!(
                        "a turn of `{}` in `{column}` has weight {weight}",
                        turn.role()
                    ),
                    "only what the assistant says is trained on: give it weight 0, or none",
                );
            }
        });
    }
    Ok(any.then_some(weights))
}

/// Refuses turns of a prompt that are to be trained on.
pub(super) fn are_given(turns: &[Message]) -> Parsed<()> {
    for turn in turns {
        if of_message("prompt", turn)?.is_some_and(|weight| weight > 0.0) {
            return fault(
                format!(
                    "a turn of `{}` before the completion has a weight above 0",
                    turn.role()
                ),
                "the prompt is not trained on: give the conversation as `messages`, for sft, or \
                 take the weight out",
            );
        }
    }
    Ok(())
}

fn of_message(column: &str, turn: &Message) -> Parsed<Option<f64>> {
    let there = |name: &&&str| turn.fields().get(**name).is_some_and(|v| !v.is_null());
    if let Some(name) = PARTS.iter().find(there) {
        return fault(
            format!("a message of `{column}` has `{name}`"),
            "a message is trained on whole or not at all: give it a weight, or leave the row out",
        );
    }
    let mut fields = FIELDS.iter().filter(there);
    let Some(name) = fields.next() else {
        return Ok(None);
    };
    if let Some(other) = fields.next() {
        return fault(
            format!("a message of `{column}` has `{name}` and `{other}`, which mean the same"),
            "leave one of them out",
        );
    }
    let value = &turn.fields()[*name];
    let weight = match value {
        Value::Bool(train) => Some(f64::from(u8::from(*train))),
        value => value.as_f64().filter(|w| (0.0..=1e6).contains(w)),
    };
    match weight {
        Some(weight) => Ok(Some(weight)),
        None => {
            let found = match value {
                Value::Number(number) => number.to_string(),
                value => kind(value).into(),
            };
            fault(
                format!("`{name}` of a message of `{column}` is {found}"),
                "give a number from 0 to 1000000, or true or false",
            )
        }
    }
}
