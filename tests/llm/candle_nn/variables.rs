//! Named variables, which theirs makes up where ours refuses.

use std::fs;

use candle_core::safetensors::{load, save};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder, VarMap, linear_no_bias};
use pistar::llm::model::decoder::Decoder;
use tempfile::TempDir;

use crate::fixtures::{folder, numbers};
use crate::optimizer::store;

/// A name that is misspelt.
#[test]
fn a_name_that_is_not_there() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
    linear_no_bias(4, 3, builder.pp("q_proj")).unwrap();
    let made = linear_no_bias(4, 3, builder.pp("q_porj")).unwrap();
    assert_eq!(map.all_vars().len(), 2);
    assert!(numbers(made.weight()).iter().all(|&x| x != 0.0));

    let (mut parameters, _) = store(DType::F64, &[("q_proj.weight", &[3, 4], vec![0.0; 12])]);
    let error = parameters.set("q_porj.weight", made.weight()).unwrap_err();
    assert!(error.to_string().contains("no such parameter"), "{error}");
    assert_eq!(parameters.len(), 1);
}

/// A file with a tensor more than what was asked for.
#[test]
fn what_is_left_of_a_file() {
    let (mut map, place) = (VarMap::new(), TempDir::new().unwrap());
    let path = place.path().join("model.safetensors");
    let mut tensors = load(folder("llama").join("model.safetensors"), &Device::Cpu).unwrap();
    for (name, tensor) in &tensors {
        let (shape, dtype) = (tensor.shape(), tensor.dtype());
        map.get(shape, name, Init::Const(0.5), dtype, &Device::Cpu)
            .unwrap();
    }
    let more = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    tensors.insert("model.layers.2.more".into(), more);
    save(&tensors, &path).unwrap();
    map.load(&path).unwrap();
    assert_eq!(map.all_vars().len() + 1, tensors.len());

    fs::copy(
        folder("llama").join("config.json"),
        place.path().join("config.json"),
    )
    .unwrap();
    let error = Decoder::load(place.path(), DType::F32, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("layers.2.more"), "{error}");
}
