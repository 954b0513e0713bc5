//! Conversations as text: the chat templates of tokenizers.

mod day;
mod environment;
mod json;
mod message;
mod template;

pub use message::Message;
pub use template::ChatTemplate;
