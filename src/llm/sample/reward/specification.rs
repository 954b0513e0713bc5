//! Rewards as flags and files name them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{Command, Exact, Length, Lexicon, Pattern, Resources, Reward, Scores};
use super::{Weighted, Words, command, length, lexicon, model, pattern, words};
use crate::error::{Error, Result};
use crate::file;

/// A reward's kind and its settings: a TOML table with `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Rule {
    /// [`Exact`].
    Exact(Exact),
    /// [`Pattern`].
    Regex(pattern::PatternSettings),
    /// [`Length`].
    Length(length::LengthSettings),
    /// [`Words`].
    Words(words::WordsSettings),
    /// [`Lexicon`].
    Lexicon(lexicon::LexiconSettings),
    /// [`Scores`] of a reward model.
    Model(model::ModelSettings),
    /// [`Command`].
    Command(command::CommandSettings),
}

/// Kinds, and the field that stands after the colon of a flag.
const KINDS: [(&str, &str); 7] = [
    ("exact", "column"),
    ("regex", "pattern"),
    ("length", "unit"),
    ("words", "words"),
    ("lexicon", "file"),
    ("model", "folder"),
    ("command", "command"),
];

/// What rules are of: its name, its kinds, and what else may stand in a flag.
#[derive(Clone, Copy)]
struct Of {
    name: &'static str,
    kinds: &'static [(&'static str, &'static str)],
    file: &'static str,
}

const REWARD: Of = Of {
    name: "reward",
    kinds: &KINDS,
    file: ", or FILE.toml",
};

const JUDGE: Of = Of {
    name: "judge",
    kinds: &[KINDS[6], KINDS[5]],
    file: "",
};

impl Rule {
    /// Reads a judge's flag: as a reward's, but of a `command` or a `model` only, and without weight and
    /// name.
    ///
    /// # Errors
    /// Another kind, a field that is not known, a value that does not suit.
    pub(in crate::llm::sample) fn of_judge(flag: &str) -> Result<Self> {
        match from_flag(flag, JUDGE)? {
            (None, 1.0, rule) => Ok(rule),
            _ => Err(Error::invalid(
                format!("judge `{flag}`"),
                "it has a name or a weight",
                "leave them out: there is one judge, and nothing that it is weighed against",
            )),
        }
    }

    /// Its kind, as flags call it.
    pub fn kind(&self) -> &'static str {
        let index = match self {
            Self::Exact(_) => 0,
            Self::Regex(_) => 1,
            Self::Length(_) => 2,
            Self::Words(_) => 3,
            Self::Lexicon(_) => 4,
            Self::Model(_) => 5,
            Self::Command(_) => 6,
        };
        KINDS[index].0
    }

    fn build(&self, resources: &Resources) -> Result<Box<dyn Reward>> {
        Ok(match self {
            Self::Exact(rule) => Box::new(rule.clone().check()?),
            Self::Regex(settings) => Box::new(Pattern::new(settings)?),
            Self::Length(settings) => Box::new(Length::new(settings)?),
            Self::Words(settings) => Box::new(Words::new(settings)?),
            Self::Lexicon(settings) => Box::new(Lexicon::new(settings)?),
            Self::Model(settings) => Box::new(Scores::load(settings, resources)?),
            Self::Command(settings) => Box::new(Command::new(settings, resources.timeout)?),
        })
    }
}

/// A reward's part in a weighted sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Name in reports; its kind, if there is no other of it.
    pub name: String,
    /// Factor of its scores.
    pub weight: f64,
    /// Kind of the reward, with its settings.
    pub rule: Rule,
}

/// A weighted sum of rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct Specification(pub Vec<Part>);

