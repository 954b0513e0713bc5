//! Text data: JSON lines to examples in tokens.
//!
//! ```text
//! file → columns → tokenise → Example      order: which rows make which batch
//! ```

pub mod columns;
pub mod file;
pub mod order;
pub mod report;
pub mod source;
pub mod tokenise;
pub mod values;

pub use columns::Form;
pub use order::{Batches, Ordering};
pub use report::Report;
pub use source::Source;
pub use tokenise::Settings;
