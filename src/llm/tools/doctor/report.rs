//! Report of an examination: rows of one table, for people and as JSON.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Section;
use crate::error::Error;
use crate::text::{WIDTH, pad, wrap};

/// Verdict on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within its bound.
    Ok,
    /// Beyond its bound, not a number, or not run at all.
    Fail,
    /// No bound to compare it with.
    Note,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "FAIL",
            Self::Note => "-",
        }
    }
}

/// Unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// A relative error.
    #[serde(rename = "")]
    Error,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Floating-point operations a second.
    #[serde(rename = "FLOP/s")]
    Flops,
    /// Bytes a second.
    #[serde(rename = "B/s")]
    Bandwidth,
    /// Bytes.
    #[serde(rename = "B")]
    Bytes,
    /// Tokens a second.
    #[serde(rename = "tokens/s")]
    Tokens,
}

/// Something found, or what it is held against.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quantity {
    /// Text.
    Text(String),
    /// A number with its unit.
    Number {
        /// In the unit's own size: seconds, bytes, …
        value: f64,
        /// What it counts.
        unit: Unit,
    },
}

impl Quantity {
    /// A number.
    pub fn new(value: f64, unit: Unit) -> Self {
        Self::Number { value, unit }
    }

    /// The quantity as people read it.
    pub fn shown(&self) -> String {
        let (value, unit) = match self {
            Self::Text(text) => return text.clone(),
            &Self::Number { value, unit } => (value, unit),
        };
        let scaled = |x: f64, unit: &str| format!("{} {unit}", three(x));
        match unit {
            _ if !value.is_finite() => value.to_string(),
            Unit::Error if value == 0.0 => "0".into(),
            Unit::Error => format!("{value:.1e}"),
            Unit::Seconds if value < 1e-3 => scaled(1e6 * value, "µs"),
            Unit::Seconds if value < 10.0 => scaled(1e3 * value, "ms"),
            Unit::Seconds => scaled(value, "s"),
            Unit::Flops if value < 1e12 => scaled(1e-9 * value, "GFLOP/s"),
            Unit::Flops => scaled(1e-12 * value, "TFLOP/s"),
            Unit::Bandwidth => scaled(1e-9 * value, "GB/s"),
            Unit::Bytes if value < 1e9 => scaled(1e-6 * value, "MB"),
            Unit::Bytes => scaled(1e-9 * value, "GB"),
            Unit::Tokens => format!("{value:.0} a second"),
        }
    }
}

/// Three digits, or all before the point.
pub(super) fn three(x: f64) -> String {
    let digits = match x.abs() {
        x if x >= 100.0 || x == 0.0 => 0,
        x => (2 - x.log10().floor() as i32).clamp(0, 4) as usize,
    };
    format!("{x:.digits$}")
}

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Name of the row.
    pub name: String,
    /// Measured quantity.
    pub found: Option<Quantity>,
    /// Bound that it is compared with: the most an error may be, the least a time can be.
    pub bound: Option<Quantity>,
    /// Verdict on it.
    pub verdict: Verdict,
    /// Remark for a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// Numbers that have no room in the table.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Row {
    /// Something found that nothing is held against.
    pub fn note(name: impl Into<String>, found: Quantity) -> Self {
        Self {
            name: name.into(),
            found: Some(found),
            bound: None,
            verdict: Verdict::Note,
            remark: String::new(),
            details: Map::new(),
        }
    }

    /// The same in words.
    pub fn says(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::note(name, Quantity::Text(found.into()))
    }

    /// An error and the most it may be. NaN is beyond every bound.
    pub fn error(name: impl Into<String>, found: f64, bound: f64) -> Self {
        let mut row = Self::note(name, Quantity::new(found, Unit::Error));
        row.bound = Some(Quantity::new(bound, Unit::Error));
        row.verdict = verdict(found <= bound);
        row
    }

    /// A row that counts: so many of all, which should be all.
    pub fn count(name: impl Into<String>, found: usize, all: usize) -> Self {
        let mut row = Self::says(name, format!("{found} of {all}"));
        row.verdict = verdict(found == all);
        row
    }

    /// Something that did not run.
    pub fn failed(name: impl Into<String>, error: &Error) -> Self {
        let mut row = Self::says(name, "error");
        row.verdict = Verdict::Fail;
        // What follows the first line is where candle was.
        let said = error.to_string();
        row.remark = said.lines().next().unwrap_or_default().to_string();
        row
    }

    /// The row with a remark.
    #[must_use]
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = remark.into();
        self
    }

    /// The row with a number or more for JSON.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }
}

