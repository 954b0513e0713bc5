//! Batches of tokens from a file of JSON.

use anyhow::{Context, Result, bail};
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::batch::TextBatch;
use serde::Deserialize;

#[derive(Deserialize)]
struct Batch {
    sequences: Vec<Vec<u32>>,
    prompts: Vec<usize>,
    #[serde(default)]
    log_reference: Vec<f64>,
}

/// The batches of a file, for `dpo` or `sft`.
pub fn read(path: &str, objective: &str) -> Result<Vec<TextBatch>> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_string())?;
    let batches: Vec<Batch> = serde_json::from_str(&text).with_context(|| path.to_string())?;
    if batches.is_empty() {
        bail!("{path} has no batch");
    }
    batches.iter().map(|batch| batch.text(objective)).collect()
}

impl Batch {
    /// The first half of the sequences chosen, the second rejected; or all of them, each weighted
    /// by one over the number of predicted tokens.
    fn text(&self, objective: &str) -> Result<TextBatch> {
        let sequences = (self.sequences.iter().zip(&self.prompts))
            .map(|(tokens, &prompt)| Sequence::new(tokens.clone(), prompt))
            .collect::<pistar::Result<Vec<_>>>()?;
        let count = sequences.len() as u32;
        let predicted: usize = sequences.iter().map(|s| s.completion().len()).sum();
        let (slots, weight) = match objective {
            "dpo" => (
                [(0..count / 2).collect(), (count / 2..count).collect()],
                2.0 / f64::from(count),
            ),
            "sft" => ([(0..count).collect(), Vec::new()], 1.0 / predicted as f64),
            other => bail!("--objective {other}: give dpo or sft"),
        };
        let places = slots.each_ref().map(Vec::len);
        Ok(TextBatch {
            log_reference: if self.log_reference.is_empty() {
                vec![0.0; sequences.len()]
            } else {
                self.log_reference.clone()
            },
            sequences,
            reward: places.map(|n| vec![0.0; n]),
            held: vec![0.0; places[0]],
            weight: vec![weight; places[0]],
            slots,
            ..TextBatch::default()
        })
    }
}
