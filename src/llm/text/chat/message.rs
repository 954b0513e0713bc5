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

/// Names under which a turn's reasoning comes; the first is what templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What a turn can be instead of content: calls of tools, or reasoning that was cut off.
const INSTEAD: [&str; 2] = ["tool_calls", "function_call"];

/// A turn, as templates read it: an object with `role` and `content`, and whatever else it had that
/// is not null, in the order in which it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A turn with that role and content.
    pub fn new(role: &str, content: &str) -> Self {
        Self(Map::from_iter([
            ("role".into(), role.into()),
            ("content".into(), content.into()),
        ]))
    }

    /// The message in a JSON value: `role` and `content`, or under the names that other data have
    /// for them (`from`; `value`, `text`; `human` for `user`, `gpt` for `assistant`). Fields that are
    /// null are none; null deeper inside is kept.
    ///
    /// # Errors
    /// What it is instead.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err(format!("{value} is no message"));
        };
        // Formats of tables fill columns that only some messages have with null.
        let there = || fields.iter().filter(|(_, value)| !value.is_null());
        let find = |names: &[&str]| {
            let field = |name: &&str| there().find(|(field, _)| field == name);
            names.iter().find_map(field)
        };
        let listed = || {
            let mut names: Vec<&str> = there().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            names.join(", ")
        };
        let Some((who, Value::String(role))) = find(&WHO) else {
            return Err(format!("a message has no role, but {}", listed()));
        };
        let role = ROLES
            .iter()
            .find(|(other, _)| other == role)
            .map_or(role.as_str(), |r| r.1);
        let what = match find(&WHAT) {
            Some((what, Value::String(_) | Value::Array(_) | Value::Object(_))) => Some(what),
            Some((what, _)) => return Err(format!("a message's {what} is no text")),
            None if INSTEAD
                .iter()
                .chain(&REASONING)
                .any(|&name| find(&[name]).is_some()) =>
            {
                None
            }
            None => return Err(format!("a message has no content, but {}", listed())),
        };
        let mut message = Map::new();
        for (name, value) in there() {
            let (name, value) = if name == who {
                (WHO[0], role.into())
            } else if Some(name) == what {
                (WHAT[0], value.clone())
            } else {
                (name.as_str(), value.clone())
            };
            message.insert(name.into(), value);
        }
        Ok(Self(message))
    }

    /// Role of the speaker.
    pub fn role(&self) -> &str {
        self.0
            .get("role")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// True if it is the model's turn.
    pub fn is_answer(&self) -> bool {
        self.role() == "assistant"
    }

    /// All its fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Fields that templates are given: all of them, and the turn's reasoning under the two names that templates have
    /// for it, whichever it came under.
    pub fn shown(&self) -> Map<String, Value> {
        let Some(reasoning) = REASONING.iter().find_map(|name| self.0.get(*name)) else {
            return self.0.clone();
        };
        let mut shown = Map::from_iter([("thinking".to_string(), reasoning.clone())]);
        shown.extend(self.0.clone());
        shown.insert("reasoning_content".into(), reasoning.clone());
        shown
    }
}
