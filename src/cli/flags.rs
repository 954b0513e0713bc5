//! Flags made of declared settings, and those that were given, to be laid over others.

use std::marker::PhantomData;

use clap::builder::{
    BoolValueParser, PathBufValueParser, PossibleValue, PossibleValuesParser, StringValueParser,
    TypedValueParser, ValueParser,
};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use crate::llm::files::named::{Name, Named};
use crate::llm::files::settings::{Field, Fields, Flag, Given, Kind};

/// The flags of settings `S` that a command was given.
pub struct Flags<S> {
    given: Vec<(&'static str, Vec<Given>)>,
    of: PhantomData<S>,
}

impl<S: Fields> Flags<S> {
    /// Settings with those that were given in place of their own.
    pub fn over(&self, mut settings: S) -> S {
        for (name, values) in &self.given {
            settings.lay(name, values.clone());
        }
        settings
    }

    /// The defaults with those that were given in place of them.
    pub fn settings(&self) -> S {
        self.over(S::default())
    }

    /// Whether that field was given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }
}

impl<S: Fields> FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let fields = S::FIELDS.iter().filter(|field| field.flag != Flag::None);
        let given = fields.map(|field| field.name).filter_map(|name| {
            let said = matches.value_source(name)? == ValueSource::CommandLine;
            let values = matches.get_many(name)?.cloned().collect();
            said.then_some((name, values))
        });
        Ok(Self {
            given: given.collect(),
            of: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<S: Fields> clap::Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        command.args(S::FIELDS.iter().filter_map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The flag of a field, unless it has none.
fn arg(field: &Field) -> Option<Arg> {
    let arg = Arg::new(field.name).help(field.help);
    let arg = match (field.flag, field.long()) {
        (Flag::None, _) => return None,
        (_, Some(long)) => arg.long(long),
        (_, None) => arg,
    };
    let value_name = match field.value_name {
        Some(name) => name.into(),
        None => field.name.to_uppercase(),
    };
    let arg = (arg.help_heading(field.heading))
        .value_parser(parser(field.kind))
        .allow_negative_numbers(field.negative)
        .value_delimiter(field.delimiter);
    if field.kind == Kind::Switch {
        return Some(arg.action(ArgAction::SetTrue));
    }
    let arg = (arg.value_name(value_name)).action(if field.list {
        ArgAction::Append
    } else {
        ArgAction::Set
    });
    let arg = match (field.default)() {
        Some(default) => arg.default_value(default),
        None => arg,
    };
    Some(match field.missing {
        Some(missing) => arg.num_args(0..=1).default_missing_value(missing),
        None => arg,
    })
}

fn parser(kind: Kind) -> ValueParser {
    match kind {
        Kind::Switch | Kind::Truth => BoolValueParser::new().map(Given::Truth).into(),
        Kind::Number => (|text: &str| text.parse().map(Given::Number)).into(),
        Kind::Whole => (|text: &str| text.parse().map(Given::Whole)).into(),
        Kind::Text => StringValueParser::new().map(Given::Text).into(),
        Kind::Escaped => (|text: &str| unescaped(text).map(Given::Text)).into(),
        Kind::Path => PathBufValueParser::new().map(Given::Path).into(),
        Kind::OneOf(names) => possible(names).map(Given::Text).into(),
        Kind::Assignments => assignment.into(),
        Kind::Table => (|_: &str| Err::<Given, _>("give it in a file")).into(),
    }
}

/// The names of an enum's variants as a flag takes them.
fn possible(names: &[Name]) -> PossibleValuesParser {
    let value = |known: &Name| PossibleValue::new(known.name).help(known.help);
    PossibleValuesParser::new(names.iter().map(value))
}

/// The variant of an enum that a flag names.
pub fn named<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    possible(T::NAMES).try_map(|name| T::parse(&name).ok_or("it is not known"))
}

/// `NAME=EXPR`.
fn assignment(text: &str) -> Result<Given, String> {
    match text.split_once('=') {
        Some((name, expression)) if !name.trim().is_empty() => Ok(Given::Assignment(
            name.trim().into(),
            expression.trim().into(),
        )),
        _ => Err("give NAME=EXPR, such as prompt=question".into()),
    }
}

/// A flag's text, in which `\n` is a line's end, `\t` a tab and `\\` a backslash.
fn unescaped(text: &str) -> Result<String, String> {
    let (mut found, mut rest) = (String::new(), text.chars());
    while let Some(c) = rest.next() {
        found.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('\\') => '\\',
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("\\{other} is none of \\n, \\t and \\\\"));
                }
            },
            c => c,
        });
    }
    Ok(found)
}
