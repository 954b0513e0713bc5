//! A report as a page for people and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::{Area, Check, LimitRow, Outcome, Report};
use crate::text::{number, pad, wrap};

/// Columns of outcome, property and number, each with the gap after it.
const OUTCOME: usize = 9;
const PROPERTY: usize = 30;
const NUMBER: usize = 11;
const INDENT: usize = 2;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        if !self.limits.is_empty() {
            f.write_str(&limits(&self.limits))?;
        }
        for area in Area::ALL {
            let mut checks = self.checks.iter().filter(|c| c.area == area).peekable();
            if checks.peek().is_none() {
                continue;
            }
            writeln!(f, "\n{}", area.name())?;
            for check in checks {
                f.write_str(&line(check))?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn head(&self) -> String {
        let mut text = match self.registered.map(crate::loss::Objective::spec) {
            Some(spec) => {
                let (inputs, kind) = (self.inputs.name(), self.kind.name());
                format!(
                    "{}  {}\n{}",
                    self.loss,
                    spec.formula,
                    wrap(
                        &format!("{inputs} · {kind} · {}", spec.source),
                        INDENT,
                        INDENT
                    )
                )
            }
            None => {
                let (inputs, kind) = (self.inputs.name(), self.kind.name());
                format!("{}\n  {inputs} · {kind}\n", self.loss)
            }
        };
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let counts = [
            plural(self.faults(), "fault"),
            plural(self.count(Outcome::Differs), "difference"),
            format!("{} ok", self.count(Outcome::Ok)),
        ];
        text += &format!("  {}\n", counts.join(" · "));
        text
    }

    /// As JSON: `loss`, `inputs`, `kind`, `registered`, counts, `limits` and `checks`.
    pub fn json(&self) -> Value {
        let row = |row: &LimitRow| {
            json!({
                "responses": row.responses,
                "policy": row.policy,
                "regret": finite(row.regret),
                "kl_to_optimum": finite(row.from_optimum),
                "kl_to_reference": finite(row.from_reference),
                "rests": row.rests,
            })
        };
        let check = |check: &Check| {
            json!({
                "area": check.area.name(),
                "property": check.property,
                "outcome": check.outcome.name(),
                "number": check.number.map_or(Value::Null, finite),
                "says": check.says,
            })
        };
        json!({
            "loss": self.loss,
            "inputs": self.inputs.name(),
            "kind": self.kind.name(),
            "registered": self.registered.is_some(),
            "faults": self.faults(),
            "differences": self.count(Outcome::Differs),
            "ok": self.count(Outcome::Ok),
            "limits": self.limits.iter().map(row).collect::<Vec<_>>(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

/// A number, or null where JSON has none.
fn finite(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or(Value::Null, Value::Number)
}

fn limits(rows: &[LimitRow]) -> String {
    let mut text = String::from(
        "\nwhere it converges on CoPG's bandit, R = (2.5, 2, 1), β = 0.5, π* = (0.705, 0.259, 0.035)\n",
    );
    let cells = |a: &str, b: &str, c: &str, d: &str, e: &str| {
        let line = format!(
            "  {}{}{}{}{e}",
            pad(a, 27),
            pad(b, 24),
            pad(c, 11),
            pad(d, 11)
        );
        line.trim_end().to_string() + "\n"
    };
    text += &cells("responses", "limit", "regret", "KL to π*", "KL to π_ref");
    for row in rows {
        let policy: Vec<String> = row.policy.iter().map(|p| format!("{p:.3}")).collect();
        let rounded = |x: f64| number(if x < 1e-12 { 0.0 } else { x });
        text += &cells(
            row.responses,
            &policy.join("  "),
            &rounded(row.regret),
            &rounded(row.from_optimum),
            &rounded(row.from_reference),
        );
    }
    text
}

fn line(check: &Check) -> String {
    // Rounding is no number worth a person's while.
    let shown = match check.number {
        Some(x) if x.abs() < 1e-15 => "0".to_string(),
        Some(x) if check.outcome == Outcome::Ok && x < 1e-3 => format!("{x:.0e}"),
        Some(x) => number(x),
        None => String::new(),
    };
    let column = INDENT + OUTCOME + PROPERTY + NUMBER;
    let says = wrap(&check.says, column, column);
    let (outcome, property) = (
        pad(check.outcome.name(), OUTCOME),
        pad(check.property, PROPERTY),
    );
    let number = pad(&shown, NUMBER);
    format!("  {outcome}{property}{number}{}", says.trim_start())
}
