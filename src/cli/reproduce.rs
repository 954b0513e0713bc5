//! `pistar reproduce`

use std::path::PathBuf;
use std::time::Instant;

use crate::file::write_whole;
use crate::sim::folder::Manifest;

use super::bars::Bars;
use super::{figure, output, sim};
use crate::sims;

#[derive(clap::Args)]
pub struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Replace the rows of other runs in that folder
    #[arg(long)]
    overwrite: bool,
    /// Worker threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let bars = Bars::new();
    let started = Instant::now();
    let mut report = format!(
        "# pistar {}: every experiment, reproduced\n",
        env!("CARGO_PKG_VERSION")
    );
    for sim in sims::ALL {
        let dir = args.out.join(sim.name);
        let request = sims::Request {
            observer: &bars,
            threads: args.threads.unwrap_or_else(sim::all_cores),
            overwrite: args.overwrite,
            ..sims::Request::default()
        };
        (sim.run)(&request, &dir)?;
        report += &format!("\n## {}\n\n{}.\n\n", sim.name, sim.about);
        if figure::draw(sim.name, &dir, &dir.join(sim.name), &bars)?.is_some() {
            report += &format!("![{name}]({name}/{name}.png)\n\n", name = sim.name);
        }
        report += &(sim.report)(&dir, &bars)?;
        let manifest = Manifest::read(&dir)?;
        let took = match manifest.train_s {
            Some(seconds) => format!("Training took {seconds:.2} s"),
            None => format!("Solving took {:.2} s", manifest.wall_s),
        };
        report += &format!(
            "\nRows: [{name}/rows.csv]({name}/rows.csv), what was run: \
             [{name}/manifest.json]({name}/manifest.json). {took} on {threads} threads. \
             Again: `pistar sim {name}`.\n",
            name = sim.name,
            threads = manifest.threads,
        );
        output::print(&format!("{}: {:.1} s\n", sim.name, manifest.wall_s))?;
    }
    let path = args.out.join("report.md");
    write_whole(&path, report.as_bytes())?;
    output::print(&format!(
        "report: {} ({:.1} s in all)\n",
        path.display(),
        started.elapsed().as_secs_f64()
    ))
}
