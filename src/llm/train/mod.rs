//! Training: one loop, from batches to weights.
//!
//! ```text
//! settings → start → load → course: step, row, evaluation, checkpoint → folder
//! ```

mod at_once;
mod choices;
mod claim;
mod course;
mod evaluation;
mod events;
mod examples;
mod failure;
mod folder;
mod generation;
mod inputs;
mod keeping;
mod learner;
pub mod limits;
mod load;
mod machine;
mod metrics;
mod networks;
mod overlay;
mod page;
mod plan;
mod precompute;
mod resolve;
mod settings;
mod sources;
mod split;
mod start;
mod state;
mod survey;
pub mod sweep;
mod trainer;

pub use super::objective::TokenReduction;
pub use choices::{Better, Precision, ReferenceSource, ValueNetwork};
pub use course::Ended;
pub use evaluation::{EVAL, Evaluation};
pub use events::EVENTS;
pub use examples::Examples;
pub use folder::{COMPLETE, CONFIG, Folder, LOCK, MANIFEST, METRICS, MODEL, Manifest};
pub use keeping::Best;
pub use learner::{Learner, Model};
pub use machine::{MACHINE, Process};
pub use metrics::{Meter, Row};
pub(in crate::llm) use networks::adapter;
pub use page::config_reference;
pub use plan::Plan;
pub use precompute::precompute;
pub use settings::Settings;
pub use split::Rows;
pub use start::{train, train_until};
pub use state::{Saved, State};
pub use survey::survey;
pub use trainer::{Stepped, Trainer};
