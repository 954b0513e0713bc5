//! The reference of all settings, made of the settings themselves.

use std::fmt::Write;

use super::settings::Settings;
use crate::llm::files::settings::{Field, Fields, Flag, Kind};
use crate::loss::{NumberOf, Objective};

const HEAD: &str = "\
# Settings of `pistar train`

Made by `pistar train --config-reference > docs/config.md`; do not edit it.

Every field of `--config FILE.toml`, and the flag that is the same. Flags win over the file, the file
over the defaults; an unknown field is an error. `out`, `resume` and `overwrite` are not kept in a
run's `config.toml`. Numbers of an objective, such as β, stand in a table `[numbers]` or beside the other fields;
those of a loss of your own do too. A table `[sweep]` with lists of values, such as `beta = [0.03, 0.1]`, and with
`seeds = 3`, makes many runs ([runs.md](runs.md)).
";

/// `docs/config.md`.
pub fn config_reference() -> String {
    let fields = || (Settings::FIELDS.iter()).filter(|field| field.flag != Flag::None);
    let mut headings: Vec<&str> = Vec::new();
    for heading in fields().map(heading) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut page = HEAD.to_string();
    for wanted in headings {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {wanted}\n\n| field | flag | type | default | meaning |\n|---|---|---|---|---|\n"
        );
        for field in fields().filter(|field| heading(field) == wanted) {
            if field.flag == Flag::Numbers {
                page += &numbers();
                continue;
            }
            let (default, meaning) = told(field);
            let flag = match field.long() {
                Some(long) => format!("`--{long}`"),
                None => "the first argument".into(),
            };
            let cells = [
                format!("`{}`", field.name),
                flag,
                kind(field),
                default,
                meaning,
            ];
            let _ = writeln!(
                page,
                "| {} |",
                cells.map(|c| c.replace('|', "\\|")).join(" | ")
            );
        }
    }
    page
}

/// The rows of the numbers that objectives have.
fn numbers() -> String {
    let mut rows = String::new();
    for of in NumberOf::all(&Objective::own().collect::<Vec<_>>()) {
        let (name, range) = (of.number.name, of.number.range);
        let (long, help, default) = (of.number.flag(), of.help(), of.default());
        let _ = writeln!(
            rows,
            "| `numbers.{name}` | `--{long}` | {range} | {default} | {help} |"
        );
    }
    rows
}

fn heading(field: &Field) -> &'static str {
    field.heading.unwrap_or("Objective")
}

fn kind(field: &Field) -> String {
    let one = match field.kind {
        Kind::Switch | Kind::Truth => "true or false".into(),
        Kind::Number => "number".into(),
        Kind::Whole => "whole number".into(),
        Kind::Text | Kind::Escaped => "text".into(),
        Kind::Path => "path".into(),
        Kind::OneOf(names) => {
            let names: Vec<String> = names.iter().map(|n| format!("`{}`", n.name)).collect();
            names.join(", ")
        }
        Kind::Assignments => return "table of text".into(),
        Kind::Numbers => return "table of numbers".into(),
        Kind::Table => "table".into(),
    };
    if field.list {
        format!("list of {one}")
    } else {
        one
    }
}

/// The default, and the meaning without it.
fn told(field: &Field) -> (String, String) {
    if let Some((meaning, rest)) = field.help.split_once(" [default: ") {
        return (rest.trim_end_matches(']').into(), meaning.into());
    }
    let default = match (field.default)() {
        Some(default) => format!("`{default}`"),
        None => "–".into(),
    };
    (default, field.help.into())
}
