//! Reading what the user names: files, or `-` for standard input.

use std::io::{BufRead, BufReader, stdin};
use std::path::Path;

use crate::bandit::{Dataset, Problem};
use crate::claims::Paper;
use crate::file;
use crate::loss::Objective;
use crate::{Error, Result};

/// Name of a path in messages.
pub fn origin(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".into()
    } else {
        path.display().to_string()
    }
}

/// Refuses to read two things from standard input.
pub fn only_one_stdin(first: &Path, second: Option<&Path>) -> Result<()> {
    if first == Path::new("-") && second == Some(first) {
        return Err(Error::invalid(
            "-",
            "two inputs would come from standard input",
            "name a file for one of them",
        ));
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(stdin())));
    }
    let file = file::open(path)?;
    Ok(Box::new(BufReader::new(file)))
}

/// All of it, in UTF-8, without a byte order mark.
pub fn text(path: &Path) -> Result<String> {
    let bytes = if path == Path::new("-") {
        file::bounded(stdin(), &origin(path))?
    } else {
        file::bytes(path)?
    };
    file::string(bytes, &origin(path))
}

/// Its lines that are not blank, each with its place.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<(String, String)>>> {
    Ok(file::lines(open(path)?, &origin(path)))
}

/// A problem file, JSON or TOML.
pub fn problem(path: &Path) -> Result<Problem> {
    Problem::parse(&text(path)?, &origin(path))
}

/// A problem that logged data are read for: its rewards and laws may be left out.
pub fn logged_problem(path: &Path) -> Result<Problem> {
    Problem::parse_logged(&text(path)?, &origin(path))
}

/// A logits file for that problem.
pub fn logits(path: &Path, problem: &Problem) -> Result<Vec<Vec<f64>>> {
    problem.parse_logits(&text(path)?, &origin(path))
}

/// A logged dataset for that problem.
pub fn dataset(path: &Path, problem: &Problem) -> Result<Dataset> {
    Dataset::read(open(path)?, &origin(path), problem)
}

/// Objectives on bandits by name.
pub fn objective(name: &str) -> Result<Objective> {
    let found = Objective::from_name(name)?;
    found.spec().needs_bandits().map(|()| found)
}

/// Papers by name.
pub fn paper(name: &str) -> Result<Paper> {
    Paper::from_name(name)
}
