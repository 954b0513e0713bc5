//! TOML, its errors short.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::text::cut;

/// Longest line of TOML that an error shows.
const SHOWN: usize = 160;

/// A value of any type from a TOML text that came from `origin`.
///
/// # Errors
/// A syntax error, a key that is there twice, or a value that does not fit the type: with line and
/// column, and what stands there.
pub fn from_toml<T: DeserializeOwned>(text: &str, origin: &str, remedy: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| Error::Format {
        origin: origin.into(),
        message: said(&e, text),
        remedy: remedy.into(),
    })
}

/// The parser's own drawing of the place where lines are short; else the place and what begins there.
fn said(error: &toml::de::Error, text: &str) -> String {
    let drawn = error.to_string();
    if drawn.lines().all(|line| line.chars().count() <= SHOWN) {
        return drawn.trim_end().into();
    }
    let message = cut(error.message(), SHOWN);
    let Some(span) = error.span() else {
        return message.into_owned();
    };
    let before = text.get(..span.start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    let here = text.get(span.start..).and_then(|rest| rest.lines().next());
    let here = cut(here.unwrap_or_default(), SHOWN / 2);
    format!("TOML parse error at line {line}, column {column}, where `{here}` stands: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_to_the_place() {
        let fault = |text: &str| {
            from_toml::<toml::Table>(text, "f.toml", "mend it")
                .unwrap_err()
                .to_string()
        };
        let short = fault("a = 1\nb = = 2\n");
        assert!(
            short.contains("line 2, column 5") && short.contains("b = = 2"),
            "{short}"
        );
        let long = "1, ".repeat(20_000);
        let error = fault(&format!("x = 1\nb = [{long}, 5]\n"));
        assert!(error.len() < 600, "{} bytes", error.len());
        assert!(
            error.contains("line 2, column 60006") && error.contains("`, 5]`"),
            "{error}"
        );
        // A long value behind a short place.
        let error = fault(&format!("a = \"{long}"));
        assert!(error.len() < 600 && error.contains("line 1"), "{error}");
        let error = fault(&format!("{long} = 1"));
        assert!(error.len() < 600 && error.contains("line 1"), "{error}");
    }
}
