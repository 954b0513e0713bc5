//! A decoder from named weights.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::Decoder;
use super::rope::Rotary;
use crate::error::{Error, Result};
use crate::llm::model::architecture::Architecture;
use crate::llm::model::config::Config;
use crate::llm::model::graph::{Declared, Graph, Place};
use crate::llm::tensor::parameters::Parameters;

/// Source of weights: a name and a shape to numbers.
pub type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Tensor> + 'a;

impl Decoder {
    /// A plain decoder whose weights come from `source`, under Llama's names.
    ///
    /// # Errors
    /// Those of `source`, a shape that is not the one asked for, or a failing device.
    pub fn new(
        architecture: Architecture,
        dtype: DType,
        device: &Device,
        source: &mut Source,
    ) -> Result<Self> {
        let graph = Arc::new(architecture.graph());
        Self::build(graph, true, dtype, device, &mut |weight| {
            source(&weight.name, &weight.shape)
        })
    }

    /// The model of a configuration whose weights come from `source`, under Llama's names.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_config(
        config: Config,
        dtype: DType,
        device: &Device,
        source: &mut Source,
    ) -> Result<Self> {
        let graph = config.graph.clone();
        let mut decoder = Self::build(graph, true, dtype, device, &mut |weight| {
            source(&weight.name, &weight.shape)
        })?;
        decoder.config = Some(config);
        Ok(decoder)
    }

    /// A decoder of that graph, with its output head or without.
    pub(crate) fn build(
        graph: Arc<Graph>,
        with_head: bool,
        dtype: DType,
        device: &Device,
        source: &mut dyn FnMut(&Declared) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut parameters = Parameters::new(dtype, device);
        let mut ids = vec![None; graph.weights.len()];
        for weight in graph.in_order() {
            let declared = graph.weight(weight);
            if declared.place == Place::Head && !with_head {
                continue;
            }
            let Declared { name, shape, .. } = declared;
            let tensor = source(declared)?;
            if tensor.dims() != shape {
                let problem = format!("its shape is {:?}", tensor.dims());
                let remedy = format!("the configuration asks for {shape:?}");
                return Err(Error::invalid(name, problem, remedy));
            }
            ids[weight.index()] = Some(parameters.add(name, &tensor)?);
        }
        let rotations = (graph.rotations.iter())
            .map(|rotation| Rotary::new(rotation.clone(), graph.sizes.context, dtype, device))
            .collect();
        Ok(Self {
            adapters: vec![None; graph.linears.len()],
            graph,
            parameters,
            ids,
            with_head,
            rotations,
            config: None,
            origin: None,
            adapter: None,
            recompute: false,
            temperature: 1.0,
        })
    }
}
