//! AdamW (Loshchilov and Hutter 2019, as PyTorch defines it).

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{CHUNK, check_number, check_precision, updates};
use crate::error::{Error, Result};
use crate::llm::ops::float::Float;
use crate::llm::ops::simd::vectorised;
use crate::llm::ops::slice::{Slice, modify};
use crate::llm::parameters::{Parameter, Parameters};
use crate::llm::tape::LeafGradients;

/// AdamW's constants; PyTorch's by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether parameters of one axis (norms, biases) decay too.
    pub decay_vectors: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decay_vectors: true,
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                let problem = format!("it is {beta}");
                return Err(Error::invalid(name, problem, "give at least 0, below 1"));
            }
        }
        check_number("epsilon", self.epsilon)?;
        check_number("weight_decay", self.weight_decay)
    }
}

/// What is remembered of a parameter.
#[derive(Debug, Clone)]
struct Moments {
    steps: u32,
    first: Tensor,
    second: Tensor,
}

/// With `ĝ = gradient_scale · g`, in its `t`-th step:
///
/// ```text
/// θ ← (1 − lr·λ) θ
/// m ← β₁ m + (1 − β₁) ĝ        v ← β₂ v + (1 − β₂) ĝ²
/// θ ← θ − lr · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
/// ```
///
/// Moments have the parameters' precision, f32 or f64. A parameter without a gradient stays as it
/// is, and so do its moments and its `t`.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: Config,
    moments: Vec<Option<Moments>>,
}

/// Names of the parts of a parameter's state, PyTorch's.
const PARTS: [&str; 3] = ["step", "exp_avg", "exp_avg_sq"];

impl AdamW {
    /// No step taken yet.
    ///
    /// # Errors
    /// Constants out of range, or a precision other than f32 and f64.
    pub fn new(parameters: &Parameters, config: Config) -> Result<Self> {
        config.check()?;
        check_precision(parameters)?;
        let moments = vec![None; parameters.len()];
        Ok(Self { config, moments })
    }

    /// Its constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the parameters in place.
    ///
    /// # Errors
    /// A rate or scale that is negative or not finite, or a failing device.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &LeafGradients,
        lr: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        check_number("learning rate", lr)?;
        check_number("gradient scale", gradient_scale)?;
        for (index, Parameter { tensor, .. }, gradient) in updates(parameters, gradients) {
            let moments = match &mut self.moments[index] {
                Some(moments) => moments,
                none => none.insert(Moments {
                    steps: 0,
                    first: tensor.zeros_like()?,
                    second: tensor.zeros_like()?,
                }),
            };
            moments.steps = moments.steps.saturating_add(1);
            let pass = Pass::new(&self.config, tensor.rank(), moments.steps, lr);
            let gradient = gradient.contiguous()?;
            match (tensor.device(), tensor.dtype()) {
                (Device::Cpu, DType::F32) => {
                    pass.fused::<f32>(tensor, &gradient, moments, gradient_scale)?;
                }
                (Device::Cpu, DType::F64) => {
                    pass.fused::<f64>(tensor, &gradient, moments, gradient_scale)?;
                }
                _ => pass.composed(tensor, &gradient, moments, gradient_scale)?,
            }
        }
        Ok(())
    }

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

/// The factors of one step.
struct Pass {
    keep: f64,
    beta1: f64,
    beta2: f64,
    rate: f64,
    root: f64,
    epsilon: f64,
}

impl Pass {
    fn new(config: &Config, rank: usize, step: u32, lr: f64) -> Self {
        let decay = match config.decay_vectors || rank >= 2 {
            true => config.weight_decay,
            false => 0.0,
        };
        let step = f64::from(step);
        Self {
            keep: 1.0 - lr * decay,
            beta1: config.beta1,
            beta2: config.beta2,
            rate: lr / (1.0 - config.beta1.powf(step)),
            root: (1.0 - config.beta2.powf(step)).sqrt().recip(),
            epsilon: config.epsilon,
        }
    }

    /// One pass over the numbers.
    fn fused<T: Float>(
        &self,
        theta: &Tensor,
        gradient: &Tensor,
        moments: &Moments,
        scale: f64,
    ) -> Result<()> {
        let n = T::of;
        let (keep, scale, rate) = (n(self.keep), n(scale), n(self.rate));
        let (root, epsilon) = (n(self.root), n(self.epsilon));
        let (new1, new2) = (n(1.0 - self.beta1), n(1.0 - self.beta2));
        let old2 = n(self.beta2);
        let each = |p: &mut [T], m: &mut [T], v: &mut [T], g: &[T]| {
            vectorised(
                #[inline(always)]
                || {
                    let n = p.len();
                    let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
                    for i in 0..n {
                        let g = g[i] * scale;
                        m[i] += (g - m[i]) * new1;
                        v[i] = v[i] * old2 + g * g * new2;
                        p[i] = p[i] * keep - rate * m[i] / (v[i].sqrt() * root + epsilon);
                    }
                },
            );
        };
        let g = Slice::<T>::new(gradient)?;
        modify(theta, |p: &mut [T]| {
            modify(&moments.first, |m: &mut [T]| {
                modify(&moments.second, |v: &mut [T]| match p.len() <= CHUNK {
                    true => each(p, m, v, &g),
                    false => (p.par_chunks_mut(CHUNK))
                        .zip(m.par_chunks_mut(CHUNK))
                        .zip(v.par_chunks_mut(CHUNK))
                        .zip(g.par_chunks(CHUNK))
                        .for_each(|(((p, m), v), g)| each(p, m, v, g)),
                })
            })
        })??
    }

    /// The same of candle's operations.
    fn composed(
        &self,
        theta: &Tensor,
        gradient: &Tensor,
        moments: &mut Moments,
        scale: f64,
    ) -> Result<()> {
        let g = (gradient * scale)?;
        let first = ((&moments.first * self.beta1)? + (&g * (1.0 - self.beta1))?)?;
        let second = ((&moments.second * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?;
        let root = ((second.sqrt()? * self.root)? + self.epsilon)?;
        let change = ((&first * self.rate)? / root)?;
        theta.slice_set(&((theta * self.keep)? - change)?, 0, 0)?;
        (moments.first, moments.second) = (first, second);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_and_composed_agree() {
        let numbers = |seed: f64| -> Tensor {
            let numbers = (0..70).map(|i| (seed * f64::from(i)).sin());
            Tensor::from_iter(numbers, &Device::Cpu).unwrap()
        };
        let moments = || Moments {
            steps: 0,
            first: numbers(0.3),
            second: numbers(0.7).sqr().unwrap(),
        };
        let (mut a, mut b) = (moments(), moments());
        let (x, y) = (numbers(1.1), numbers(1.1));
        for step in 1..5 {
            let pass = Pass::new(&Config::default(), 1, step, 0.1);
            let gradient = numbers(f64::from(step));
            pass.fused::<f64>(&x, &gradient, &a, 0.5).unwrap();
            pass.composed(&y, &gradient, &mut b, 0.5).unwrap();
        }
        a.steps = 4;
        for (fused, composed) in [(x, y), (a.first, b.first), (a.second, b.second)] {
            let far = (fused - composed)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            assert!(far.to_scalar::<f64>().unwrap() < 1e-14);
        }
    }
}
