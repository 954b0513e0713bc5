//! Programs that judge: JSON lines in, one verdict a line out.

use serde_json::Value;

use super::{Judge, Pair, Verdict};
use crate::error::Result;
use crate::file::json;
use crate::llm::sample::reward::{Command, Question};
use crate::observer::Observer;

/// Any program, run as [`Command`] is. A line of its standard input is a pair: an object with the
/// columns of the prompt's row and, over them, `prompt`, `a` and `b`. It answers every pair with one
/// line, in order: `{"winner": "a"}`, `"b"` or `"tie"`; or `{"a": number, "b": number}`, of which the
/// greater wins.
pub struct Program(pub Command);

impl Judge for Program {
    fn name(&self) -> String {
        "command".into()
    }

    fn verdicts(&mut self, pairs: &[Pair], observer: &dyn Observer) -> Result<Vec<Verdict>> {
        let objects = pairs.iter().map(|pair| {
            let mut object = pair.fields.clone();
            object.insert("prompt".into(), pair.prompt.into());
            object.insert("a".into(), pair.a.into());
            object.insert("b".into(), pair.b.into());
            object
        });
        let question = Question {
            work: "judge",
            read: verdict,
            remedy: "print {\"winner\": \"a\"}, \"b\" or \"tie\", or {\"a\": number, \"b\": number}, \
                     for every pair, and anything else to standard error",
        };
        self.0.ask(objects, &question, observer)
    }
}

/// The verdict in a line, or what is wrong with it.
fn verdict(line: &str) -> std::result::Result<Verdict, String> {
    let text = line.trim();
    let shown: String = text.chars().take(80).collect();
    let Ok(Value::Object(object)) = json::value(text) else {
        return Err(format!("is no verdict: `{shown}`"));
    };
    match object.get("winner") {
        Some(Value::String(winner)) => match winner.as_str() {
            "a" => Ok(Verdict::A),
            "b" => Ok(Verdict::B),
            "tie" => Ok(Verdict::Tie),
            _ => Err(format!("names a `winner` that is none: `{shown}`")),
        },
        Some(_) => Err(format!("names a `winner` that is none: `{shown}`")),
        None => {
            let number = |name| object.get(name).and_then(Value::as_f64);
            match (number("a"), number("b")) {
                (Some(a), Some(b)) => Ok(Verdict::greater(a, b)),
                _ => Err(format!(
                    "has neither `winner` nor numbers `a` and `b`: `{shown}`"
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_winners_or_numbers() {
        for (line, expected) in [
            ("{\"winner\": \"a\"}", Verdict::A),
            (" {\"winner\":\"b\",\"why\":[1]}\r", Verdict::B),
            ("{\"winner\": \"tie\"}", Verdict::Tie),
            ("{\"a\": 1, \"b\": 0.5}", Verdict::A),
            ("{\"a\": -1, \"b\": 1e-300}", Verdict::B),
            ("{\"a\": 2, \"b\": 2.0}", Verdict::Tie),
            ("{\"a\": 9, \"b\": 1, \"winner\": \"b\"}", Verdict::B),
        ] {
            assert_eq!(verdict(line), Ok(expected), "{line}");
        }
        for (line, problem) in [
            ("", "no verdict"),
            ("a", "no verdict"),
            ("1", "no verdict"),
            ("\"a\"", "no verdict"),
            ("{\"winner\": \"A\"}", "`winner`"),
            ("{\"winner\": null}", "`winner`"),
            ("{\"winner\": 1}", "`winner`"),
            ("{\"a\": 1}", "neither"),
            ("{\"a\": 1, \"b\": \"2\"}", "neither"),
            ("{\"a\": NaN, \"b\": 1}", "no verdict"),
            ("{}", "neither"),
        ] {
            assert!(verdict(line).unwrap_err().contains(problem), "{line}");
        }
    }
}
