//! Pieces of continual learning that act on parameters and gradients, wherever those lie.
//!
//! They are written once over [`Vectors`]: a table is one `Vec<f64>`, a transformer a list of tensors. A
//! method's step is the gradient of its losses, what these make of it, and the optimiser.

mod importance;
mod memory;
mod plateau;
mod projection;
mod pull;
mod vectors;

pub use importance::{Accumulation, Importance};
pub use memory::{Hardest, Reservoir};
pub use plateau::{Plateau, PlateauWindow};
pub use projection::project;
pub use pull::Pull;
pub use vectors::Vectors;
