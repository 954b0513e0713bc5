//! Where sequences begin, where prompts end, and how they end: BOS, boundaries, EOS, cuts.

use candle_core::{DType, Device};
use pistar::Result;
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::internals::train::step::Step;
use pistar::llm::model::architecture::Architecture;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::{Network, Reduction};
use pistar::llm::model::sequence::Predictions;
use pistar::llm::text::data::{Form, RowRules, Source};
use pistar::llm::text::example::{Example, collate};
use pistar::loss::{InputKind, Objective};
use pistar::observer::Silent;
use proptest::prelude::*;
use serde_json::json;

use crate::cases::settings;
use crate::data::{file, says};
use crate::smoke::tiny;
use crate::texts::{Words, bytes, spaces};

const CONTEXT: usize = 32;

fn source(
    words: Words,
    form: Form,
    settings: RowRules,
    rows: &[serde_json::Value],
) -> Result<Source> {
    let rows: Vec<String> = rows.iter().map(|row| row.to_string()).collect();
    let (_folder, path) = file(rows.join("\n"));
    Source::open(&path, form, words.load(), CONTEXT, settings)
}

/// The example of one row, from which `words` and `settings` make tokens.
fn example(words: Words, settings: RowRules, row: serde_json::Value) -> Result<Example> {
    let form = match row.get("chosen") {
        Some(_) => InputKind::LabelledPairs.into(),
        None => Form::Demonstration,
    };
    source(words, form, settings, &[row])?.example(0)
}

/// Prompt and completion of a row with the default settings.
fn tokens(words: Words, prompt: &str, completion: &str) -> (Vec<u32>, Vec<u32>) {
    let row = json!({"prompt": prompt, "completion": completion});
    let example = example(words, RowRules::default(), row).unwrap();
    let sequence = &example.responses[0].sequence;
    (sequence.prompt().to_vec(), sequence.completion().to_vec())
}

#[test]
fn bos_is_there_once_and_eos_is_there_once() {
    // `<s>` 1, `</s>` 2, `▁` 4, letters from `a` 5, `▁a` 31, `me` 34.
    assert_eq!(tokens(spaces(), "a", "me"), (vec![1, 31], vec![34, 2]));
    assert_eq!(tokens(spaces(), "a", " b"), (vec![1, 31], vec![4, 6, 2]));
    // In the text they are the tokens themselves, and are not added again.
    assert_eq!(
        tokens(spaces(), "<s>a", "me</s>"),
        (vec![1, 31], vec![34, 2])
    );
    // A tokenizer that begins with nothing; a prompt without tokens needs a beginning.
    let bos = |begins| Words {
        bos: Some("<bos>"),
        begins,
        ..bytes()
    };
    let y = bytes().ids("y")[0];
    assert_eq!(tokens(bytes(), "y", "y"), (vec![y], vec![y, 0]));
    assert_eq!(tokens(bos(false), "y", "y"), (vec![y], vec![y, 0]));
    assert_eq!(tokens(bos(true), "y", "y"), (vec![1, y], vec![y, 0]));
    assert_eq!(tokens(bos(false), "", "y"), (vec![1], vec![y, 0]));
    let row = json!({"prompt": "", "completion": "y"});
    says(
        example(bytes(), RowRules::default(), row),
        &[
            "data.jsonl:1",
            "the prompt has no tokens",
            "no BOS token",
            "give a prompt",
        ],
    );
    // BOS and EOS may be the same token, as GPT-2's.
    let same = Words {
        bos: Some("<eos>"),
        begins: true,
        ..bytes()
    };
    assert_eq!(tokens(same, "y", "y"), (vec![0, y], vec![y, 0]));
    let none = Words {
        eos: None,
        ..bytes()
    };
    let row = json!({"prompt": "y", "completion": "y"});
    says(
        example(none, RowRules::default(), row),
        &["no EOS token", "eos_token"],
    );
}

