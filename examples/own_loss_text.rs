//! A loss of your own on a transformer: the same function that `own_loss` reports on, fed with the
//! log-probabilities of a language model.
//!
//! ```sh
//! cargo run --release --example own_loss_text -- MODEL_DIR PAIRS.jsonl OUT_DIR
//! ```
//!
//! Rows have `prompt`, `chosen`, `rejected`, as those of `pistar train dpo`.

use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::{DType, Device};
use pistar::Result;
use pistar::backend::Backend;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::saving::Saving;
use pistar::llm::text::data::{Form, RowRules, Source};
use pistar::llm::text::tokenizer::Tokenizer;
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{Batches, Settings, Trainer};
use pistar::loss::{InputKind, Inputs, Parameters, margin};
use pistar::observer::Silent;
use pistar::verify::report::{Loss, pair};

/// `max(0, 1 − βd)²`: SLiC's hinge, squared.
struct SquaredHinge;

impl Loss for SquaredHinge {
    fn name(&self) -> &str {
        "squared-hinge"
    }

    fn inputs(&self) -> InputKind {
        InputKind::LabelledPairs
    }

    fn loss<X: Backend>(&self, inputs: &Inputs<X>, p: Parameters) -> Result<X> {
        let (preferred, rejected) = pair(inputs)?;
        let d = margin(preferred, rejected)?;
        d.affine(-p.beta, 1.0)?.relu()?.square()
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out] = arguments.as_slice() else {
        bail!("give the model's folder, a file of pairs, and a folder to save to");
    };
    let policy = Decoder::load(model, DType::F32, &Device::Cpu)?;
    let context = policy.architecture().context;
    // DPO's examples, reference and metrics; the loss is ours.
    let settings = Settings {
        objective: Some("dpo".into()),
        beta: 0.1,
        lr: Some(1e-5),
        ..Settings::default()
    }
    .resolve()?;
    let tokenizer = Arc::new(Tokenizer::load(model)?);
    let rows = RowRules::default();
    let form = Form::from(SquaredHinge.inputs());
    let mut source = Source::open(data.as_ref(), form, tokenizer, context, rows)?;
    eprintln!("{}", source.survey(&Silent)?);
    let plan = Batches::new(&settings, context, &source)?;
    let (steps, reference) = (plan.steps(), Reference::Live(Box::new(policy.copy()?)));
    let parameters = Parameters {
        beta: settings.beta,
        margin: None,
    };
    let mut trainer = Trainer::new(&settings, plan, Box::new(policy), None, reference)?
        .minimising(|inputs| SquaredHinge.loss(inputs, parameters));
    for step in 1..=steps {
        let stepped = trainer.step(None)?;
        println!(
            "step {step}: loss {:.5}, gradient {:.3}",
            stepped.loss, stepped.norm
        );
    }
    let saving = Saving {
        companions: Some(model.as_ref()),
        ..Saving::default()
    };
    let saved = trainer.policy.model.decoder().save(out, &saving);
    saved.with_context(|| format!("{out}: cannot save"))
}
