//! The reference of all settings, made of the settings themselves.

use std::any::TypeId;
use std::fmt::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, Command};

use super::settings::Settings;
use crate::llm::text::data::Reading;

const HEAD: &str = "\
# Settings of `pistar train`

Made by `pistar train --config-reference > docs/config.md`; do not edit it.

Every field of `--config FILE.toml`, and the flag that is the same. Flags win over the file, the file
over the defaults; an unknown field is an error. `out`, `resume` and `overwrite` are not kept in a
run's `config.toml`. A table `[sweep]` with lists of values, such as `beta = [0.03, 0.1]`, and with
`seeds = 3`, makes many runs ([runs.md](runs.md)).
";

/// `docs/config.md`.
pub fn config_reference() -> String {
    let command = Reading::augment_args(Settings::augment_args(Command::new("train")));
    let mut headings: Vec<&str> = Vec::new();
    for arg in command.get_arguments() {
        let heading = heading(arg);
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
        for arg in command.get_arguments().filter(|arg| heading(arg) == wanted) {
            let (default, meaning) = told(arg);
            let flag = match arg.get_long() {
                Some(long) => format!("`--{long}`"),
                None => "the first argument".into(),
            };
            let cells = [
                format!("`{}`", arg.get_id()),
                flag,
                kind(arg),
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

fn heading(arg: &Arg) -> &str {
    arg.get_help_heading().unwrap_or("Objective")
}

fn kind(arg: &Arg) -> String {
    let parser = arg.get_value_parser();
    let id = parser.type_id();
    let one = if id == TypeId::of::<bool>() {
        "true or false".into()
    } else if id == TypeId::of::<f64>() {
        "number".into()
    } else if id == TypeId::of::<u64>() || id == TypeId::of::<usize>() {
        "whole number".into()
    } else if id == TypeId::of::<PathBuf>() {
        "path".into()
    } else if id == TypeId::of::<(String, String)>() {
        return "table of text".into();
    } else {
        let possible = parser.possible_values().into_iter().flatten();
        let names: Vec<String> = possible.map(|v| format!("`{}`", v.get_name())).collect();
        match names.as_slice() {
            [] => "text".into(),
            names => names.join(", "),
        }
    };
    match arg.get_action() {
        ArgAction::Append => format!("list of {one}"),
        _ => one,
    }
}

/// The default, and the meaning without it.
fn told(arg: &Arg) -> (String, String) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((meaning, rest)) = help.split_once(" [default: ") {
        return (rest.trim_end_matches(']').into(), meaning.into());
    }
    let given: Vec<String> = (arg.get_default_values().iter())
        .map(|v| format!("`{}`", v.to_string_lossy()))
        .collect();
    let default = match (given.as_slice(), arg.get_action()) {
        ([], ArgAction::SetTrue) => "`false`".into(),
        ([], _) => "–".into(),
        (given, _) => given.join(", "),
    };
    (default, help)
}
