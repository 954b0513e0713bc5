//! An adapter merged into its base, as a whole model's folder.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};

use super::files::WEIGHTS;
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::ScalarHead;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::model::saving::{self, Saving};
use crate::llm::model::weights::Checkpoint;

/// Writes a base with its adapter added to the weights, `W + α/r · B A`, to a folder that is there
/// whole or not at all: weights in the base's precision (the sum is rounded once), configuration and
/// generation settings of the base, tokenizer of the adapter if it has one, else of the base. Heads
/// of the adapter are the model's. Returns the precision.
///
/// # Errors
/// A model without adapter; an adapter on an output head that is also the embedding; a folder that
/// holds a model already, unless `overwrite`, or anything else; one that cannot be written.
pub fn merge(found: &ModelFolder, out: &Path, overwrite: bool) -> Result<DType> {
    let (Some(adapter), base) = (found.adapter(), found.weights()) else {
        let place = found.folder.display().to_string();
        let problem = "it is a whole model: there is no adapter to merge";
        return Err(Error::invalid(place, problem, "use it as it is"));
    };
    free(out, overwrite)?;
    for read in [adapter, base] {
        apart(out, read)?;
    }
    let stored = Checkpoint::open(base)?;
    let dtype = stored.precision();
    let computed = match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let reward = ScalarHead::Reward;
    let of_base = stored.has(reward.names()[0]);
    let of_adapter = Checkpoint::file(&adapter.join(WEIGHTS))
        .is_ok_and(|weights| weights.has(&super::files::key(reward.names()[0])));
    let mut model = if of_base || of_adapter {
        Decoder::load_body(base, computed, &Device::Cpu)?
    } else {
        Decoder::load(base, computed, &Device::Cpu)?
    };
    if of_base {
        reward.load(&mut model, base)?;
    }
    let (value, expected) = (ScalarHead::Value, ScalarHead::Expected);
    if let Some(dir) = found.beside(value) {
        value.load(&mut model, dir)?;
    }
    let mut adapted = found.adapted(model)?;
    if let Some(dir) = found.holding(expected)? {
        expected.load(&mut adapted, dir)?;
    }
    let merged = adapted.merge()?;
    crate::file::write_folder(out, |dir| {
        let companions = Some(found.tokenizer_folder());
        let saving = Saving {
            dtype: Some(dtype),
            companions,
            ..Saving::default()
        };
        merged.save(dir, &saving)?;
        let (from, to) = [base, dir].map(|d| d.join(saving::GENERATION)).into();
        if from.is_file() && !to.exists() {
            fs::copy(&from, &to).map_err(Error::io(&from, "copy"))?;
        }
        Ok(())
    })?;
    Ok(dtype)
}

/// Refuses a folder in which anything is but a model that may be overwritten.
fn free(out: &Path, overwrite: bool) -> Result<()> {
    let fail = |problem: &str, remedy: &str| {
        Err(Error::invalid(
            format!("--out: {}", out.display()),
            problem,
            remedy,
        ))
    };
    if out.file_name().is_none() || out.is_file() {
        return fail("it is no name of a folder", "name a new folder");
    }
    if !out.exists() {
        return Ok(());
    }
    let mut any = false;
    for entry in fs::read_dir(out).map_err(Error::io(out, "read"))? {
        let entry = entry.map_err(Error::io(out, "read"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !saving::is_of_model(&name) || !entry.path().is_file() {
            let problem = format!("it holds `{name}`, which is not of a model");
            return fail(&problem, "choose another --out");
        }
        any = true;
    }
    if any && !overwrite {
        fail(
            "there is a model in it already",
            "pass --overwrite to replace it, or choose another --out",
        )
    } else {
        Ok(())
    }
}

/// Refuses to write where something is read.
fn apart(out: &Path, read: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    if real(out).is_some() && real(out) == real(read) {
        Err(Error::invalid(
            format!("--out: {}", out.display()),
            "the adapter or its base is read from there",
            "choose another --out",
        ))
    } else {
        Ok(())
    }
}
