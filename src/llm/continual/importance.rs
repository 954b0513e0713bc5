//! Importance of parameters: an estimate on examples, one after the other.

use candle_core::{Device, Tensor};

use crate::continual::Weights;
use crate::continual::hooks::Vectors;
use crate::error::Result;
use crate::llm::model::decoder::{Decoder, Distance};
use crate::llm::model::network::Network;
use crate::llm::model::sequence::{Predictions, Sequence};
use crate::llm::tensor::ops::Teacher;
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};
use crate::llm::train::Leaves;
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
    let tape = Tape::recording(model.leaves());
    let (node, scale) = match which {
        Weights::Fisher => (model.log_probs(&tape, &Predictions::new(&[response]))?, 1.0),
        _ => {
            let node = squares(model, &tape, response)?;
            (node, 1.0 / response.weight())
        }
    };
    let weights: Vec<f64> = match response.weights() {
        Some(weights) => weights.iter().map(|w| w * scale).collect(),
        None => vec![scale; response.completion().len()],
    };
    let seeds = Tensor::new(weights, &Device::Cpu)?;
    let seeds = seeds
        .to_dtype(node.value().dtype())?
        .to_device(node.value().device())?;
    let mut gradients = LeafGradients::new(model.leaves());
    tape.consume(vec![(node, seeds)], &mut |leaf, g| gradients.add(leaf, g))?;
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
