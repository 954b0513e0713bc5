//! Building blocks of a report's sections.

/// A Markdown table, its first column to the left and the others to the right.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!(
        "| {} |\n|---|{}\n",
        header.join(" | "),
        "--:|".repeat(header.len() - 1)
    );
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

/// A number for people: three or four digits, exponents where they help; 0 below rounding.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size < 1e-13 => "0".into(),
        size if (1e-3..1e4).contains(&size) => {
            let digits = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.1e}"),
    }
}

/// A number, or a dash where there is none.
pub fn maybe(value: Option<f64>) -> String {
    value.map_or("–".into(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.152_530_66, "0.153"),
            (3e-17, "0"),
            (2.5e-5, "2.5e-5"),
            (123.456, "123"),
            (1.0, "1.00"),
            (-0.0123, "-0.0123"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
