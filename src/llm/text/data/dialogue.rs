//! Split into prompt and completion, of conversations and of texts that hold both.

use crate::llm::text::example::Beside;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::aside::Aside;
use super::columns::{Completion, TextRow};
use super::reading::Reading;
use super::values::{Columns, Fault, Parsed, Said, Spoken, fault};
use super::weights;
use crate::error::{Error, Result};
use crate::llm::text::chat::{ChatTemplate, Message, check_day};
use crate::llm::text::tokenizer::Tokenizer;

mod rendering;

use rendering::{Rendering, Split};

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
    /// A reader of dialogues as `reading` says.
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
    pub fn prompt(&self, columns: &Map<String, Value>) -> Parsed<TextRow> {
        let columns = Columns(columns);
        let aside = &Aside::new(&columns);
        aside.is_text()?;
        let has = |set: &[&'static str]| columns.missing(set).is_empty();
        if has(&["prompt"]) {
            let (_, prompt) = columns.said("prompt")?;
            return self.prompted(prompt, Vec::new(), aside);
        }
        if has(&[TURNS]) {
            let (name, said) = columns.said(TURNS)?;
            let Said::Messages(mut messages) = said else {
                return fault(format!("`{name}` is text"), "give messages");
            };
            while messages.last().is_some_and(Message::is_answer) {
                messages.pop();
            }
            return self.render(&messages, Vec::new(), aside);
        }
        if has(&["chosen", "rejected"]) {
            let (_, chosen) = columns.said("chosen")?;
            let (_, rejected) = columns.said("rejected")?;
            return self.implied([&chosen, &rejected], Vec::new(), aside);
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
    pub(super) fn alone(&self, completions: Vec<Spoken>, aside: &Aside) -> Parsed<TextRow> {
        if completions.iter().all(|c| matches!(c.said, Said::Text(_))) {
            texts(None, completions)
        } else {
            self.last_turn(completions, aside)
        }
    }

    /// Completions after their prompt.
    pub(super) fn prompted(
        &self,
        prompt: Said,
        completions: Vec<Spoken>,
        aside: &Aside,
    ) -> Parsed<TextRow> {
        match prompt {
            Said::Text(prompt) => texts(Some(prompt), completions),
            Said::Messages(prompt) => self.render(&prompt, completions, aside),
        }
    }

    /// A conversation that ends with the completion: the prompt is all before its last turn; where turns
    /// have weights, all before the first one that is trained on.
    pub(super) fn last_turn(&self, completions: Vec<Spoken>, aside: &Aside) -> Parsed<TextRow> {
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
        let Some(last) = messages.last() else {
            return fault(format!("`{column}` has no messages"), "leave the row out");
        };
        if !last.is_answer() {
            return fault(
                format!("`{column}` ends with a turn of `{}`", last.role()),
                "the last turn is the completion, and must be the assistant's; if the column is the \
                 prompt, say so: --column prompt=COLUMN",
            );
        }
        let weights = weights::of_turns(column, messages)?;
        let first = match &weights {
            None => Some(messages.len() - 1),
            Some(weights) => weights.iter().position(|&weight| weight > 0.0),
        };
        let Some(first) = first else {
            return unweighted(column);
        };
        let (prompt, answer) = messages.split_at(first);
        let completion = Spoken {
            column: column.clone(),
            said: Said::Messages(answer.to_vec()),
            reward: *reward,
        };
        self.render(prompt, vec![completion], aside)
    }

    /// Completions that begin with their prompt, which is what `both` have in common: of messages all
    /// that are the same, of texts as far as the last separator.
    pub(super) fn implied(
        &self,
        both: [&Said; 2],
        completions: Vec<Spoken>,
        aside: &Aside,
    ) -> Parsed<TextRow> {
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
                self.render(&prompt, completions.into_iter().map(rest).collect(), aside)
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
    fn render(
        &self,
        prompt: &[Message],
        completions: Vec<Spoken>,
        aside: &Aside,
    ) -> Parsed<TextRow> {
        let template = self.template()?;
        if prompt.is_empty() {
            return fault("there is no turn before the answer", "give a prompt");
        }
        if !completions.is_empty() {
            weights::are_given(prompt)?;
        }
        let rendering = Rendering {
            template,
            given: aside.given()?,
            ends: &self.tokenizer,
        };
        let prompt = &aside.after_system(prompt)?[..];
        let asked = rendering.of(prompt, true)?;
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
            let weights = weights::of_turns(&column, &answer)?;
            let others = answer.iter().find(|turn| !turn.is_answer());
            // A conversation with weights goes on through the turns of others, which weigh nothing.
            if let Some(turn) = others.filter(|_| weights.is_none() || !is_whole(&column)) {
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
            let whole = rendering.of(&all, false)?;
            let Some(text) = whole.strip_prefix(&asked) else {
                return fault(
                    unlike(&asked, &whole, &column),
                    "give another chat template",
                );
            };
            let weights = match weights {
                Some(weights) if weights.iter().all(|&weight| weight == 0.0) => {
                    return unweighted(&column);
                }
                Some(weights) if weights.iter().any(|&weight| weight != 1.0) => {
                    let split = Split {
                        column: &column,
                        prompt: prompt.len(),
                        all: &all,
                        weights: &weights,
                        whole: &whole,
                        asked: asked.len(),
                    };
                    Some(rendering.parts(&split)?)
                }
                _ => None,
            };
            made.push(Completion {
                column,
                text: text.into(),
                reward,
                weights,
                stored: None,
            });
        }
        Ok(TextRow {
            prompt: Some(asked),
            completions: made,
            rendered: true,
            beside: Beside::default(),
        })
    }

    /// What the chat template is given of a row that it rendered, and does not name: fields of messages
    /// in the columns `read`, tools, further values.
    pub(super) fn unnamed<'a>(
        &self,
        columns: &'a Columns<'a>,
        read: impl Iterator<Item = &'a str>,
    ) -> BTreeSet<String> {
        let Some(Ok(template)) = self.loaded.get() else {
            return BTreeSet::new();
        };
        let mut given: BTreeSet<(&str, &str)> = BTreeSet::new();
        for name in read {
            match (name, columns.value(name)) {
                ("tools", _) => drop(given.insert(("tools", "tools"))),
                (name @ "chat_template_kwargs", Some(Value::Object(kwargs))) => {
                    let there = kwargs.iter().filter(|(_, value)| !value.is_null());
                    given.extend(there.map(|(key, _)| (name, key.as_str())));
                }
                (_, Some(value)) => {
                    let messages = fields(value).filter(|field| !weights::is_weight(field));
                    given.extend(messages.map(|field| ("messages", field)));
                }
                _ => {}
            }
        }
        let unnamed = given.into_iter().filter(|(_, name)| !template.names(name));
        unnamed
            .map(|(of, name)| {
                if of == name {
                    format!("`{name}` (the chat template does not name it)")
                } else {
                    format!("`{name}` of {of} (the chat template does not name it)")
                }
            })
            .collect()
    }
}

/// Columns that hold whole conversations, not completions alone.
fn is_whole(column: &str) -> bool {
    column == "text" || TURNS.split('|').any(|name| name == column)
}

fn unweighted<T>(column: &str) -> Parsed<T> {
    fault(
        format!("every message of `{column}` that could be trained on has weight 0"),
        "leave the row out, or give one of them a weight above 0",
    )
}

/// Fields of the messages in a value, but who speaks and what.
fn fields(value: &Value) -> impl Iterator<Item = &str> {
    const OWN: [&str; 5] = ["role", "from", "content", "value", "text"];
    let messages: Vec<&Value> = match value {
        // Conversations in a list of completions, or one.
        Value::Array(list) => (list.iter())
            .flat_map(|entry| match entry {
                Value::Array(messages) => messages.iter().collect(),
                message => vec![message],
            })
            .collect(),
        message => vec![message],
    };
    let fields = messages.into_iter().filter_map(Value::as_object).flatten();
    (fields.filter(|(_, value)| !value.is_null()))
        .map(|(name, _)| name.as_str())
        .filter(|name| !OWN.contains(name))
}

/// How many messages two conversations begin with before each goes on with an answer.
fn shared(one: &[Message], other: &[Message]) -> usize {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    // Where one of them ends, its last turn is the answer all the same.
    same.min(one.len().saturating_sub(1))
        .min(other.len().saturating_sub(1))
}

/// A row of text alone.
fn texts(prompt: Option<String>, completions: Vec<Spoken>) -> Parsed<TextRow> {
    let text = |Spoken {
                    column,
                    said,
                    reward,
                }: Spoken| match said {
        Said::Text(text) => Ok(Completion {
            column,
            text,
            reward,
            weights: None,
            stored: None,
        }),
        Said::Messages(_) => fault(
            format!("`{column}` is a conversation, and `prompt` is text"),
            "give both as messages; if the conversation holds the prompt, leave that out with \
             --column prompt=none",
        ),
    };
    Ok(TextRow {
        prompt,
        completions: completions.into_iter().map(text).collect::<Parsed<_>>()?,
        rendered: false,
        beside: Beside::default(),
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
