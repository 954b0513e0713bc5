//! The inputs of a loss by kind, for losses that take one kind only.

use std::rc::Rc;

use crate::backend::Segments;
use crate::error::{Error, Result};
use crate::loss::{Inputs, Response};

fn wrong<X>(inputs: &Inputs<X>, wanted: &str) -> Error {
    Error::invalid(
        "inputs of the loss",
        format!("they are {}, not {wanted}", inputs.kind()),
        "feed it what its `inputs` names",
    )
}

/// Both responses of a pair; where there are labels, the preferred one first.
///
/// # Errors
/// Inputs of another kind.
pub fn pair<X>(inputs: &Inputs<X>) -> Result<(&Response<X>, &Response<X>)> {
    match inputs {
        Inputs::Pair { first, second } => Ok((first, second)),
        _ => Err(wrong(inputs, "pairs")),
    }
}

/// A single response and the number of its prompt: the baseline, or V.
///
/// # Errors
/// Inputs of another kind.
pub fn single<X>(inputs: &Inputs<X>) -> Result<(&Response<X>, &X)> {
    match inputs {
        Inputs::Single { response, baseline } => Ok((response, baseline)),
        _ => Err(wrong(inputs, "single responses")),
    }
}

/// A response, whether it is desirable (1 or 0), and z₀.
///
/// # Errors
/// Inputs of another kind.
pub fn rated<X>(inputs: &Inputs<X>) -> Result<(&Response<X>, &X, &X)> {
    match inputs {
        Inputs::Rated {
            response,
            desirable,
            anchor,
        } => Ok((response, desirable, anchor)),
        _ => Err(wrong(inputs, "rated responses")),
    }
}

/// Groups or ranked lists: all their responses, and which belong together.
///
/// # Errors
/// Inputs of another kind.
pub fn group<X>(inputs: &Inputs<X>) -> Result<(&Response<X>, &Rc<Segments>)> {
    match inputs {
        Inputs::Group { responses, groups } => Ok((responses, groups)),
        _ => Err(wrong(inputs, "groups or lists of responses")),
    }
}
