//! What a network computes with: the tape, its operations, parameters, the optimizer, the device.

pub mod device;
pub mod memory;
pub mod ops;
pub mod optimizer;
pub mod parameters;
pub mod tape;
