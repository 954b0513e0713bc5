//! Continual alignment on text: one policy, a sequence of tasks, and what it forgets.
//!
//! Each task is an ordinary run of [`train`](super::train) in a folder of its own, from the model that the task before
//! it ended with; a method ([`Method`](crate::continual::Method)) says what its rows are, which shares of old tasks,
//! teachers, constraints and penalties its steps have beside its objective, and what is kept for later tasks.

mod accuracy;
mod course;
mod importance;
mod lesson;
mod penalty;
mod plateaus;
mod ranked;
mod record;
mod settings;
mod tasks;

pub use accuracy::{Examination, Examinations, Writing};
pub use course::{After, Outcome, run};
pub use importance::{bytes, estimate};
pub use record::{ACCURACY, METRICS};
pub use settings::Settings;
pub use tasks::{Accuracy, Task, Tasks};
