//! Text data: files to examples in tokens.
//!
//! ```text
//! files → rows → mapping → columns → dialogue → tokenise → Example      order: which make which batch
//! ```

mod aside;
pub mod check;
pub mod columns;
pub mod dialogue;
mod digits;
pub(crate) mod expression;
pub mod file;
mod filters;
pub mod format;
mod index;
mod mapping;
pub mod order;
#[cfg(feature = "parquet")]
mod parquet;
mod paths;
pub mod prompt;
pub mod reading;
pub mod report;
pub mod source;
mod spool;
pub mod table;
pub mod tokenise;
pub mod unread;
pub mod values;
mod weights;

pub use columns::Form;
pub use format::Format;
pub use order::{Batches, Ordering};
pub use reading::Reading;
pub use report::Report;
pub use source::Source;
pub use tokenise::RowRules;
