//! The Jinja that chat templates are written for: that of `transformers`.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::day::Day;
use super::json;

/// Blocks take their line's end with them, `tojson` writes as Python does, `raise_exception` is an
/// error, `strftime_now` tells `day`.
pub(super) fn environment(day: Option<Day>) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", |value: Value, options: Kwargs| {
        let indent: Option<usize> = options.get("indent")?;
        let ascii: Option<bool> = options.get("ensure_ascii")?;
        let sorted: Option<bool> = options.get("sort_keys")?;
        options.assert_all_used()?;
        let style = json::Style {
            indent,
            ascii: ascii.unwrap_or(false),
            sorted: sorted.unwrap_or(false),
        };
        json::write(&value, &style)
    });
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_function(
        "strftime_now",
        move |format: String| -> Result<String, Error> {
            let wrong = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
            let Some(day) = day else {
                return Err(wrong(
                    "it asks for today's date, which would make every day's run another one; give \
                 --chat-date YYYY-MM-DD"
                        .into(),
                ));
            };
            day.format(&format).map_err(wrong)
        },
    );
    Ok(environment)
}

/// A template's text without the tags that `transformers` adds to the language to mark what the
/// model said: `{% generation %}` and its end change nothing that is rendered.
pub(super) fn plain(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(length) = rest[at..].find("%}") else {
            break;
        };
        let (tag, after) = (&rest[at..at + length + 2], &rest[at + length + 2..]);
        text.push_str(&rest[..at]);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        let word = inner.trim_matches(['-', '+']).trim();
        match word {
            "generation" => text.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => text.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}
