//! Which text is the prompt and which the completion, of conversations and of texts that hold both.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::columns::{Completion, Row};
use super::reading::Reading;
use super::values::{Columns, Fault, Parsed, Said, Spoken, fault};
use crate::error::{Error, Result};
use crate::llm::chat::{ChatTemplate, Message, check_day};
use crate::llm::tokenizer::Tokenizer;

/// Columns that hold a whole conversation.
const TURNS: &str = "messages|conversations";

/// Renders conversations, and cuts texts where their prompt ends.
pub struct Dialogue {
    tokenizer: Arc<Tokenizer>,
    template: Option<PathBuf>,
    day: Option<String>,
    separator: Option<String>,
    /// Loaded when the first conversation needs it: other data do without.
    loaded: OnceLock<Parsed<ChatTemplate>>,
}

impl Dialogue {
    /// As `reading` says.
    ///
    /// # Errors
    /// An empty separator; a day that is none; a template that was named and cannot be loaded.
    pub fn new(tokenizer: Arc<Tokenizer>, reading: &Reading) -> Result<Self> {
        if reading.implicit_prompt.as_deref() == Some("") {
            let remedy = "give what a prompt ends with, such as \\n\\nAssistant:";
            return Err(Error::invalid("implicit_prompt", "it is empty", remedy));
        }
        if let Some(day) = &reading.chat_date {
            check_day(day)?;
        }
        let dialogue = Self {
            tokenizer,
            template: reading.chat_template.clone(),
            day: reading.chat_date.clone(),
            separator: reading.implicit_prompt.clone(),
            loaded: OnceLock::new(),
        };
        if dialogue.template.is_some() {
            dialogue.load()?;
        }
        Ok(dialogue)
    }

    fn load(&self) -> Result<ChatTemplate> {
        ChatTemplate::load(
            &self.tokenizer,
            self.template.as_deref(),
            self.day.as_deref(),
        )
    }

    fn template(&self) -> Parsed<&ChatTemplate> {
        let loaded = self.loaded.get_or_init(|| self.load().map_err(as_fault));
        loaded.as_ref().map_err(Clone::clone)
    }