#[test]
fn a_text_alone_is_all_predicted() {
    let alone = |words| {
        let example = example(words, RowRules::default(), json!({"text": "a me"})).unwrap();
        let sequence = &example.responses[0].sequence;
        (sequence.prompt().to_vec(), sequence.completion().to_vec())
    };
    assert_eq!(alone(spaces()), (vec![1], vec![31, 4, 34, 2]));
    // A text that brings its BOS, and a tokenizer that has none.
    let row = json!({"text": "<s>a me</s>"});
    let given = example(spaces(), RowRules::default(), row).unwrap();
    assert_eq!(given.responses[0].sequence.tokens(), [1, 31, 4, 34, 2]);
    let (prompt, completion) = alone(bytes());
    let all = bytes().ids("a me");
    assert_eq!(
        [prompt.as_slice(), &completion].concat(),
        [all.as_slice(), &[0]].concat()
    );
    assert_eq!(prompt.len(), 1);
}

#[test]
fn a_token_that_spans_the_boundary_is_told() {
    // The merged `ti` would span the boundary; so would ` y`.
    let rows = [
        json!({"prompt": "a", "completion": " b"}),
        json!({"prompt": "at", "completion": "ime"}),
        json!({"prompt": "a", "completion": "tim"}),
        json!({"prompt": "t", "completion": "i"}),
    ];
    let mut lenient = source(spaces(), Form::Demonstration, RowRules::default(), &rows).unwrap();
    let report = lenient.survey(&Silent).unwrap();
    assert_eq!(
        (report.apart, report.apart_lines.as_slice()),
        (2, &[2, 4][..])
    );
    let said = report.to_string();
    assert!(
        said.contains("warning: in 2 completions") && said.contains("lines 2, 4"),
        "{said}"
    );
    // BOS ▁a t | i me EOS: the completion goes on, no space is put before it.
    let example = lenient.example(1).unwrap();
    let sequence = &example.responses[0].sequence;
    assert_eq!(sequence.prompt(), [1, 31, 24]);
    assert_eq!(sequence.completion(), [13, 34, 2]);
    let (prompt, completion) = tokens(bytes(), "no ", "yes");
    let decode = |ids: &[u32]| bytes().load().decode_text(ids).unwrap();
    assert_eq!(
        (decode(&prompt), decode(&completion)),
        ("no ".into(), "yes".into())
    );
    let strict = RowRules {
        strict_boundaries: true,
        ..RowRules::default()
    };
    let mut strict = source(spaces(), Form::Demonstration, strict, &rows).unwrap();
    strict.example(0).unwrap();
    says(
        strict.survey(&Silent).map(|_| ()),
        &[
            "data.jsonl:2",
            "the prompt's tokens change when `completion` follows",
            "strict_boundaries",
        ],
    );
}

proptest! {
    #![proptest_config(settings("tests/regressions/llm_boundary.txt", 256))]

    /// The whole's tokens, or a note; the whole's text in either case.
    #[test]
    fn tokens_of_prompt_and_completion_are_those_of_the_whole_or_it_is_told(
        prompt in "[a-z ]{1,6}",
        completion in "[a-z ]{1,6}",
    ) {
        for words in [spaces, bytes] {
            let row = json!({"prompt": prompt, "completion": completion});
            let mut source = source(words(), Form::Demonstration, RowRules::default(), &[row]).unwrap();
            let apart = source.survey(&Silent).unwrap().apart;
            let example = source.example(0).unwrap();
            let sequence = &example.responses[0].sequence;
            let (begin, tokenizer) = (usize::from(words().begins), words().load());
            let whole = format!("{prompt}{completion}");
            let ids = |text: &str| tokenizer.encode(text).unwrap();
            let body = &sequence.tokens()[begin..sequence.tokens().len() - 1];
            prop_assert_eq!(apart == 0, body == ids(&whole));
            prop_assert_eq!(&sequence.prompt()[begin..], ids(&prompt));
            prop_assert_eq!(tokenizer.decode_text(body).unwrap(), whole);
            prop_assert_eq!(sequence.completion().last().copied(), tokenizer.eos());
        }
    }
}

