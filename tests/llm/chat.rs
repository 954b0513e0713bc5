//! Chat templates: what `transformers` makes of conversations (`fixtures/make_chat.py`).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pistar::llm::internals::text::chat::{ChatTemplate, Message};
use pistar::llm::internals::text::data::dialogue::Dialogue;
use pistar::llm::text::data::{Form, Reading, RowRules, Source};
use pistar::llm::text::example::Example;
use pistar::llm::text::tokenizer::Tokenizer;
use pistar::observer::Silent;
use pistar::{Result, loss::InputKind};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::data::says;
use crate::fixtures;

#[derive(Deserialize)]
struct Expected {
    template: String,
    bos: Option<String>,
    eos: String,
    messages: Vec<Value>,
    prompt: Option<Vec<u32>>,
    whole: Option<Vec<u32>>,
    text: Option<String>,
    error: Option<String>,
}

/// A tokenizer's folder without a template.
pub fn folder(bos: Option<&str>, eos: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = fixtures::folder("chat/tokenizer.json");
    fs::copy(from, folder.path().join("tokenizer.json")).unwrap();
    write(&folder, &json!({"bos_token": bos, "eos_token": eos}));
    folder
}

fn write(folder: &TempDir, config: &Value) {
    let path = folder.path().join("tokenizer_config.json");
    fs::write(path, config.to_string()).unwrap();
}

pub fn tokenizer(folder: &TempDir) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::load(folder.path()).unwrap())
}

fn template(name: &str) -> std::path::PathBuf {
    fixtures::folder(&format!("chat/{name}.jinja"))
}

fn messages(values: &[Value]) -> Vec<Message> {
    values.iter().map(|m| Message::parse(m).unwrap()).collect()
}

