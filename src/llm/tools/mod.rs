//! Tools to run before a run is started: memory by arithmetic (`plan`), correctness and speed of kernels by measuring
//! (`doctor`).

pub mod doctor;
pub mod plan;
