//! Settings with several values for some fields: the runs of a sweep.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::super::limits::RUNS;
use super::super::settings::Settings;
use crate::error::{Error, Result};

/// Longest name of a run's folder, in bytes.
const LONGEST: usize = 200;

/// A field, and the values that it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    field: String,
    values: Vec<(String, Value)>,
}

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its folder in that of the sweep: `beta=0.1,seed=0`.
    pub name: String,
    /// Its settings, not resolved.
    pub settings: Settings,
}

impl Axis {
    /// A field with its values, as in `beta=0.03,0.1`: TOML values, or text. Commas within brackets
    /// and quotes separate nothing.
    ///
    /// # Errors
    /// No field, or no value.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |problem: &str| {
            let place = format!("sweep: {text}");
            Error::invalid(place, problem, "write FIELD=VALUE,VALUE,…")
        };
        let (field, values) = text.split_once('=').ok_or_else(|| wrong("it has no `=`"))?;
        if field.trim().is_empty() {
            return Err(wrong("it names no field"));
        }
        let values = pieces(values);
        if values.iter().any(String::is_empty) {
            return Err(wrong("a value is missing"));
        }
        let values = values.into_iter().map(|text| {
            let value = read(&text);
            (text, value)
        });
        Ok(Self {
            field: field.trim().replace('-', "_"),
            values: values.collect(),
        })
    }

    /// The axes of a `[sweep]` table, and its `seeds`. A table in it is a table of the settings.
    ///
    /// # Errors
    /// A field whose values are no list, an empty list, or seeds that are no number.
    pub fn of_table(table: &Table) -> Result<(Vec<Self>, Option<u64>)> {
        let (mut axes, mut seeds) = (Vec::new(), None);
        for (name, value) in table {
            let place = || format!("sweep.{name}");
            match value {
                Value::Integer(count) if name == "seeds" && *count > 0 => {
                    seeds = Some(*count as u64);
                }
                _ if name == "seeds" => {
                    let problem = format!("it is {value}");
                    let remedy = "give how many seeds, 1 or more";
                    return Err(Error::invalid(place(), problem, remedy));
                }
                Value::Table(inner) => {
                    let (inner, _) = Self::of_table(inner).map_err(|e| e.in_file(name))?;
                    axes.extend(inner.into_iter().map(|axis| Self {
                        field: format!("{name}.{}", axis.field),
                        ..axis
                    }));
                }
                Value::Array(values) if !values.is_empty() => axes.push(Self {
                    field: name.clone(),
                    values: values.iter().map(|v| (show(v), v.clone())).collect(),
                }),
                _ => {
                    let problem = format!("it is {value}");
                    let remedy = "give a list of values: [0.03, 0.1]";
                    return Err(Error::invalid(place(), problem, remedy));
                }
            }
        }
        Ok((axes, seeds))
    }

    /// The field that it is of.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What a `[sweep]` table says of it.
    pub(super) fn values(&self) -> Value {
        Value::Array(self.values.iter().map(|(_, value)| value.clone()).collect())
    }
}

