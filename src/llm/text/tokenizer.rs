//! Text to tokens and back: `tokenizer.json` through the `tokenizers` crate.

mod added;
mod growth;
mod of_model;
mod special;

use std::ops::Range;
use std::path::{Path, PathBuf};

use self::special::Special;
use crate::error::{Error, Result};
use crate::file;
use crate::llm::files::quiet;

/// A model's tokenizer and its special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    bos: Option<u32>,
    ends: Vec<u32>,
    pad: Option<u32>,
    begins: bool,
    /// The last token that a file beside `tokenizer.json` adds, and that file.
    latest: Option<(u32, String)>,
}

impl Tokenizer {
    /// The tokenizer of a model's folder.
    ///
    /// Special tokens are those of `tokenizer_config.json`, else of `special_tokens_map.json` (which
    /// comes first where the former has no `added_tokens_decoder`), `config.json`,
    /// `generation_config.json`, in that order. Tokens that only the first two or
    /// `added_tokens.json` know are added as `transformers` adds them. Truncation and padding that
    /// `tokenizer.json` may ask for are switched off: nothing shortens a text without a word.
    ///
    /// # Errors
    /// A file that is missing or broken, a special token that the vocabulary does not have, or an
    /// added one that would get another number than its file says.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let path = dir.join("tokenizer.json");
        let text = file::read(&path)?;
        let failed = |e: tokenizers::Error| Error::Format {
            origin: path.display().to_string(),
            message: e.to_string(),
            remedy: "save it again with transformers' `save_pretrained`".into(),
        };
        file::json::keys(&text).map_err(|e| failed(e.into()))?;
        growth::bounded(&text).map_err(failed)?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(text)).map_err(failed)?;
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        let special = Special::read(dir)?;
        let latest = added::add(&mut inner, &special)?;
        let bos = special.tokens("bos", &inner)?.first().copied();
        let pad = special.tokens("pad", &inner)?.first().copied();
        let ends = special.tokens("eos", &inner)?;
        let empty = guarded(|| inner.encode("", true)).map_err(failed)?;
        let begins = bos.is_some() && empty.get_ids().first().copied() == bos;
        Ok(Self {
            inner,
            path,
            bos,
            ends,
            pad,
            begins,
            latest,
        })
    }

    /// The tokens of a text, and no others: neither BOS nor EOS is added. What looks like a
    /// special token in the text becomes that token.
    ///
    /// # Errors
    /// A text that the tokenizer cannot take.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(|| self.inner.encode_fast(text, false));
        Ok(encoding.map_err(|e| self.failed(&e))?.get_ids().to_vec())
    }

    /// [`encode`](Self::encode), with the bytes of the text that each token stands for.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = guarded(|| self.inner.encode(text, false)).map_err(|e| self.failed(&e))?;
        let offsets = encoding.get_offsets().iter().map(|&(a, b)| a..b).collect();
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// [`encode`](Self::encode), begun with BOS where the model expects it: where its tokenizer
    /// adds it by itself, and the text does not already begin with it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text)?;
        if let (true, Some(bos)) = (self.begins, self.bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text of tokens, special ones included.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot join.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, false)).map_err(|e| self.failed(&e))
    }

    /// The text of tokens without the special ones.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_text(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, true)).map_err(|e| self.failed(&e))
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// True if the model expects texts to begin with BOS: its tokenizer adds it by itself.
    pub fn begins_with_bos(&self) -> bool {
        self.begins
    }

    /// The token that ends a completion: the tokenizer's own, if it has one.
    pub fn eos(&self) -> Option<u32> {
        self.ends.first().copied()
    }

    /// Every token that ends a completion, [`eos`](Self::eos) first.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The token that fills.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// One more than the highest token, added ones included.
    pub fn vocabulary(&self) -> usize {
        let highest = self.inner.get_vocab(true).into_values().max();
        highest.map_or(0, |id| id as usize + 1)
    }

    /// The token written so, such as `<|im_end|>`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// Spelling of a token, `▁a` or `<|im_end|>`.
    pub fn piece(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// The folder that it was read from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Checks that every token has a row in an embedding of that many. (An embedding may have more, many are rounded
    /// up.)
    ///
    /// # Errors
    /// If not.
    pub fn fits(&self, rows: usize) -> Result<()> {
        if self.vocabulary() <= rows {
            return Ok(());
        }
        if let Some((token, place)) = &self.latest
            && *token as usize >= rows
        {
            let text = self.piece(*token).unwrap_or_default();
            return Err(Error::invalid(
                place,
                format!("it adds `{text}` as token {token}"),
                format!("the model's embedding has {rows} rows: add rows for it, or remove it"),
            ));
        }
        Err(Error::invalid(
            self.path.display().to_string(),
            format!("its tokens go up to {}", self.vocabulary() - 1),
            format!("the model's embedding has {rows} rows (`vocab_size`); use its own tokenizer"),
        ))
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::Format {
            origin: self.path.display().to_string(),
            message: error.to_string(),
            remedy: "use the tokenizer that the model was trained with".into(),
        }
    }
}

/// What the library gives; it panics on some files that are broken inside.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    quiet::catch(run).unwrap_or_else(|| Err("it is broken inside".into()))
}
