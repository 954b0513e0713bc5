//! Flags made of declared settings, and those that were given, to be laid over others.

use std::marker::PhantomData;

use clap::builder::{
    BoolValueParser, PathBufValueParser, PossibleValue, PossibleValuesParser, StringValueParser,
    TypedValueParser, ValueParser,
};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use super::numbers;
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
        let mut all = Vec::new();
        for field in S::FIELDS.iter().filter(|f| f.flag == Flag::Numbers) {
            let named = numbers::given(matches);
            let named = named.iter().map(|(n, x)| Given::Named(n.into(), x));
            let named: Vec<_> = named.collect();
            if !named.is_empty() {
                all.push((field.name, named));
            }
        }
        let fields =
            (S::FIELDS.iter()).filter(|field| !matches!(field.flag, Flag::None | Flag::Numbers));
        let given = fields.map(|field| field.name).filter_map(|name| {
            let said = matches.value_source(name)? == ValueSource::CommandLine;
            let values = matches.get_many(name)?.cloned().collect();
            said.then_some((name, values))
        });
        all.extend(given);
        Ok(Self {
            given: all,
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
        S::FIELDS.iter().fold(command, |command, field| {
            if field.flag == Flag::Numbers {
                let all = numbers::all().into_iter();
                return command.args(all.map(|of| numbers::flag(&of, "Objective")));
            }
            command.args(arg(field))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The flag of a field, unless it has none.
fn arg(field: &Field) -> Option<Arg> {
    let arg = Arg::new(field.name).help(field.help);
    let arg = match (field.flag, field.long()) {
        (Flag::None | Flag::Numbers, _) => return None,
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
        Kind::Numbers | Kind::Table => (|_: &str| Err::<Given, _>("give it in a file")).into(),
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

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;
    use crate::llm::text::data::Reading;
    use crate::llm::train::Settings;
    use crate::loss;

    fn flags<S: Fields>(words: &[&str]) -> Flags<S> {
        let command = Flags::<S>::augment_args(Command::new("pistar"));
        let words = [&["pistar"], words].concat();
        let matches = command.try_get_matches_from(words).unwrap();
        Flags::from_arg_matches(&matches).unwrap()
    }

    /// Two values of a field, neither of them its default where that can be: as a flag has them, and
    /// as a file does.
    fn values(field: &Field) -> [(String, String); 2] {
        let texts = match field.kind {
            Kind::Switch | Kind::Truth => ["false", "true"],
            Kind::Number | Kind::Whole => ["3", "7"],
            Kind::OneOf(names) => [names[0].name, names[1].name],
            _ => ["one", "two"],
        };
        texts.map(|text| {
            let value = match field.kind {
                Kind::Number => format!("{text}.0"),
                Kind::Switch | Kind::Truth | Kind::Whole => text.into(),
                _ => format!("{text:?}"),
            };
            let value = if field.list {
                format!("[{value}]")
            } else {
                value
            };
            (text.into(), format!("{} = {value}\n", field.name))
        })
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = |text: &str| Settings::parse(text, "config.toml").unwrap();
        let mut seen = 0;
        for field in Settings::FIELDS {
            if matches!(field.kind, Kind::Assignments | Kind::Numbers | Kind::Table) {
                continue;
            }
            let [(_, under), (text, wanted)] = values(field);
            let words = match (field.long(), field.kind) {
                (Some(long), Kind::Switch) => vec![format!("--{long}")],
                (Some(long), _) => vec![format!("--{long}"), text],
                (None, _) => vec![text],
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let given = flags::<Settings>(&words);
            assert!(given.has(field.name), "{}", field.name);
            assert_eq!(given.over(file(&under)), file(&wanted), "{words:?}");
            assert_eq!(given.settings(), file(&wanted), "{words:?}");
            // Nothing that was not given is laid over.
            let none = flags::<Settings>(&[]);
            assert_eq!(none.over(file(&wanted)), file(&wanted), "{wanted}");
            assert_ne!(file(&under), file(&wanted), "{wanted}");
            seen += 1;
        }
        assert_eq!(seen, Settings::FIELDS.len() - 3);
        assert_eq!(flags::<Settings>(&[]).settings(), Settings::default());
    }

    #[test]
    fn columns_are_laid_over_one_by_one() {
        let file = "[columns]\na = \"x\"\nb = \"y\"\n";
        let wanted = "[columns]\na = \"x\"\nb = \"z\"\nc = \"v = w\"\n";
        let words = ["--column", "b=z", "--column", " c = v = w"];
        let given = flags::<Settings>(&words);
        let [file, wanted] = [file, wanted].map(|text| Settings::parse(text, "f").unwrap());
        assert_eq!(given.over(file), wanted);
        let reading = flags::<Reading>(&words).settings();
        let pair = |(a, b): (&str, &str)| (a.to_string(), b.to_string());
        assert_eq!(reading.columns, [("b", "z"), ("c", "v = w")].map(pair));
    }

    #[test]
    fn a_default_reads_back_as_itself() {
        for field in Settings::FIELDS {
            let (Some(default), Some(long)) = ((field.default)(), field.long()) else {
                continue;
            };
            if field.kind != Kind::Switch {
                let given = flags::<Settings>(&[&format!("--{long}={default}")]);
                assert_eq!(given.settings(), Settings::default(), "{long}");
            }
        }
    }

    #[test]
    fn values_are_taken_as_their_flags_say() {
        let given = |words: &[&str]| flags::<Settings>(words).settings();
        assert_eq!(given(&["--resume"]).resume, Some("latest".into()));
        assert_eq!(given(&["--lora-targets=a,b"]).lora_targets, ["a", "b"]);
        let numbers = given(&["--baseline", "-1", "--beta=0.3"]).numbers;
        let wanted = loss::Given::from(0.3).with("baseline", -1.0);
        assert_eq!(numbers, wanted);
        let text = given(&["--implicit-prompt", r"\n\t\\n"]).implicit_prompt;
        assert_eq!(text.as_deref(), Some("\n\t\\n"));
        assert_eq!(given(&["--seed=18446744073709551615"]).seed, u64::MAX);
        let command = || Flags::<Settings>::augment_args(Command::new("pistar"));
        for (word, why) in [
            ("--lr=x", "invalid value 'x' for '--lr <LR>'"),
            ("--column=x", "give NAME=EXPR, such as prompt=question"),
            (r"--implicit-prompt=\q", r"\q is none of \n, \t and \\"),
            ("--dtype=f3", "a similar value exists: 'f32'"),
            ("--sweep=x", "unexpected argument '--sweep'"),
        ] {
            let error = command()
                .try_get_matches_from(["pistar", word])
                .unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
