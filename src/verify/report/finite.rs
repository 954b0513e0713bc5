//! Deterministic labels and finite data: what runs off there, and what stays.

use super::bandit::Data;
use super::rows::{LimitRow, vanishing};
use super::{Area, Check, Outcome};
use crate::solve::flow::Rest;

/// One line for each row on noiseless labels and on a log.
pub(super) fn checks(rows: &[LimitRow]) -> Vec<Check> {
    (rows.iter())
        .filter_map(|row| {
            let property = match row.data {
                Data::Population => return None,
                Data::Noiseless => "noiseless labels",
                Data::Log => "separable log",
            };
            Some(check(property, row))
        })
        .collect()
}

fn check(property: &'static str, row: &LimitRow) -> Check {
    let way = row.direction.as_deref().map(vanishing).unwrap_or_default();
    let size = match row.group {
        Some(_) => format!(" ({})", row.responses),
        None => String::new(),
    };
    let (outcome, says) = if row.unbounded {
        (
            Outcome::Differs,
            format!("the loss falls for ever as {way}"),
        )
    } else if row.rest == Rest::Boundary {
        let kept = row.odds.as_deref().map(kept).unwrap_or_default();
        let start = match row.any_start {
            Some(true) => ", from another start too",
            Some(false) => ", from another start others",
            None => "",
        };
        let start = if kept.is_empty() { "" } else { start };
        (Outcome::Differs, format!("it runs off: {way}{kept}{start}"))
    } else if row.policy.is_some() {
        let says = match row.rest {
            Rest::Stable => "it stays finite, at a stable policy",
            Rest::Neutral => "it stays finite, at one of many rests",
            _ => "it stays finite",
        };
        (Outcome::Ok, says.to_string())
    } else {
        let says = row.note.as_deref().unwrap_or("it comes to no rest");
        (Outcome::Differs, says.to_string())
    };
    Check::new(Area::FiniteData, property, outcome, says + &size)
}

/// The odds among the arms that keep probability, in words.
pub(super) fn kept(odds: &[Vec<Option<f64>>]) -> String {
    let mut says = String::new();
    for (x, row) in odds.iter().enumerate() {
        let kept: Vec<(usize, f64)> = (row.iter().enumerate())
            .filter_map(|(a, odds)| odds.map(|odds| (a, odds)))
            .collect();
        let [most @ .., (last, _)] = kept.as_slice() else {
            continue;
        };
        let place = if odds.len() > 1 {
            format!(" at prompt {x}")
        } else {
            String::new()
        };
        for (a, times) in most {
            let times = (times * 1e4).round() / 1e4;
            says += &format!("; arm {a} : arm {last}{place} keeps π_ref's odds × {times}");
        }
    }
    says
}
