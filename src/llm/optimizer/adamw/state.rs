//! What AdamW remembers, as named tensors.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::{AdamW, Moments};
use crate::error::{Error, Result};
use crate::llm::parameters::{Parameter, Parameters};

/// Names of the parts of a parameter's state, PyTorch's.
const PARTS: [&str; 3] = ["step", "exp_avg", "exp_avg_sq"];

impl AdamW {
    /// The state, for a checkpoint: `NAME.step` (a whole number), `NAME.exp_avg` and
    /// `NAME.exp_avg_sq` of every parameter that took a step. The tensors share the memory that
    /// the next step changes.
    ///
    /// # Errors
    /// A failing device.
    pub fn state(&self, parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (Parameter { name, .. }, moments) in parameters.iter().zip(&self.moments) {
            let Some(moments) = moments else { continue };
            let step = Tensor::new(i64::from(moments.steps), &Device::Cpu)?;
            let parts = [step, moments.first.clone(), moments.second.clone()];
            let named = PARTS.map(|part| format!("{name}.{part}"));
            state.extend(named.into_iter().zip(parts));
        }
        Ok(state)
    }

    /// Takes up a state that [`state`](Self::state) gave, exactly.
    ///
    /// # Errors
    /// A tensor that belongs to no parameter, has another shape or precision, or lacks its
    /// siblings.
    pub fn load_state(
        &mut self,
        parameters: &Parameters,
        mut state: HashMap<String, Tensor>,
    ) -> Result<()> {
        let mut all = Vec::with_capacity(parameters.len());
        for parameter in parameters.iter() {
            let parts = PARTS.map(|part| {
                let name = format!("{}.{part}", parameter.name);
                (state.remove(&name), name)
            });
            let moments = match parts {
                [(None, _), (None, _), (None, _)] => None,
                [(Some(step), s), (Some(first), f), (Some(second), v)] => Some(Moments {
                    steps: whole(&s, &step)?,
                    first: like(&f, &first, parameter)?,
                    second: like(&v, &second, parameter)?,
                }),
                parts => {
                    let is_missing = |(tensor, _): &&(Option<Tensor>, String)| tensor.is_none();
                    let missing = parts.iter().find(is_missing).map(|(_, name)| name.clone());
                    return Err(Error::invalid(
                        missing.unwrap_or_default(),
                        "it is missing from the optimiser's state",
                        "resume from a whole checkpoint",
                    ));
                }
            };
            all.push(moments);
        }
        if let Some(name) = state.keys().min() {
            return Err(Error::invalid(
                name,
                "the optimiser's state has it and the model has no such parameter",
                "resume with the model that the checkpoint was made with",
            ));
        }
        self.moments = all;
        Ok(())
    }
}

fn whole(name: &str, step: &Tensor) -> Result<u32> {
    let fail = |found: String| Error::invalid(name, found, "a whole number of steps was saved");
    if step.rank() != 0 || step.dtype() != DType::I64 {
        let (shape, dtype) = (step.dims(), step.dtype().as_str());
        return Err(fail(format!("it is {dtype} of shape {shape:?}")));
    }
    let step: i64 = step.to_scalar()?;
    u32::try_from(step).map_err(|_| fail(format!("it is {step}")))
}

fn like(name: &str, moment: &Tensor, parameter: &Parameter) -> Result<Tensor> {
    let wanted = &parameter.tensor;
    if moment.dims() != wanted.dims() || moment.dtype() != wanted.dtype() {
        let describe = |t: &Tensor| format!("{} of shape {:?}", t.dtype().as_str(), t.dims());
        return Err(Error::invalid(
            name,
            format!("it is {}", describe(moment)),
            format!("the parameter is {}", describe(wanted)),
        ));
    }
    Ok(moment.to_device(wanted.device())?.copy()?)
}
