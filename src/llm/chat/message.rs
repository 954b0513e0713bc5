//! One turn of a conversation.

use serde_json::{Map, Value};

/// Names of the fields that say who speaks, and what. The first is what templates read.
const WHO: [&str; 2] = ["role", "from"];
const WHAT: [&str; 3] = ["content", "value", "text"];

/// Other names of the roles.
const ROLES: [(&str, &str); 8] = [
    ("human", "user"),
    ("prompter", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
];

/// A turn, as templates read it: an object with `role` and `content`, and whatever else it had.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// What somebody said.
    pub fn new(role: &str, content: &str) -> Self {
        Self(Map::from_iter([
            ("role".into(), role.into()),
            ("content".into(), content.into()),
        ]))
    }

    /// The message in a JSON value: `role` and `content`, or under the names that other data have
    /// for them (`from`; `value`, `text`; `human` for `user`, `gpt` for `assistant`).
    ///
    /// # Errors
    /// What it is instead.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err(format!("{value} is no message"));
        };
        let find = |names: &[&'static str]| {
            (names.iter()).find_map(|&name| Some((name, fields.get(name)?)))
        };
        let listed = || {
            fields
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some((who, Value::String(role))) = find(&WHO) else {
            return Err(format!("a message has no role, but {}", listed()));
        };
        let role = ROLES
            .iter()
            .find(|(other, _)| other == role)
            .map_or(role.as_str(), |r| r.1);
        let mut message = fields.clone();
        message.remove(who);
        message.insert("role".into(), role.into());
        match find(&WHAT) {
            Some((what, content @ (Value::String(_) | Value::Array(_)))) => {
                message.remove(what);
                message.insert("content".into(), content.clone());
            }
            // What an assistant says where it only calls tools.
            Some((_, Value::Null)) | None if fields.contains_key("tool_calls") => {}
            Some((what, _)) => return Err(format!("a message's {what} is no text")),
            None => return Err(format!("a message has no content, but {}", listed())),
        }
        Ok(Self(message))
    }

    /// Whose turn it is.
    pub fn role(&self) -> &str {
        self.0
            .get("role")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether it is the model's turn.
    pub fn is_answer(&self) -> bool {
        self.role() == "assistant"
    }

    /// All its fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}
