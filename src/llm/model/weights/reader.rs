//! Reading safetensors, a tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::file;
use crate::llm::files::finite::not_finite;
use crate::llm::files::json;

/// The longest header that the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// The tensors of a folder's safetensors files, by name. Nothing but headers is read before a tensor is asked for,
/// and every tensor only once.
pub struct Checkpoint {
    /// The file that names the others, or the only one.
    origin: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Place>,
}

struct Place {
    file: usize,
    begin: u64,
    bytes: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Checkpoint {
    /// `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// No such file; a shard that is missing, truncated, or does not hold what the index says.
    pub fn open(dir: &Path) -> Result<Self> {
        let (single, index) = (
            dir.join("model.safetensors"),
            dir.join("model.safetensors.index.json"),
        );
        if single.exists() {
            return Self::file(&single);
        }
        if index.exists() {
            return Self::shards(dir, index);
        }
        let mut remedy = "a model's folder holds one, or model.safetensors.index.json and shards";
        if dir.join("pytorch_model.bin").exists()
            || dir.join("pytorch_model.bin.index.json").exists()
        {
            remedy = "pytorch_model.bin is a pickle, which is not read: save it again with \
                      transformers' `save_pretrained`, which writes safetensors";
        }
        let place = single.display().to_string();
        Err(Error::invalid(place, "there is no such file", remedy))
    }

    /// One file.
    ///
    /// # Errors
    /// A file that is missing, truncated or broken.
    pub fn file(path: &Path) -> Result<Self> {
        let mut checkpoint = Self {
            origin: path.into(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for (name, place) in checkpoint.add(path)? {
            checkpoint.tensors.insert(name, place);
        }
        Ok(checkpoint)
    }

    /// Paths of its files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
    }

    fn shards(dir: &Path, index: PathBuf) -> Result<Self> {
        let wrong = |place: &str, problem: String, remedy: &str| {
            let place = format!("{}: {place}", index.display());
            Error::invalid(place, problem, remedy)
        };
        let object = json::read(&index)?;
        let Some(Value::Object(map)) = object.get("weight_map") else {
            let problem = "it is not an object".into();
            return Err(wrong("weight_map", problem, "it must map tensors to files"));
        };
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, file) in map {
            let plain = |f: &&str| {
                let mut parts = Path::new(f).components();
                matches!(
                    (parts.next(), parts.next()),
                    (Some(Component::Normal(_)), None)
                )
            };
            let file = (file.as_str().filter(plain)).ok_or_else(|| {
                let place = format!("weight_map.{tensor}");
                wrong(&place, format!("it is {file}"), "name a file of the folder")
            })?;
            shards.entry(file).or_default().push(tensor);
        }
        let mut checkpoint = Self {
            origin: index.clone(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for (shard, names) in shards {
            let path = dir.join(shard);
            if !path.exists() {
                let problem = format!("the shard {} is missing", path.display());
                let remedy = "fetch the whole folder again";
                return Err(wrong("weight_map", problem, remedy));
            }
            let mut found = checkpoint.add(&path)?;
            for name in names {
                let place = found.remove(name).ok_or_else(|| {
                    let problem = format!("{} does not hold {name}", path.display());
                    wrong("weight_map", problem, "fetch the whole folder again")
                })?;
                checkpoint.tensors.insert(name.into(), place);
            }
            if let Some(name) = found.keys().next() {
                let problem = format!("{} holds {name}, which is not listed", path.display());
                return Err(wrong("weight_map", problem, "index and shards must agree"));
            }
        }
        Ok(checkpoint)
    }

    /// Opens a file and reads its header.
    fn add(&mut self, path: &Path) -> Result<BTreeMap<String, Place>> {
        let mut file = file::open(path)?;
        let there = file.metadata().map_err(Error::io(path, "read"))?.len();
        let truncated = |wanted: u64| {
            let problem = format!("it has {there} bytes, and its header promises {wanted}");
            let remedy = "the file is not whole: fetch or save it again";
            Error::invalid(path.display().to_string(), problem, remedy)
        };
        let mut length = [0; 8];
        if there < 8 {
            return Err(truncated(8));
        }
        file.read_exact(&mut length)
            .map_err(Error::io(path, "read"))?;
        let length = u64::from_le_bytes(length);
        let broken = |message: String| Error::Format {
            origin: path.display().to_string(),
            message,
            remedy: "it must be a safetensors file; fetch or save it again".into(),
        };
        if length > LONGEST_HEADER {
            return Err(broken(format!("its header would have {length} bytes")));
        }
        if there < 8 + length {
            return Err(truncated(8 + length));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)
            .map_err(Error::io(path, "read"))?;
        let header = std::str::from_utf8(&header).map_err(|e| broken(e.to_string()))?;
        // Of two tensors of one name nobody knows which is meant.
        let header: Metadata = file::json::from_str(header).map_err(|e| broken(e.to_string()))?;
        let wanted = (8 + length).saturating_add(header.data_len() as u64);
        if there != wanted {
            return Err(truncated(wanted));
        }
        let index = self.files.len();
        self.files.push((path.into(), file));
        let place = |info: &safetensors::tensor::TensorInfo| Place {
            file: index,
            begin: 8 + length + info.data_offsets.0 as u64,
            bytes: info.data_offsets.1 - info.data_offsets.0,
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        let tensors = header.tensors().into_iter();
        Ok(tensors.map(|(name, info)| (name, place(info))).collect())
    }

    /// The file that names the others, or the only one.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The precision of the widest tensor that is not yet taken; f32 if none is of floats.
    pub fn precision(&self) -> DType {
        let of = |place: &Place| float(place.dtype);
        let widest = (self.tensors.values())
            .filter_map(of)
            .max_by_key(DType::size_in_bytes);
        widest.unwrap_or(DType::F32)
    }

    /// True if there is a tensor of that name, not yet taken.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Takes a tensor out, as it is stored, on the CPU.
    ///
    /// # Errors
    /// A tensor that is not there, of another shape, or not of finite floats; a file that cannot be
    /// read.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(place) = self.tensors.remove(name) else {
            return Err(Error::invalid(
                self.origin.display().to_string(),
                format!("there is no tensor {name}"),
                format!("the configuration asks for it, of shape {shape:?}"),
            ));
        };
        let (path, file) = &mut self.files[place.file];
        let at = || format!("{}: {name}", path.display());
        if place.shape != shape {
            let problem = format!("its shape is {:?}", place.shape);
            let remedy = format!("the configuration asks for {shape:?}");
            return Err(Error::invalid(at(), problem, remedy));
        }
        let Some(dtype) = float(place.dtype) else {
            let problem = format!("its numbers are {:?}", place.dtype);
            let remedy = "supported are F64, F32, F16 and BF16";
            return Err(Error::invalid(at(), problem, remedy));
        };
        let mut bytes = vec![0; place.bytes];
        (file.seek(SeekFrom::Start(place.begin)))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io(&path, "read"))?;
        let broken = not_finite(&bytes, dtype);
        if broken > 0 {
            let of: usize = shape.iter().product();
            let problem = format!("{broken} of its {of} numbers are not finite");
            let remedy = "what wrote it went wrong, or the file is damaged: use an earlier checkpoint, or \
                          fetch it again";
            let place = format!("{}: {name}", path.display());
            return Err(Error::invalid(place, problem, remedy));
        }
        Ok(Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?)
    }

    /// Forgets the tensors that are not needed.
    pub fn forget(&mut self, needless: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| !needless(name));
    }

    /// Checks that every tensor has been taken.
    ///
    /// # Errors
    /// If not: the configuration would not describe the model.
    pub fn all_taken(&self) -> Result<()> {
        let Some((name, place)) = self.tensors.first_key_value() else {
            return Ok(());
        };
        let (path, _) = &self.files[place.file];
        let more = match self.tensors.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        Err(Error::invalid(
            format!("{}: {name}", path.display()),
            format!("the configuration has no use for it{more}"),
            "check that config.json belongs to these weights",
        ))
    }
}

/// candle's name of a precision of floats.
fn float(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}
