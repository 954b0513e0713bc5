//! `pistar merge`

use std::path::PathBuf;

use crate::llm::model::lora::merge;
use crate::llm::model::model_folder::ModelFolder;

use super::output;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar merge runs/dpo --out models/dpo
  pistar merge adapters/chat,base=models/llama --out models/chat

Writes a whole model that answers as base and adapter together, but for
rounding: W + α/r · B A in the base's precision, with its config.json and
generation settings, and the tokenizer. The folder is there whole or not at
all. docs/models.md says where an adapter's base is looked for.")]
pub struct Args {
    /// Folder of an adapter (LoRA), or of the run of one
    #[arg(value_name = "RUN|ADAPTER")]
    adapter: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace another model in the folder
    #[arg(long)]
    overwrite: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let found = ModelFolder::find(&args.adapter)?;
    let dtype = merge(&found, &args.out, args.overwrite)?;
    let out = args.out.display();
    output::print(&format!("model: {out} ({})\n", dtype.as_str()))
}
