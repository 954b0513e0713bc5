//! Numbers and lines for people.

/// Widest line.
pub const WIDTH: usize = 96;

/// A number: four or five digits, exponents where they help.
pub fn number(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 {
        "0".into()
    } else if !x.is_finite() {
        x.to_string()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (4 - size.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{x:.digits$}")
    } else {
        format!("{x:.2e}")
    }
}

/// Breaks text into lines of at most [`WIDTH`]; the first is indented by `first` spaces, the others
/// by `rest`.
pub fn wrap(text: &str, first: usize, rest: usize) -> String {
    wrap_within(WIDTH, text, first, rest)
}

/// [`wrap`] at another width.
pub fn wrap_within(width: usize, text: &str, first: usize, rest: usize) -> String {
    let mut wrapped = " ".repeat(first);
    let (mut column, mut fresh) = (first, true);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && column + 1 + length > width {
            wrapped.push('\n');
            wrapped.extend(std::iter::repeat_n(' ', rest));
            (column, fresh) = (rest, true);
        }
        if !fresh {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        (column, fresh) = (column + length, false);
    }
    wrapped.push('\n');
    wrapped
}

/// Text filled up to a width; longer text stays whole.
pub fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    text.to_string() + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = wrap(&"four ".repeat(60), 3, 6);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|l| l.chars().count() <= WIDTH));
        assert!(lines[0].starts_with("   four") && lines[1].starts_with("      four"));
        assert_eq!(text.matches("four").count(), 60);
        assert_eq!(number(0.000_12), "1.20e-4");
        assert_eq!(number(0.15253066), "0.15253");
        assert_eq!(pad("β", 3), "β  ");
    }
}
