//! The prompt of a row, as text.

use serde_json::{Map, Value};

use super::aside::{Aside, are_text};
use super::reading::Reading;
use super::table::Table;
use super::values::{Columns, Fault};
use crate::error::Result;
use crate::llm::text::chat::{ChatTemplate, Given, Message};
use crate::llm::text::tokenizer::Tokenizer;

/// The column `prompt` of a file. A conversation is rendered by the chat template, the tokenizer's
/// own unless `reading` names one, up to where the model is to answer, with what the columns `system`,
/// `tools` and `chat_template_kwargs` say.
pub struct PromptColumn<'a> {
    file: &'a Table,
    reading: &'a Reading,
    tokenizer: Option<&'a Tokenizer>,
    /// Loaded where the first conversation is.
    template: Option<ChatTemplate>,
}

impl<'a> PromptColumn<'a> {
    /// The column of a file which was read so. Without a tokenizer there are texts only.
    pub fn new(file: &'a Table, reading: &'a Reading, tokenizer: Option<&'a Tokenizer>) -> Self {
        Self {
            file,
            reading,
            tokenizer,
            template: None,
        }
    }

    /// The text of a row's prompt, and the row.
    ///
    /// # Errors
    /// A row without a prompt, or a conversation without a template.
    pub fn at(&mut self, row: usize) -> Result<(String, Map<String, Value>)> {
        let fields = self.file.whole(row)?;
        let fault = |problem: String, remedy: &str| Err(self.file.fault(row, problem, remedy));
        let columns = Columns(&fields);
        let aside = Aside::new(&columns);
        let file = self.file;
        let beside = |Fault { problem, remedy }| file.fault(row, problem, remedy);
        aside.is_text().map_err(beside)?;
        let text = match (fields.get("prompt"), self.tokenizer) {
            (Some(Value::String(text)), _) => text.clone(),
            (None | Some(Value::Null), _) => {
                let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
                names.sort_unstable();
                let has = names.join(", ");
                let problem = format!("column `prompt` is missing; the row has {has}");
                return fault(problem, "make it of another: --column prompt=NAME");
            }
            (Some(Value::Array(turns)), Some(tokenizer)) => {
                let messages: std::result::Result<Vec<Message>, String> =
                    turns.iter().map(Message::parse).collect();
                match messages {
                    Ok(messages) if messages.is_empty() => {
                        return fault("`prompt` has no turns".into(), "give one");
                    }
                    Ok(messages) => {
                        are_text("prompt", &messages).map_err(beside)?;
                        let messages = aside.after_system(&messages).map_err(beside)?;
                        let given = aside.given().map_err(beside)?;
                        self.render(row, &messages, &given, tokenizer)?
                    }
                    Err(problem) => {
                        return fault(format!("`prompt`: {problem}"), "give text or messages");
                    }
                }
            }
            (Some(_), _) => return fault("`prompt` is no text".into(), "give a string"),
        };
        Ok((text, fields))
    }

    fn render(
        &mut self,
        row: usize,
        turns: &[Message],
        given: &Given,
        tokenizer: &Tokenizer,
    ) -> Result<String> {
        let template = match self.template.take() {
            Some(template) => template,
            None => {
                let (named, day) = (&self.reading.chat_template, &self.reading.chat_date);
                ChatTemplate::load(tokenizer, named.as_deref(), day.as_deref())?
            }
        };
        let text = template.render_given(turns, given, true);
        self.template = Some(template);
        let place = || format!("{}: row {}", self.file.origin(), row + 1);
        text.map_err(|e| e.in_file(&place()))
    }
}
