//! Transformers under the very same losses: models, text data, training.
//!
//! A loss never sees a model: a step turns a batch of token sequences into numbers per response, which
//! [`loss`](crate::loss) gets in f64, and the cotangents it returns are pushed back through the
//! [`decoder`](model::decoder).
//!
//! The wings, each importing only those before it: `files`, `tensor` (tape, operations, optimizer), [`model`],
//! [`text`] (from files to batches), [`sample`] (generation, rewards, evaluation), [`train`], [`continual`] (sequences of
//! tasks), `tools` (what `pistar plan` and `pistar doctor` run), [`language`] (the joint with the exact half).

pub mod continual;
pub(crate) mod files;
pub mod language;
pub mod model;
pub mod sample;
pub(crate) mod tensor;
pub mod text;
pub(crate) mod tools;
pub mod train;

/// Modules that are no part of the interface, for pistar's own tests, benches and examples: what is here may change
/// with every version.
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals {
    pub mod files {
        pub mod checkpoint {
            pub use crate::llm::files::checkpoint::*;
        }
        pub mod finite {
            pub use crate::llm::files::finite::*;
        }
        pub mod json {
            pub use crate::llm::files::json::*;
        }
    }
    pub mod tensor {
        pub mod device {
            pub use crate::llm::tensor::device::*;
        }
        pub mod memory {
            pub use crate::llm::tensor::memory::*;
        }
        pub mod ops {
            pub use crate::llm::tensor::ops::*;
        }
        pub mod optimizer {
            pub use crate::llm::tensor::optimizer::*;
        }
        pub mod parameters {
            pub use crate::llm::tensor::parameters::*;
        }
        pub mod tape {
            pub use crate::llm::tensor::tape::*;
        }
    }
    pub mod tools {
        pub mod doctor {
            pub use crate::llm::tools::doctor::*;
        }
        pub mod plan {
            pub use crate::llm::tools::plan::*;
        }
    }
    pub mod model {
        pub mod identity {
            pub use crate::llm::model::identity::*;
        }
        pub mod inference {
            pub use crate::llm::model::inference::*;
        }
        pub mod weights {
            pub use crate::llm::model::weights::*;
        }
    }
    pub mod text {
        pub mod chat {
            pub use crate::llm::text::chat::*;
        }
        pub mod data {
            pub mod dialogue {
                pub use crate::llm::text::data::dialogue::*;
            }
            pub mod file {
                pub use crate::llm::text::data::file::*;
            }
        }
    }
    pub mod train {
        pub mod limits {
            pub use crate::llm::train::limits::*;
        }
        pub mod runs {
            pub use crate::llm::train::runs::*;
        }
        pub mod step {
            pub use crate::llm::train::step::*;
        }
    }
}
