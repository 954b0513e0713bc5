//! Numbers and lines for people.

use std::borrow::Cow;

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

/// A number as exactly as it was given: the shortest text that reads back as the same, with an
/// exponent where it would take many zeros.
pub fn exact(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || (1e-5..1e15).contains(&x.abs()) {
        x.to_string()
    } else {
        format!("{x:e}")
    }
}

/// Remedy for a name that is not known: the known name that it is most like, or the list of all.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let all = format!("use one of {}", known.join(", "));
    let near = known
        .iter()
        .map(|other| (distance(name, other), *other))
        .min();
    match near {
        // A slip or two in a name that is long enough to tell.
        Some((slips, other)) if slips <= 2 && 3 * slips <= other.chars().count() => {
            format!("did you mean `{other}`? {all}")
        }
        _ => all,
    }
}

/// Letters that are to be put in, taken out, changed or swapped with the next to make one word of the
/// other.
fn distance(a: &str, b: &str) -> usize {
    // Nobody slips by hundreds of letters.
    let [a, b] = [a, b].map(|word| word.chars().take(64).collect::<Vec<char>>());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let last: &Vec<usize> = &rows[i - 1];
            let mut least = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A text of at most `most` characters; of a longer one the middle is left out, and its length said.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    // Bytes are at least as many as characters.
    if text.len() <= most {
        return text.into();
    }
    let count = text.chars().count();
    if count <= most {
        return text.into();
    }
    let tail = most / 4;
    let head: String = text.chars().take(most - tail).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{head} … [{count} characters] … {end}").into()
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
    fn slips_are_told_and_other_words_are_not() {
        assert_eq!(distance("dpo", "dpo"), 0);
        assert_eq!(distance("dop", "dpo"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        let of = |name| suggestion(name, ["dpo", "copg-squared", "sft"]);
        assert!(of("dop").starts_with("did you mean `dpo`? use one of dpo, "));
        assert!(of("copg_sqared").contains("did you mean `copg-squared`"));
        assert_eq!(of("ppo2"), "use one of dpo, copg-squared, sft");
        assert_eq!(
            of(&"x".repeat(100_000)),
            "use one of dpo, copg-squared, sft"
        );
    }

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

    #[test]
    fn exact_numbers_read_back_and_stay_short() {
        for x in [
            0.5,
            1e-300,
            -1e300,
            0.1 + 0.2,
            5e-324,
            f64::MAX,
            1e-5,
            9.9e14,
            123_456_789.0,
            -0.0,
            1e-100,
        ] {
            let text = exact(x);
            assert_eq!(
                text.parse::<f64>().map(f64::to_bits),
                Ok(x.to_bits()),
                "{text}"
            );
            assert!(text.len() <= 25, "{text}");
        }
        assert_eq!([0.5, 1e-300, 1e16].map(exact), ["0.5", "1e-300", "1e16"]);
        assert_eq!(exact(f64::INFINITY), "inf");
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äöü", 3), "äöü");
        let long = format!("begin{}end", "x".repeat(50_000));
        let short = cut(&long, 40);
        assert!(
            short.starts_with("beginxxx") && short.ends_with("xxxend"),
            "{short}"
        );
        assert!(
            short.contains("50008 characters") && short.len() < 80,
            "{short}"
        );
    }
}
