//! A chat template: which one, and what it renders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::{AutoEscape, Environment, Value};
use serde_json::Value as Json;

use super::bounds::values::{List, from_fields, from_json};
use super::bounds::{TEXT, operators, rewrite, wrong};
use super::day::Day;
use super::environment::{environment, plain, syntax};
use super::given::Given;
use super::message::Message;
use crate::error::{Error, Result};
use crate::llm::files::json;
use crate::llm::text::data::expression::said;
use crate::llm::text::tokenizer::Tokenizer;

/// Templates that need no file.
const BUILT_IN: [(&str, &str); 2] = [
    (
        "chatml",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
         message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "turns",
        "{% for message in messages %}{% if message['role'] == 'system' %}\
         {{ message['content'] }}{% else %}{{ '\\n\\n' + ('Human' if message['role'] == 'user' else \
         message['role'] | capitalize) + ': ' + message['content'] }}{% endif %}{% endfor %}\
         {% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}",
    ),
];

/// The name that templates have in the engine.
const NAME: &str = "chat";

/// Bytes of the stack on which a template is compiled.
const STACK: usize = 256 << 20;

/// A chat template that was parsed, with the tokenizer's special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    program: Program,
    source: String,
    /// The file, and what in it.
    origin: String,
    specials: Vec<(String, String)>,
}

impl ChatTemplate {
    /// The template that `named` names, a file or a built-in one (`chatml`, `turns`); else that of
    /// the tokenizer's folder: `chat_template.jinja`, `chat_template` in `tokenizer_config.json` (of
    /// several the one called `default`), `chat_template.json`.
    ///
    /// # Errors
    /// No template; one that is no Jinja, with its line; a day that is none.
    pub fn load(tokenizer: &Tokenizer, named: Option<&Path>, day: Option<&str>) -> Result<Self> {
        let day = day.map(parse_day).transpose()?;
        let folder = tokenizer.folder();
        let (origin, source) = match named {
            Some(named) => by_name(named, tokenizer)?,
            None => of_folder(folder)?.ok_or_else(|| {
                Error::invalid(
                    folder.display().to_string(),
                    "its tokenizer has no chat template, and conversations need one",
                    "give --chat-template FILE, chatml or turns",
                )
            })?,
        };
        let failed = |error: minijinja::Error| fault(&origin, &error, "correct the template");
        let program = Program::new(&plain(&source)).map_err(failed)?;
        let specials = specials(tokenizer)?;
        Ok(Self {
            environment: environment(day),
            program,
            source,
            origin,
            specials,
        })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Place that it was read from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// True if it names that anywhere: a field or a value that it does not name changes nothing. What a model thought
    /// goes by three names.
    pub fn names(&self, name: &str) -> bool {
        const THOUGHT: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let names = |name: &str| {
            self.source.match_indices(name).any(|(at, _)| {
                let (before, after) = (&self.source[..at], &self.source[at + name.len()..]);
                !before.ends_with(is_word) && !after.starts_with(is_word)
            })
        };
        if THOUGHT.contains(&name) {
            THOUGHT.into_iter().any(names)
        } else {
            names(name)
        }
    }

    /// A conversation as text; with `prompted`, up to where the model is to answer.
    ///
    /// # Errors
    /// What the template says is wrong with the conversation, or a fault of its own.
    pub fn render(&self, messages: &[Message], prompted: bool) -> Result<String> {
        self.render_given(messages, &Given::default(), prompted)
    }

    /// [`render`](Self::render), with what the template is given besides.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_given(
        &self,
        messages: &[Message],
        given: &Given,
        prompted: bool,
    ) -> Result<String> {
        let failed = |error| {
            let remedy = "give conversations that the template takes, or another template";
            fault(&self.origin, &error, remedy)
        };
        operators::begin();
        let messages = messages.iter().map(|m| from_fields(&m.shown()));
        let messages = messages
            .collect::<std::result::Result<_, _>>()
            .and_then(List::of);
        let specials = self.specials.iter();
        let specials = specials.map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
        let tools = match given.tools() {
            None => Value::from(()),
            Some(tools) => tools
                .iter()
                .map(from_json)
                .collect::<std::result::Result<_, _>>()
                .and_then(List::of)
                .map_err(failed)?,
        };
        let kwargs: Vec<(&str, Value)> = (given.kwargs().iter())
            .map(|(name, json)| Ok((name.as_str(), from_json(json)?)))
            .collect::<std::result::Result<_, _>>()
            .map_err(failed)?;
        // As in transformers, further values come before the special tokens of the same names.
        let context = specials
            .chain([("documents", Value::from(()))])
            .chain(kwargs)
            .chain([
                ("messages", messages.map_err(failed)?),
                ("tools", tools),
                ("add_generation_prompt", Value::from(prompted)),
            ]);
        let context = Value::from_pairs(context);
        let text = self
            .program
            .run(&self.environment, context)
            .map_err(failed)?;
        if text.len() > TEXT {
            let problem = format!("it makes more than {} MB of text", TEXT >> 20);
            return Err(failed(wrong(problem)));
        }
        Ok(text)
    }
}

