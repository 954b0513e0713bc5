//! The column `proposals`: further responses to the prompt of a pair, each with the log-probabilities that weigh it.

use serde_json::{Map, Value};

use super::columns::TextRow;
use super::values::{Columns, Parsed, Spoken, fault, kind, said};
use crate::llm::text::example::Stored;

/// Its name.
pub(super) const PROPOSALS: &str = "proposals";

/// Names of ln π′ of the policy that wrote a proposal, and of ln π_φ of the policy that the expectation is under.
const LAWS: [&str; 2] = ["logprob|log_prob", "policy_logprob|policy_log_prob"];

/// Responses of a pair, which stand before its proposals.
const PAIR: usize = 2;

/// The entries, each with its place for messages.
fn entries<'a>(columns: &'a Columns) -> Parsed<Vec<(String, &'a Map<String, Value>)>> {
    let remedy = "give a list of one or more: [{\"completion\": …, \"logprob\": …, \"policy_logprob\": …}, …]";
    let list = match columns.value(PROPOSALS) {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(Value::Array(_)) => {
            let problem = format!("`{PROPOSALS}` is empty, and e(x) is learned from them");
            return fault(problem, remedy);
        }
        Some(other) => return fault(format!("`{PROPOSALS}` is {}", kind(other)), remedy),
        None => return fault(format!("column `{PROPOSALS}` is missing"), remedy),
    };
    (list.iter().enumerate())
        .map(|(k, entry)| {
            let place = format!("{PROPOSALS}[{k}]");
            match entry {
                Value::Object(fields) => Ok((place, fields)),
                other => fault(format!("`{place}` is {}", kind(other)), remedy),
            }
        })
        .collect()
}

/// The proposals' texts.
pub(super) fn spoken(columns: &Columns) -> Parsed<Vec<Spoken>> {
    (entries(columns)?.into_iter())
        .map(|(place, fields)| {
            let Some(completion) = fields.get("completion") else {
                let problem = format!("`{place}` has no `completion`");
                return fault(problem, "give its text");
            };
            let column = format!("{place}.completion");
            Ok(Spoken {
                said: said(&column, completion)?,
                column,
                reward: 0.0,
            })
        })
        .collect()
}

/// Gives the proposals of a row that was read their log-probabilities; returns how many there are.
///
/// Neither of the two means that π_φ wrote the proposal itself: they are equal, and none needs to be known.
pub(super) fn store(columns: &Columns, row: &mut TextRow) -> Parsed<usize> {
    let all = entries(columns)?;
    let places = row.completions.iter_mut().skip(PAIR);
    for (completion, (place, fields)) in places.zip(&all) {
        let fields = Columns(fields);
        let law = |names: &str| -> Parsed<f64> {
            let at = |name: &str| format!("{place}.{name}");
            let found = fields.number(names).map_err(|mut wrong| {
                wrong.problem = format!("of `{place}`: {}", wrong.problem);
                wrong
            })?;
            if found > 0.0 {
                let name = names.split('|').next().unwrap_or_default();
                let problem = format!("`{}` is {found}", at(name));
                return fault(problem, "give the logarithm of a probability, 0 or less");
            }
            Ok(found)
        };
        let [old, reference] = match LAWS.map(|names| fields.has(names)) {
            [false, false] => continue,
            [true, true] => [law(LAWS[0])?, law(LAWS[1])?],
            [false, true] => {
                let problem = format!("`{place}` has `policy_logprob` and no `logprob`");
                let remedy =
                    "give ln π′ of the policy that wrote it too, or neither where π_φ wrote it";
                return fault(problem, remedy);
            }
            [true, false] => {
                let problem = format!("`{place}` has `logprob` and no `policy_logprob`");
                let remedy = "give ln π_φ of it too (the `sum` of `pistar logprobs` by that policy), or neither \
                              where π_φ wrote it";
                return fault(problem, remedy);
            }
        };
        completion.stored = Some(Stored {
            old,
            reference,
            tokens: None,
        });
    }
    Ok(all.len())
}
