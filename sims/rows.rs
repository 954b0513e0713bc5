//! The rows a simulation leaves behind, read back for a figure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Header of `rows.csv`.
pub const ROWS: &str = "lr,objective,seed,epoch,regret";
/// Header of `limits.csv`.
pub const LIMITS: &str = "objective,regret";

/// The regrets of one objective at one learning rate: by epoch, then by seed.
pub type Curve = BTreeMap<u64, BTreeMap<u64, f64>>;

/// All curves at one learning rate, by objective.
pub struct Sweep {
    /// The learning rate.
    pub lr: f64,
    /// The curves by the objective's name.
    pub curves: BTreeMap<String, Curve>,
}

/// Reads `rows.csv`: one [`Sweep`] per learning rate, in ascending order, at least one.
///
/// A last line that an interruption cut off is left out, with a warning on stderr.
pub fn read_rows(path: &Path) -> Result<Vec<Sweep>> {
    let mut bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    if whole < bytes.len() {
        let line = bytes.iter().filter(|&&b| b == b'\n').count() + 1;
        eprintln!(
            "warning: {} line {line} is cut off; leaving it out",
            path.display()
        );
        bytes.truncate(whole);
    }
    let content = String::from_utf8(bytes)
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    parse_rows(&path.display().to_string(), &content)
}

/// Reads `limits.csv`: the exact limit of each objective's regret, where one is known.
pub fn read_limits(path: &Path) -> Result<BTreeMap<String, f64>> {
    let content =
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse_limits(&path.display().to_string(), &content)
}

fn parse_rows(file: &str, content: &str) -> Result<Vec<Sweep>> {
    // Keyed by the bits of the learning rate, which is positive: their order is its order.
    let mut sweeps: BTreeMap<u64, Sweep> = BTreeMap::new();
    for (line, text) in body(file, content, ROWS)? {
        let [lr, objective, seed, epoch, regret] = fields(file, line, text)?;
        let place = Place { file, line };
        let lr: f64 = place.parse("lr", lr, "a positive number", |v| *v > 0.0 && is_finite(v))?;
        let seed: u64 = place.parse("seed", seed, "a whole number", |_| true)?;
        let epoch: u64 = place.parse("epoch", epoch, "a whole number", |_| true)?;
        let regret: f64 = place.parse("regret", regret, "a finite number", is_finite)?;
        place.named(objective)?;
        let sweep = sweeps.entry(lr.to_bits()).or_insert_with(|| Sweep {
            lr,
            curves: BTreeMap::new(),
        });
        let curve = sweep.curves.entry(objective.to_owned()).or_default();
        match curve.entry(epoch).or_default().entry(seed) {
            Entry::Vacant(slot) => slot.insert(regret),
            Entry::Occupied(_) => bail!(
                "{file} line {line}: epoch {epoch} of seed {seed} of {objective} at lr {lr} \
                 was given before"
            ),
        };
    }
    ensure!(!sweeps.is_empty(), "{file} holds no complete row to draw");
    Ok(sweeps.into_values().collect())
}

fn parse_limits(file: &str, content: &str) -> Result<BTreeMap<String, f64>> {
    let mut limits = BTreeMap::new();
    for (line, text) in body(file, content, LIMITS)? {
        let [objective, regret] = fields(file, line, text)?;
        let place = Place { file, line };
        place.named(objective)?;
        if !regret.is_empty() {
            let regret = place.parse("regret", regret, "a finite number or empty", is_finite)?;
            limits.insert(objective.to_owned(), regret);
        }
    }
    Ok(limits)
}

fn is_finite(v: &f64) -> bool {
    v.is_finite()
}

/// The numbered lines below a header that must be `header`.
fn body<'a>(
    file: &str,
    content: &'a str,
    header: &str,
) -> Result<impl Iterator<Item = (usize, &'a str)>> {
    let mut lines = content.lines().zip(1..).map(|(text, n)| (n, text));
    match lines.next() {
        None => bail!("{file} is empty: expected the header `{header}`"),
        Some((_, first)) if first == header => Ok(lines),
        Some((_, first)) => bail!("{file} line 1: expected the header `{header}`, found `{first}`"),
    }
}

fn fields<'a, const N: usize>(file: &str, line: usize, text: &'a str) -> Result<[&'a str; N]> {
    let fields: Vec<_> = text.split(',').collect();
    let found = fields.len();
    fields
        .try_into()
        .map_err(|_| anyhow!("{file} line {line}: expected {N} fields, found {found}: `{text}`"))
}

/// Where a field stands, for the error that names it.
struct Place<'a> {
    file: &'a str,
    line: usize,
}

impl Place<'_> {
    fn parse<T: FromStr>(
        &self,
        field: &str,
        value: &str,
        kind: &str,
        fits: impl Fn(&T) -> bool,
    ) -> Result<T> {
        let parsed = value.parse().ok().filter(fits);
        parsed.with_context(|| {
            let Self { file, line } = self;
            format!("{file} line {line}: {field}: `{value}` is not {kind}")
        })
    }

    fn named(&self, objective: &str) -> Result<()> {
        let Self { file, line } = self;
        ensure!(
            !objective.is_empty(),
            "{file} line {line}: objective: `` is not a name"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(parsed: Result<T>) -> String {
        parsed.map_or_else(|e| e.to_string(), |_| "no error".to_owned())
    }

    #[test]
    fn rows_group_by_rate_objective_and_epoch() {
        let text = format!("{ROWS}\n0.01,ipo,0,0,0.3\n0.001,ipo,0,0,0.2\n0.001,ipo,1,0,0.4\n");
        let sweeps = parse_rows("rows.csv", &text).expect("well formed");
        assert_eq!(
            sweeps.iter().map(|s| s.lr).collect::<Vec<_>>(),
            [0.001, 0.01]
        );
        let at_start = &sweeps[0].curves["ipo"][&0];
        assert_eq!(at_start.values().copied().collect::<Vec<_>>(), [0.2, 0.4]);
    }

    #[test]
    fn a_malformed_row_is_named() {
        for (row, names) in [
            ("0.1,ipo,0,0,NaN", "line 2: regret: `NaN`"),
            ("0.1,ipo,0,-1,0.2", "line 2: epoch: `-1`"),
            ("0.1,ipo,x,0,0.2", "line 2: seed: `x`"),
            ("0,ipo,0,0,0.2", "line 2: lr: `0`"),
            ("0.1,,0,0,0.2", "line 2: objective: ``"),
            ("0.1,ipo,0,0", "line 2: expected 5 fields, found 4"),
            ("0.1,ipo,0,0,1\n0.1,ipo,0,0,1", "line 3: epoch 0 of seed 0"),
        ] {
            let message = error(parse_rows("rows.csv", &format!("{ROWS}\n{row}\n")));
            assert!(message.contains(names), "{row}: {message}");
        }
    }

    #[test]
    fn an_empty_limit_is_unknown() {
        let text = format!("{LIMITS}\nipo,0.15253\ndpo,\n");
        let limits = parse_limits("limits.csv", &text).expect("well formed");
        assert_eq!(
            limits.into_iter().collect::<Vec<_>>(),
            [("ipo".to_owned(), 0.15253)]
        );
    }
}
