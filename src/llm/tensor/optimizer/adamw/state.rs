//! State of AdamW, as named tensors.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::{AdamW, Moments, is_coarse, precision};
use crate::error::{Error, Result};
use crate::llm::tensor::parameters::{Parameter, Parameters};
use crate::llm::tensor::same;

/// Names of the parts of a parameter's state, PyTorch's.
const PARTS: [&str; 3] = ["step", "exp_avg", "exp_avg_sq"];

/// Name of the f32 weight that a bf16 or f16 one is rounded from.
const MASTER: &str = "master";

impl AdamW {
    /// The state, for a checkpoint: `NAME.step` (a whole number), `NAME.exp_avg` and
    /// `NAME.exp_avg_sq` of every parameter that took a step, and of bf16 and f16 ones the f32
    /// `NAME.master`. The tensors share the memory that the next step changes.
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
            let master = moments.master.iter().cloned();
            state.extend(master.map(|tensor| (format!("{name}.{MASTER}"), tensor)));
        }
        Ok(state)
    }

    /// Takes up a state that [`state`](Self::state) gave, exactly.
    ///
    /// # Errors
    /// A tensor that belongs to no parameter, has another shape or precision, or lacks its
    /// siblings; a master weight that is not the one which the parameter was rounded from.
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
                    master: master(parameter, &mut state)?,
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

/// The master weight, where the parameter's precision asks for one.
fn master(parameter: &Parameter, state: &mut HashMap<String, Tensor>) -> Result<Option<Tensor>> {
    let name = format!("{}.{MASTER}", parameter.name);
    let dtype = parameter.tensor.dtype();
    let fail = |problem: String, remedy: &str| Err(Error::invalid(&name, problem, remedy));
    let same_dtype = "resume with the dtype that the run had";
    match (state.remove(&name), is_coarse(dtype)) {
        (None, false) => Ok(None),
        (Some(_), false) => {
            let problem = format!(
                "the optimiser's state has a master weight, and the parameter is {}",
                dtype.as_str()
            );
            fail(problem, same_dtype)
        }
        (None, true) => {
            let problem = "it is missing from the optimiser's state".into();
            fail(problem, same_dtype)
        }
        (Some(master), true) => {
            let master = like(&name, &master, parameter)?;
            if !same(&master, &parameter.tensor)? {
                let problem = format!("rounded to {} it is not the weight", dtype.as_str());
                let remedy = "model and optimiser must be those of one checkpoint: fetch it again";
                return fail(problem, remedy);
            }
            Ok(Some(master))
        }
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

fn like(name: &str, found: &Tensor, parameter: &Parameter) -> Result<Tensor> {
    let theta = &parameter.tensor;
    let wanted = precision(theta.dtype());
    if found.dims() != theta.dims() || found.dtype() != wanted {
        let describe =
            |t: &Tensor, dtype: DType| format!("{} of shape {:?}", dtype.as_str(), t.dims());
        return Err(Error::invalid(
            name,
            format!("it is {}", describe(found, found.dtype())),
            format!("of that parameter it is {}", describe(theta, wanted)),
        ));
    }
    Ok(found.to_device(theta.device())?.copy()?)
}
