//! Settings from and to TOML, one held against the other.

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file::from_toml;

const REMEDY: &str = "its fields are the flags of `pistar train`, with _ for -";

/// The table of a config that holds the objective's numbers.
pub(super) const NUMBERS: &str = "numbers";

/// Fields that may change when a run goes on.
const FREE: [&str; 5] = [
    "checkpoint_every",
    "generation_batch",
    "keep",
    "optimizer_in_backward",
    "recompute",
];

impl Settings {
    /// The settings of a TOML file.
    ///
    /// # Errors
    /// An unknown field, or a value of another type: with file, line and column.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        from_toml(text, origin, REMEDY)
    }

    /// The text of a `config.toml` that runs the same again.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Format {
            origin: "config.toml".into(),
            message: e.to_string(),
            remedy: "use paths in UTF-8".into(),
        })
    }

    /// Refuses to go on from a run with other settings.
    ///
    /// # Errors
    /// The first field that differs, but for those that change nothing that is computed.
    pub fn same(&self, old: &Self) -> Result<()> {
        let table = |settings: &Self| {
            let mut settings = settings.clone();
            // Numbers that an objective does not have are of runs that wrote them all the same.
            if let Ok(objective) = settings.objective() {
                settings.numbers = objective.numbers().clone();
            }
            let text = settings.to_toml()?;
            let table = toml::from_str::<toml::Table>(&text).map_err(|e| Error::Format {
                origin: "config.toml".into(),
                message: e.to_string(),
                remedy: "start the run anew".into(),
            })?;
            // Numbers are held against each other one by one.
            let mut numbers = toml::Table::new();
            let mut others = toml::Table::new();
            for (name, value) in table {
                match value {
                    toml::Value::Table(inner) if name == NUMBERS => numbers = inner,
                    value => drop(others.insert(name, value)),
                }
            }
            others.extend(numbers);
            Ok::<_, Error>(others)
        };
        let (new, old) = (table(self)?, table(old)?);
        for name in new.keys().chain(old.keys()) {
            if new.get(name) != old.get(name) && !FREE.contains(&name.as_str()) {
                let said = |table: &toml::Table| match table.get(name) {
                    Some(value) => value.to_string(),
                    None => "not given".into(),
                };
                return Err(Error::invalid(
                    name,
                    format!(
                        "the run was started with {} and this is {}",
                        said(&old),
                        said(&new)
                    ),
                    "go on with the old value, or start a new run in another --out",
                ));
            }
        }
        Ok(())
    }
}
