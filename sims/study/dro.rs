//! DRO-V against KTO on single rated completions, offline, the same way as [`super::copg`].
//!
//! DRO-V sees the rule's reward, KTO whether it is above the data's mean.

use std::path::Path;

use crate::loss::Objective;
use crate::observer::Observer;
use anyhow::Result;

use super::report;
use super::{Request, Study, ablations, copg};
use crate::rows::study::read_rows;

pub const STUDY: Study = Study {
    name: "dro",
    about: "DRO-V and KTO offline on a language model's single completions, over β",
    run,
    report,
    ablations: Some(&ablations::STUDY),
    full: false,
};

const BETAS: [f64; 5] = [0.03, 0.1, 0.3, 1.0, 3.0];

/// The sweeps.
const SWEEPS: [(Objective, [f64; 5]); 2] = [(Objective::DRO_V, BETAS), (Objective::KTO, BETAS)];

fn run(request: &Request, dir: &Path) -> Result<()> {
    copg::study(request, dir, STUDY.name, &SWEEPS)
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let rows = read_rows(dir, observer)?;
    report::text(&rows, &SWEEPS.map(|(o, _)| o.name()))
}