/// Every combination of values with every seed, all of the first seed first. Seeds count from that
/// of the settings.
///
/// # Errors
/// A field that is not known or is swept twice, a value that it cannot have, two runs of one name.
pub fn members(base: &Settings, axes: &[Axis], seeds: Option<u64>) -> Result<Vec<Member>> {
    for (i, axis) in axes.iter().enumerate() {
        let place = format!("sweep: {}", axis.field);
        let twice = axes[..i].iter().any(|other| other.field == axis.field);
        if twice || (seeds.is_some() && axis.field == "seed") {
            let remedy = "name a field once, and give either seed or seeds";
            return Err(Error::invalid(place, "it is swept twice", remedy));
        }
        if ["out", "resume", "overwrite", "sweep"].contains(&axis.field.as_str()) {
            let remedy = "leave it out: every run has a folder of its own, and goes on by itself";
            return Err(Error::invalid(place, "it cannot be swept", remedy));
        }
    }
    let grid = axes.iter().map(|axis| axis.values.len() as u64);
    let runs = grid.fold(seeds.unwrap_or(1), u64::saturating_mul);
    if runs > RUNS {
        let place = match seeds {
            Some(seeds) => format!("seeds: {seeds}"),
            None => "sweep".into(),
        };
        let problem = format!("it would have {runs} runs");
        let remedy = format!("give fewer values or seeds, for {RUNS} runs at most");
        return Err(Error::invalid(place, problem, remedy));
    }
    let mut combinations: Vec<Vec<(&str, &(String, Value))>> = vec![Vec::new()];
    for axis in axes {
        let mut longer = Vec::new();
        for chosen in &combinations {
            for value in &axis.values {
                longer.push([&chosen[..], &[(axis.field.as_str(), value)]].concat());
            }
        }
        combinations = longer;
    }
    let mut members = Vec::new();
    for seed in 0..seeds.unwrap_or(1) {
        for chosen in &combinations {
            let mut settings = base.clone();
            let mut name: Vec<String> = Vec::new();
            for &(field, (text, value)) in chosen {
                settings = with(&settings, field, value.clone())?;
                name.push(format!("{field}={}", plain(text)));
            }
            if seeds.is_some() {
                settings.seed = base.seed.wrapping_add(seed);
                name.push(format!("seed={}", settings.seed));
            }
            settings.sweep = None;
            let name = name.join(",");
            members.push(Member { name, settings });
        }
    }
    apart(&members)?;
    Ok(members)
}

/// Refuses runs that would share a folder, and names that no folder can have.
fn apart(members: &[Member]) -> Result<()> {
    let mut names = BTreeMap::new();
    for member in members {
        let place = || format!("sweep: {}", member.name);
        if names.insert(&member.name, ()).is_some() {
            let remedy = "give every value once";
            return Err(Error::invalid(
                place(),
                "two runs would have this folder",
                remedy,
            ));
        }
        if member.name.is_empty() {
            return Err(Error::invalid(
                "sweep",
                "it has no field",
                "give one or more, or seeds",
            ));
        }
        if member.name.len() > LONGEST {
            let problem = format!("the name of its folder has {} bytes", member.name.len());
            let remedy = format!("sweep over shorter values, {LONGEST} bytes in all");
            return Err(Error::invalid(place(), problem, remedy));
        }
    }
    Ok(())
}

/// The settings with another value for a field; `columns.prompt` is a field of a table.
fn with(settings: &Settings, field: &str, value: Value) -> Result<Settings> {
    let place = format!("sweep: {field}={}", show(&value));
    let remedy = "its fields are the flags of `pistar train`, with _ for -: docs/config.md";
    let wrong = |problem: String| Error::invalid(&place, problem, remedy);
    let mut all = Table::try_from(settings).map_err(|e| wrong(e.to_string()))?;
    let mut table = &mut all;
    let mut parts: Vec<&str> = field.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let inner = table
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()));
        table = inner
            .as_table_mut()
            .ok_or_else(|| wrong(format!("`{part}` is no table")))?;
    }
    table.insert(last.into(), value);
    let made: Settings = all.try_into().map_err(|e: toml::de::Error| {
        let message = e.message();
        wrong(
            message
                .split(", expected one of")
                .next()
                .unwrap_or(message)
                .into(),
        )
    })?;
    Ok(Settings {
        out: settings.out.clone(),
        resume: settings.resume.clone(),
        overwrite: settings.overwrite,
        ..made
    })
}

