//! The memory of a training run before it starts.
//!
//! [`Run::take`] goes through a step as training does, operation by operation, with tensors that have
//! bytes and no numbers: what a backward keeps is kept, what it lets go is let go, and the books say
//! how much was held at most, of what, and when.
//!
//! ```text
//! ledger    who holds how many bytes, and when they were most
//! tape      operations in bytes on llm::tensor::tape
//! ops       the operations of llm::tensor::ops by the memory that their facts say
//! network   a reader of llm::model::graph, and heads
//! learner   gradients, masters and moments; update: the optimiser's pass
//! batch     lengths: how a step is cut into what goes through at once
//! run       a step from the reference's numbers to the checkpoint
//! drawn     what the run writes itself
//! setup     a run and its steps from the settings of `pistar train`
//! advice    what would make it fit; report: what is told
//! ```

mod advice;
mod batch;
mod drawn;
mod learner;
mod ledger;
pub mod machine;
mod network;
mod ops;
mod report;
mod run;
mod setup;
mod tape;
mod update;

pub use advice::Change;
pub use batch::{Piece, Response, StepShape, heaviest};
pub use ledger::{Bytes, Kind, Largest, Moment, Peak, Phase};
pub use machine::Machine;
pub use network::Role;
pub use report::{Memory, PhasePeak, Report};
pub use run::{Outcome, Reference, Run};
pub use setup::{Budget, Lengths};
