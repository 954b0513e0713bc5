//! Columns beside those that hold the texts: what a conversation's template is given, and what no text
//! model can see.

use serde_json::{Map, Value};

use super::values::{Columns, Parsed, fault, kind};
use crate::file::json;
use crate::llm::text::chat::{Given, Message};

/// Columns that a conversation is rendered with: the tools that may be called, further values for the
/// template, and the system's message.
pub(super) const ASIDE: [&str; 3] = ["chat_template_kwargs", "system", "tools"];

/// Columns of what is seen and heard. A row without it would be another row.
pub(super) const SEEN: [&str; 6] = ["audio", "audios", "image", "images", "video", "videos"];

/// Kinds of parts of a message's content that are no text begin so: `image_url`, `input_audio`.
const PARTS: [&str; 4] = ["image", "video", "audio", "input_"];

/// The columns beside a row's texts. What they hold is looked at where it is used.
pub(super) struct Aside<'a>(&'a Columns<'a>);

impl<'a> Aside<'a> {
    pub fn new(columns: &'a Columns<'a>) -> Self {
        Self(columns)
    }

    /// Refuses a row with pictures or sounds.
    pub fn is_text(&self) -> Parsed<()> {
        let has = |name: &&&str| match self.0.value(name) {
            Some(Value::Array(list)) => list.iter().any(|entry| !entry.is_null()),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Object(fields)) => fields.values().any(|field| !field.is_null()),
            value => value.is_some(),
        };
        match SEEN.iter().find(has) {
            None => Ok(()),
            Some(name) => fault(
                format!("`{name}` holds what a text model does not see"),
                format!("leave the row out, or train without: --column {name}=none"),
            ),
        }
    }

    /// Variables that the template is given besides the messages.
    pub fn given(&self) -> Parsed<Given> {
        let tools = match self.text_or_json("tools")? {
            None => None,
            Some(Value::Array(tools)) => Some(tools),
            Some(other) => {
                let problem = format!("`tools` is {}", kind(&other));
                return fault(
                    problem,
                    "give a list of tools in JSON schema, or JSON text of one",
                );
            }
        };
        let kwargs = match self.text_or_json("chat_template_kwargs")? {
            None => Map::new(),
            Some(Value::Object(kwargs)) => kwargs,
            Some(other) => {
                let problem = format!("`chat_template_kwargs` is {}", kind(&other));
                return fault(problem, "give an object: {\"enable_thinking\": false}");
            }
        };
        // What only other rows have is a null here, if the file is parquet.
        let kwargs = kwargs.into_iter().filter(|(_, value)| !value.is_null());
        Given::new(tools, kwargs.collect()).or_else(|problem| {
            let remedy = "give tools in JSON schema, and values for the template by other names";
            fault(
                format!("of `tools` and `chat_template_kwargs`, {problem}"),
                remedy,
            )
        })
    }

    /// A column's value, or that of the JSON text in it.
    fn text_or_json(&self, name: &str) -> Parsed<Option<Value>> {
        match self.0.value(name) {
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => match json::value(text) {
                Ok(value) => Ok(Some(value).filter(|value| !value.is_null())),
                Err(error) => fault(
                    format!("`{name}` is text that is no JSON: {error}"),
                    "correct it",
                ),
            },
            value => Ok(value.cloned()),
        }
    }

    /// The messages with that of the column `system` before them.
    pub fn after_system(&self, messages: &[Message]) -> Parsed<Vec<Message>> {
        let system = match self.0.value("system") {
            None => return Ok(messages.to_vec()),
            Some(Value::String(text)) if text.is_empty() => return Ok(messages.to_vec()),
            Some(Value::String(text)) => Message::new("system", text),
            Some(other) => {
                return fault(format!("`system` is {}", kind(other)), "give a string");
            }
        };
        match messages.first() {
            Some(first)
                if first.fields().get("content") == system.fields().get("content")
                    && first.role() == "system" =>
            {
                Ok(messages.to_vec())
            }
            Some(first) if matches!(first.role(), "system" | "developer") => fault(
                format!(
                    "the column `system` and the conversation's first turn, of `{}`, say different \
                     things",
                    first.role()
                ),
                "leave one of them out: --column system=none",
            ),
            _ => Ok([&[system], messages].concat()),
        }
    }
}

/// Refuses messages with parts that are no text.
pub(super) fn are_text(name: &str, messages: &[Message]) -> Parsed<()> {
    let contents = messages
        .iter()
        .filter_map(|m| m.fields().get("content")?.as_array());
    let kinds = contents
        .flatten()
        .filter_map(|part| part.get("type")?.as_str());
    let other = |kind: &&str| kind != &"input_text" && PARTS.iter().any(|p| kind.starts_with(p));
    match kinds.into_iter().find(other) {
        None => Ok(()),
        Some(kind) => fault(
            format!(
                "a message of `{name}` has a part of type `{kind}`, which a text model does not see"
            ),
            "leave the row out",
        ),
    }
}
