//! Variables that a template is given besides the messages.

use serde_json::{Map, Value};

/// Names that a template is given anyway, or that belong to `apply_chat_template` itself.
const TAKEN: [&str; 14] = [
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "max_length",
    "messages",
    "padding",
    "processing_class",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tools",
    "truncation",
];

/// The `tools` that may be called and the further `chat_template_kwargs`, as `apply_chat_template` of
/// transformers takes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    tools: Option<Vec<Value>>,
    kwargs: Map<String, Value>,
}

impl Given {
    /// Tools in JSON schema, and values by the names under which a template finds them.
    ///
    /// # Errors
    /// A tool that is no object; a name that means something else already.
    pub fn new(tools: Option<Vec<Value>>, kwargs: Map<String, Value>) -> Result<Self, String> {
        if let Some(at) = tools.iter().flatten().position(|tool| !tool.is_object()) {
            return Err(format!("tools[{at}] is no object"));
        }
        match kwargs.keys().find(|name| TAKEN.contains(&name.as_str())) {
            Some(name) => Err(format!("`{name}` has a meaning of its own")),
            None => Ok(Self { tools, kwargs }),
        }
    }

    /// The tools, if there are any.
    pub fn tools(&self) -> Option<&[Value]> {
        self.tools.as_deref()
    }

    /// The values.
    pub fn kwargs(&self) -> &Map<String, Value> {
        &self.kwargs
    }
}