    /// A row's prompt alone, as a model is asked it: `prompt`, `messages` up to the last turn that is
    /// not the assistant's, or what `chosen` and `rejected` begin with. The row has no completions.
    ///
    /// # Errors
    /// A row without a prompt, or one that cannot be rendered or found.
    pub fn prompt(&self, columns: &Map<String, Value>) -> Parsed<Row> {
        let columns = Columns(columns);
        let has = |set: &[&'static str]| columns.missing(set).is_empty();
        if has(&["prompt"]) {
            let (_, prompt) = columns.said("prompt")?;
            return self.prompted(prompt, Vec::new());
        }
        if has(&[TURNS]) {
            let (name, said) = columns.said(TURNS)?;
            let Said::Messages(mut messages) = said else {
                return fault(format!("`{name}` is text"), "give messages");
            };
            while messages.last().is_some_and(Message::is_answer) {
                messages.pop();
            }
            return self.render(&messages, Vec::new());
        }
        if has(&["chosen", "rejected"]) {
            let (_, chosen) = columns.said("chosen")?;
            let (_, rejected) = columns.said("rejected")?;
            return self.implied([&chosen, &rejected], Vec::new());
        }
        fault(
            format!(
                "column `prompt` is missing; the row has {}",
                columns.listed()
            ),
            "give it, or make it of others: --column prompt=EXPR",
        )
    }

    /// A text without a prompt; of a conversation, its last turn.
    pub(super) fn alone(&self, completions: Vec<Spoken>) -> Parsed<Row> {
        match completions.iter().all(|c| matches!(c.said, Said::Text(_))) {
            true => texts(None, completions),
            false => self.last_turn(completions),
        }
    }

    /// Completions after their prompt.
    pub(super) fn prompted(&self, prompt: Said, completions: Vec<Spoken>) -> Parsed<Row> {
        match prompt {
            Said::Text(prompt) => texts(Some(prompt), completions),
            Said::Messages(prompt) => self.render(&prompt, completions),
        }
    }

    /// A conversation that ends with the completion: the prompt is all before its last turn.
    pub(super) fn last_turn(&self, completions: Vec<Spoken>) -> Parsed<Row> {
        let [
            Spoken {
                column,
                said,
                reward,
            },
        ] = &completions[..]
        else {
            return fault("it has several conversations", "give a prompt");
        };
        let Said::Messages(messages) = said else {
            let remedy = "give messages: [{\"role\": \"user\", \"content\": …}, …]";
            return fault(format!("`{column}` is text"), remedy);
        };
        let Some((last, prompt)) = messages.split_last() else {
            return fault(format!("`{column}` has no messages"), "leave the row out");
        };
        if !last.is_answer() {
            return fault(
                format!("`{column}` ends with a turn of `{}`", last.role()),
                "the last turn is the completion, and must be the assistant's; if the column is the \
                 prompt, say so: --column prompt=COLUMN",
            );
        }
        let completion = Spoken {
            column: column.clone(),
            said: Said::Messages(vec![last.clone()]),
            reward: *reward,
        };
        self.render(prompt, vec![completion])
    }

    /// Completions that begin with their prompt, which is what `both` have in common: of messages all
    /// that are the same, of texts as far as the last separator.
    pub(super) fn implied(&self, both: [&Said; 2], completions: Vec<Spoken>) -> Parsed<Row> {
        match both {
            [Said::Messages(one), Said::Messages(other)] => {
                let common = shared(one, other);
                let prompt = one[..common].to_vec();
                let rest = |spoken: Spoken| Spoken {
                    said: match spoken.said {
                        Said::Messages(messages) => Said::Messages(messages[common..].to_vec()),
                        text => text,
                    },
                    ..spoken
                };
                self.render(&prompt, completions.into_iter().map(rest).collect())
            }
            [Said::Text(one), Said::Text(other)] => {
                let end = self.end(one, other)?;
                let prompt = one[..end].to_string();
                let rest = |spoken: Spoken| Spoken {
                    said: match spoken.said {
                        Said::Text(text) => Said::Text(text[end..].into()),
                        messages => messages,
                    },
                    ..spoken
                };
                texts(Some(prompt), completions.into_iter().map(rest).collect())
            }
            _ => fault(
                "of `chosen` and `rejected` one is text and one a conversation",
                "give both in the same way",
            ),
        }
    }

    /// Where the prompt ends that two texts begin with.
    fn end(&self, one: &str, other: &str) -> Parsed<usize> {
        let Some(separator) = &self.separator else {
            return fault(
                "column `prompt` is missing, and text does not say where it ends in `chosen` and \
                 `rejected`",
                "give it; or, where both begin with it, say what it ends with: implicit_prompt, such \
                 as \"\\n\\nAssistant:\"",
            );
        };
        let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
        let mut common = same.count();
        while !one.is_char_boundary(common) {
            common -= 1;
        }
        match one[..common].rfind(separator) {
            Some(at) => Ok(at + separator.len()),
            None => fault(
                format!("what `chosen` and `rejected` begin with does not hold {separator:?}"),
                "give a prompt, another implicit_prompt, or leave the row out",
            ),
        }
    }

    /// A row by the template: the prompt with its request for an answer, and what the template
    /// writes after that where the answer follows.
    fn render(&self, prompt: &[Message], completions: Vec<Spoken>) -> Parsed<Row> {
        let template = self.template()?;
        if prompt.is_empty() {
            return fault("there is no turn before the answer", "give a prompt");
        }
        let asked = template.render(prompt, true).map_err(as_fault)?;
        let mut made = Vec::with_capacity(completions.len());
        for Spoken {
            column,
            said,
            reward,
        } in completions
        {
            let answer = match said {
                Said::Text(text) => vec![Message::new("assistant", &text)],
                Said::Messages(answer) => answer,
            };
            if let Some(turn) = answer.iter().find(|turn| !turn.is_answer()) {
                return fault(
                    format!(
                        "`{column}` holds a turn of `{}` after the prompt",
                        turn.role()
                    ),
                    "a completion is what the assistant says; if it holds the prompt too, leave \
                     that out with --column prompt=none",
                );
            }
            let all = [prompt, &answer].concat();
            let whole = template.render(&all, false).map_err(as_fault)?;
            let Some(text) = whole.strip_prefix(&asked) else {
                return fault(
                    unlike(&asked, &whole, &column),
                    "give another chat template",
                );
            };
            made.push(Completion {
                column,
                text: text.into(),
                reward,
            });
        }
        Ok(Row {
            prompt: Some(asked),
            completions: made,
            rendered: true,
        })
    }
}

/// How many messages two conversations begin with before each goes on with an answer.
fn shared(one: &[Message], other: &[Message]) -> usize {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    // Where one of them ends, its last turn is the answer all the same.
    same.min(one.len().saturating_sub(1))
        .min(other.len().saturating_sub(1))
}

/// A row of text alone.
fn texts(prompt: Option<String>, completions: Vec<Spoken>) -> Parsed<Row> {
    let text = |Spoken {
                    column,
                    said,
                    reward,
                }: Spoken| match said {
        Said::Text(text) => Ok(Completion {
            column,
            text,
            reward,
        }),
        Said::Messages(_) => fault(
            format!("`{column}` is a conversation, and `prompt` is text"),
            "give both as messages; if the conversation holds the prompt, leave that out with \
             --column prompt=none",
        ),
    };
    Ok(Row {
        prompt,
        completions: completions.into_iter().map(text).collect::<Parsed<_>>()?,
        rendered: false,
    })
}

/// Says where a template writes a prompt in another way once an answer follows.
fn unlike(asked: &str, whole: &str, column: &str) -> String {
    let same = asked
        .char_indices()
        .zip(whole.chars())
        .take_while(|((_, a), b)| a == b);
    let at = same
        .map(|((at, a), _)| at + a.len_utf8())
        .last()
        .unwrap_or_default();
    let shown = |text: &str| text[at..].chars().take(30).collect::<String>();
    format!(
        "the chat template renders the prompt in another way when `{column}` follows: {:?} and \
         then {:?}",
        shown(asked),
        shown(whole)
    )
}

/// An error as what is wrong with a row.
pub(super) fn as_fault(error: Error) -> Fault {
    match error {
        Error::Invalid {
            place,
            problem,
            remedy,
        } => Fault {
            problem: format!("{place}: {problem}"),
            remedy,
        },
        other => Fault {
            problem: other.to_string(),
            remedy: "give another --chat-template".into(),
        },
    }
}
