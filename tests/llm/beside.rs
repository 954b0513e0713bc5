//! Columns beside the texts, and fields of messages: each is used, named as unread, or refused.

use std::fs;

use candle_core::{DType, Device};
use pistar::Result;
use pistar::llm::internals::model::inference;
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::internals::text::chat::{ChatTemplate, Given, Message};
use pistar::llm::internals::train::step::{Runs, Step};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::{Network, Reduction};
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::data::{Form, Reading, RowRules, Source};
use pistar::llm::text::example::{Beside, Example, in_parts};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::train::reference::Cache;
use pistar::loss::{InputKind, Objective};
use pistar::observer::Silent;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chat::{examples, folder, tokenizer};
use crate::data::says;
use crate::smoke::tiny;

/// Names all that it is given.
const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}{% endif %}{{ mood | default('') }}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A tokenizer's folder and a reading by the template.
fn place() -> (TempDir, Reading) {
    let folder = folder(None, "<|im_end|>");
    let path = folder.path().join("own.jinja");
    fs::write(&path, TEMPLATE).unwrap();
    let reading = Reading {
        chat_template: Some(path),
        ..Reading::default()
    };
    (folder, reading)
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn weighing(content: &str, field: &str, weight: Value) -> Value {
    json!({"role": "assistant", "content": content, field: weight})
}

/// Prompt and completion in text.
fn split(row: Value) -> Result<[String; 2]> {
    let (folder, reading) = place();
    let tokenizer = tokenizer(&folder);
    let example = examples(&folder, &reading, Form::Demonstration, &[row])?.remove(0);
    let sequence = &example.responses[0].sequence;
    Ok([sequence.prompt(), sequence.completion()].map(|t| tokenizer.decode(t).unwrap()))
}

fn survey(form: impl Into<Form>, reading: &Reading, rows: &[Value]) -> Result<Vec<String>> {
    let (folder, own) = place();
    let data = folder.path().join("rows.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(&data, lines.join("\n")).unwrap();
    let reading = Reading {
        chat_template: reading.chat_template.clone().or(own.chat_template),
        ..reading.clone()
    };
    let settings = RowRules::default();
    let mut source = Source::read(
        &data,
        &reading,
        form,
        tokenizer(&folder),
        4096,
        settings,
        &Silent,
    )?;
    Ok(source.survey(&Silent)?.notes())
}

#[test]
fn tools_values_and_the_system_s_message_reach_the_template() {
    let asked = [turn("user", "u"), turn("assistant", "x")];
    let rest = "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n";
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let (folder, reading) = place();
    let template = reading.chat_template.as_deref();
    let chat = ChatTemplate::load(&tokenizer(&folder), template, None).unwrap();
    let given = Given::new(tools.as_array().cloned(), Default::default()).unwrap();
    let said = chat
        .render_given(&[Message::new("user", "u")], &given, true)
        .unwrap();
    assert!(said.ends_with(rest) && said.contains("function"), "{said}");
    for tools in [tools.clone(), tools.to_string().into()] {
        let row = json!({"messages": asked, "tools": tools});
        assert_eq!(split(row).unwrap(), [said.clone(), "x<|im_end|>".into()]);
    }
    for kwargs in [json!({"mood": "gay"}), json!("{\"mood\": \"gay\"}")] {
        let row = json!({"messages": asked, "chat_template_kwargs": kwargs});
        assert_eq!(split(row).unwrap()[0], format!("gay{rest}"));
    }
    let system = "<|im_start|>system\ns<|im_end|>\n";
    for row in [
        json!({"messages": asked, "system": "s"}),
        json!({"prompt": [turn("user", "u")], "completion": "x", "system": "s"}),
        json!({"messages": [turn("system", "s"), turn("user", "u"), turn("assistant", "x")],
               "system": "s"}),
    ] {
        assert_eq!(split(row).unwrap()[0], format!("{system}{rest}"));
    }
    for empty in [json!(null), json!("")] {
        let row = json!({"messages": asked, "system": empty, "tools": empty,
                         "chat_template_kwargs": empty});
        assert_eq!(split(row).unwrap()[0], rest);
    }
    let with = |name: &str, value: Value| split(json!({"messages": asked, name: value}));
    says(
        with("tools", json!("{")),
        &["rows.jsonl:1", "`tools` is text that is no JSON"],
    );
    says(
        with("tools", json!({"f": 1})),
        &["`tools` is an object", "a list"],
    );
    says(with("tools", json!([1])), &["tools[0] is no object"]);
    says(
        with("chat_template_kwargs", json!({"messages": []})),
        &["`messages` has a meaning of its own"],
    );
    let two = json!({"messages": [turn("system", "t"), turn("user", "u"), turn("assistant", "x")],
                     "system": "s"});
    says(
        split(two),
        &["`system`", "different", "--column system=none"],
    );
}

#[test]
fn pictures_are_refused() {
    let row = |name: &str, value: Value| json!({"prompt": "p", "completion": "c", name: value});
    for name in ["images", "image", "videos", "audio"] {
        let rows = [row(name, json!(["a.png"]))];
        says(
            survey(Form::Demonstration, &Reading::default(), &rows),
            &[
                "rows.jsonl:1",
                &format!("`{name}`"),
                &format!("--column {name}=none"),
            ],
        );
        let reading = Reading {
            columns: vec![(name.into(), "none".into())],
            ..Reading::default()
        };
        survey(Form::Demonstration, &reading, &rows).unwrap();
        survey(
            Form::Demonstration,
            &Reading::default(),
            &[row(name, json!([]))],
        )
        .unwrap();
    }
    let part = json!([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": "x"}]);
    let asked = json!({"role": "user", "content": part});
    let rows = [json!({"messages": [asked, turn("assistant", "x")]})];
    says(
        survey(Form::Demonstration, &Reading::default(), &rows),
        &["rows.jsonl:1", "`image_url`"],
    );
}

#[test]
fn what_nothing_reads_is_named() {
    let notes = |form: Form, rows: &[Value]| survey(form, &Reading::default(), rows).unwrap();
    let pair = json!({"prompt": "p", "chosen": " a", "rejected": " b", "margin": 2, "tools": [],
                      "system": "s", "id": 7, "weight": 3});
    let pairs = InputKind::LabelledPairs;
    assert_eq!(
        notes(pairs.into(), std::slice::from_ref(&pair)),
        ["not read: `id`, `margin`, `system`, `tools`, `weight`"]
    );
    assert_eq!(
        notes(Objective::REWARD_MODEL.into(), &[pair]),
        ["not read: `id`, `system`, `tools`, `weight`"]
    );
    let calls = json!({"role": "assistant", "content": "x", "tool_calls": [{"name": "f"}]});
    let row = json!({"messages": [turn("user", "u"), calls], "tools": [{"name": "f"}],
                     "chat_template_kwargs": {"mood": "m", "depth": 3}});
    assert_eq!(
        notes(Form::Demonstration, &[row]),
        [
            "not read: `depth` of chat_template_kwargs (the chat template does not name it), \
          `tool_calls` of messages (the chat template does not name it)"
        ]
    );
    assert!(
        notes(
            pairs.into(),
            &[json!({"prompt": "p", "chosen": " a", "rejected": " b"})]
        )
        .is_empty()
    );
}

#[test]
fn a_mapping_s_columns_are_read_once_and_none_for_nothing() {
    let reading = |columns: &[(&str, &str)]| Reading {
        columns: (columns.iter())
            .map(|(n, e)| ((*n).into(), (*e).into()))
            .collect(),
        ..Reading::default()
    };
    let pairs = InputKind::LabelledPairs;
    let row = json!({"prompt": "p", "chosen": " a", "rejected": " b", "gap": 0.5, "system": "s",
                     "id": 1});
    says(
        survey(
            pairs,
            &reading(&[("margin", "gap")]),
            std::slice::from_ref(&row),
        ),
        &["columns.margin", "not read", "leave it out"],
    );
    let notes = survey(
        Objective::REWARD_MODEL,
        &reading(&[("margin", "gap"), ("prompt", "system ~ prompt")]),
        &[row],
    );
    assert_eq!(notes.unwrap(), ["not read: `id`"]);
}

#[test]
fn a_reward_model_holds_a_pair_against_its_margin() {
    let (folder, reading) = place();
    let row =
        |margin: Value| json!({"prompt": "p", "chosen": " a", "rejected": " b", "margin": margin});
    let read = |form: Form, margin: Value| -> Result<Example> {
        Ok(examples(&folder, &reading, form, &[row(margin)])?.remove(0))
    };
    let scored = Form::from(Objective::REWARD_MODEL);
    assert_eq!(read(scored, json!(0.7)).unwrap().beside.margin, 0.7);
    assert_eq!(read(scored, json!(null)).unwrap().beside.margin, 0.0);
    // The Advantage Model's m is another thing.
    let advantage = Form::from(Objective::ADVANTAGE_MODEL_DISTINCT);
    assert_eq!(read(advantage, json!(0.7)).unwrap().beside.margin, 0.0);
    assert_eq!(
        read(InputKind::LabelledPairs.into(), json!("x"))
            .unwrap()
            .beside
            .margin,
        0.0
    );
    says(read(scored, json!("x")), &["`margin` is a string"]);

    let objective = TextObjective::new("reward-model", &pistar::loss::Given::new(), None).unwrap();
    let pairs = [
        read(scored, json!(0.7)).unwrap(),
        read(scored, json!(-1)).unwrap(),
    ];
    let text = objective.batch(&pairs);
    let scores = [1.5, 1.0, -0.2, 0.4];
    let parts = in_parts(&text, &pairs, 1, |some| objective.batch(some));
    assert_eq!(parts.len(), 2);
    let loss = |text: &pistar::llm::text::batch::TextBatch, scores: &[f64]| {
        let batch = text.numbers(InputKind::LabelledPairs, scores, Vec::new());
        objective.cotangents(&batch).unwrap().value
    };
    // −ln σ(r_c − r_r − margin), as TRL has it.
    let each = |gap: f64, margin: f64| (1.0 + (margin - gap).exp()).ln() / 2.0;
    let wanted = each(0.5, 0.7) + each(-0.6, -1.0);
    assert!((loss(&text, &scores) - wanted).abs() < 1e-12);
    let in_parts = loss(&parts[0], &scores[..2]) + loss(&parts[1], &scores[2..]);
    assert!((in_parts - wanted).abs() < 1e-12);
}

/// Token, weight of the completion.
fn weights(rows: Value) -> Result<(Sequence, Vec<(String, f64)>)> {
    let (folder, reading) = place();
    let tokenizer = tokenizer(&folder);
    let example = examples(&folder, &reading, Form::Demonstration, &[rows])?.remove(0);
    let sequence = example.responses[0].sequence.clone();
    let ones = vec![1.0; sequence.completion().len()];
    let weights = sequence.weights().unwrap_or(&ones);
    let said = sequence
        .completion()
        .chunks(1)
        .map(|t| tokenizer.decode(t).unwrap());
    let each = said.zip(weights.iter().copied()).collect();
    Ok((sequence, each))
}

/// What weighs anything, and what nothing.
fn said(each: &[(String, f64)]) -> Vec<(String, f64)> {
    let parts = each.chunk_by(|a, b| a.1 == b.1);
    parts
        .map(|part| {
            (
                part.iter().map(|(text, _)| text.as_str()).collect(),
                part[0].1,
            )
        })
        .collect()
}

#[test]
fn messages_weigh_what_they_say() {
    let [u, v] = ["u", "v"].map(|content| turn("user", content));
    let own = |text: &str, weight: f64| (text.to_string(), weight);
    let between = "\n<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n";
    for (field, zero, one) in [
        ("weight", json!(0), json!(1)),
        ("train", json!(false), json!(true)),
        ("training", json!(false), json!(true)),
        ("loss", json!(false), json!(true)),
    ] {
        let both = |a: &Value, b: &Value| {
            json!({"messages": [u, weighing("x", field, a.clone()), v,
                                weighing("y", field, b.clone())]})
        };
        // A masked message is part of the prompt.
        let (masked, _) = weights(both(&zero, &one)).unwrap();
        let plain = json!({"messages": [u, turn("assistant", "x"), v, turn("assistant", "y")]});
        assert_eq!(masked, weights(plain).unwrap().0);
        let (_, each) = weights(both(&one, &one)).unwrap();
        let wanted = [
            own("x<|im_end|>", 1.0),
            own(between, 0.0),
            own("y<|im_end|>", 1.0),
        ];
        assert_eq!(said(&each), wanted);
        let (_, each) = weights(both(&one, &zero)).unwrap();
        assert_eq!(said(&each)[0], own("x<|im_end|>", 1.0));
        assert_eq!(said(&each)[1].1, 0.0);
        says(
            weights(both(&zero, &zero)),
            &["every message of `messages`", "weight 0"],
        );
    }
    let half =
        json!({"messages": [u, weighing("x", "weight", json!(0.5)), v, turn("assistant", "y")]});
    let (_, each) = weights(half).unwrap();
    let wanted = [
        own("x<|im_end|>", 0.5),
        own(between, 0.0),
        own("y<|im_end|>", 1.0),
    ];
    assert_eq!(said(&each), wanted);
    // Turns one after the other, in a completion.
    let row = json!({"prompt": [u], "completion": [weighing("x", "weight", json!(0)), turn("assistant", "y")]});
    let (_, each) = weights(row).unwrap();
    let wanted = [
        own("x<|im_end|>\n", 0.0),
        own("<|im_start|>assistant\ny<|im_end|>", 1.0),
    ];
    assert_eq!(said(&each), wanted);

    let one = |message: Value| weights(json!({"messages": [u, message]}));
    for wrong in [json!(-1), json!("1"), json!([1])] {
        says(
            one(weighing("x", "weight", wrong)),
            &["`weight` of a message of `messages`"],
        );
    }
    let mut two = weighing("x", "weight", json!(1));
    two["train"] = json!(false);
    says(one(two), &["`weight` and `train`", "mean the same"]);
    says(
        one(weighing("x", "train_detail", json!([]))),
        &["`train_detail`"],
    );
    let asked = json!({"role": "user", "content": "u", "weight": 1});
    says(
        weights(json!({"messages": [asked, turn("assistant", "x")]})),
        &["turn of `user`", "weight 1"],
    );
    says(
        weights(json!({"prompt": [u, weighing("x", "weight", json!(1)), v], "completion": "y"})),
        &["before the completion", "weight above 0"],
    );
    // What scores a text whole cannot weigh parts of it.
    let (folder, reading) = place();
    let row =
        json!({"prompt": [u], "chosen": [weighing("x", "weight", json!(0.5))], "rejected": "y"});
    let form = Form::from(Objective::REWARD_MODEL);
    says(
        examples(&folder, &reading, form, std::slice::from_ref(&row)),
        &["`chosen` have weights", "scored whole"],
    );
    let pair = examples(&folder, &reading, InputKind::LabelledPairs, &[row]).unwrap();
    assert!(
        pair[0].responses[0].sequence.weight()
            < pair[0].responses[0].sequence.completion().len() as f64
    );
}

fn model() -> Decoder {
    Decoder::random(tiny(), 0.5, 1, DType::F64, &Device::Cpu).unwrap()
}

/// A number and its gradient.
type Slope = (f64, Vec<f64>);

/// The gradient of a sequence's number.
fn gradient(model: &Decoder, reduction: Reduction, sequence: &Sequence) -> Slope {
    let sequences = [sequence.clone()];
    let mut runs = Runs::new(model, reduction, &sequences, usize::MAX).unwrap();
    let number = runs.numbers().sequences[0];
    let mut sums = LeafGradients::new(model.leaves());
    runs.push(&[1.0], &[], &mut sums).unwrap();
    let each = (0..model.leaves()).flat_map(|leaf| {
        sums.get(leaf)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f64>()
            .unwrap()
    });
    (number, each.collect())
}

#[test]
fn a_sequence_s_number_and_its_gradient_are_weighted_sums_over_tokens() {
    let model = model();
    let tokens = vec![1, 4, 7, 2, 9, 3];
    let plain = Sequence::new(tokens, 2).unwrap();
    let weights = [0.5, 0.0, 2.0, 1.0];
    let weighted = plain.clone().weighted(weights.to_vec()).unwrap();
    let each: Vec<Slope> = (0..4)
        .map(|at| {
            let one = (0..4).map(|i| f64::from(u8::from(i == at))).collect();
            gradient(
                &model,
                Reduction::Sum,
                &plain.clone().weighted(one).unwrap(),
            )
        })
        .collect();
    for (reduction, scale) in [(Reduction::Sum, 1.0), (Reduction::Mean, 1.0 / 3.5)] {
        let (number, found) = gradient(&model, reduction, &weighted);
        let sum = |of: &dyn Fn(&Slope) -> f64| -> f64 {
            each.iter()
                .zip(weights)
                .map(|(one, w)| scale * w * of(one))
                .sum()
        };
        assert!((number - sum(&|one| one.0)).abs() < 1e-12);
        for (i, found) in found.iter().enumerate() {
            let wanted = sum(&|one| one.1[i]);
            assert!(
                (found - wanted).abs() < 1e-10 * wanted.abs().max(1.0),
                "{found} {wanted}"
            );
        }
    }
    // All ones are no weights, and what is logged is what is trained on.
    let ones = plain.clone().weighted(vec![1.0; 4]).unwrap();
    assert_eq!(ones, plain);
    assert_eq!(
        gradient(&model, Reduction::Sum, &ones),
        gradient(&model, Reduction::Sum, &plain)
    );
    let sums = model.sums(&[&weighted, &plain]).unwrap();
    let number = |s: &Sequence| gradient(&model, Reduction::Sum, s).0;
    assert!(
        (sums[0] - number(&weighted)).abs() < 1e-12 && (sums[1] - number(&plain)).abs() < 1e-12
    );
    for wrong in [vec![1.0; 3], vec![-1.0; 4], vec![f64::NAN; 4]] {
        says(plain.clone().weighted(wrong), &["weights"]);
    }
}

#[test]
fn a_reference_s_number_has_the_weights_of_the_policy_s() {
    let model = model();
    let plain = Sequence::new(vec![1, 4, 7, 2], 2).unwrap();
    let half = plain.clone().weighted(vec![0.5, 1.0]).unwrap();
    let none = plain.clone().weighted(vec![0.0, 1.0]).unwrap();
    let all = [plain, half, none];
    let dir = tempfile::tempdir().unwrap();
    let mut cache = Cache::new("m".into(), &dir.path().join("reference.safetensors"));
    // One after the other: each is another sequence to the cache.
    for (done, one) in all.iter().enumerate() {
        cache.fill(&model, std::slice::from_ref(one), 64).unwrap();
        assert_eq!(cache.len(), done + 1);
    }
    let cached = pistar::llm::train::reference::Reference::Cached(cache);
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let policy = inference::numbers(&model, reduction, &all, 64)
            .unwrap()
            .sequences;
        let reference = cached.numbers(&all, reduction, 64).unwrap();
        for (p, r) in policy.iter().zip(&reference) {
            assert!((p - r).abs() < 1e-12, "{p} {r}");
        }
    }
}

#[test]
fn a_masked_message_is_as_if_its_tokens_were_not_in_the_loss() {
    let model = model();
    let [a, b] = [vec![1, 4, 7, 2, 9, 3], vec![1, 5, 6, 2]].map(|t| Sequence::new(t, 2).unwrap());
    let masked = a.clone().weighted(vec![0.0, 0.0, 1.0, 1.0]).unwrap();
    // The same tokens, of which the first two are given.
    let given = Sequence::new(a.tokens().to_vec(), 4).unwrap();
    let loss = |sequences: [&Sequence; 2], objective: &TextObjective| {
        let example = |sequence: &Sequence| Example {
            row: 0,
            responses: vec![pistar::llm::text::example::Response::new(
                sequence.clone(),
                0.0,
            )],
            beside: Beside::default(),
        };
        let text = objective.batch(&sequences.map(example));
        let step = Step {
            kind: objective.kind(),
            policy: &model,
            value: None,
            reduction: objective.reduction(),
            micro_batch: 64,
        };
        step.evaluate(&text, |batch| objective.cotangents(batch))
            .unwrap()
            .loss
    };
    use pistar::llm::text::objective::TokenReduction::{Batch, Mean, Sum};
    for reduction in [Batch, Mean, Sum] {
        let sft = TextObjective::new("sft", &pistar::loss::Given::new(), Some(reduction)).unwrap();
        let (one, other) = (loss([&masked, &b], &sft), loss([&given, &b], &sft));
        assert!((one - other).abs() < 1e-12, "{reduction:?}: {one} {other}");
        assert!((one - loss([&a, &b], &sft)).abs() > 1e-6);
    }
}

#[test]
fn phases_are_no_objective_of_a_run() {
    says(
        TextObjective::new("bpo-dpo", &pistar::loss::Given::new(), None),
        &["phases", "--reference", "sim bpo-phases"],
    );
}
