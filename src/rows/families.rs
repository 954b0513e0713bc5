//! Objectives whose numbers coincide, told as one: half of the registry has the same fixed point.

use std::collections::BTreeMap;

use super::table::table;

table! {
    /// An objective left out, and why.
    pub struct Skipped {
        objective: String,
        reason: String,
    }
}

/// Regrets below this are rounding, and all the same.
pub const ZERO: f64 = 1e-12;

/// Objectives with the same curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Family<K> {
    /// Their names, in the order they came.
    pub names: Vec<String>,
    /// The curve of the first.
    pub curve: BTreeMap<K, Option<f64>>,
}

impl<K> Family<K> {
    /// The names, as a list.
    pub fn name(&self) -> String {
        self.names.join(", ")
    }

    /// True if every number of the curve is zero but for rounding.
    pub fn is_exact(&self) -> bool {
        (self.curve.values()).all(|v| v.is_some_and(|v| v.abs() < ZERO))
    }
}

/// True if two regrets are the same to four digits, which is what flows to rest are good for.
pub fn same(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => (a - b).abs() <= (1e-4 * a.abs().max(b.abs())).max(ZERO),
        _ => false,
    }
}

/// Gathers objectives by their curves, in the order of their first members.
pub fn families<K: Ord + Clone>(
    curves: impl IntoIterator<Item = (String, BTreeMap<K, Option<f64>>)>,
) -> Vec<Family<K>> {
    let mut found: Vec<Family<K>> = Vec::new();
    for (name, curve) in curves {
        let twin = found.iter_mut().find(|family| {
            family.curve.len() == curve.len()
                && (family.curve.iter().zip(&curve)).all(|((k, a), (l, b))| k == l && same(*a, *b))
        });
        match twin {
            Some(family) => family.names.push(name),
            None => found.push(Family {
                names: vec![name],
                curve,
            }),
        }
    }
    found
}

/// The sentence about what was left out, or nothing.
pub fn left_out(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in skipped {
        match reasons.iter_mut().find(|(reason, _)| *reason == row.reason) {
            Some((_, names)) => names.push(&row.objective),
            None => reasons.push((&row.reason, vec![&row.objective])),
        }
    }
    let each = reasons
        .iter()
        .map(|(reason, names)| format!("{} ({reason})", names.join(", ")));
    format!("\nLeft out: {}.\n", each.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_curves_are_one_family() {
        let curve = |values: [Option<f64>; 2]| BTreeMap::from([(1, values[0]), (2, values[1])]);
        let found = families([
            ("a".to_owned(), curve([Some(0.1), None])),
            ("b".to_owned(), curve([Some(0.1), Some(0.2)])),
            ("c".to_owned(), curve([Some(0.1 + 1e-6), None])),
            ("d".to_owned(), curve([Some(1e-17), Some(0.0)])),
        ]);
        let names: Vec<_> = found.iter().map(Family::name).collect();
        assert_eq!(names, ["a, c", "b", "d"]);
        assert!(found[2].is_exact() && !found[0].is_exact());
    }
}