#[test]
fn the_prompt_decides_nothing_of_what_is_predicted() {
    let targets = |prompt: &str| {
        let row = json!({"prompt": prompt, "completion": " b me"});
        let example = example(spaces(), RowRules::default(), row).unwrap();
        let predictions = Predictions::new(&[&example.responses[0].sequence]);
        (predictions.targets.to_vec(), predictions.rows.len())
    };
    let one = targets("a");
    assert_eq!(one, (vec![4, 6, 4, 34, 2], 5));
    for prompt in ["z", "a a a", "time", "<s>a"] {
        assert_eq!(targets(prompt), one, "{prompt}");
    }
}

#[test]
fn a_completion_of_one_token_is_predicted_and_so_is_eos() {
    let architecture = Architecture {
        vocabulary: 35,
        ..tiny()
    };
    let model = Decoder::random(architecture, 0.5, 1, DType::F64, &Device::Cpu).unwrap();
    let settings = RowRules {
        allow_empty: true,
        ..RowRules::default()
    };
    let head = (model.parameters().iter())
        .position(|p| p.name == "lm_head.weight")
        .unwrap();
    for (completion, targets) in [("", vec![2]), ("b", vec![6, 2]), ("</s>", vec![2])] {
        let row = json!({"prompt": "a", "completion": completion});
        let example = example(spaces(), settings.clone(), row).unwrap();
        let sequence = &example.responses[0].sequence;
        assert_eq!(sequence.completion(), targets);
        // Its number is the sum of its tokens' log-probabilities, EOS included.
        let number = model.sums(&[sequence]).unwrap()[0];
        let mut expected = 0.0;
        for at in sequence.prompt().len()..sequence.tokens().len() {
            let before = pistar::llm::model::sequence::Packed::new([&sequence.tokens()[..at]]);
            let logits: Vec<Vec<f64>> = model.logits(&before).unwrap().to_vec2().unwrap();
            let last = logits.last().unwrap();
            let log_sum = last.iter().map(|l| l.exp()).sum::<f64>().ln();
            expected += last[sequence.tokens()[at] as usize] - log_sum;
        }
        assert!((number - expected).abs() < 1e-12);
        // The gradient of EOS's own output row is that of an EOS that is predicted: it is pushed
        // up, at the position that predicts it.
        let batch = collate(InputKind::Lists, &[example], |_, _| 0.0);
        let step = Step {
            kind: InputKind::Lists,
            policy: &model,
            value: None,
            reduction: Reduction::Sum,
            micro_batch: usize::MAX,
        };
        let mut gradients = LeafGradients::new(model.leaves());
        let sft = Objective::SFT.bind(&0.3.into()).unwrap();
        let loss = |batch: &_| sft.on_tape(batch);
        let outcome = step.run(&batch, loss, &mut gradients, &mut LeafGradients::new(0));
        assert!((outcome.unwrap().loss + number).abs() < 1e-12);
        let rows: Vec<Vec<f64>> = gradients.get(head).unwrap().to_vec2().unwrap();
        let norm = |row: &[f64]| row.iter().map(|g| g * g).sum::<f64>().sqrt();
        let (eos, other) = (norm(&rows[2]), norm(&rows[20]));
        assert!(eos > 5.0 * other && other > 0.0, "{eos} {other}");
    }
}

