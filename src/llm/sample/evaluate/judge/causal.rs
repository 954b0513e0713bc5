//! Language models that judge, by which label they would go on with.

use std::sync::Arc;

use super::{Judge, Pair, Template, Verdict};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::inference::cut;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::evaluate::load::Loaded;
use crate::llm::text::data::columns::{Completion, TextRow};
use crate::llm::text::data::tokenise::{RowRules, Tokeniser};
use crate::llm::text::data::values::Fault;
use crate::llm::text::example::Beside;
use crate::observer::Observer;

/// The built-in labels.
pub const LABELS: [&str; 2] = [" A", " B"];

/// What errors call the labels: the flag that they come from.
const FLAG: &str = "--judge-labels";

/// Pairs that are tokenised at once.
const BLOCK: usize = 64;

/// Two labels, with a comma between; spaces are part of them.
///
/// # Errors
/// Not two, one that is empty, or two that are the same.
pub fn labels(text: &str) -> Result<[String; 2]> {
    let remedy = "give two with a comma between, such as A,B";
    let fail = |problem: String| Err(Error::invalid(FLAG, problem, remedy));
    let [a, b] = text.split(',').collect::<Vec<_>>()[..] else {
        return fail(format!("`{text}` is not two labels"));
    };
    if a.is_empty() || b.is_empty() {
        return fail(format!("a label of `{text}` is empty"));
    }
    if a == b {
        return fail(format!("both labels are `{a}`"));
    }
    Ok([a.into(), b.into()])
}

/// A causal model as a judge: shown the template with a pair's texts, it names the completion whose
/// label has the higher log-probability, `ln π(label|text)`, a sum over the label's tokens without EOS.
pub struct Causal {
    model: Decoder,
    tokeniser: Tokeniser,
    template: Template,
    labels: [String; 2],
    batch_tokens: usize,
}

impl Causal {
    /// The judge of a language model. At most `batch_tokens` tokens are run at once, but for a longer
    /// pair alone.
    ///
    /// # Errors
    /// Labels that begin with the same token after the template, or a template that the model has no
    /// room for.
    pub fn new(
        loaded: Loaded,
        template: Template,
        labels: [String; 2],
        batch_tokens: usize,
    ) -> Result<Self> {
        let Loaded {
            model, tokenizer, ..
        } = loaded;
        let context = model.sizes().context;
        let judge = Self {
            tokeniser: Tokeniser::new(Arc::new(tokenizer), context, RowRules::default())?,
            model,
            template,
            labels,
            batch_tokens,
        };
        // What is wrong with every pair shows before any is there.
        let empty = judge.template.render("", "", "");
        if let Err(Fault { problem, remedy }) = judge.asked(&empty) {
            return Err(Error::invalid("judge", problem, remedy));
        }
        Ok(judge)
    }

    /// `ln π` of the first label and of the second, after the template with each pair's texts.
    ///
    /// # Errors
    /// A pair that is too long for the model, labels that begin with the same token after it, numbers
    /// that are not finite.
    pub fn log_probs(&self, pairs: &[Pair], observer: &dyn Observer) -> Result<Vec<[f64; 2]>> {
        let work = observer.begin("judge", pairs.len() as u64);
        let mut found = Vec::with_capacity(pairs.len());
        for block in pairs.chunks(BLOCK) {
            let asked = block.iter().map(|pair| {
                let text = self.template.render(pair.prompt, pair.a, pair.b);
                let asked = self.asked(&text);
                asked.map_err(|Fault { problem, remedy }| pair.fault(problem, remedy))
            });
            let asked = asked.collect::<Result<Vec<_>>>()?;
            // Their text is run once.
            let tokens = asked
                .iter()
                .map(|[one, other]| one.tokens().len() + other.completion().len());
            for some in cut(tokens, self.batch_tokens) {
                let now = &asked[some];
                found.extend(self.run(now)?);
                work.advance(now.len() as u64);
            }
        }
        drop(work);
        for (pair, numbers) in pairs.iter().zip(&found) {
            if let Some(number) = numbers.iter().find(|n| !n.is_finite()) {
                let problem = format!("the log-probability of a label is {number}");
                let remedy = "check the judge's weights, or try --dtype f64";
                return Err(pair.fault(problem, remedy));
            }
        }
        Ok(found)
    }

    /// The text with either label after it.
    fn asked(&self, text: &str) -> std::result::Result<[Sequence; 2], Fault> {
        let completion = |label: &String| Completion {
            column: format!("label `{label}`"),
            text: label.clone(),
            reward: 0.0,
            weights: None,
            stored: None,
        };
        let row = TextRow {
            prompt: Some(text.into()),
            completions: self.labels.iter().map(completion).collect(),
            rendered: false,
            beside: Beside::default(),
        };
        let too_long = |fault: Fault| {
            if fault.remedy.contains("max_") {
                let problem = &fault.problem;
                Fault {
                    problem: format!("template and texts are too long for the judge: {problem}"),
                    remedy: "shorten the template (--judge-template) or the completions \
                             (--max-new-tokens), or name a judge that takes more"
                        .into(),
                }
            } else {
                fault
            }
        };
        let (example, _) = self.tokeniser.example(0, &row).map_err(too_long)?;
        let sequences = example.responses.into_iter().map(|response| {
            // All but the end that is put after a completion.
            let sequence = response.sequence;
            let (tokens, prompt) = (sequence.tokens(), sequence.prompt().len());
            Sequence::new(tokens[..tokens.len() - 1].into(), prompt)
        });
        let fault = |problem: String, remedy: &str| Fault {
            problem,
            remedy: remedy.into(),
        };
        let sequences = sequences
            .collect::<Result<Vec<_>>>()
            .map_err(|e| fault(e.to_string(), "give labels with tokens of their own"))?;
        let [a, b] = <[Sequence; 2]>::try_from(sequences)
            .map_err(|_| fault("it has not two labels".into(), "give two"))?;
        if a.completion()[0] == b.completion()[0] {
            return Err(fault(
                format!(
                    "after the template, `{}` and `{}` begin with the same token",
                    self.labels[0], self.labels[1]
                ),
                "give labels (--judge-labels) that the judge's tokenizer tells apart by their first \
                 token, or a template (--judge-template) that ends with their space",
            ));
        }
        Ok([a, b])
    }

    /// [`log_probs`](Self::log_probs) of texts that are run at once.
    fn run(&self, asked: &[[Sequence; 2]]) -> Result<Vec<[f64; 2]>> {
        let all: Vec<&Sequence> = asked.iter().flatten().collect();
        let sums = self.model.sums(&all)?;
        Ok(sums.chunks_exact(2).map(|two| [two[0], two[1]]).collect())
    }
}

impl Judge for Causal {
    fn name(&self) -> String {
        "model".into()
    }

    fn verdicts(&mut self, pairs: &[Pair], observer: &dyn Observer) -> Result<Vec<Verdict>> {
        let found = self.log_probs(pairs, observer)?;
        Ok(found.iter().map(|&[a, b]| Verdict::greater(a, b)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_two_and_differ() {
        assert_eq!(labels(" A, B").unwrap(), LABELS.map(String::from));
        for (text, problem) in [
            ("A", "not two labels"),
            ("A,B,C", "not two labels"),
            ("", "not two labels"),
            (",B", "is empty"),
            ("A,", "is empty"),
            ("yes,yes", "both labels are `yes`"),
        ] {
            let error = labels(text).unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("--judge-labels"),
                "{error}"
            );
        }
    }
}
