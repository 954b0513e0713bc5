//! Expressions over a row's columns, in the language of Jinja.

use std::collections::HashSet;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, Expression as Compiled, UndefinedBehavior, Value};
use serde_json::{Map, Number, Value as Json};

use super::filters;
use super::values::{Parsed, fault};
use crate::error::{Error, Result};

/// What expressions may call: Jinja's own filters and tests, Python's methods of strings, lists and
/// dictionaries, and the [`filters`].
static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut language = Environment::new();
    language.set_undefined_behavior(UndefinedBehavior::Strict);
    language.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    filters::add(&mut language);
    language
});

/// An expression that was parsed.
pub(super) struct Expression {
    /// Field that the expression is the value of, as messages say it: `columns.prompt`, `where`.
    pub field: String,
    source: String,
    names: Vec<String>,
    /// The same with the fields that are read of them: `row.lang`.
    fields: HashSet<String>,
    compiled: Compiled<'static, 'static>,
}

impl Expression {
    /// Parses it.
    ///
    /// # Errors
    /// What is no expression.
    pub fn new(field: String, source: &str) -> Result<Self> {
        let compiled = LANGUAGE.compile_expression_owned(source.to_string());
        let compiled = compiled.map_err(|error| {
            Error::invalid(
                format!("{field} = {source}"),
                said(&error),
                "give an expression, such as question, row['my column'], 'Q: ' ~ question or \
                 scores | mean",
            )
        })?;
        let mut names: Vec<String> = compiled.undeclared_variables(false).into_iter().collect();
        names.sort();
        Ok(Self {
            field,
            source: source.into(),
            names,
            fields: compiled.undeclared_variables(true),
            compiled,
        })
    }

    /// True if it reads that column, by its name or as a field of `row` or `item`.
    pub fn reads(&self, name: &str) -> bool {
        let within = |whole: &str| {
            self.fields.contains(&format!("{whole}.{name}"))
                || (self.names.iter().any(|n| n == whole)
                    && ['\'', '"']
                        .iter()
                        .any(|q| self.source.contains(&format!("{q}{name}{q}"))))
        };
        self.names.iter().any(|n| n == name) || within("row") || within("item")
    }

    /// Its value, where `value` gives that of a name and `known` names all it could have been.
    pub fn evaluate(
        &self,
        value: impl Fn(&str) -> Option<Value>,
        known: impl Fn() -> String,
    ) -> Parsed<Value> {
        let mut context = Vec::with_capacity(self.names.len());
        for name in &self.names {
            match value(name) {
                Some(value) => context.push((name.as_str(), value)),
                None if LANGUAGE.globals().any(|(global, _)| global == name) => {}
                None => {
                    return fault(
                        format!("column `{name}` is missing, which {self} reads"),
                        format!(
                            "the row has {}; what only some rows have is row.{name} | default(…)",
                            known()
                        ),
                    );
                }
            }
        }
        let result = self.compiled.eval(Value::from_pairs(context));
        match result {
            Ok(value) if value.is_undefined() => fault(
                format!("{self} has no value: there is no such entry"),
                format!("the row has {}", known()),
            ),
            Ok(value) => Ok(value),
            Err(error) => fault(
                format!("{self} has no value: {}", said(&error)),
                format!("the row has {}", known()),
            ),
        }
    }

    /// Its value as JSON.
    pub fn json(
        &self,
        value: impl Fn(&str) -> Option<Value>,
        known: impl Fn() -> String,
    ) -> Parsed<Json> {
        let value = self.evaluate(value, known)?;
        self.as_json(&value)
    }

    /// A value that it gave.
    pub fn as_json(&self, value: &Value) -> Parsed<Json> {
        json(value).or_else(|problem| {
            let remedy = "give text, a number, a boolean, a list or an object";
            fault(format!("{self} is {problem}"), remedy)
        })
    }
}

/// `columns.prompt = question`
impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "`{} = {}`", self.field, self.source)
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What the engine says is wrong, without the place.
pub(crate) fn said(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// A JSON value for expressions and templates.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), ..) => Value::from(n),
            (_, Some(n), _) => Value::from(n),
            (.., n) => Value::from(n.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::from(list.iter().map(value).collect::<Vec<_>>()),
        Json::Object(fields) => object(fields),
    }
}

/// A JSON object for expressions and templates.
pub(crate) fn object(fields: &Map<String, Json>) -> Value {
    Value::from_pairs(fields.iter().map(|(k, v)| (k.as_str(), value(v))))
}

/// A value as JSON, or what it is instead.
pub(super) fn json(value: &Value) -> std::result::Result<Json, String> {
    let other = || Err(format!("{value}, which is no JSON"));
    Ok(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::String => Json::String(value.as_str().unwrap_or_default().into()),
        ValueKind::Number if value.is_integer() => {
            match (i64::try_from(value.clone()), u64::try_from(value.clone())) {
                (Ok(n), _) => Json::from(n),
                (_, Ok(n)) => Json::from(n),
                _ => return other(),
            }
        }
        ValueKind::Number => {
            let number = f64::try_from(value.clone()).ok();
            match number.and_then(Number::from_f64) {
                Some(number) => Json::Number(number),
                None => return Err(format!("{value}, which is no finite number")),
            }
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let entries = value.try_iter().map_err(|e| said(&e))?;
            Json::Array(
                entries
                    .map(|entry| json(&entry))
                    .collect::<std::result::Result<_, _>>()?,
            )
        }
        ValueKind::Map => {
            let mut fields = Map::new();
            for key in value.try_iter().map_err(|e| said(&e))? {
                let entry = value.get_item(&key).map_err(|e| said(&e))?;
                fields.insert(key.to_string(), json(&entry)?);
            }
            Json::Object(fields)
        }
        ValueKind::Undefined => return Err("undefined".into()),
        _ => return other(),
    })
}
