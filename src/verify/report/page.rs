//! A report as a page for people and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::finite::kept;
use super::rows::vanishing;
use super::{Area, Check, LimitRow, Outcome, Report, Rest};
use crate::bandit::Problem;

use crate::text::{exact, number, pad, wrap_within};

/// Columns of a page.
pub const WIDTH: usize = 80;

/// Columns of outcome, property and number, each with the gap after it.
const OUTCOME: usize = 9;
const PROPERTY: usize = 30;
const NUMBER: usize = 9;
const INDENT: usize = 2;

/// Columns of a row: responses, limit, class, regret, and what is left.
const ROW: [usize; 4] = [29, 21, 10, 9];

/// Most arms of a prompt whose probabilities stand in a row.
const SHOWN: usize = 3;

fn wrap(text: &str, first: usize, rest: usize) -> String {
    wrap_within(WIDTH, text, first, rest)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        f.write_str(&self.limit_table())?;
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
        let (inputs, kind) = (self.inputs.name(), self.kind.name());
        let mut told = vec![inputs.to_string(), kind.to_string()];
        let spec = self.objective.spec();
        if !spec.source.is_empty() {
            told.push(spec.source.into());
        }
        // β is the bandit's; what nobody chose is not told.
        for number in self.objective.numbers() {
            let value = self
                .numbers
                .get(number.name)
                .filter(|_| number.name != "beta");
            if let Some(x) = value.filter(|x| number.default != Some(*x)) {
                told.push(format!("{} = {}", number.name, exact(x)));
            }
        }
        let formula = format!("{}  {}", self.loss, spec.formula);
        let formula = formula.trim_end();
        let mut text = if formula.chars().count() <= WIDTH {
            format!("{formula}\n")
        } else {
            wrap(formula, 0, INDENT)
        };
        text += &wrap(&told.join(" · "), INDENT, INDENT);
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let counts = [
            plural(self.faults(), "fault"),
            plural(self.count(Outcome::Differs), "difference"),
            format!("{} ok", self.count(Outcome::Ok)),
        ];
        text += &format!("  {}\n", counts.join(" · "));
        text
    }

    fn limit_table(&self) -> String {
        let mut text = format!("\nwhere it converges\n{}", bandit(&self.problem));
        if self.inputs.is_groups() {
            let says = match self.group {
                Some(2) => {
                    "groups of 2 stand for any size: 2, 4 and 8 have the same expected update but \
                            for a factor"
                        .to_string()
                }
                Some(k) => format!(
                    "groups of 2, 4 and 8 have different expected updates; the checks below are of {k}"
                ),
                None => String::new(),
            };
            text += &wrap(&says, INDENT, INDENT);
        }
        text += &cells(&["responses", "limit", "rest", "regret", "KL(π‖ref)"]);
        for row in &self.limits {
            text += &limit(row);
        }
        text
    }

    /// The report as JSON: `loss`, `inputs`, `kind`, `registered`, `bandit`, `group`, counts, `limits` and `checks`.
    pub fn json(&self) -> Value {
        let row = |row: &LimitRow| {
            json!({
                "responses": row.responses,
                "data": row.data.name(),
                "group": row.group,
                "rest": row.rest.name(),
                "unbounded": row.unbounded,
                "pushed": row.pushed,
                "policy": row.policy,
                "regret": row.regret.map_or(Value::Null, finite),
                "kl_to_optimum": row.from_optimum.map_or(Value::Null, finite),
                "kl_to_reference": row.from_reference.map_or(Value::Null, finite),
                "direction": row.direction,
                "odds": row.odds,
                "any_start": row.any_start,
                "note": row.note,
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
        let prompts = self.problem.prompts().iter();
        let optimum = self.problem.optimum().policy.probabilities();
        let bandit = json!({
            "beta": self.problem.beta(),
            "reward": prompts.map(|p| &p.reward).collect::<Vec<_>>(),
            "reference": self.problem.reference().probabilities(),
            "optimum": optimum,
        });
        json!({
            "loss": self.loss,
            "numbers": self.numbers.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "inputs": self.inputs.name(),
            "kind": self.kind.name(),
            "registered": self.registered.is_some(),
            "bandit": bandit,
            "group": self.group,
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

/// The bandit of the rows.
fn bandit(problem: &Problem) -> String {
    let list = |values: &mut dyn Iterator<Item = f64>, digits: Option<usize>| {
        let shown: Vec<String> = values
            .map(|v| match digits {
                Some(digits) => format!("{v:.digits$}"),
                None => format!("{}", (v * 1e6).round() / 1e6),
            })
            .collect();
        format!("({})", shown.join(", "))
    };
    let optimum = problem.optimum().policy.probabilities();
    let mut text = String::new();
    let several = problem.prompts().len() > 1;
    for (x, (prompt, star)) in problem.prompts().iter().zip(&optimum).enumerate() {
        let name = if several {
            format!("prompt {x}: ")
        } else {
            String::new()
        };
        let reference = &mut prompt.log_reference.iter().map(|l| l.exp());
        let says = format!(
            "{name}R = {}, β = {}, π_ref = {}, π* = {}",
            list(&mut prompt.reward.iter().copied(), None),
            problem.beta(),
            list(reference, None),
            list(&mut star.iter().copied(), Some(3)),
        );
        text += &wrap(&says, INDENT, INDENT + 2);
    }
    text
}

fn cells(cells: &[&str; 5]) -> String {
    let mut line = " ".repeat(INDENT);
    for (cell, width) in cells.iter().zip(ROW) {
        line += &pad(cell, width);
    }
    line += cells[4];
    line.trim_end().to_string() + "\n"
}

fn limit(row: &LimitRow) -> String {
    let rounded =
        |x: Option<f64>| x.map_or(String::new(), |x| number(if x < 1e-12 { 0.0 } else { x }));
    let class = if row.unbounded {
        "unbounded"
    } else {
        row.rest.name()
    };
    // An arm that vanishes has the probability 0 in the limit only.
    let gone = |x: usize, a: usize| row.odds.as_ref().is_some_and(|odds| odds[x][a].is_none());
    let policies: Vec<String> = (row.policy.iter().flatten().enumerate())
        .map(|(x, row)| {
            let arm = |(a, p): (usize, &f64)| {
                if gone(x, a) {
                    "→0   ".to_string()
                } else {
                    format!("{p:.3}")
                }
            };
            let shown: Vec<String> = row.iter().enumerate().map(arm).collect();
            shown.join("  ").trim_end().to_string()
        })
        .collect();
    let inline = match policies.as_slice() {
        [] => Some("no limit".to_string()),
        [one] if row.policy.iter().flatten().all(|p| p.len() <= SHOWN) => Some(one.clone()),
        _ => None,
    };
    let mut text = cells(&[
        &row.responses,
        inline.as_deref().unwrap_or("below"),
        class,
        &rounded(row.regret),
        &rounded(row.from_reference),
    ]);
    if inline.is_none() {
        for (x, policy) in policies.iter().enumerate() {
            let name = if policies.len() > 1 {
                format!("prompt {x}: ")
            } else {
                String::new()
            };
            text += &wrap(&format!("{name}{policy}"), INDENT + 2, INDENT + 4);
        }
    }
    for note in notes(row) {
        text += &wrap(&note, INDENT + 2, INDENT + 2);
    }
    text
}

/// What is told below a row.
fn notes(row: &LimitRow) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(direction) = &row.direction {
        let rows: Vec<String> = (direction.iter())
            .map(|row| {
                let rates: Vec<String> = row
                    .iter()
                    .map(|w| format!("{}", (w * 1e3).round() / 1e3 + 0.0))
                    .collect();
                format!("({})", rates.join(", "))
            })
            .collect();
        let way = format!("{}, ln π along {}", vanishing(direction), rows.join(" "));
        let odds = row.odds.as_deref().map(kept).unwrap_or_default();
        notes.push(match (row.unbounded, row.rest) {
            (true, _) => format!("unbounded below: the loss falls for ever as {way}"),
            (false, Rest::Boundary) => format!("in the limit {way}{odds}"),
            (false, _) => format!("it runs off as {way}"),
        });
    }
    notes.extend(row.note.clone());
    notes
}

fn line(check: &Check) -> String {
    // Rounding is no number worth a person's while.
    let shown = match check.number {
        Some(x) if x.abs() < 1e-15 => "0".to_string(),
        Some(x) if check.outcome == Outcome::Ok && x < 1e-3 => format!("{x:.0e}"),
        Some(x) => number(x),
        None => String::new(),
    };
    let (outcome, property) = (
        pad(check.outcome.name(), OUTCOME),
        pad(check.property, PROPERTY),
    );
    let head = format!("  {outcome}{property}{}", pad(&shown, NUMBER));
    let column = head.chars().count();
    if column + check.says.chars().count() <= WIDTH {
        return format!("{head}{}\n", check.says);
    }
    let under = INDENT + OUTCOME;
    format!("{}\n{}", head.trim_end(), wrap(&check.says, under, under))
}
