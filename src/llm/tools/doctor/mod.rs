//! Examination of a machine: does it compute what it should, and how fast can it. A user runs it on a new machine,
//! and every claim about a device is checked again in one command.
//!
//! [`examine`] gives the rows of one table. What an operation is, how far it may be from f64 and how fast it can be
//! says [`ops`](crate::llm::tensor::ops); [`operations`] checks each alone, [`model`] all together, [`ceilings`]
//! measures what the device can do, and [`step`] what a training step makes of it.

pub mod ceilings;
pub mod evaluate;
pub mod machine;
pub mod model;
pub mod operations;
pub mod place;
pub mod precision;
pub mod report;
pub mod shapes;
pub mod step;
pub mod timing;

use std::time::Instant;

use candle_core::Device;
use serde::Serialize;

use crate::error::Result;
use crate::llm::files::named::{Named, named};
use crate::observer::Observer;
use ceilings::Ceilings;
use precision::Precision;
use report::{Part, Report};

named! {
    /// A part of the examination.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    pub enum Section {
        /// Processor or GPU, memory, version, features
        Machine = "machine",
        /// Every operation's value and gradients against f64
        Operations = "operations",
        /// Whole models: log-probabilities, gradients, steps of AdamW against f64
        Model = "model",
        /// Matrix products and copies: the most the device does
        Ceilings = "ceilings",
        /// A training step stage by stage, each against its floor
        Step = "step",
    }
}

/// Scope of an examination.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The device as it was named.
    pub name: String,
    /// The device.
    pub device: Device,
    /// The only precision, if one was named.
    pub precision: Option<Precision>,
    /// Short measurements of a small model.
    pub quick: bool,
    /// The only sections, if some were named.
    pub only: Vec<Section>,
    /// Seed of the random inputs.
    pub seed: u64,
}

impl Examination {
    fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    fn precisions(&self) -> Vec<Precision> {
        match self.precision {
            Some(precision) => vec![precision],
            None => Precision::all(&self.device),
        }
    }
}

/// Examines a device. What fails is a row that says so; the rest goes on.
///
/// # Errors
/// A precision that the device does not have.
pub fn examine(settings: &Examination, observer: &dyn Observer) -> Result<Report> {
    let begin = Instant::now();
    let device = &settings.device;
    let precisions = settings.precisions();
    precisions.iter().try_for_each(|p| p.check(device))?;
    let usual = (settings.precision).unwrap_or_else(|| Precision::usual(device));
    let seed = settings.seed;
    let mut ceilings: Option<Ceilings> = None;
    let mut sections = Vec::new();
    let all = Section::ALL.iter().copied();
    for section in all.filter(|&s| settings.wants(s)) {
        sections.extend(match section {
            Section::Machine => vec![Part::new(section, "", machine::rows(device))],
            Section::Operations => operations::parts(device, &precisions, seed, observer),
            Section::Model => model::parts(device, &precisions, seed, observer),
            Section::Ceilings => {
                let found = Ceilings::measure(device, &precisions, settings.quick, seed, observer);
                vec![Part::new(section, "", ceilings.insert(found).rows.clone())]
            }
            Section::Step => {
                let found = match ceilings.take().filter(|c| c.flops(usual).is_some()) {
                    Some(found) => found,
                    None => Ceilings::measure(device, &[usual], settings.quick, seed, observer),
                };
                vec![step::part(
                    device,
                    usual,
                    &found,
                    settings.quick,
                    seed,
                    observer,
                )]
            }
        });
    }
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        device: settings.name.clone(),
        machine: machine::object(device),
        seed,
        quick: settings.quick,
        seconds: begin.elapsed().as_secs_f64(),
        sections,
    })
}
