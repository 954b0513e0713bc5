//! `pistar figure`

use std::path::{Path, PathBuf};

use super::bars::Bars;
use crate::observer::Observer;
use crate::sim::folder::Manifest;
use anyhow::anyhow;

use super::output;

#[derive(clap::Args)]
pub struct Args {
    /// Name of the figure: that of the sim whose rows it draws (`pistar sim --list`)
    name: String,
    /// Folder with the rows [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Write STEM.svg and STEM.png (given either, both) [default: NAME in the rows' folder]
    #[arg(long, value_name = "STEM")]
    out: Option<PathBuf>,
    /// Draw the rows that there are, of a run that was interrupted too
    #[arg(long)]
    partial: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let from = args
        .from
        .clone()
        .unwrap_or_else(|| Path::new("out").join(&args.name));
    if !args.partial {
        Manifest::ended(&from).map_err(|e| anyhow!("{e}, or draw what there is with --partial"))?;
    }
    let stem = match &args.out {
        Some(out) => stem(out),
        None => from.join(&args.name),
    };
    match draw(&args.name, &from, &stem, &Bars::new())? {
        Some(path) => output::print(&format!("figure: {}\n", path.display())),
        None => anyhow::bail!("figures: this build has none; build with the feature `plot`"),
    }
}

/// A file's name without .svg and .png, which are both written.
pub fn stem(file: &Path) -> PathBuf {
    match file.extension().and_then(|e| e.to_str()) {
        Some("svg" | "png") => file.with_extension(""),
        _ => file.to_path_buf(),
    }
}

/// Draws a figure and returns its SVG's path, or nothing in a build without figures.
#[cfg(feature = "plot")]
pub fn draw(
    name: &str,
    rows: &Path,
    stem: &Path,
    observer: &dyn Observer,
) -> anyhow::Result<Option<PathBuf>> {
    use crate::figures;
    let Some(figure) = figures::ALL.iter().find(|f| f.name == name) else {
        anyhow::bail!(
            "figure: there is none called `{name}`; {}",
            crate::text::suggestion(name, figures::ALL.iter().map(|f| f.name))
        );
    };
    (figure.draw)(rows, stem, observer)?;
    let mut svg = stem.as_os_str().to_os_string();
    svg.push(".svg");
    Ok(Some(svg.into()))
}

/// Draws a figure and returns its SVG's path, or nothing in a build without figures.
#[cfg(not(feature = "plot"))]
#[allow(clippy::unnecessary_wraps)]
pub fn draw(_: &str, _: &Path, _: &Path, _: &dyn Observer) -> anyhow::Result<Option<PathBuf>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_that_is_added_is_not_there_twice() {
        for (given, kept) in [
            ("x.png", "x"),
            ("out/x.svg", "out/x"),
            ("out/x", "out/x"),
            ("out.d/x", "out.d/x"),
            ("x.v2", "x.v2"),
        ] {
            assert_eq!(stem(Path::new(given)), Path::new(kept), "{given}");
        }
    }
}
