//! `pistar doctor`

use super::bars::Bars;
use crate::llm::tensor::device::device;
use crate::llm::tools::doctor::precision::Precision;
use crate::llm::tools::doctor::{Examination, Section, examine};

use super::{Found, flags::named, output};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar doctor
  pistar doctor --device cuda:0 --json > doctor.json
  pistar doctor --only operations,model --dtype bf16 --seed 7

  ok     within its bound, which follows from shape and precision alone
  FAIL   beyond it, not a number, or an error
  -      nothing to hold it against; a time's bound is its floor on this device

Exit code 1 if something failed. docs/doctor.md says what every row is and
where bounds come from.")]
pub struct Args {
    /// `cpu`, `cuda` or `cuda:N`
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// The only precision [default: all of the device; the step in f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_parser = named::<Precision>())]
    dtype: Option<Precision>,
    /// The only sections, with commas between them [default: all]
    #[arg(long, value_name = "SECTION", value_parser = named::<Section>(), value_delimiter = ',')]
    only: Vec<Section>,
    /// Short measurements of a small model: seconds
    #[arg(long)]
    quick: bool,
    /// Seed of the random inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = Examination {
        name: args.device.clone(),
        device: device(&args.device)?,
        precision: args.dtype,
        quick: args.quick,
        only: args.only.clone(),
        seed: args.seed,
    };
    let report = examine(&settings, &Bars::counting())?;
    let (judged, failed) = report.counts();
    if args.json {
        output::json(&serde_json::to_value(&report)?)?;
    } else {
        output::print(&report.table())?;
        let seconds = format!("{:.0} s", report.seconds);
        output::print(&match judged {
            0 => format!("\n{seconds}\n"),
            _ => format!("\n{} of {judged} ok, {seconds}\n", judged - failed),
        })?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Found(format!("{failed} of {judged} failed")).into()),
    }
}
