//! Tables of typed rows: a struct is a row, its fields are the columns of a CSV file.

use std::collections::HashSet;
use std::path::Path;

use crate::file;
use crate::observer::Observer;
use crate::text::{cut, exact};
use anyhow::{Context, Result, bail, ensure};

/// Value that a cell of a table may hold.
pub trait Cell: Sized {
    /// Name of its values, for the error that refuses another.
    const KIND: &'static str;
    /// The text of the cell.
    fn write(&self) -> String;
    /// The value, if the text is one.
    fn read(text: &str) -> Option<Self>;
}

/// A number, finite.
impl Cell for f64 {
    const KIND: &'static str = "a finite number";
    fn write(&self) -> String {
        exact(*self)
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|v: &f64| v.is_finite())
    }
}

/// A number where there is one; infinities and NaN are none.
impl Cell for Option<f64> {
    const KIND: &'static str = "a finite number or empty";
    fn write(&self) -> String {
        let finite = self.filter(|v| v.is_finite());
        finite.map_or(String::new(), |v| v.write())
    }
    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        f64::read(text).map(Some)
    }
}

/// A count.
impl Cell for u64 {
    const KIND: &'static str = "a whole number";
    fn write(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A truth.
impl Cell for bool {
    const KIND: &'static str = "true or false";
    fn write(&self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A name or a remark, not empty; in quotes where it has a comma.
impl Cell for String {
    const KIND: &'static str = "a name";
    fn write(&self) -> String {
        let line = self.replace(['\n', '\r'], " ");
        if line.contains([',', '"']) {
            format!("\"{}\"", line.replace('"', "\"\""))
        } else {
            line
        }
    }
    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// A row; [`table!`] writes the implementation.
pub trait Record: Sized {
    /// Names of the columns, in order.
    const COLUMNS: &'static [&'static str];
    /// The texts of the cells.
    fn cells(&self) -> Vec<String>;
    /// The row of as many cells as there are columns.
    ///
    /// # Errors
    /// The first cell that is not of its column's kind.
    fn parse(cells: &mut Cells) -> Result<Self>;

    /// The line of the file.
    fn line(&self) -> String {
        self.cells().join(",")
    }
    /// The first line of the file.
    fn header() -> String {
        Self::COLUMNS.join(",")
    }
}

/// Declares a struct whose fields are the columns of a table.
macro_rules! table {
    ($(#[$about:meta])* $vis:vis struct $name:ident {
        $($(#[$doc:meta])* $field:ident: $kind:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name { $($(#[$doc])* pub $field: $kind,)* }

        impl $crate::rows::table::Record for $name {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];
            fn cells(&self) -> Vec<String> {
                vec![$($crate::rows::table::Cell::write(&self.$field)),*]
            }
            fn parse(cells: &mut $crate::rows::table::Cells) -> anyhow::Result<Self> {
                Ok(Self { $($field: cells.next(stringify!($field))?,)* })
            }
        }
    };
}
pub(crate) use table;

/// The cells of a line, and where it stands.
pub struct Cells<'a> {
    file: &'a str,
    line: usize,
    rest: std::vec::IntoIter<String>,
}

impl Cells<'_> {
    /// The next cell, of the column `name`.
    ///
    /// # Errors
    /// File, line, column and value, where it is not of the column's kind.
    pub fn next<T: Cell>(&mut self, name: &str) -> Result<T> {
        let Self { file, line, .. } = *self;
        let text = self.rest.next().unwrap_or_default();
        T::read(&text).with_context(|| {
            let kind = T::KIND;
            let text = cut(&text, 80);
            format!("{file} line {line}: {name}: `{text}` is not {kind}")
        })
    }
}

/// The file's content: one header, then a line for each row.
pub fn write<T: Record>(rows: &[T]) -> String {
    let mut text = T::header() + "\n";
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

/// Reads a file of at least one row.
///
/// A last line that an interruption cut off is left out, and the observer is told.
///
/// # Errors
/// A file that cannot be read, has another header, or holds a line that is no row.
pub fn read<T: Record>(path: &Path, observer: &dyn Observer) -> Result<Vec<T>> {
    let rows = read_numbered(path, observer)?;
    ensure!(!rows.is_empty(), "{} holds no complete row", path.display());
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// [`read`] with the number of each row's line, of a file that may hold none.
///
/// # Errors
/// As [`read`].
pub fn read_numbered<T: Record>(path: &Path, observer: &dyn Observer) -> Result<Vec<(usize, T)>> {
    let mut bytes = file::bytes(path)?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    if whole < bytes.len() {
        let line = bytes.iter().filter(|&&b| b == b'\n').count() + 1;
        observer.tell(&format!(
            "warning: {} line {line} is cut off; leaving it out",
            path.display()
        ));
        bytes.truncate(whole);
    }
    let origin = path.display().to_string();
    let content = file::utf8(&bytes, &origin)?;
    parse(&origin, content)
}

/// [`read`] of a file that was written whole: a last line that is cut off is damage.
///
/// # Errors
/// As [`read`], and a last line without its end.
#[cfg_attr(not(feature = "llm"), allow(dead_code))] // Studies alone have parts.
pub fn read_whole<T: Record>(path: &Path, observer: &dyn Observer) -> Result<Vec<T>> {
    let bytes = file::bytes(path)?;
    ensure!(
        bytes.is_empty() || bytes.ends_with(b"\n"),
        "{}: its last line is cut off, and the file is written whole: remove it, and what it is of is \
         run again",
        path.display()
    );
    read(path, observer)
}

/// The rows of a file's content, with the numbers of their lines.
///
/// # Errors
/// As [`read`].
pub fn parse<T: Record>(file: &str, content: &str) -> Result<Vec<(usize, T)>> {
    let header = T::header();
    let mut lines = (1..).zip(content.lines());
    match lines.next() {
        None => bail!("{file} is empty: expected the header `{header}`"),
        Some((_, first)) if first == header => {}
        Some((_, first)) => bail!(
            "{file} line 1: expected the header `{header}`, found `{}`",
            cut(first, 200)
        ),
    }
    lines
        .map(|(line, text)| {
            let cells = split(text);
            let (want, found) = (T::COLUMNS.len(), cells.len());
            ensure!(
                found == want,
                "{file} line {line}: expected {want} fields, found {found}: `{}`",
                cut(text, 200)
            );
            let rest = cells.into_iter();
            Ok((line, T::parse(&mut Cells { file, line, rest })?))
        })
        .collect()
}

/// Items without those that were there before.
#[cfg_attr(not(feature = "llm"), allow(dead_code))] // Studies alone have settings.
pub fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// The names that come, each once, in the order in which they first do.
pub fn distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let mut names: Vec<&str> = names.into_iter().collect();
    names.retain(|name| seen.insert(*name));
    names
}

/// The cells of a line: commas part them unless they stand in quotes, where `""` is a quote.
fn split(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut quoted, mut letters) = (false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut();
        match (letter, cell) {
            ('"', Some(cell)) if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            ('"', Some(cell)) if quoted || cell.is_empty() => quoted = !quoted,
            (',', _) if !quoted => cells.push(String::new()),
            (_, Some(cell)) => cell.push(letter),
            (_, None) => {}
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::observer::Silent;

    table! {
        /// A row.
        struct Row {
            name: String,
            count: u64,
            value: f64,
            limit: Option<f64>,
            known: bool,
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let row = |name: &str, value, limit| Row {
            name: name.into(),
            count: 3,
            value,
            limit,
            known: true,
        };
        let rows = [
            row("plain", 0.1 + 0.2, None),
            row("a, \"b\"", 1.5e-300, Some(-1e20)),
            row("zero", 0.0, Some(5e-324)),
        ];
        let text = write(&rows);
        assert!(
            text.starts_with("name,count,value,limit,known\nplain,3,0.30000000000000004,,true\n")
        );
        let back = parse::<Row>("t.csv", &text).expect("well formed");
        assert!(back.iter().map(|(_, row)| row).eq(&rows), "{text}");
        assert_eq!(row("x", 0.0, Some(f64::NAN)).line(), "x,3,0,,true");
    }

    #[test]
    fn a_file_written_whole_has_no_half_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("t.csv");
        let whole = "name,count,value,limit,known\nx,1,2,3,true\n";
        fs::write(&path, format!("\u{feff}{whole}")).expect("written");
        assert!(read_whole::<Row>(&path, &Silent).is_ok_and(|rows| rows.len() == 1));
        fs::write(&path, format!("{whole}y,1,2")).expect("written");
        assert!(read::<Row>(&path, &Silent).is_ok_and(|rows| rows.len() == 1));
        let error =
            read_whole::<Row>(&path, &Silent).map_or_else(|e| e.to_string(), |_| "none".into());
        assert!(
            error.contains("t.csv") && error.contains("cut off"),
            "{error}"
        );
        assert_eq!(distinct(["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
    }

    #[test]
    fn what_is_no_row_is_named() {
        let good = "name,count,value,limit,known\nx,1,2,3,true\n";
        for (text, says) in [
            (String::new(), "t.csv is empty"),
            (
                "a,b\n".into(),
                "t.csv line 1: expected the header `name,count,",
            ),
            (
                format!("{good}x,1,2,3\n"),
                "t.csv line 3: expected 5 fields, found 4",
            ),
            (
                format!("{good}x,-1,2,3,true\n"),
                "t.csv line 3: count: `-1`",
            ),
            (
                format!("{good}x,1,inf,3,true\n"),
                "t.csv line 3: value: `inf`",
            ),
            (format!("{good}x,1,2,y,true\n"), "t.csv line 3: limit: `y`"),
            (format!("{good}x,1,2,3,yes\n"), "t.csv line 3: known: `yes`"),
            (format!("{good},1,2,3,true\n"), "t.csv line 3: name: ``"),
        ] {
            let error =
                parse::<Row>("t.csv", &text).map_or_else(|e| e.to_string(), |_| "none".into());
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
