//! A block's weights, laid out.

use candle_core::Tensor;

use crate::error::Result;
use crate::llm::model::architecture::{self, Architecture};
use crate::llm::model::decoder::{Dense, Layer};
use crate::llm::model::graph;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::panels::Panels;
use crate::llm::tensor::ops::simd::vectorised;
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::ops::{layer_norm, pointwise, rms_norm};

/// A normalisation's weights.
pub(super) struct Norm<T> {
    kind: architecture::Norm,
    epsilon: T,
    /// The offset added.
    weight: Vec<T>,
    bias: Vec<T>,
}

impl<T: Float> Norm<T> {
    /// # Errors
    /// Numbers that are not on the CPU.
    pub fn new(a: &Architecture, dense: Dense) -> Result<Self> {
        let offset = match a.norm {
            architecture::Norm::Rms { offset } => T::of(offset),
            architecture::Norm::Layer => T::zero(),
        };
        let bias = match &dense.bias {
            Some(bias) => Slice::<T>::new(&bias.contiguous()?)?.to_vec(),
            None => Vec::new(),
        };
        let weight = dense.weight.contiguous()?;
        let weight = Slice::<T>::new(&weight)?;
        Ok(Self {
            kind: a.norm,
            epsilon: T::of(a.epsilon),
            weight: weight.iter().map(|&w| w + offset).collect(),
            bias,
        })
    }

    /// A norm of a graph.
    ///
    /// # Errors
    /// Numbers that are not on the CPU.
    pub fn of(norm: &graph::Norm, weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let numbers = |tensor: Tensor| -> Result<Vec<T>> {
            Ok(Slice::<T>::new(&tensor.contiguous()?)?.to_vec())
        };
        let offset = T::of(norm.offset);
        Ok(Self {
            kind: if bias.is_some() {
                architecture::Norm::Layer
            } else {
                architecture::Norm::Rms {
                    offset: norm.offset,
                }
            },
            epsilon: T::of(norm.epsilon),
            weight: numbers(weight)?.into_iter().map(|w| w + offset).collect(),
            bias: bias.map_or(Ok(Vec::new()), numbers)?,
        })
    }

    /// Normalises every run of as many numbers as it has weights, from `x` into `out`.
    pub fn rows(&self, x: &[T], out: &mut Vec<T>) {
        let width = self.weight.len();
        out.resize(x.len(), T::zero());
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in rows(out, width).zip(x.chunks_exact(width)) {
                    match self.kind {
                        architecture::Norm::Rms { .. } => {
                            rms_norm::forward(out, x, &self.weight, self.epsilon);
                        }
                        architecture::Norm::Layer => {
                            layer_norm::forward(out, x, &self.weight, &self.bias, self.epsilon);
                        }
                    }
                }
            },
        );
    }
}

/// A block's weights.
pub(super) struct Block<T> {
    pub attention_norm: Norm<T>,
    pub qkv: Panels<T>,
    pub output: Panels<T>,
    pub mlp_norm: Norm<T>,
    /// The gate's outputs first, if there is one.
    pub up: Panels<T>,
    pub down: Panels<T>,
}

impl<T: Float> Block<T> {
    /// # Errors
    /// Numbers that are not on the CPU.
    pub fn new(a: &Architecture, layer: Layer) -> Result<Self> {
        let Layer {
            attention_norm,
            qkv,
            output,
            mlp_norm,
            gate,
            up,
            down,
        } = layer;
        let ups: Vec<Dense> = gate.into_iter().chain([up]).collect();
        Ok(Self {
            attention_norm: Norm::new(a, attention_norm)?,
            qkv: panels(a.width, &qkv)?,
            output: panels(a.heads * a.head_dim, &[output])?,
            mlp_norm: Norm::new(a, mlp_norm)?,
            up: panels(a.width, &ups)?,
            down: panels(a.intermediate, &[down])?,
        })
    }

    /// Bytes of its matrices.
    pub fn bytes(&self) -> usize {
        let all = [&self.qkv, &self.output, &self.up, &self.down];
        all.iter().map(|panels| panels.bytes()).sum()
    }

    /// `f(gate) up` or `f(up)` of every row of `x`.
    pub fn activate(&self, a: &Architecture, x: &[T], out: &mut Vec<T>) {
        let (stride, inner) = (self.up.stride(), a.intermediate);
        out.resize(x.len() / stride * inner, T::zero());
        for (out, x) in rows(out, inner).zip(x.chunks_exact(stride)) {
            if a.gated {
                pointwise::gate(a.activation, out, &x[..inner], &x[inner..2 * inner])
            } else {
                pointwise::activate(a.activation, out, &x[..inner])
            }
        }
    }
}

/// Rows of that width, to change.
#[inline(always)]
pub(super) fn rows<T>(numbers: &mut [T], width: usize) -> impl Iterator<Item = &mut [T]> {
    numbers.chunks_exact_mut(width)
}

pub(super) fn panels<T: Float>(inputs: usize, layers: &[Dense]) -> Result<Panels<T>> {
    let whole: Vec<(Tensor, Option<Tensor>)> = (layers.iter())
        .map(|layer| {
            let bias = layer.bias.as_ref().map(Tensor::contiguous).transpose()?;
            Ok((layer.weight.contiguous()?, bias))
        })
        .collect::<Result<_>>()?;
    let slices: Vec<(Slice<T>, Option<Slice<T>>)> = (whole.iter())
        .map(|(weight, bias)| {
            let bias = bias.as_ref().map(Slice::new).transpose()?;
            Ok((Slice::new(weight)?, bias))
        })
        .collect::<Result<_>>()?;
    let each: Vec<(&[T], Option<&[T]>)> = (slices.iter())
        .map(|(weight, bias)| (&**weight, bias.as_deref()))
        .collect();
    Ok(Panels::new(inputs, &each))
}