impl Specification {
    /// Reads flags, one reward each or a TOML file of several:
    ///
    /// * `KIND:TEXT`, with fields before the colon where wanted: `KIND,FIELD=VALUE,…:TEXT`. What
    ///   stands after the colon is taken as it is, and is the `column` of `exact`, the `pattern` of
    ///   `regex`, the `unit` of `length`, the `file` of `lexicon`, the `folder` of `model`, the
    ///   `command` of `command`, or the list of `words`, with commas. Every kind has the fields
    ///   `weight` (1 by default) and `name` too.
    /// * `FILE.toml`: a table with `kind` and the fields, or several, each under `[[reward]]`.
    ///
    /// # Errors
    /// None, a kind or field that is not known, a value that does not suit, a file that cannot be
    /// read.
    pub fn parse(flags: &[impl AsRef<str>]) -> Result<Self> {
        let mut parts = Vec::new();
        for flag in flags {
            let flag = flag.as_ref();
            let path = Path::new(flag);
            let toml = path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("toml"));
            if toml && !KINDS.iter().any(|(kind, _)| starts(flag, kind)) {
                parts.extend(from_file(path)?)
            } else {
                parts.push(from_flag(flag, REWARD)?)
            }
        }
        if parts.is_empty() {
            let remedy = "give one or more, such as regex:PATTERN or model:DIR";
            return Err(Error::invalid("reward", "there is none", remedy));
        }
        Ok(Self(named(parts)))
    }

    /// The columns that say what is right.
    pub fn answers(&self) -> Vec<&str> {
        fn column(part: &Part) -> Option<&str> {
            match &part.rule {
                Rule::Exact(exact) => Some(exact.column.as_str()),
                _ => None,
            }
        }
        self.0.iter().filter_map(column).collect()
    }

    /// Makes ready what it names: reads files and models, and looks whether they fit.
    ///
    /// # Errors
    /// Those of its parts, with their names.
    pub fn build(&self, resources: &Resources) -> Result<Weighted> {
        let mut parts = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            let place = format!("reward `{}`", part.name);
            let reward = part.rule.build(resources).map_err(|e| e.in_file(&place))?;
            parts.push((part.name.clone(), part.weight, reward));
        }
        Ok(Weighted::new(parts))
    }
}

/// Whether a flag is of that kind.
fn starts(flag: &str, kind: &str) -> bool {
    (flag.strip_prefix(kind)).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ',']))
}

/// A table's part without a name of its own.
type Unnamed = (Option<String>, f64, Rule);

fn from_flag(flag: &str, of: Of) -> Result<Unnamed> {
    let place = format!("{} `{flag}`", of.name);
    let (head, main) = match flag.split_once(':') {
        Some((head, main)) => (head, Some(main)),
        None => (flag, None),
    };
    let mut fields = head.split(',');
    let kind = fields.next().unwrap_or_default();
    let Some(&(kind, main_field)) = of.kinds.iter().find(|(k, _)| *k == kind) else {
        return Err(unknown(&place, kind, of));
    };
    let mut table = Table::new();
    table.insert("kind".into(), kind.into());
    for field in fields {
        let Some((name, value)) = field.split_once('=') else {
            let remedy = "write KIND,FIELD=VALUE:TEXT; a text with a comma goes after the colon, or \
                          into a TOML file";
            let problem = format!("`{field}` is no FIELD=VALUE");
            return Err(Error::invalid(place, problem, remedy));
        };
        table.insert(name.trim().into(), value_of(value));
    }
    if let Some(main) = main {
        let value = match kind {
            "words" => Value::Array(main.split(',').map(|w| w.trim().into()).collect()),
            _ => main.into(),
        };
        if table.insert(main_field.into(), value).is_some() {
            let problem = format!("`{main_field}` is there twice");
            let remedy = "give it after the colon only";
            return Err(Error::invalid(place, problem, remedy));
        }
    }
    from_table(table, &place)
}

/// A number or truth value where a text is one, `"quoted"` text, or the text as it is.
fn value_of(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    if let (true, Ok(number)) = (!text.starts_with(char::is_alphabetic), text.parse::<f64>()) {
        return number.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => (text.strip_prefix('"').and_then(|t| t.strip_suffix('"')))
            .unwrap_or(text)
            .into(),
    }
}

fn from_file(path: &Path) -> Result<Vec<Unnamed>> {
    let origin = path.display().to_string();
    let remedy = "give a table with `kind`, or several under [[reward]]";
    let mut table: Table = file::from_toml(&file::read(path)?, &origin, remedy)?;
    if table.contains_key("kind") {
        return Ok(vec![from_table(table, &origin)?]);
    }
    let fail = |problem: String| Error::invalid(&origin, problem, remedy);
    let Some(list) = table.remove("reward") else {
        return Err(fail("it has no reward".into()));
    };
    if let Some(other) = table.keys().next() {
        return Err(fail(format!("`{other}` means nothing beside `reward`")));
    }
    let list = match list {
        Value::Array(list) => list,
        one => vec![one],
    };
    (list.into_iter().enumerate())
        .map(|(i, each)| match each {
            Value::Table(table) => from_table(table, &format!("{origin}: reward[{i}]")),
            _ => Err(fail(format!("`reward[{i}]` is no table"))),
        })
        .collect()
}

