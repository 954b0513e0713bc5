//! Networks: families and their graphs, decoder, heads, adapters, and the folders that hold them.

pub mod architecture;
pub mod config;
pub mod decoder;
pub mod families;
pub(in crate::llm) mod folder;
pub mod graph;
pub mod heads;
pub(crate) mod identity;
pub(crate) mod inference;
pub mod lora;
pub mod model_folder;
pub mod network;
pub mod saving;
pub mod sequence;
pub(crate) mod weights;
