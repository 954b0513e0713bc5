//! Conversations as text: the chat templates of tokenizers.

mod bounds;
mod day;
mod environment;
mod given;
mod json;
mod message;
mod python;
mod template;

pub use given::Given;
pub use message::Message;
pub use template::{ChatTemplate, check_day};
