//! Writing safetensors, a tensor at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::error::{Error, Result};
use crate::file::json::sorted;
use crate::file::{Sink, Staged};
use crate::llm::files::finite::{not_finite, refusal};

/// A tensor to be written, made only when its turn comes.
pub struct Item<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub tensor: Box<dyn Fn() -> Result<Tensor> + 'a>,
}

/// Names of `model` files; of adapters they differ.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Stages a model's weights: `model.safetensors`, or shards of at most `limit` bytes (or one
/// tensor) with `model.safetensors.index.json`.
///
/// # Errors
/// A precision that is not written, a number that is not finite, or a file that cannot be written.
pub fn stage(staged: &mut Staged, items: &[Item], dtype: DType, limit: u64) -> Result<Vec<String>> {
    let mut shards: Vec<(u64, Vec<&Item>)> = Vec::new();
    for item in items {
        let bytes = bytes(item, dtype);
        match shards.last_mut() {
            Some((sum, shard)) if *sum + bytes <= limit => {
                *sum += bytes;
                shard.push(item);
            }
            _ => shards.push((bytes, vec![item])),
        }
    }
    if shards.len() <= 1 {
        let all = items.iter().collect::<Vec<_>>();
        file(staged, SINGLE, &all, dtype)?;
        return Ok(vec![SINGLE.into()]);
    }
    let mut map = BTreeMap::new();
    let mut names = Vec::new();
    for (index, (_, shard)) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        file(staged, &name, shard, dtype)?;
        map.extend(shard.iter().map(|item| (item.name.clone(), name.clone())));
        names.push(name);
    }
    let total: u64 = shards.iter().map(|(bytes, _)| bytes).sum();
    let index = sorted(json!({"metadata": {"total_size": total}, "weight_map": map}));
    staged.bytes(INDEX, format!("{index:#}\n").as_bytes())?;
    names.push(INDEX.into());
    Ok(names)
}

/// Stages one file.
///
/// # Errors
/// As [`stage`].
pub fn file(staged: &mut Staged, name: &str, items: &[&Item], dtype: DType) -> Result<()> {
    let kind = match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::BF16 => "BF16",
        DType::F16 => "F16",
        other => {
            let problem = format!("weights cannot be saved in {other:?}");
            return Err(Error::invalid(
                name,
                problem,
                "choose F64, F32, F16 or BF16",
            ));
        }
    };
    let mut header = serde_json::Map::new();
    // What transformers looks for.
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for item in items {
        let begin = end;
        end += bytes(item, dtype);
        let info = json!({"dtype": kind, "shape": item.shape, "data_offsets": [begin, end]});
        header.insert(item.name.clone(), info);
    }
    let mut header = sorted(header.into()).to_string().into_bytes();
    // Numbers begin at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    staged.write(name, |file| {
        file.put(&(header.len() as u64).to_le_bytes())?;
        file.put(&header)?;
        for item in items {
            let tensor = (item.tensor)()?.to_dtype(dtype)?.to_device(&Device::Cpu)?;
            if tensor.dims() != item.shape {
                let problem = format!("its shape is {:?}, not {:?}", tensor.dims(), item.shape);
                return Err(Error::invalid(
                    &item.name,
                    problem,
                    "this is a bug of pistar",
                ));
            }
            let broken = numbers(file, &tensor)?;
            if broken > 0 {
                let place = format!("{name}: {}", item.name);
                return Err(refusal(&place, broken, tensor.elem_count()));
            }
        }
        Ok(())
    })
}

fn bytes(item: &Item, dtype: DType) -> u64 {
    (item.shape.iter().product::<usize>() * dtype.size_in_bytes()) as u64
}

/// Writes a tensor's numbers, little-endian, in the order of its last axis; says how many of them are
/// not finite.
fn numbers(file: &mut Sink, tensor: &Tensor) -> Result<usize> {
    fn all<T: Copy, const N: usize>(
        file: &mut Sink,
        numbers: &[T],
        dtype: DType,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<usize> {
        let mut broken = 0;
        let mut buffer = Vec::with_capacity(N << 16);
        for part in numbers.chunks(1 << 16) {
            buffer.clear();
            part.iter().for_each(|&x| buffer.extend(bytes(x)));
            broken += not_finite(&buffer, dtype);
            file.put(&buffer)?;
        }
        Ok(broken)
    }
    let flat = tensor.flatten_all()?;
    let dtype = flat.dtype();
    match dtype {
        DType::F64 => all(file, &flat.to_vec1()?, dtype, f64::to_le_bytes),
        DType::F32 => all(file, &flat.to_vec1()?, dtype, f32::to_le_bytes),
        DType::F16 => all(file, &f16(&flat)?, dtype, u16::to_le_bytes),
        // A bf16 is the upper half of the f32 of the same value.
        _ => {
            let wide = flat.to_dtype(DType::F32)?.to_vec1()?;
            let upper = |x: f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
            all(file, &wide, DType::BF16, upper)
        }
    }
}

/// The bits of 16-bit floats.
fn f16(flat: &Tensor) -> Result<Vec<u16>> {
    let mut bytes = Vec::with_capacity(2 * flat.elem_count());
    flat.write_bytes(&mut bytes)?;
    let (pairs, _) = bytes.as_chunks::<2>();
    Ok(pairs.iter().map(|bits| u16::from_le_bytes(*bits)).collect())
}

/// Before new weights are moved to their places: an index is removed if shards that it lists are
/// about to change, so that no mixture of old and new ever looks whole.
///
/// # Errors
/// If it cannot be removed.
pub fn before(dir: &Path, names: &[String]) -> Result<()> {
    if names.len() > 1 {
        remove(&dir.join(INDEX))
    } else {
        Ok(())
    }
}

/// After new weights are in their places: the older files that they replace are removed.
///
/// # Errors
/// If one cannot be removed.
pub fn after(dir: &Path, names: &[String]) -> Result<()> {
    let folder = fs::read_dir(dir).map_err(Error::io(dir, "read"))?;
    for entry in folder {
        let entry = entry.map_err(Error::io(dir, "read"))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // What an interrupted save left is `.NAME.part`.
        let part = (name.strip_prefix('.')).and_then(|n| n.strip_suffix(".part"));
        let stale = match part {
            Some(name) => is_weights(name),
            None => is_weights(&name) && !names.contains(&name),
        };
        if stale {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// True if a file of that name is one of weights.
pub fn is_weights(name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let shard = (name.strip_prefix("model-"))
        .and_then(|n| n.strip_suffix(".safetensors"))
        .and_then(|n| n.split_once("-of-"));
    name == SINGLE || name == INDEX || shard.is_some_and(|(i, n)| number(i) && number(n))
}
