//! Identity of a result: a hash of every file that it was computed from.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::heads::ScalarHead;
use super::model_folder::ModelFolder;
use super::saving::COMPANIONS;
use super::{lora, weights};
use crate::error::{Error, Result};
use crate::file;
use crate::llm::files::hash::{canonical, hex, of_bytes};

/// Names of what was read, such as `data` or `model/config.json`, each with its SHA-256.
///
/// Files of JSON are hashed in canonical form: keys sorted, no blanks. A run, a sweep, a study and a
/// cache are the same where this is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(BTreeMap<String, String>);

impl Identity {
    /// Adds a hash.
    pub fn hash(&mut self, name: impl Into<String>, hash: impl Into<String>) {
        self.0.insert(name.into(), hash.into());
    }

    /// Adds a value, by its JSON in canonical form.
    ///
    /// # Errors
    /// A value that is no JSON.
    pub fn value(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|e| Error::Format {
            origin: name.into(),
            message: e.to_string(),
            remedy: "use finite numbers and paths in UTF-8".into(),
        })?;
        self.hash(name, of_value(value));
        Ok(())
    }

    /// Adds a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn file(&mut self, name: impl Into<String>, path: &Path) -> Result<()> {
        self.hash(name, of_file(path)?);
        Ok(())
    }

    /// Adds what a model's numbers are made of, under `name/`: configuration and weights, those of an
    /// adapter and of a head beside it too.
    ///
    /// # Errors
    /// A file that cannot be read, or no weights.
    pub fn network(&mut self, name: &str, model: &ModelFolder) -> Result<()> {
        if let Some(adapter) = model.adapter() {
            for file in [lora::CONFIG, lora::WEIGHTS] {
                self.file(format!("{name}/{file}"), &adapter.join(file))?;
            }
        }
        let folder = model.weights();
        self.file(format!("{name}/config.json"), &folder.join("config.json"))?;
        self.weights(name, folder)?;
        for folder in ScalarHead::ALL.into_iter().filter_map(ScalarHead::folder) {
            let head = model.folder.join(folder);
            if head.is_dir() {
                self.weights(&format!("{name}/{folder}"), &head)?;
            }
        }
        Ok(())
    }

    fn weights(&mut self, name: &str, folder: &Path) -> Result<()> {
        for path in weights::files(folder)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            self.file(format!("{name}/{file}"), &path)?;
        }
        Ok(())
    }

    /// Adds what a model's folder says of texts, under `name/`: tokenizer, chat template and generation
    /// settings.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn texts(&mut self, name: &str, model: &ModelFolder) -> Result<()> {
        self.companions(name, model.tokenizer_folder())
    }

    /// [`texts`](Self::texts) of a folder that may hold nothing else.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn companions(&mut self, name: &str, folder: &Path) -> Result<()> {
        for file in COMPANIONS {
            let path = folder.join(file);
            if path.exists() {
                self.file(format!("{name}/{file}"), &path)?;
            }
        }
        Ok(())
    }

    /// The hash of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One hash of all.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, of) in &self.0 {
            hash.update(format!("{} {name}{of}\n", name.len()));
        }
        hex(hash)
    }

    /// Refuses what is not the same as it was when a run or a study was begun; `remedy` says what is to
    /// be done.
    ///
    /// # Errors
    /// The names of all that differs, each with both hashes.
    pub fn same(&self, begun: &Self, remedy: &str) -> Result<()> {
        let names: std::collections::BTreeSet<&String> =
            self.0.keys().chain(begun.0.keys()).collect();
        let differ: Vec<&str> = (names.into_iter())
            .filter(|name| self.get(name) != begun.get(name))
            .map(String::as_str)
            .collect();
        if differ.is_empty() {
            return Ok(());
        }
        let said = |name: &&str| {
            let [old, new] = [begun, self].map(|of| of.get(name).unwrap_or("none"));
            format!("the SHA-256 of `{name}` was {old} at the beginning and is {new}")
        };
        let said: Vec<String> = differ.iter().map(said).collect();
        Err(Error::invalid(differ.join(", "), said.join("; "), remedy))
    }
}

fn of_value(value: Value) -> String {
    hex(Sha256::new_with_prefix(canonical(value)))
}

/// Hashes of files that this process has read, by what the system says of them: many runs of a sweep
/// begin with the same weights.
static KNOWN: Mutex<Option<HashMap<Known, String>>> = Mutex::new(None);

/// A file, its length and when it was changed.
type Known = (PathBuf, u64, Option<SystemTime>);

/// SHA-256 of a file; of JSON in canonical form.
///
/// # Errors
/// If it cannot be read.
pub fn of_file(path: &Path) -> Result<String> {
    let about = fs::metadata(path).map_err(Error::io(path, "read"))?;
    let real = path.canonicalize().map_err(Error::io(path, "read"))?;
    let known = (real, about.len(), about.modified().ok());
    let mut table = KNOWN
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let table = table.get_or_insert_default();
    if let Some(hash) = table.get(&known) {
        return Ok(hash.clone());
    }
    let json = path.extension().is_some_and(|e| e == "json");
    let parsed = if json {
        (file::read(path).ok()).and_then(|text| file::json::value(&text).ok())
    } else {
        None
    };
    let hash = match parsed {
        Some(value) => of_value(value),
        None => of_bytes(path)?,
    };
    table.insert(known, hash.clone());
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is written again is read again; one of JSON is the same in another form.
    #[test]
    fn files_are_known_by_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let hash = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            of_file(&path).unwrap()
        };
        assert_eq!(
            hash("a.json", r#"{"a": 1, "b": 2}"#),
            hash("b.json", r#"{"b":2,"a":1}"#)
        );
        assert_ne!(
            hash("a.json", r#"{"a": 1, "b": 2}"#),
            hash("b.json", r#"{"a":2,"b":1}"#)
        );
        assert_ne!(hash("a.txt", "one"), hash("a.txt", "three"));
        // SHA-256 of "abc", as its standard has it.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc", "abc"), known);
    }

    #[test]
    fn all_that_differs_is_named() {
        let mut begun = Identity::default();
        for name in ["data", "model/config.json", "reference/config.json"] {
            begun.value(name, &name).unwrap();
        }
        assert!(begun.same(&begun.clone(), "").is_ok());
        let mut now = begun.clone();
        now.0.remove("reference/config.json");
        now.value("data", &"other").unwrap();
        now.value("eval_data", &"new").unwrap();
        let said = now.same(&begun, "put it back").unwrap_err().to_string();
        assert!(
            said.starts_with("data, eval_data, reference/config.json: "),
            "{said}"
        );
        assert!(said.contains(begun.get("data").unwrap()) && said.ends_with("put it back"));
        assert_ne!(now.digest(), begun.digest());
    }
}