#[test]
fn long_rows_are_refused_unless_a_cut_is_asked_for() {
    let row = |p: usize, c: usize| json!({"prompt": "b".repeat(p), "completion": "c".repeat(c)});
    let made = |settings: &RowRules, p, c| example(spaces(), settings.clone(), row(p, c));
    // BOS ▁ and EOS are three tokens of the 32.
    let none = RowRules::default();
    assert_eq!(made(&none, 10, 19).unwrap().tokens(), 32);
    says(
        made(&none, 10, 20),
        &[
            "data.jsonl:1",
            "prompt and completion have 33 tokens",
            "room for 32",
            "max_length",
        ],
    );
    says(
        made(&none, 30, 1),
        &[
            "data.jsonl:1",
            "the prompt has 32 tokens",
            "no room",
            "within 32",
            "max_prompt_length",
        ],
    );
    let whole = RowRules {
        max_length: Some(16),
        ..none.clone()
    };
    let cut = made(&whole, 10, 20).unwrap().responses.remove(0).sequence;
    assert_eq!(cut.tokens().len(), 16);
    assert_eq!(cut.prompt().len(), 12);
    assert_eq!(cut.completion(), [7, 7, 7, 7]); // `c`, and no EOS.
    let exact = made(&whole, 10, 3).unwrap().responses.remove(0).sequence;
    assert_eq!(exact.completion(), [7, 7, 7, 2]);
    says(
        made(&whole, 14, 1),
        &["the prompt has 16 tokens", "within 16", "max_prompt_length"],
    );
    assert_eq!(
        made(&whole, 13, 5).unwrap().responses[0]
            .sequence
            .completion(),
        [7]
    );
    // A prompt keeps BOS and its end.
    let both = RowRules {
        max_prompt_length: Some(4),
        ..whole.clone()
    };
    let prompt = json!({"prompt": "bcdefghijk", "completion": "l"});
    let cut = example(spaces(), both.clone(), prompt)
        .unwrap()
        .responses
        .remove(0)
        .sequence;
    assert_eq!(cut.tokens(), [1, 13, 14, 15, 16, 2]);
    let one = RowRules {
        max_prompt_length: Some(1),
        ..none.clone()
    };
    let prompt = json!({"prompt": "bcd", "completion": "l"});
    let cut = example(spaces(), one, prompt.clone())
        .unwrap()
        .responses
        .remove(0)
        .sequence;
    assert_eq!(cut.tokens(), [1, 16, 2]);
    let two = RowRules {
        max_prompt_length: Some(2),
        ..none.clone()
    };
    let cut = example(bytes(), two, prompt)
        .unwrap()
        .responses
        .remove(0)
        .sequence;
    assert_eq!(bytes().load().decode_text(cut.tokens()).unwrap(), "cdl");
}

#[test]
fn both_sides_of_a_pair_have_the_same_prompt() {
    let settings = RowRules {
        max_length: Some(12),
        max_prompt_length: Some(5),
        ..RowRules::default()
    };
    // `ti` spans the boundary of one side only; one side is cut.
    let rows = [json!({
        "prompt": "abcdefgt", "chosen": "ime", "rejected": "k".repeat(40)
    })];
    let mut source = source(spaces(), InputKind::LabelledPairs.into(), settings, &rows).unwrap();
    let report = source.survey(&Silent).unwrap();
    assert_eq!(
        (report.prompts_cut, report.completions_cut, report.apart),
        (1, 1, 1)
    );
    let said = report.to_string();
    assert!(
        said.contains("1 prompts lost") && said.contains("1 completions lost"),
        "{said}"
    );
    let responses = source.example(0).unwrap().responses;
    let [chosen, rejected] = [&responses[0].sequence, &responses[1].sequence];
    assert_eq!(chosen.prompt(), [1, 9, 10, 11, 24]);
    assert_eq!(chosen.prompt(), rejected.prompt());
    assert_eq!(
        (chosen.completion(), rejected.completion()),
        (&[13, 34, 2][..], &[15; 7][..])
    );
}

#[test]
fn lengths_that_make_no_sense() {
    let open = |settings: RowRules| {
        let row = json!({"prompt": "a", "completion": "b"});
        source(spaces(), Form::Demonstration, settings, &[row])
    };
    let lengths = |max_length, max_prompt_length| {
        open(RowRules {
            max_length,
            max_prompt_length,
            ..RowRules::default()
        })
    };
    says(
        lengths(Some(33), None),
        &["max_length: it is 33", "at most 32 tokens"],
    );
    says(
        lengths(Some(1), None),
        &["max_length: it is 1", "2 or more"],
    );
    says(
        lengths(Some(8), Some(8)),
        &["max_prompt_length: it is 8", "1 to 7"],
    );
    says(
        lengths(None, Some(0)),
        &["max_prompt_length: it is 0", "1 to 31"],
    );
    lengths(Some(2), Some(1)).unwrap();
    let unknown: std::result::Result<RowRules, _> = toml::from_str("max_lenght = 3");
    assert!(unknown.unwrap_err().to_string().contains("max_lenght"));
}
