//! Importance of parameters: an estimate on examples, one after the other.

use candle_core::Tensor;

use crate::continual::Weights;
use crate::continual::hooks::Vectors;
use crate::error::Result;
use crate::llm::model::decoder::{Decoder, Distance};
use crate::llm::model::network::{Network, Reduction};
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::ops::Teacher;
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};
use crate::llm::train::Leaves;
use crate::llm::train::step::{Runs, like};
use crate::observer::Observer;

/// Mean over responses of `(∂ ln π(y|x)/∂θ)²` (EWC: the empirical Fisher information, on the responses of the data), or of
/// `|∂ (1/|y| Σ_t ‖z_t‖²)/∂θ|` with z the logits (MAS), for every trained parameter.
///
/// # Errors
/// Those of the model.
pub fn estimate(
    model: &Decoder,
    responses: &[&Sequence],
    which: Weights,
    observer: &dyn Observer,
) -> Result<Leaves> {
    let parameters = model.parameters();
    let mut sum = Leaves::view(parameters).zeros_like()?;
    let each = 1.0 / responses.len() as f64;
    let work = observer.begin("importance of parameters", responses.len() as u64);
    for response in responses {
        let gradient = of_one(model, response, which)?;
        let gradient = Leaves::gradients(parameters, &gradient)?;
        match which {
            Weights::Fisher => sum.add_product(each, &gradient, &gradient)?,
            _ => sum.add_absolute(each, &gradient)?,
        }
        work.advance(1);
    }
    Ok(sum)
}

/// The gradient of one response.
fn of_one(model: &Decoder, response: &Sequence, which: Weights) -> Result<LeafGradients> {
    let mut gradients = LeafGradients::new(model.leaves());
    if which == Weights::Fisher {
        let one = std::slice::from_ref(response);
        let mut runs = Runs::new(model, Reduction::Sum, one, usize::MAX)?;
        runs.push(&[1.0], &[], &mut gradients)?;
        return Ok(gradients);
    }
    let tape = Tape::recording(model.leaves());
    let node = squares(model, &tape, response)?;
    let count = response.weight();
    let each: Vec<f64> = (response.each_weight().iter()).map(|w| w / count).collect();
    let seeds = vec![(node.clone(), like(&node, &each)?)];
    tape.consume(seeds, &mut |leaf, g| gradients.add(leaf, g))?;
    Ok(gradients)
}

/// `‖z_t‖²` of every token: the distance from a teacher whose logits are 0.
fn squares<'a>(model: &'a Decoder, tape: &Tape<'a>, response: &Sequence) -> Result<Node> {
    let (vocabulary, device) = (model.sizes().vocabulary, model.parameters().device());
    let zeros = |rows: usize| Tensor::zeros((rows, 1), model.parameters().dtype(), device);
    let nothing = Teacher {
        hidden: zeros(response.completion().len())?,
        head: zeros(vocabulary)?,
        bias: None,
    };
    model.distances(tape, &[response], &nothing, Distance::Logits)
}

/// Bytes of an estimate.
pub fn bytes(of: &Leaves) -> usize {
    let one = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
    of.0.iter().map(one).sum()
}
