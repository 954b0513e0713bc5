//! `pistar objectives`

use pistar::loss::Objective;
use serde_json::json;

use super::output;

#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let specs = Objective::ALL.map(Objective::spec);
    if args.json {
        let all = specs.map(|s| {
            json!({
                "name": s.name,
                "formula": s.formula,
                "inputs": s.inputs.name(),
                "kind": s.kind.name(),
                "source": s.source,
                "fixed_point": s.fixed_point,
            })
        });
        return output::json(&json!(all));
    }
    let mut text = "Per-example losses, minimised. u = ln π/π_ref, d = u(preferred) − u(rejected), R_β = R − βu;\n\
                    ⟦·⟧ is detached.\n\n"
        .to_string();
    let mut rows = vec![
        ["name", "formula", "inputs", "kind", "source"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(specs.map(|s| {
        [s.name, s.formula, s.inputs.name(), s.kind.name(), s.source]
            .map(String::from)
            .to_vec()
    }));
    text += &output::columns(&rows);
    text += "\nWhere they converge, on the population\n";
    text +=
        &output::columns(&specs.map(|s| vec![format!("  {}", s.name), s.fixed_point.to_string()]));
    output::print(&text)
}
