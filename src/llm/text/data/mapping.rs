//! Rows of a file to rows with the columns that objectives read.

use std::collections::BTreeSet;
use std::path::Path;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::{Map, Value as Json};

use super::columns;
use super::expression::{self, Expression};
use super::reading::Reading;
use super::values::{Parsed, fault, quoted};
use crate::error::{Error, Result};

/// Expressions that were parsed.
#[derive(Debug)]
pub(super) struct Mapping {
    rows: Option<Expression>,
    keep: Option<Expression>,
    columns: Vec<(String, Expression)>,
}

/// Where a row is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub file: &'a Path,
    /// Its number in the file, from 1.
    pub number: u64,
}

/// What names mean.
struct Names<'a> {
    columns: &'a Map<String, Json>,
    place: Place<'a>,
    item: Option<(Value, usize)>,
}

impl Mapping {
    /// The mapping that a person gave.
    ///
    /// # Errors
    /// What is no expression, or a column that nothing reads.
    pub fn new(reading: &Reading) -> Result<Self> {
        let expression = |field: &str, source: &Option<String>| {
            let source = source.as_ref();
            source
                .map(|source| Expression::new(field.into(), source))
                .transpose()
        };
        let mut columns: Vec<(String, Expression)> = Vec::new();
        for (name, source) in &reading.columns {
            if !columns::known().any(|known| known == name) {
                let known: Vec<_> = columns::known().collect();
                return Err(Error::invalid(
                    format!("columns.{name}"),
                    "no objective reads a column of that name",
                    format!("give one of {}", quoted(&known, ", ")),
                ));
            }
            let expression = Expression::new(format!("columns.{name}"), source)?;
            // The last one counts, as with all flags.
            columns.retain(|(other, _)| other != name);
            columns.push((name.clone(), expression));
        }
        Ok(Self {
            rows: expression("rows", &reading.rows)?,
            keep: expression("where", &reading.r#where)?,
            columns,
        })
    }

    /// Refuses a row of which an expression reads a column with numbers that are not finite.
    pub fn is_finite(&self, odd: &[String]) -> Parsed<()> {
        for expression in self.makers().chain(&self.keep) {
            if let Some(name) = odd.iter().find(|name| expression.reads(name)) {
                return fault(
                    format!(
                        "`{name}`, which {expression} reads, holds a number that is not finite"
                    ),
                    "correct the row, or leave it out by another column",
                );
            }
        }
        Ok(())
    }

    /// The columns of a row of the file that no expression reads and that do not stay as they are.
    pub fn unread(&self, columns: &Map<String, Json>) -> BTreeSet<String> {
        let expressions = || self.makers().chain(&self.keep);
        let idle = columns.iter().filter(|(name, value)| {
            !value.is_null()
                && columns::known().all(|known| known != *name)
                && !expressions().any(|expression| expression.reads(name))
        });
        idle.map(|(name, _)| format!("`{name}`")).collect()
    }

    /// The expressions that rows are made by.
    fn makers(&self) -> impl Iterator<Item = &Expression> {
        let columns = self.columns.iter().map(|(_, expression)| expression);
        self.rows.iter().chain(columns)
    }

    /// The rows that a row of the file becomes, and how many of them are left out.
    pub fn apply(
        &self,
        columns: Map<String, Json>,
        place: Place,
    ) -> Parsed<(Vec<Map<String, Json>>, u64)> {
        let mut names = Names {
            columns: &columns,
            place,
            item: None,
        };
        let Some(rows) = &self.rows else {
            let row = self.one(&names)?;
            let left_out = u64::from(row.is_none());
            return Ok((row.into_iter().collect(), left_out));
        };
        let items = rows.evaluate(|name| names.value(name), || names.known())?;
        if !matches!(items.kind(), ValueKind::Seq | ValueKind::Iterable) {
            let problem = format!("{rows} is no list, but {}", items.kind());
            return fault(problem, "each of its entries becomes a row");
        }
        let (mut made, mut left_out) = (Vec::new(), 0);
        let items = items
            .try_iter()
            .or_else(|e| fault(format!("{rows}: {e}"), "give a list"))?;
        for (index, item) in items.enumerate() {
            names.item = Some((item, index));
            match self.one(&names)? {
                Some(row) => made.push(row),
                None => left_out += 1,
            }
        }
        Ok((made, left_out))
    }

    /// A row, unless it is left out.
    fn one(&self, names: &Names) -> Parsed<Option<Map<String, Json>>> {
        if let Some(keep) = &self.keep {
            let kept = keep.evaluate(|name| names.value(name), || names.known())?;
            if !kept.is_true() {
                return Ok(None);
            }
        }
        let mut row = Map::new();
        for name in columns::known() {
            // What an expression has put where it belongs is not read again.
            if columns::is_aside(name) && self.makers().any(|maker| maker.reads(name)) {
                continue;
            }
            if let Some(value) = names.own(name) {
                row.insert(name.into(), value?);
            }
        }
        for (name, expression) in &self.columns {
            let value = expression.json(|name| names.value(name), || names.known())?;
            row.insert(name.clone(), value);
        }
        Ok(Some(row))
    }
}

impl Names<'_> {
    /// What a name means in an expression: a field of the entry, a column of the row, or what is
    /// known of every row.
    fn value(&self, name: &str) -> Option<Value> {
        let (item, index) = match &self.item {
            Some((item, index)) => (Some(item), Some(*index)),
            None => (None, None),
        };
        match (name, item) {
            ("row", _) => return Some(expression::object(self.columns)),
            ("item", Some(item)) => return Some(item.clone()),
            _ => {}
        }
        (field(item, name))
            .or_else(|| self.columns.get(name).map(expression::value))
            .or_else(|| match name {
                "file" => {
                    let file = self.place.file.file_name().unwrap_or_default();
                    Some(Value::from(file.to_string_lossy().as_ref()))
                }
                "number" => Some(Value::from(self.place.number)),
                "index" => index.map(Value::from),
                _ => None,
            })
    }

    /// A column that the row has without a mapping.
    fn own(&self, name: &str) -> Option<Parsed<Json>> {
        let item = self.item.as_ref().map(|(item, _)| item);
        match field(item, name) {
            Some(value) => Some(expression::json(&value).or_else(|problem| {
                fault(format!("`{name}` is {problem}"), "give text or a number")
            })),
            None => self.columns.get(name).cloned().map(Ok),
        }
    }

    /// What there is to read.
    fn known(&self) -> String {
        let mut names: Vec<String> = self.columns.keys().cloned().collect();
        if let Some((item, _)) = &self.item {
            let fields = item.try_iter().into_iter().flatten();
            let fields = fields.filter(|_| item.kind() == ValueKind::Map);
            names.extend(fields.map(|name| name.to_string()));
        }
        columns::listed(names.iter().map(String::as_str))
    }
}

/// A field of an entry that is an object.
fn field(item: Option<&Value>, name: &str) -> Option<Value> {
    let item = item.filter(|item| item.kind() == ValueKind::Map)?;
    item.get_attr(name)
        .ok()
        .filter(|value| !value.is_undefined())
}
