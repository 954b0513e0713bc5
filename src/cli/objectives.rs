//! `pistar objectives`

use crate::loss::{Objective, Spec};
use crate::solve::bpo::Inner;
use serde_json::json;

use super::output;

#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let specs: Vec<Spec> = (Objective::known().into_iter().map(Objective::spec))
        .chain(Inner::ALL.into_iter().map(phased))
        .collect();
    if args.json {
        let all = specs.iter().map(|s| {
            json!({
                "name": s.name,
                "formula": s.formula,
                "inputs": s.inputs.name(),
                "kind": s.kind.name(),
                "source": s.source,
                "fixed_point": s.fixed_point,
            })
        });
        return output::json(&all.collect());
    }
    let mut text = "Per-example losses, minimised. u = ln π/π_ref, d = u(preferred) − u(rejected), R_β = R − βu;\n\
                    ⟦·⟧ is detached.\n\n"
        .to_string();
    let mut rows = vec![
        ["name", "formula", "inputs", "kind", "source"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(specs.iter().map(|s| {
        [s.name, s.formula, s.inputs.name(), s.kind.name(), s.source]
            .map(String::from)
            .to_vec()
    }));
    text += &output::columns(&rows);
    text += "\nWhere they converge, on the population\n";
    let ends = specs
        .iter()
        .map(|s| vec![format!("  {}", s.name), s.fixed_point.to_string()]);
    text += &output::columns(&ends.collect::<Vec<_>>());
    output::print(&text)
}

/// BPO: phases of a registered loss.
fn phased(inner: Inner) -> Spec {
    Spec {
        name: inner.name(),
        formula: inner.formula(),
        source: "BPO, Algorithm 1 (reference = behaviour = last phase's policy)",
        fixed_point: inner.limit(),
        ..inner.objective().spec()
    }
}
