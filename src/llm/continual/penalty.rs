//! Penalties on the distance of the parameters from what they were before a task.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::continual::hooks::Pull;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::llm::tensor::parameters::Parameters;
use crate::llm::train::{Hook, Learner, Leaves};

/// A pull of the parameters to what they were: `strength/2 Σ ω (θ − θ′)²`.
pub struct Penalty(pub Pull<Leaves>);

impl Hook for Penalty {
    fn bend(&mut self, policy: &mut Learner) -> Result<Vec<(String, f64)>> {
        let value = pull(&self.0, policy)?;
        Ok(vec![("penalty".into(), value)])
    }
}

/// Adds the gradient of a pull, and gives its value.
///
/// # Errors
/// Parameters of another model.
pub(super) fn pull(pull: &Pull<Leaves>, policy: &mut Learner) -> Result<f64> {
    let parameters = policy.model.parameters();
    let now = Leaves::view(parameters);
    let mut gradient = Leaves::gradients(parameters, &policy.gradients)?;
    pull.add_gradient(&now, &mut gradient)?;
    let value = pull.value(&now)?;
    gradient.put(parameters, &mut policy.gradients);
    Ok(value)
}

/// Writes a tensor of each trained parameter to a file, by their names.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(path: &Path, leaves: &Leaves, parameters: &Parameters) -> Result<()> {
    let all = Leaves::names(parameters).zip(&leaves.0);
    let all: HashMap<String, Tensor> = all.map(|(n, t)| (n.to_string(), t.clone())).collect();
    checkpoint::write_tensors(path, &all)
}

/// Reads them again.
///
/// # Errors
/// A file that is not as it was written, or is another model's.
pub(super) fn read(path: &Path, parameters: &Parameters, device: &Device) -> Result<Leaves> {
    let broken = |message: String| Error::Format {
        origin: path.display().to_string(),
        message,
        remedy: "begin the sequence anew in another --out".into(),
    };
    let mut all =
        candle_core::safetensors::load(path, device).map_err(|e| broken(e.to_string()))?;
    let each = Leaves::names(parameters).map(|name| {
        let found = all.remove(name);
        found.ok_or_else(|| broken(format!("it lacks `{name}`")))
    });
    Ok(Leaves(each.collect::<Result<_>>()?))
}
