//! The Jinja that chat templates are written for: that of `transformers`.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::bounds::{FUEL, charge, operators, wrong};
use super::day::Day;
use super::{json, python};

/// How templates are written: blocks take their line's end with them.
///
/// # Errors
/// None that is known of.
pub(super) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
}

/// Values print and `tojson` writes as in Python, `raise_exception` is an error, `strftime_now` tells
/// `day`; and everything is bounded.
pub(super) fn environment(day: Option<Day>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(200);
    environment.set_formatter(|out, _, value| {
        let made;
        let text = match value.as_str() {
            Some(text) => text,
            None => {
                made = python::text(value)?;
                &made
            }
        };
        charge(text.len() as u64)?;
        out.write_str(text).map_err(Error::from)
    });
    operators::add(&mut environment);
    environment.add_filter("tojson", |value: Value, options: Kwargs| {
        let indent: Option<Value> = options.get("indent")?;
        let separators: Option<Vec<String>> = options.get("separators")?;
        let ascii: Option<bool> = options.get("ensure_ascii")?;
        let sorted: Option<bool> = options.get("sort_keys")?;
        options.assert_all_used()?;
        let indent = match indent.filter(|indent| !indent.is_none()) {
            None => None,
            Some(indent) => Some(match (indent.as_str(), i64::try_from(indent.clone())) {
                (Some(text), _) => text.to_string(),
                (_, Ok(spaces)) if spaces <= 100 => " ".repeat(spaces.max(0) as usize),
                _ => return Err(wrong("`tojson` indents by 0 to 100 spaces, or by a text")),
            }),
        };
        let between = if indent.is_some() { "," } else { ", " };
        let separators = match separators.map(<[String; 2]>::try_from) {
            None => [between.into(), ": ".into()],
            Some(Ok(separators)) => separators,
            Some(Err(_)) => return Err(wrong("`tojson` takes two separators")),
        };
        let style = json::Style {
            indent,
            separators,
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
    environment
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