/// The only example of rows of columns.
pub fn examples(
    folder: &TempDir,
    reading: &Reading,
    form: impl Into<Form>,
    rows: &[Value],
) -> Result<Vec<Example>> {
    let data = folder.path().join("rows.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(&data, lines.join("\n")).unwrap();
    let tokenizer = tokenizer(folder);
    let settings = RowRules {
        allow_empty: true,
        ..RowRules::default()
    };
    let source = Source::read(&data, reading, form, tokenizer, 4096, settings, &Silent)?;
    (0..source.len()).map(|row| source.example(row)).collect()
}

fn with(template: &Path) -> Reading {
    Reading {
        chat_template: Some(template.into()),
        chat_date: Some("2024-07-26".into()),
        ..Reading::default()
    }
}

#[test]
fn text_and_tokens_are_those_of_transformers() {
    let expected: Vec<Expected> = fixtures::json("chat/expected.json");
    let (mut rendered, mut refused, mut split) = (0, 0, 0);
    for Expected {
        template: name,
        bos,
        eos,
        messages: turns,
        prompt,
        whole,
        text,
        error,
    } in expected
    {
        let folder = folder(bos.as_deref(), &eos);
        let tokenizer = tokenizer(&folder);
        let path = template(&name);
        let chat = ChatTemplate::load(&tokenizer, Some(&path), Some("2024-07-26")).unwrap();
        let (Some(whole), Some(prompt)) = (whole, prompt) else {
            let error = error.unwrap();
            let all = chat.render(&messages(&turns), false);
            let asked = chat.render(&messages(&turns[..turns.len() - 1]), true);
            says(all.and(asked), &[&error, &name]);
            refused += 1;
            continue;
        };
        let said = chat.render(&messages(&turns), false).unwrap();
        assert_eq!(said, text.unwrap(), "{name}");
        assert_eq!(tokenizer.encode(&said).unwrap(), whole, "{name}");
        let asked = chat
            .render(&messages(&turns[..turns.len() - 1]), true)
            .unwrap();
        assert_eq!(tokenizer.encode(&asked).unwrap(), prompt, "{name}");
        rendered += 1;
        if !said.starts_with(&asked) || turns.last().unwrap()["role"] != "assistant" {
            continue;
        }
        // What a row becomes: the same tokens, but for what comes after the end token.
        let row = json!({"messages": turns});
        let made = examples(&folder, &with(&path), Form::Demonstration, &[row]).unwrap();
        let sequence = &made[0].responses[0].sequence;
        assert_eq!(sequence.prompt(), prompt, "{name}");
        let tokens = sequence.tokens();
        assert_eq!(tokens[..], whole[..tokens.len()], "{name}");
        let rest = tokenizer.decode(&whole[tokens.len()..]).unwrap();
        assert_eq!(rest.trim(), "", "{name}");
        assert_eq!(tokens.last().copied(), tokenizer.eos(), "{name}");
        split += 1;
    }
    // Every template rendered something, and those that refuse conversations did.
    assert!(
        rendered >= 40 && refused >= 7 && split >= 30,
        "{rendered} {refused} {split}"
    );
}

/// Keys in their order, null fields, odd numbers, other names of fields, parts, calls and results: what
/// conversations hold, under templates that print it in all ways.
#[test]
fn conversations_are_given_to_templates_as_transformers_gives_them() {
    #[derive(Deserialize)]
    struct Row {
        messages: Vec<Value>,
        said: std::collections::BTreeMap<String, Option<String>>,
    }
    let folder = folder(None, "<|im_end|>");
    let tokenizer = tokenizer(&folder);
    let (mut rendered, mut refused) = (0, 0);
    for Row {
        messages: turns,
        said,
    } in fixtures::json::<Vec<Row>>("chat/conversations.json")
    {
        for (name, text) in said {
            let chat = ChatTemplate::load(&tokenizer, Some(&template(&name)), None).unwrap();
            let found = chat.render(&messages(&turns), false);
            match text {
                Some(text) => {
                    assert_eq!(found.unwrap(), text, "{name}: {turns:?}");
                    rendered += 1;
                }
                None => {
                    assert!(found.is_err(), "{name}: {turns:?}: {found:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(rendered >= 60 && refused >= 4, "{rendered} {refused}");
}

#[test]
fn a_message_is_the_same_under_other_names_and_with_null_fields() {
    let parse = |value: Value| Message::parse(&value).unwrap();
    let order = |message: &Message| message.fields().keys().cloned().collect::<Vec<_>>();
    let message =
        parse(json!({"z": 1, "value": "v", "tool_calls": null, "from": "gpt", "a": {"b": null}}));
    assert_eq!(order(&message), ["z", "content", "role", "a"]);
    assert_eq!(message.fields()["a"], json!({"b": null}));
    assert_eq!(message.role(), "assistant");
    // A name that is null is not the one that is meant.
    let message = parse(json!({"content": null, "text": "t", "role": null, "from": "human"}));
    assert_eq!(
        (order(&message), message.role()),
        (vec!["content".into(), "role".into()], "user")
    );
    for nothing in [
        json!({"role": "assistant", "content": null}),
        json!({"role": "assistant", "content": null, "tool_calls": null, "thinking": null}),
    ] {
        let error = Message::parse(&nothing).unwrap_err();
        assert!(error.contains("no content, but role"), "{error}");
    }
    let role = Message::parse(&json!({"role": null, "content": "c"})).unwrap_err();
    assert!(role.contains("no role, but content"), "{role}");
}

#[test]
fn an_integer_that_would_lose_digits_is_refused() {
    let folder = folder(None, "<|im_end|>");
    let row = |id: &str| {
        let data = folder.path().join("rows.jsonl");
        let row = format!(
            r#"{{"id": {id}, "messages": [{{"role": "user", "content": "u"}}, {{"role": "assistant", "content": "c", "n": [{id}]}}]}}"#
        );
        fs::write(&data, row).unwrap();
        let reading = with(Path::new("chatml"));
        let settings = RowRules::default();
        let source = Source::read(
            &data,
            &reading,
            Form::Demonstration,
            tokenizer(&folder),
            4096,
            settings,
            &Silent,
        )?;
        source.example(0)
    };
    says(
        row("123456789012345678901234"),
        &[
            "rows.jsonl:1",
            "123456789012345678901234",
            "64 bits",
            "write it as text",
        ],
    );
    for right in [
        "18446744073709551615",
        "1.5e300",
        "\"123456789012345678901234\"",
    ] {
        row(right).unwrap();
    }
}

/// Whatever a template does, it ends soon, and the error names it and the row.
#[test]
fn templates_are_bounded() {
    let folder = folder(None, "<|im_end|>");
    let file = folder.path().join("chat_template.jinja");
    let row = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    let grow = |start: &str, step: &str| {
        format!(
            "{{% set n = namespace(x={start}) %}}{{% for i in range(99) %}}{{% set n.x = {step} %}}{{% endfor %}}{{{{ n.x }}}}"
        )
    };
    let long = |one: &str| format!("{{{{ 1{} }}}}", one.repeat(50_000));
    let templates = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x".into(),
        "{% for a in range(99999) %}{% for b in range(99999) %}some text{% endfor %}{% endfor %}".into(),
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}".into(),
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}".into(),
        grow("'x'", "n.x ~ n.x"),
        grow("'x'", "n.x + n.x"),
        grow("'x'", "n.x * 9"),
        grow("'x'", "[n.x, n.x] | join"),
        grow("'x'", "'%s%s' | format(n.x, n.x)"),
        grow("'x'", "n.x.replace('x', 'xx')"),
        grow("[1]", "n.x + n.x"),
        grow("[1]", "[n.x, n.x]"),
        grow("(1,)", "(n.x, n.x)"),
        grow("{}", "{'a': n.x, 'b': n.x}"),
        grow("{}", "namespace(a=n.x, b=n)"),
        "{% set n = namespace(x=[]) %}{% for i in range(99999) %}{% set n.x = [n.x] %}{% endfor %}".into(),
        "{% set n = namespace() %}{% set n.x = n %}{{ n }}".into(),
        "{{ 'a\nb' | indent(10000000000) }}".into(),
        "{{ range(99999) | join('a' * 100000) }}".into(),
        "{{ '%1000000000d' | format(1) }}".into(),
        "{{ '{:>1000000000}'.format(1) }}".into(),
        "{{ 'a' * 9999999999 }}".into(),
        "{{ ([0] * 99999999) | list | length }}".into(),
        "{{ [1] | batch(1000000000, 'x') | list }}".into(),
        "{{ [1] | tojson(indent=1000000000) }}".into(),
        long(" + 1"),
        long(" ~ 'a'"),
        long(" | string"),
        long(".a"),
        long(" ** 1"),
        format!("{{{{ {}1 }}}}", "not ".repeat(50_000)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(50_000)),
        "{% include 'chat' %}".into(),
    ];
    for template in templates {
        fs::write(&file, &template).unwrap();
        let made = examples(
            &folder,
            &Reading::default(),
            Form::Demonstration,
            std::slice::from_ref(&row),
        );
        let shown: String = template.chars().take(60).collect();
        assert!(made.is_err(), "{shown}");
        says(made, &["rows.jsonl:1", "chat_template.jinja"]);
    }
}

#[test]
fn a_template_is_found_where_tokenizers_keep_it() {
    let tell = |folder: &TempDir| {
        let chat = ChatTemplate::load(&tokenizer(folder), None, None)?;
        chat.render(&[Message::new("user", "hi")], true)
    };
    let folder = folder(Some("<s>"), "</s>");
    says(
        tell(&folder),
        &["no chat template", "--chat-template FILE, chatml or turns"],
    );
    let base = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"});
    let mut config = base.clone();
    config["chat_template"] = "{{ bos_token }}one {{ messages[0].content }}".into();
    write(&folder, &config);
    assert_eq!(tell(&folder).unwrap(), "<s>one hi");
    config["chat_template"] = json!([{"name": "tool_use", "template": "no"},
                                     {"name": "default", "template": "two{{ eos_token }}"}]);
    write(&folder, &config);
    assert_eq!(tell(&folder).unwrap(), "two</s>");
    config["chat_template"] = json!([{"name": "tool_use", "template": "no"}]);
    write(&folder, &config);
    says(
        tell(&folder),
        &["tokenizer_config.json: chat_template", "default"],
    );
    fs::write(folder.path().join("chat_template.jinja"), "three").unwrap();
    assert_eq!(tell(&folder).unwrap(), "three");
    let named = folder.path().join("four.jinja");
    fs::write(&named, "four").unwrap();
    let chat = ChatTemplate::load(&tokenizer(&folder), Some(&named), None).unwrap();
    assert_eq!(chat.render(&[], false).unwrap(), "four");
    let built_in = ChatTemplate::load(&tokenizer(&folder), Some(Path::new("chatml")), None);
    assert_eq!(
        built_in
            .unwrap()
            .render(&[Message::new("user", "hi")], true)
            .unwrap(),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn a_faulty_template_is_named_with_its_line() {
    let folder = folder(Some("<s>"), "</s>");
    let file = folder.path().join("chat_template.jinja");
    let row = json!({"messages": [{"role": "user", "content": "a"},
                                  {"role": "assistant", "content": "b"}]});
    let tell = |template: &str| {
        fs::write(&file, template).unwrap();
        examples(
            &folder,
            &Reading::default(),
            Form::Demonstration,
            std::slice::from_ref(&row),
        )
    };
    says(
        tell("{% for m in messages %}\n{{ m.content }\n{% endfor %}"),
        &[
            "rows.jsonl:1",
            "chat_template.jinja:2",
            "syntax error",
            "correct the template",
        ],
    );
    says(
        tell("\n\n{% nonsense %}"),
        &["chat_template.jinja:3", "nonsense"],
    );
    says(
        tell("{{ messages[0].content.nothing.at_all }}"),
        &["rows.jsonl:1", "chat_template.jinja:1", "undefined"],
    );
    says(
        tell("{{ strftime_now('%Y') }}"),
        &["rows.jsonl:1", "--chat-date YYYY-MM-DD"],
    );
    says(
        tell("{{ 'Q' if add_generation_prompt else 'A' }}"),
        &[
            "in another way when `messages` follows",
            "\"Q\"",
            "\"A\"",
            "another chat template",
        ],
    );
    // One that is named is looked at before any row.
    let named = Reading {
        chat_template: Some(file),
        ..Reading::default()
    };
    fs::write(named.chat_template.as_ref().unwrap(), "{% if %}").unwrap();
    let text = json!({"prompt": "a", "completion": "b"});
    says(
        examples(
            &folder,
            &named,
            Form::Demonstration,
            std::slice::from_ref(&text),
        ),
        &["chat_template.jinja:1", "syntax error"],
    );
    // Data without conversations do without.
    examples(&folder, &Reading::default(), Form::Demonstration, &[text]).unwrap();
}

/// Prompt and completion as text, of every response.
fn split(folder: &TempDir, form: impl Into<Form>, row: Value) -> Result<Vec<[String; 2]>> {
    let reading = with(Path::new("chatml"));
    let tokenizer = tokenizer(folder);
    let made = examples(folder, &reading, form, &[row])?;
    let each = made[0].responses.iter().map(|response| {
        let sequence = &response.sequence;
        [sequence.prompt(), sequence.completion()].map(|t| tokenizer.decode(t).unwrap())
    });
    Ok(each.collect())
}

#[test]
fn conversations_are_split_where_the_answer_begins() {
    let folder = folder(None, "<|im_end|>");
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let prompt = [turn("user", "u"), turn("assistant", "v"), turn("user", "w")];
    let text = "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\nv<|im_end|>\n\
                <|im_start|>user\nw<|im_end|>\n<|im_start|>assistant\n";
    let both = [[text, "x<|im_end|>"], [text, "y<|im_end|>"]].map(|pair| pair.map(String::from));
    let pairs = InputKind::LabelledPairs;
    let said = |answer: &str| [&prompt[..], &[turn("assistant", answer)]].concat();
    // TRL's forms: prompt and answers apart, answers as text, all of each conversation.
    for row in [
        json!({"prompt": prompt, "chosen": [turn("assistant", "x")],
               "rejected": [turn("assistant", "y")]}),
        json!({"prompt": prompt, "chosen": turn("assistant", "x"), "rejected": "y"}),
        json!({"chosen": said("x"), "rejected": said("y")}),
        json!({"prompt": null, "chosen": said("x"), "rejected": said("y")}),
    ] {
        assert_eq!(split(&folder, pairs, row).unwrap(), both);
    }
    // ShareGPT's names, and those of message trees.
    let row = json!({
        "prompt": [{"from": "human", "value": "u"}, {"role": "assistant", "text": "v"},
                   {"role": "prompter", "text": "w"}],
        "completions": ["y", "x"], "scores": [1, 2]});
    assert_eq!(split(&folder, pairs, row).unwrap(), both);
    for name in ["messages", "conversations"] {
        let row = json!({name: said("x"), "label": true});
        assert_eq!(split(&folder, InputKind::Rated, row).unwrap(), both[..1]);
        let row = json!({name: said("x"), "reward": 0});
        assert_eq!(split(&folder, InputKind::Singles, row).unwrap(), both[..1]);
        let row = json!({name: said("x")});
        assert_eq!(split(&folder, Form::Demonstration, row).unwrap(), both[..1]);
    }
    // The same answer twice is an answer all the same.
    let row = json!({"chosen": said("x"), "rejected": said("x")});
    assert_eq!(
        split(&folder, pairs, row).unwrap(),
        [both[0].clone(), both[0].clone()]
    );
}

#[test]
fn conversations_that_are_none() {
    let folder = folder(None, "<|im_end|>");
    let turn = |role: &str| json!({"role": role, "content": "c"});
    let demonstration =
        |messages: Value| split(&folder, Form::Demonstration, json!({"messages": messages}));
    says(
        demonstration(json!([turn("user")])),
        &["rows.jsonl:1", "`messages` ends with a turn of `user`"],
    );
    says(
        demonstration(json!([turn("assistant")])),
        &["no turn before the answer"],
    );
    says(demonstration(json!([])), &["no messages"]);
    says(
        demonstration(json!([{"role": "user"}])),
        &["a message has no content, but role"],
    );
    says(
        demonstration(json!([{"content": "c", "name": "n"}])),
        &["no role, but content, name"],
    );
    says(demonstration(json!(["text"])), &["is no message"]);
    says(demonstration(json!("text")), &["`messages` is text"]);
    let pair = |row: Value| split(&folder, InputKind::LabelledPairs, row);
    says(
        pair(json!({"prompt": "p", "chosen": [turn("assistant")], "rejected": "c"})),
        &[
            "`chosen` is a conversation, and `prompt` is text",
            "--column prompt=none",
        ],
    );
    let whole = [turn("user"), turn("assistant")];
    says(
        pair(json!({"prompt": [turn("user")], "chosen": whole, "rejected": whole})),
        &["`chosen` holds a turn of `user` after the prompt"],
    );
    says(
        pair(json!({"chosen": whole, "rejected": "c"})),
        &["one is text and one a conversation"],
    );
}

#[test]
fn text_is_split_after_the_last_separator_that_both_have() {
    let folder = folder(Some("<s>"), "</s>");
    let split = |separator: Option<&str>, chosen: &str, rejected: &str| {
        let reading = Reading {
            implicit_prompt: separator.map(String::from),
            ..Reading::default()
        };
        let row = json!({"chosen": chosen, "rejected": rejected});
        let made = examples(&folder, &reading, InputKind::LabelledPairs, &[row])?;
        let tokenizer = tokenizer(&folder);
        let decode = |tokens: &[u32]| tokenizer.decode(tokens).unwrap();
        let [a, b] = [0, 1].map(|i| made[0].responses[i].sequence.clone());
        Ok([
            decode(a.prompt()),
            decode(a.completion()),
            decode(b.completion()),
        ])
    };
    let mark = Some("\n\nA:");
    assert_eq!(
        split(
            mark,
            "\n\nH: x\n\nA: y\n\nH: z\n\nA: one",
            "\n\nH: x\n\nA: y\n\nH: z\n\nA: two"
        )
        .unwrap(),
        ["\n\nH: x\n\nA: y\n\nH: z\n\nA:", " one</s>", " two</s>"]
    );
    // They part before the last one, and share a word after the one before; é and è share a byte.
    assert_eq!(
        split(
            mark,
            "\n\nH: x\n\nA: so é\n\nA: b",
            "\n\nH: x\n\nA: so è\n\nA: b"
        )
        .unwrap(),
        ["\n\nH: x\n\nA:", " so é\n\nA: b</s>", " so è\n\nA: b</s>"]
    );
    says(
        split(mark, "H: a", "H: b"),
        &["rows.jsonl:1", "does not hold \"\\n\\nA:\""],
    );
    says(
        split(None, "a\n\nA: b", "a\n\nA: c"),
        &["column `prompt` is missing", "implicit_prompt"],
    );
    says(split(Some(""), "a", "b"), &["implicit_prompt", "empty"]);
}

#[test]
fn a_prompt_alone_is_the_one_that_a_completion_follows() {
    let folder = folder(None, "<|im_end|>");
    let reading = Reading {
        implicit_prompt: Some("A:".into()),
        ..with(Path::new("chatml"))
    };
    let dialogue = Dialogue::new(tokenizer(&folder), &reading).unwrap();
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let ask = |row: Value| {
        let row = dialogue.prompt(row.as_object().unwrap());
        row.map(|row| (row.prompt.unwrap(), row.rendered))
    };
    let rendered = "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n".to_string();
    let (u, x, y) = (
        turn("user", "u"),
        turn("assistant", "x"),
        turn("assistant", "y"),
    );
    for row in [
        json!({"prompt": [u]}),
        json!({"messages": [u, x]}),
        json!({"conversations": [u]}),
        json!({"chosen": [u, x], "rejected": [u, y]}),
    ] {
        assert_eq!(ask(row).unwrap(), (rendered.clone(), true));
    }
    assert_eq!(
        ask(json!({"prompt": "text"})).unwrap(),
        ("text".into(), false)
    );
    let pair = json!({"chosen": "Q A: x", "rejected": "Q A: y"});
    assert_eq!(ask(pair).unwrap(), ("Q A:".into(), false));
    let problem = ask(json!({"question": "q"})).unwrap_err().problem;
    assert!(problem.contains("the row has `question`"), "{problem}");
}
