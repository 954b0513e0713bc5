//! Files that rewards read, for the identity of the results that depend on them.

use std::env;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{CommandSettings, Line, Rule, Specification};
use crate::error::Result;
use crate::llm::model::identity::Identity;
use crate::llm::model::model_folder::ModelFolder;

impl Specification {
    /// Adds to an identity, under `name`, what the rewards are and every file that they read: lexicons,
    /// models, tokenizers; of a command its program, those of its words that name files, and `depends`.
    /// Returns a sentence for every command, whose other reads no hash covers.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn identify(
        &self,
        into: &mut Identity,
        name: &str,
        depends: &[PathBuf],
    ) -> Result<Vec<String>> {
        let parts: Vec<_> = (self.0.iter())
            .map(|part| json!([part.name, part.weight, part.rule]))
            .collect();
        into.value(name, &parts)?;
        let mut uncovered = Vec::new();
        for part in &self.0 {
            let place = format!("{name}/{}", part.name);
            match &part.rule {
                Rule::Exact(_) | Rule::Regex(_) => {}
                Rule::Length(settings) => texts(into, &place, settings.tokenizer.as_deref())?,
                Rule::Words(settings) => texts(into, &place, settings.tokenizer.as_deref())?,
                Rule::Lexicon(settings) => {
                    if let Some(file) = &settings.file {
                        into.file(format!("{place}/{}", file.display()), file)?;
                    }
                }
                Rule::Model(settings) => {
                    let model = settings.find()?;
                    into.network(&place, &model)?;
                    into.texts(&place, &model)?;
                }
                Rule::Command(settings) => {
                    for file in files(settings) {
                        into.file(format!("{place}/{}", file.display()), &file)?;
                    }
                    uncovered.push(format!(
                        "reward `{}`: what the command reads besides its program, the files that it \
                         names and --depends is not looked at when the run is gone on with",
                        part.name
                    ));
                }
            }
        }
        for file in depends {
            into.file(format!("depends/{}", file.display()), file)?;
        }
        Ok(uncovered)
    }
}

fn texts(into: &mut Identity, place: &str, folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else {
        return Ok(());
    };
    if ModelFolder::is_tokenizer(folder) {
        into.companions(place, folder)
    } else {
        into.texts(place, &ModelFolder::find(folder)?)
    }
}

/// The program of a command, as the system finds it, and its words that are files.
fn files(settings: &CommandSettings) -> Vec<PathBuf> {
    let words: Vec<&str> = match &settings.command {
        Line::Shell(line) => (line.split_whitespace())
            .map(|word| word.trim_matches(['"', '\'', ';', '(', ')', '<', '>']))
            .collect(),
        Line::Program(words) => words.iter().map(String::as_str).collect(),
    };
    let program = (words.first())
        .filter(|word| !word.contains('/'))
        .and_then(|word| {
            let paths = env::var_os("PATH")?;
            env::split_paths(&paths)
                .map(|dir| dir.join(word))
                .find(|path| path.is_file())
        });
    let mut files: Vec<PathBuf> = (words.iter().map(PathBuf::from))
        .filter(|path| path.is_file())
        .chain(program)
        .collect();
    files.sort();
    files.dedup();
    files
}
