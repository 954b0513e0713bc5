//! A call's value and gradients on some device, and how far two such are apart.

use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

use super::place::Place;
use crate::error::{Error, Result};
use crate::llm::tensor::ops::{Constant, Input, Operation};
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};
use crate::random::Stream;

/// Normal numbers of that deviation, in f64 on the CPU.
///
/// # Errors
/// A failing device.
pub fn normal(stream: &mut Stream, shape: &[usize], deviation: f64) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let numbers: Vec<f64> = (0..count)
        .map(|_| -> f64 { StandardNormal.sample(stream.rng()) })
        .map(|z| deviation * z)
        .collect();
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// Arguments of a call: inputs, the output's cotangent, what it reads besides.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Inputs, constants among them.
    pub inputs: Vec<Tensor>,
    /// Σ cotangent · output is differentiated.
    pub cotangent: Tensor,
    /// What it is not differentiated by.
    pub constants: Vec<Constant>,
}

impl Sample {
    /// Random numbers that `dtype` holds exactly, in f64 on the CPU: what is compared is then the
    /// operation, not its inputs.
    ///
    /// # Errors
    /// A failing device.
    pub fn draw(call: &dyn Operation, stream: &mut Stream, dtype: DType) -> Result<Self> {
        let inputs = (call.inputs().iter())
            .map(|input| normal(stream, &input.shape, input.deviation))
            .collect::<Result<_>>()?;
        let sample = Self {
            inputs,
            cotangent: normal(stream, &call.output(), 1.0)?,
            constants: call.constants()?,
        };
        let device = Device::Cpu;
        sample.on(&Place { dtype, device })?.on(&Place::reference())
    }

    /// The same elsewhere.
    ///
    /// # Errors
    /// A failing device.
    pub fn on(&self, place: &Place) -> Result<Self> {
        Ok(Self {
            inputs: (self.inputs.iter().map(|t| place.put(t))).collect::<Result<_>>()?,
            cotangent: place.put(&self.cotangent)?,
            constants: (self.constants.iter())
                .map(|constant| place.constant(constant))
                .collect::<Result<_>>()?,
        })
    }
}

/// A call's value and the gradient by each input.
#[derive(Debug, Clone)]
pub struct Results {
    /// The value.
    pub value: Tensor,
    /// Gradients of what is trained, in the order of inputs.
    pub gradients: Vec<Tensor>,
}

impl Results {
    /// The operation as models call it.
    ///
    /// # Errors
    /// Those of the operation, or a gradient that did not arrive.
    pub fn of(call: &dyn Operation, sample: &Sample) -> Result<Self> {
        poison(call, sample)?;
        Self::with(call, sample, |tape, x, constants| {
            call.run(tape, x, constants)
        })
    }

    /// Its twin of candle's operations.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_twin(call: &dyn Operation, sample: &Sample) -> Result<Self> {
        Self::with(call, sample, |tape, x, constants| {
            call.twin(tape, x, constants)
        })
    }

    fn with(
        call: &dyn Operation,
        sample: &Sample,
        run: impl Fn(&Tape, &[Node], &[Tensor]) -> Result<Node>,
    ) -> Result<Self> {
        let count = sample.inputs.len();
        let constants: Vec<Tensor> = (sample.constants.iter())
            .map(|constant| constant.tensor.clone())
            .collect();
        let tape = Tape::recording(count);
        let mut leaves = LeafGradients::new(count);
        let nodes = nodes(call, &tape, &sample.inputs);
        let output = run(&tape, &nodes, &constants)?;
        drop(nodes);
        let value = output.value().clone();
        let cotangent = sample.cotangent.to_dtype(value.dtype())?;
        tape.backward([(output, cotangent)], &mut leaves)?;
        let gradients = (trained(call).iter().enumerate())
            .map(|(i, input)| match leaves.get(i) {
                Some(gradient) => Ok(gradient.clone()),
                None => Err(Error::Backend {
                    backend: "tape",
                    message: format!("no gradient arrived at `{}`", input.name),
                }),
            })
            .collect::<Result<_>>()?;
        Ok(Self { value, gradients })
    }

    /// Value and gradients, with their names.
    pub fn named(&self, call: &dyn Operation) -> Vec<(String, &Tensor)> {
        let inputs = trained(call);
        let names = inputs.iter().map(|input| format!("d {}", input.name));
        let gradients = names.zip(&self.gradients);
        std::iter::once(("value".to_string(), &self.value))
            .chain(gradients)
            .collect()
    }
}

/// The inputs that a call is differentiated by: the first of all.
pub fn trained(call: &dyn Operation) -> Vec<Input> {
    let mut inputs = call.inputs();
    inputs.retain(|input| input.trained);
    inputs
}

/// Inputs on a tape.
pub fn nodes(call: &dyn Operation, tape: &Tape, inputs: &[Tensor]) -> Vec<Node> {
    let trained = trained(call).len();
    let node = |(i, input): (usize, &Tensor)| {
        if i < trained {
            tape.leaf(i, input.clone())
        } else {
            Node::constant(input.clone())
        }
    };
    inputs.iter().enumerate().map(node).collect()
}

/// Fills the memory that the outputs are likely to be made in with NaN, so that what an operation
/// leaves unwritten shows.
fn poison(call: &dyn Operation, sample: &Sample) -> Result<()> {
    let shapes = call.inputs().into_iter().map(|input| input.shape);
    let like = &sample.cotangent;
    let poisoned = (shapes.chain([call.output()]))
        .map(|shape| Ok((Tensor::ones(shape, like.dtype(), like.device())? * f64::NAN)?))
        .collect::<Result<Vec<Tensor>>>()?;
    like.device().synchronize()?;
    drop(poisoned);
    Ok(())
}

/// A tensor's numbers in f64 on the host, in order.
///
/// # Errors
/// A failing device.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let host = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(host.flatten_all()?.to_vec1()?)
}

/// `‖found − wanted‖ / ‖wanted‖`; of a zero vector 0 or infinity; NaN if a number is.
pub fn distance(found: &[f64], wanted: &[f64]) -> f64 {
    if found.len() != wanted.len() {
        return f64::NAN;
    }
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let far = norm(&mut found.iter().zip(wanted).map(|(a, b)| a - b));
    let size = norm(&mut wanted.iter().copied());
    if far == 0.0 { 0.0 } else { far / size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_keep_nan() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(distance(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert_eq!(distance(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
        assert_eq!(distance(&[1.0], &[0.0]), f64::INFINITY);
        assert!(distance(&[1.0, f64::NAN], &[1.0, 2.0]).is_nan());
        assert!(distance(&[1.0], &[1.0, 2.0]).is_nan());
    }
}
