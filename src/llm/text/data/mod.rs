//! Text data: files to examples in tokens.
//!
//! ```text
//! files → rows → mapping → columns → dialogue → tokenise → Example      order: which make which batch
//! ```

mod aside;
pub mod check;
pub(crate) mod columns;
pub(crate) mod dialogue;
mod digits;
pub(crate) mod expression;
pub(crate) mod file;
mod filters;
pub(crate) mod format;
mod index;
mod mapping;
pub(crate) mod order;
#[cfg(feature = "parquet")]
mod parquet;
mod paths;
pub(crate) mod prompt;
mod proposals;
pub(crate) mod reading;
pub(crate) mod report;
pub(crate) mod source;
mod spool;
pub(crate) mod table;
pub(crate) mod tokenise;
pub(crate) mod unread;
pub(crate) mod values;
mod weights;

pub use columns::Form;
pub use format::Format;
pub use order::{Epoch, Ordering};
pub use reading::Reading;
pub use report::Report;
pub use source::Source;
pub use tokenise::RowRules;
