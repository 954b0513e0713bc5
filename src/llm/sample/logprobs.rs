//! Log-probabilities of a file's completions.

use serde::Serialize;

use crate::error::Error;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::data::Source;

/// Rows that are tokenised at once.
const BLOCK: usize = 64;

/// `ln π(y|x)` of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogProb {
    /// `Σ w ln π` over its tokens, EOS included, summed in f64; w is 1 unless the row has weights.
    pub sum: f64,
    /// `Σ w`: how many tokens it has, EOS included.
    #[serde(serialize_with = "whole")]
    pub count: f64,
}

/// Without a fraction where there is none.
fn whole<S: serde::Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 {
        to.serialize_u64(*number as u64)
    } else {
        to.serialize_f64(*number)
    }
}

/// Gives `each` the log-probability of every row's response, in order; of several, one after the
/// other. At most `batch_tokens` tokens are run at once, more only if one sequence has more.
///
/// # Errors
/// Those of the rows, of the model and of `each`; a sum that is no finite number.
pub fn log_probs<E: From<Error>>(
    model: &Decoder,
    source: &Source,
    batch_tokens: usize,
    mut each: impl FnMut(LogProb) -> Result<(), E>,
) -> Result<(), E> {
    let mut run = |batch: &mut Vec<(u64, Sequence)>| -> Result<(), E> {
        let sequences: Vec<&Sequence> = batch.iter().map(|(_, sequence)| sequence).collect();
        let sums = model.sums(&sequences)?;
        for ((row, sequence), sum) in batch.drain(..).zip(sums) {
            if !sum.is_finite() {
                let problem = format!("the log-probability of its completion is {sum}");
                let remedy = "check the model's weights, or try --dtype f64";
                return Err(source.file().fault(row as usize, problem, remedy).into());
            }
            let count = sequence.weight();
            each(LogProb { sum, count })?;
        }
        Ok(())
    };
    let (mut batch, mut tokens) = (Vec::new(), 0);
    let rows: Vec<u32> = (0..source.len() as u32).collect();
    for block in rows.chunks(BLOCK) {
        for example in source.examples(block)? {
            for response in example.responses {
                let more = response.sequence.tokens().len();
                if !batch.is_empty() && tokens + more > batch_tokens {
                    run(&mut batch)?;
                    tokens = 0;
                }
                tokens += more;
                batch.push((example.row, response.sequence));
            }
        }
    }
    if batch.is_empty() {
        Ok(())
    } else {
        run(&mut batch)
    }
}
