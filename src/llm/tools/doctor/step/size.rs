//! The model and the batch of a step that is measured.

use candle_core::Device;
use serde_json::json;

use crate::error::{Error, Result};
use crate::llm::model::config::Config;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::batch::TextBatch;
use crate::llm::tools::doctor::model::batch;
use crate::llm::tools::plan::{Piece, Response};
use crate::random::{Purpose, Stream};

/// A Llama and a batch.
pub struct Size {
    /// Name, by the number of its parameters.
    pub name: &'static str,
    /// Its configuration.
    pub config: Config,
    /// Sequences of a batch.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
}

impl Size {
    /// One that suits the device.
    ///
    /// # Errors
    /// None but those of a configuration.
    pub fn of(device: &Device, quick: bool) -> Result<Self> {
        let cpu = device.is_cpu();
        let name = match (cpu, quick) {
            (true, true) => "3M",
            (true, false) => "25M",
            (false, true) => "125M",
            (false, false) => "1B",
        };
        // Vocabulary, width, blocks, heads, key heads, width of the MLP, tokens.
        let numbers = match (cpu, quick) {
            (true, true) => [4000, 192, 4, 6, 2, 512, 64],
            (true, false) => [16_000, 384, 8, 6, 2, 1024, 128],
            (false, true) => [32_000, 768, 12, 12, 12, 2048, 1024],
            (false, false) => [32_000, 2048, 22, 32, 4, 5632, 2048],
        };
        let [
            vocabulary,
            width,
            layers,
            heads,
            kv_heads,
            intermediate,
            tokens,
        ] = numbers;
        let fields = json!({
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": width,
            "intermediate_size": intermediate,
            "max_position_embeddings": tokens,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "num_key_value_heads": kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0,
            "tie_word_embeddings": false,
            "vocab_size": vocabulary,
        });
        let serde_json::Value::Object(fields) = fields else {
            return Err(Error::invalid("config", "no object", "give an object"));
        };
        Ok(Self {
            name,
            config: Config::new(fields)?,
            sequences: 8,
            tokens,
        })
    }

    /// Given tokens of each sequence.
    fn prompt(&self) -> usize {
        self.tokens / 4
    }

    /// Pairs for DPO.
    ///
    /// # Errors
    /// None but those of a sequence.
    pub fn text(&self, seed: u64) -> Result<TextBatch> {
        let mut stream = Stream::new(seed, Purpose::Doctor, 1 << 36);
        let vocabulary = self.config.sizes().vocabulary;
        let sequences = (0..self.sequences)
            .map(|_| {
                let tokens = (0..self.tokens).map(|_| stream.below(vocabulary as u32));
                Sequence::new(tokens.collect(), self.prompt())
            })
            .collect::<Result<_>>()?;
        Ok(batch(sequences, vocabulary, &mut stream))
    }

    /// The lengths of its batch.
    pub fn piece(&self) -> Piece {
        let response = Response {
            tokens: self.tokens,
            prompt: self.prompt(),
            shares: false,
        };
        Piece {
            responses: vec![response; self.sequences],
        }
    }
}
