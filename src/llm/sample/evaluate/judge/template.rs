//! The text that a causal judge is shown.

use std::path::Path;

use crate::error::{Error, Result};
use crate::file;

/// The built-in template; the labels [` A` and ` B`](super::LABELS) go on from it.
pub const TEMPLATE: &str = "\
Two answers to the same prompt are compared.

Prompt:
{prompt}

Answer A:
{a}

Answer B:
{b}

The better answer is answer";

/// What stands for a pair's texts.
const PLACES: [&str; 3] = ["{prompt}", "{a}", "{b}"];

/// A text with `{prompt}`, `{a}` and `{b}`, each once or more; other braces stand for themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Default for Template {
    /// [`TEMPLATE`].
    fn default() -> Self {
        Self(TEMPLATE.into())
    }
}

impl Template {
    /// A template from its text; `origin` is what messages call it.
    ///
    /// # Errors
    /// A placeholder that is missing.
    pub fn new(text: impl Into<String>, origin: &str) -> Result<Self> {
        let text = text.into();
        let missing: Vec<&str> = (PLACES.into_iter())
            .filter(|place| !text.contains(place))
            .collect();
        if missing.is_empty() {
            return Ok(Self(text));
        }
        let problem = format!("the template has no {}", missing.join(" and no "));
        let remedy = "put {prompt}, {a} and {b} where the prompt and the two completions go";
        Err(Error::invalid(origin, problem, remedy))
    }

    /// The template in a file, without the line's end that closes it: labels go on from its last
    /// character.
    ///
    /// # Errors
    /// A file that cannot be read; as [`new`](Self::new).
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read(path)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Self::new(text, &path.display().to_string())
    }

    /// The text of a pair. What looks like a placeholder in its texts stays as it is.
    pub fn render(&self, prompt: &str, a: &str, b: &str) -> String {
        let mut text = String::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            text += &rest[..at];
            rest = &rest[at..];
            let found = PLACES
                .into_iter()
                .zip([prompt, a, b])
                .find(|(place, _)| rest.starts_with(place));
            let (length, by) = found.map_or((1, "{"), |(place, by)| (place.len(), by));
            text += by;
            rest = &rest[length..];
        }
        text + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_once() {
        let template = Template::new("{a}|{x}{{b}}|{prompt}{a}{", "t").unwrap();
        assert_eq!(
            template.render("{b}", "{prompt}", "é"),
            "{prompt}|{x}{é}|{b}{prompt}{"
        );
    }

    #[test]
    fn a_missing_placeholder_is_named() {
        let error = Template::new("{prompt} {A}", "judge.txt").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("judge.txt") && error.contains("no {a} and no {b}"),
            "{error}"
        );
    }

    #[test]
    fn a_file_loses_the_end_of_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("judge.txt");
        for (end, left) in [("", ""), ("\n", ""), ("\r\n", ""), ("\n\n", "\n")] {
            std::fs::write(&path, format!("{{prompt}}{{a}}{{b}}:{end}")).unwrap();
            let text = Template::read(&path).unwrap().render("p", "a", "b");
            assert_eq!(text, format!("pab:{left}"));
        }
    }
}