fn verdict(ok: bool) -> Verdict {
    if ok { Verdict::Ok } else { Verdict::Fail }
}

/// Rows under one heading.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Section that it belongs to.
    pub section: Section,
    /// Subject that the rows share: a precision, a model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Part {
    /// Rows of a section.
    pub fn new(section: Section, of: impl Into<String>, rows: Vec<Row>) -> Self {
        let of = of.into();
        Self { section, of, rows }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// pistar's.
    pub version: &'static str,
    /// The device as it was named.
    pub device: String,
    /// Machine that it ran on.
    pub machine: Map<String, Value>,
    /// Seed of the random inputs.
    pub seed: u64,
    /// True for the short form.
    pub quick: bool,
    /// Seconds it took.
    pub seconds: f64,
    /// Section by section.
    pub sections: Vec<Part>,
}

impl Report {
    /// Rows with a verdict, and those of them that failed.
    pub fn counts(&self) -> (usize, usize) {
        let rows = || self.sections.iter().flat_map(|part| &part.rows);
        let judged = rows().filter(|r| r.verdict != Verdict::Note).count();
        let failed = rows().filter(|r| r.verdict == Verdict::Fail).count();
        (judged, failed)
    }

    /// The table.
    pub fn table(&self) -> String {
        let rows = || self.sections.iter().flat_map(|part| &part.rows);
        let width = |of: &dyn Fn(&Row) -> usize| rows().map(of).max().unwrap_or(0);
        let length = |q: &Option<Quantity>| q.as_ref().map_or(0, |q| q.shown().chars().count());
        let name = width(&|r| r.name.chars().count() + 2);
        // What has no bound may spread over the bound's column.
        let bound = width(&|r| length(&r.bound)).max("bound or floor".len());
        let found = width(&|r| match r.bound {
            Some(_) => length(&r.found),
            None => length(&r.found).min(12),
        });
        let columns = [name, found.max(5), bound, 4];
        let head = ["", "found", "bound or floor", ""].map(String::from);
        let mut text = line(&head, columns, "");
        for part in &self.sections {
            text += part.section.name();
            if !part.of.is_empty() {
                text = text + ": " + &part.of;
            }
            text.push('\n');
            for row in &part.rows {
                let shown = |q: &Option<Quantity>| q.as_ref().map_or(String::new(), |q| q.shown());
                let cells = [
                    format!("  {}", row.name),
                    shown(&row.found),
                    shown(&row.bound),
                    row.verdict.name().into(),
                ];
                text += &line(&cells, columns, &row.remark);
            }
        }
        text
    }
}

/// A line of cells two spaces apart, the remark in the room that is left or below.
fn line([name, found, bound, verdict]: &[String; 4], widths: [usize; 4], remark: &str) -> String {
    let found = if bound.is_empty() {
        pad(found, widths[1] + 2 + widths[2])
    } else {
        format!("{}  {}", pad(found, widths[1]), pad(bound, widths[2]))
    };
    let verdict = pad(verdict, widths[3]);
    let mut text = format!("{}  {found}  {verdict}", pad(name, widths[0]));
    let room = text.chars().count() + 2 + remark.chars().count() <= WIDTH + 4;
    if room {
        text = format!("{text}  {remark}").trim_end().to_string();
        return text + "\n";
    }
    format!("{}\n{}", text.trim_end(), wrap(remark, 6, 6))
}