fn from_table(mut table: Table, place: &str) -> Result<Unnamed> {
    let weight = match table.remove("weight") {
        None => 1.0,
        Some(Value::Integer(weight)) => weight as f64,
        Some(Value::Float(weight)) if weight.is_finite() => weight,
        Some(other) => {
            let problem = format!("`weight` is {other}");
            return Err(Error::invalid(place, problem, "give a finite number"));
        }
    };
    let name = match table.remove("name") {
        None => None,
        Some(Value::String(name)) => Some(name),
        Some(other) => Some(other.to_string()),
    };
    let kind = match table.get("kind") {
        Some(Value::String(kind)) => kind.clone(),
        _ => String::new(),
    };
    if !KINDS.iter().any(|(k, _)| *k == kind) {
        return Err(unknown(place, &kind, REWARD));
    }
    let rule = Rule::deserialize(Value::Table(table)).map_err(|e| {
        let remedy = format!("docs/rewards.md has the fields of `{kind}`");
        Error::invalid(place, e.to_string().trim_end(), remedy)
    })?;
    Ok((name, weight, rule))
}

fn unknown(place: &str, kind: &str, of: Of) -> Error {
    let known: Vec<String> = (of.kinds.iter())
        .map(|(kind, main)| format!("{kind}:{}", main.to_uppercase()))
        .collect();
    let problem = match kind {
        "" => "it names no kind".into(),
        _ => format!("`{kind}` is no kind of {}", of.name),
    };
    let remedy = format!("use one of {}{}", known.join(", "), of.file);
    Error::invalid(place, problem, remedy)
}

/// Gives every part a name of its own.
fn named(parts: Vec<Unnamed>) -> Vec<Part> {
    let mut named: Vec<Part> = Vec::with_capacity(parts.len());
    for (name, weight, rule) in parts {
        let base = name.unwrap_or_else(|| rule.kind().to_owned());
        let taken = |name: &str| named.iter().any(|part| part.name == name);
        let mut name = base.clone();
        let mut count = 1;
        while taken(&name) {
            count += 1;
            name = format!("{base}-{count}");
        }
        named.push(Part { name, weight, rule });
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(flag: &str) -> Part {
        let mut all = Specification::parse(&[flag]).unwrap().0;
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn refused(flag: &str) -> String {
        Specification::parse(&[flag]).unwrap_err().to_string()
    }

    #[test]
    fn flags_are_tables() {
        let part = one(r"regex,count=true,cap=3,weight=-0.5,name=smile::\) ?a,b=c");
        assert_eq!((part.name.as_str(), part.weight), ("smile", -0.5));
        let toml = "kind = 'regex'\ncount = true\ncap = 3\npattern = ':\\) ?a,b=c'";
        assert_eq!(part.rule, toml::from_str(toml).unwrap());
        let exact = one("exact,marker=####:answer").rule;
        assert_eq!(
            exact,
            Rule::Exact(Exact::new("answer", Some("####".into())))
        );
        let words = one("words,measure=share:good, fine").rule;
        assert_eq!(
            words,
            toml::from_str("kind = 'words'\nmeasure = 'share'\nwords = ['good', 'fine']").unwrap()
        );
        assert_eq!(
            one("length").rule,
            Rule::Length(length::LengthSettings::default())
        );
        let length = one("length,target=30,penalty=0.1:words").rule;
        let toml = "kind = 'length'\nunit = 'words'\ntarget = 30.0\npenalty = 0.1";
        assert_eq!(length, toml::from_str(toml).unwrap());
    }

    #[test]
    fn several_have_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rewards.toml");
        std::fs::write(
            &file,
            "[[reward]]\nkind = 'regex'\npattern = 'a'\n[[reward]]\nkind = 'length'\nweight = 2\n",
        )
        .unwrap();
        let flags = ["regex:x".to_string(), file.display().to_string()];
        let all = Specification::parse(&flags).unwrap().0;
        let names: Vec<_> = all.iter().map(|p| (p.name.as_str(), p.weight)).collect();
        assert_eq!(names, [("regex", 1.0), ("regex-2", 1.0), ("length", 2.0)]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (flag, expected) in [
            ("regexp:a", "`regexp` is no kind"),
            ("", "names no kind"),
            ("regex", "missing field `pattern`"),
            ("regex,cuont=true:a", "unknown field `cuont`"),
            ("regex,count:a", "`count` is no FIELD=VALUE"),
            ("regex,pattern=a:b", "`pattern` is there twice"),
            ("regex,weight=nan:b", "`weight` is"),
            ("length:pages", "unknown variant `pages`"),
            ("missing.toml", "missing.toml: cannot read"),
        ] {
            let error = refused(flag);
            assert!(error.contains(expected), "{flag}: {error}");
        }
        let none: [&str; 0] = [];
        assert!(Specification::parse(&none).is_err());
    }
}