/// A template that was compiled, with what bounds it.
#[derive(Debug)]
struct Program {
    instructions: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
}

impl Program {
    fn new(source: &str) -> std::result::Result<Self, minijinja::Error> {
        rewrite::short(source, syntax()?)?;
        let source = kept(source);
        let compile = move || {
            let tree = parse(source, NAME, syntax()?)?;
            let mut code = CodeGenerator::new(NAME, source);
            code.compile_stmt(&rewrite::statement(&tree)?);
            let (instructions, blocks) = code.finish();
            Ok(Self {
                instructions,
                blocks,
            })
        };
        // Expressions are as deep as they are long.
        let thread = thread::Builder::new().stack_size(STACK).spawn(compile);
        let thread = thread.map_err(|e| wrong(format!("no thread to read it in: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(wrong("it is broken")))
    }

    fn run(
        &self,
        environment: &Environment<'static>,
        context: Value,
    ) -> std::result::Result<String, minijinja::Error> {
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        let (program, blocks) = (&self.instructions, &self.blocks);
        eval(
            environment,
            program,
            context,
            blocks,
            &mut out,
            AutoEscape::None,
        )?;
        Ok(text)
    }
}

/// A template's text for as long as the process runs: the engine's programs borrow it, as long as
/// its environment. One text is kept once.
fn kept(source: &str) -> &'static str {
    static ALL: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = all.get(source) {
        return kept;
    }
    let kept: &'static str = Box::leak(source.into());
    all.insert(kept);
    kept
}

/// A day, `YYYY-MM-DD`.
fn parse_day(text: &str) -> Result<Day> {
    Day::parse(text).ok_or_else(|| {
        let problem = format!("it is `{text}`");
        Error::invalid("chat_date", problem, "give a day as YYYY-MM-DD")
    })
}

/// Refuses a day that is none.
///
/// # Errors
/// A text that is no day of the calendar as `YYYY-MM-DD`.
pub fn check_day(text: &str) -> Result<()> {
    parse_day(text).map(|_| ())
}

/// `FILE:LINE: what the engine says`.
fn fault(origin: &str, error: &minijinja::Error, remedy: &str) -> Error {
    let place = match error.line() {
        Some(line) => format!("{origin}:{line}"),
        None => origin.into(),
    };
    Error::invalid(place, said(error), remedy)
}

fn by_name(named: &Path, tokenizer: &Tokenizer) -> Result<(String, String)> {
    let built_in = BUILT_IN.iter().find(|(name, _)| Path::new(name) == named);
    if let Some((name, source)) = built_in {
        // A model's own template knows whether it has seen BOS before conversations.
        let bos = if tokenizer.begins_with_bos() {
            "{{ bos_token }}"
        } else {
            ""
        };
        return Ok((format!("chat template {name}"), format!("{bos}{source}")));
    }
    file(named)
}

fn file(named: &Path) -> Result<(String, String)> {
    let source = crate::file::read(named)?;
    Ok((named.display().to_string(), source))
}

/// The template of a folder, if it has one.
fn of_folder(folder: &Path) -> Result<Option<(String, String)>> {
    let own = folder.join("chat_template.jinja");
    if own.exists() {
        return file(&own).map(Some);
    }
    for name in ["tokenizer_config.json", "chat_template.json"] {
        let path = folder.join(name);
        let object = json::read_if_there(&path)?;
        let Some(template) = object.get("chat_template").filter(|t| !t.is_null()) else {
            continue;
        };
        let origin = format!("{}: chat_template", path.display());
        return match default(template) {
            Some(source) => Ok(Some((origin, source.into()))),
            None => Err(Error::invalid(
                origin,
                "it is neither text nor a list with a template named `default`",
                "give --chat-template FILE",
            )),
        };
    }
    Ok(None)
}

/// A template, or the default one of several.
fn default(template: &Json) -> Option<&str> {
    match template {
        Json::String(source) => Some(source),
        Json::Array(named) => {
            let one = named.iter().find(|t| t["name"] == "default")?;
            one["template"].as_str()
        }
        _ => None,
    }
}

/// The special tokens as text, by the names that templates call them.
fn specials(tokenizer: &Tokenizer) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let text = |token: Option<u32>| token.and_then(|token| tokenizer.piece(token));
    for (name, token) in [
        ("bos_token", tokenizer.bos()),
        ("eos_token", tokenizer.eos()),
        ("pad_token", tokenizer.pad()),
    ] {
        found.extend(text(token).map(|text| (name.to_string(), text)));
    }
    let path: PathBuf = tokenizer.folder().join("tokenizer_config.json");
    for (name, value) in json::read_if_there(&path)? {
        let text = match &value {
            Json::String(text) => Some(text),
            Json::Object(token) => match token.get("content") {
                Some(Json::String(text)) => Some(text),
                _ => None,
            },
            _ => None,
        };
        let here = found.iter().any(|(other, _)| *other == name);
        if let (true, false, Some(text)) = (name.ends_with("_token"), here, text) {
            found.push((name, text.clone()));
        }
    }
    Ok(found)
}
