//! Training: one loop, from batches to weights.
//!
//! ```text
//! settings → start → load → run_loop: step, row, evaluation, checkpoint → folder
//! ```

mod average;
mod batches;
mod checkpoints;
pub(in crate::llm) mod completions;
mod config_reference;
mod constraints;
mod distillation;
mod engine;
mod ensemble;
mod enums;
mod evaluation;
mod events;
mod examples;
mod failure;
mod folder;
mod generation;
mod hook;
mod inputs;
mod learner;
mod leaves;
mod lesson;
pub(crate) mod limits;
mod load;
mod lock;
mod machine;
mod metrics;
mod networks;
mod optimizer;
mod optimizer_in_backward;
mod ordered;
mod overlay;
mod precompute;
mod ratios;
pub mod reference;
mod resolve;
mod rollouts;
mod run_loop;
pub(crate) mod runs;
pub mod schedule;
mod settings;
pub(in crate::llm) mod share;
mod source;
mod sources;
mod split;
mod start;
mod state;
pub(crate) mod step;
mod survey;
pub mod sweep;
mod trainer;

pub use crate::llm::text::objective::TokenReduction;
pub use average::Average;
pub use batches::Batches;
pub use checkpoints::Best;
pub use config_reference::config_reference;
pub use constraints::{Ascent, Constraints};
pub use distillation::{Distillation, Predicted, Teaching};
pub use enums::{
    Advantage, Annotator, Better, LengthWeight, OldNumbers, OptimizerKind, Precision,
    ReferenceSource, ValueNetwork, ValuePer,
};
pub use evaluation::{EVAL, Evaluation};
pub use events::EVENTS;
pub use examples::Examples;
pub use folder::{COMPLETE, CONFIG, Folder, LOCK, MANIFEST, METRICS, MODEL, Manifest};
pub use hook::Hook;
pub use learner::{Learner, Model};
pub use leaves::Leaves;
pub use lesson::Lesson;
pub use machine::{MACHINE, Process};
pub use metrics::{Meter, MetricsRow};
pub(in crate::llm) use networks::{adapter, new_adapter};
pub use precompute::precompute;
pub(in crate::llm) use rollouts::{Feed, demonstrations};
pub use rollouts::{Gae, Phases, Rollouts};
pub use run_loop::Ended;
pub use settings::Settings;
pub use share::{Part, Role, Share};
pub use source::{Networks, Source};
pub use split::Rows;
pub use start::{train, train_lesson, train_until};
pub use state::{Saved, State};
pub use survey::{Of, survey};
pub use trainer::{Stepped, Trainer};
