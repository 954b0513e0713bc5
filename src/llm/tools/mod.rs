//! What a run will need, before it is started: memory by arithmetic, kernels by measuring.

pub mod doctor;
pub mod plan;
