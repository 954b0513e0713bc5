//! The library's one error type.

use std::path::Path;

use crate::text::cut;

/// Most characters that a message shows of what was found, and of where: whoever gives a line of
/// 50,000 characters is not given it back.
const SHOWN: usize = 1200;

/// Everything that can go wrong, with the place, the value and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that a user gave is not allowed.
    #[error("{}: {}; {remedy}", cut(place, SHOWN), cut(problem, SHOWN))]
    Invalid {
        /// Place: a field path such as `prompts[0].behavior[1]`, a flag, or `FILE:LINE`.
        place: String,
        /// Problem: what was found there.
        problem: String,
        /// Remedy: what would be right.
        remedy: String,
    },
    /// A file that cannot be read or written.
    #[error("{place}: cannot {action}: {reason}")]
    Io {
        /// The file or folder, `standard input` or `standard output`.
        place: String,
        /// `read`, `create`, `write to`, …
        action: &'static str,
        /// Reason that the system gave (part of the message, so not also its source).
        reason: std::io::Error,
    },
    /// A file that is not in the format it should be in.
    #[error("{}: {}; {remedy}", cut(origin, SHOWN), cut(message, SHOWN))]
    Format {
        /// The file, or `standard input`.
        origin: String,
        /// Message of the parser, with line and column.
        message: String,
        /// Remedy: what would be right.
        remedy: String,
    },
    /// Work that was left before its end, because it was told that nobody waits for it.
    #[error("{work}: it was interrupted")]
    Interrupted {
        /// Name of the work.
        work: &'static str,
    },
    /// Arrays whose lengths do not fit each other.
    #[error("{operation}: lengths {left} and {right} differ")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// Length of the left operand.
        left: usize,
        /// Length of the right operand.
        right: usize,
    },
    /// An objective was given numbers of the wrong kind.
    #[error("objective {objective} takes {expected}, not {found}")]
    Inputs {
        /// Registered name of the objective.
        objective: &'static str,
        /// Kind of input it takes.
        expected: &'static str,
        /// Kind of input it was given.
        found: &'static str,
    },
    /// The problem is larger than a solver's stated cap.
    #[error(
        "{what} is limited to {cap} arms and prompt {prompt} has {arms}; \
         leave it out with --objective, or use a smaller problem"
    )]
    TooLarge {
        /// Limited quantity or method.
        what: &'static str,
        /// Its cap.
        cap: usize,
        /// The prompt's index.
        prompt: usize,
        /// Number of arms of that prompt.
        arms: usize,
    },
    /// A solver found no answer that is one.
    #[error(
        "no answer at prompt {prompt}: {what}; please report the problem, it is a fault of the solver"
    )]
    Unsound {
        /// The prompt's index.
        prompt: usize,
        /// Fault of what was found.
        what: String,
    },
    /// The problem has more prompts than a solver's stated cap.
    #[error(
        "{what} is limited to {cap} prompts and the problem has {prompts}; \
         leave it out with --objective, or use a smaller problem"
    )]
    TooMany {
        /// Limited quantity or method.
        what: &'static str,
        /// Its cap.
        cap: usize,
        /// Number of prompts of the problem.
        prompts: usize,
    },
    /// A backend failed (out of memory, a device error, …).
    #[error("{backend} backend: {message}")]
    Backend {
        /// `candle` or `argmin`.
        backend: &'static str,
        /// Its message.
        message: String,
    },
}

/// `std::result::Result` with [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(feature = "llm")]
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let mut message = error.to_string();
        if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
            .iter()
            .any(|full| message.contains(full))
        {
            message += "; the GPU's memory is full: run fewer tokens or sequences at once, or see what \
                        `pistar plan` says";
        }
        Self::Backend {
            backend: "candle",
            message,
        }
    }
}

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            place: place.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// An [`Error::Io`], for `map_err`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let place = path.as_ref().display().to_string();
        move |reason| Self::Io {
            place,
            action,
            reason,
        }
    }

    /// The same error with the file it was found in before the place.
    #[must_use]
    pub fn in_file(self, origin: &str) -> Self {
        match self {
            Self::Invalid {
                place,
                problem,
                remedy,
            } => Self::Invalid {
                place: format!("{origin}: {place}"),
                problem,
                remedy,
            },
            other => other,
        }
    }
}