/// Splits at commas that are in no brackets and no quotes.
fn pieces(text: &str) -> Vec<String> {
    let (mut depth, mut quote) = (0, None);
    let mut pieces = vec![String::new()];
    for c in text.chars() {
        match (c, quote) {
            (_, Some(end)) => quote = Some(end).filter(|end| *end != c),
            ('"' | '\'', None) => quote = Some(c),
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth -= 1,
            (',', None) if depth == 0 => {
                pieces.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    pieces.into_iter().map(|p| p.trim().to_string()).collect()
}

/// A TOML value, or else the text itself.
fn read(text: &str) -> Value {
    let table = toml::from_str::<Table>(&format!("value = {text}"));
    (table.ok())
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What of a value can be in a folder's name.
fn plain(text: &str) -> String {
    let keep = |c: char| c.is_alphanumeric() || "+-._".contains(c);
    let plain: String = (text.trim_matches(|c: char| !keep(c)).chars())
        .map(|c| if keep(c) { c } else { '_' })
        .collect();
    plain.trim_start_matches("../").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axes: &[&str], seeds: Option<u64>) -> Result<Vec<String>> {
        let axes: Vec<Axis> = axes.iter().map(|a| Axis::parse(a).unwrap()).collect();
        let members = members(&Settings::default(), &axes, seeds)?;
        Ok(members.into_iter().map(|m| m.name).collect())
    }

    #[test]
    fn a_grid_has_every_combination_seed_by_seed() {
        let found = names(&["beta=0.03,1e-1", "lr=1e-5"], Some(2)).unwrap();
        let right = [
            "beta=0.03,lr=1e-5,seed=0",
            "beta=1e-1,lr=1e-5,seed=0",
            "beta=0.03,lr=1e-5,seed=1",
            "beta=1e-1,lr=1e-5,seed=1",
        ];
        assert_eq!(found, right);
        let axes = [
            Axis::parse("adam-beta1=0.5").unwrap(),
            Axis::parse("objective=dpo,ipo").unwrap(),
            Axis::parse("lora_targets=[\"q\",\"v\"]").unwrap(),
            Axis::parse("shuffle=false").unwrap(),
            Axis::parse("batch=4").unwrap(),
            Axis::parse("clip=2").unwrap(),
            Axis::parse("data=a/b.jsonl").unwrap(),
        ];
        let base = Settings {
            seed: 7,
            overwrite: true,
            ..Settings::default()
        };
        let found = members(&base, &axes, Some(1)).unwrap();
        assert_eq!(found.len(), 2);
        let member = &found[1];
        let right = "adam_beta1=0.5,objective=ipo,lora_targets=q___v,shuffle=false,batch=4,clip=2,data=a_b.jsonl,seed=7";
        assert_eq!(member.name, right);
        let right = Settings {
            adam_beta1: 0.5,
            objective: Some("ipo".into()),
            lora_targets: vec!["q".into(), "v".into()],
            shuffle: false,
            batch: 4,
            clip: 2.0,
            data: Some("a/b.jsonl".into()),
            ..base
        };
        assert_eq!(member.settings, right);
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        for (axes, seeds, said) in [
            (
                &["betta=0.1"][..],
                None,
                "betta=0.1: unknown field `betta`; its fields are",
            ),
            (&["beta=0.1,x"], None, "sweep: beta=x: invalid type: string"),
            (&["batch=0.5"], None, "sweep: batch=0.5: invalid type"),
            (&["beta=0.1,0.1"], None, "two runs would have this folder"),
            (&["beta=0.1", "beta=0.2"], None, "beta: it is swept twice"),
            (&["seed=1,2"], Some(2), "seed: it is swept twice"),
            (&["out=a,b"], None, "out: it cannot be swept"),
            (&["batch.x=1"], None, "`batch` is no table"),
            (&["beta.x=1"], None, "sweep: beta.x=1: invalid type: map"),
            (&[], None, "it has no field"),
        ] {
            let error = names(axes, seeds).unwrap_err().to_string();
            assert!(error.contains(said), "{axes:?}: {error}");
        }
        for text in ["beta", "=1", "beta=", "beta=1,,2"] {
            let error = Axis::parse(text).unwrap_err().to_string();
            assert!(error.contains("FIELD=VALUE,VALUE"), "{error}");
        }
        for text in ["beta = 0.1", "beta = []", "seeds = 0", "seeds = [1]"] {
            let error = Axis::of_table(&toml::from_str(text).unwrap()).unwrap_err();
            assert!(error.to_string().contains("sweep."), "{error}");
        }
    }

    #[test]
    fn a_table_is_the_same_grid() {
        let table =
            "beta = [0.03, 0.1]\nseeds = 3\nobjective = [\"dpo\"]\n[columns]\nprompt = [\"a\"]";
        let (axes, seeds) = Axis::of_table(&toml::from_str(table).unwrap()).unwrap();
        assert_eq!(seeds, Some(3));
        let mut typed = ["beta=0.03,0.1", "objective=dpo", "columns.prompt=a"]
            .map(|text| Axis::parse(text).unwrap());
        typed.sort_by_key(|axis| axis.field.clone());
        let mut axes = axes;
        axes.sort_by_key(|axis| axis.field.clone());
        assert_eq!(axes, typed);
    }
}
