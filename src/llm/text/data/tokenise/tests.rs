//! Long texts: as much of them is tokenised as tells the tokens.

use crate::llm::text::example::Beside;
use std::path::Path;

use super::*;

fn tokeniser(folder: &str, large: usize, settings: &RowRules) -> Tokeniser {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llm/fixtures");
    let place = tempfile::tempdir().unwrap();
    let from = fixtures.join(folder).join("tokenizer.json");
    std::fs::copy(from, place.path().join("tokenizer.json")).unwrap();
    let config = "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";
    std::fs::write(place.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Arc::new(Tokenizer::load(place.path()).unwrap());
    let mut tokeniser = Tokeniser::new(tokenizer, 64, settings.clone()).unwrap();
    tokeniser.sizes = Sizes {
        large,
        most: 1 << 15,
    };
    tokeniser
}

fn row(prompt: &str, completion: &str) -> TextRow {
    TextRow {
        prompt: Some(prompt.into()),
        completions: vec![Completion {
            column: "completion".into(),
            text: completion.into(),
            reward: 0.0,
            weights: None,
            stored: None,
        }],
        rendered: false,
        beside: Beside::default(),
    }
}

/// Words, letters, digits in a row, line's ends, other alphabets: what merges, and what is cut in a rhythm.
fn texts(length: usize) -> Vec<String> {
    let mut stream = crate::random::Stream::new(1, crate::random::Purpose::Order, 0);
    let mut random = String::new();
    while random.len() < length {
        let words = [
            "the ", "time", " 12345", "\n\n", "é", "日本", "  ", "a", "yes no ", "!?",
        ];
        random += words[stream.below(words.len() as u32) as usize];
    }
    let again = |text: &str| text.repeat(length / text.len() + 1);
    let mut all: Vec<String> = ["a", "a b ", "0123456789", "1", " ", "日本", "yes no ", "ab"]
        .map(again)
        .into();
    all.push(random);
    all
}

#[test]
fn a_piece_of_a_long_text_has_the_tokens_of_the_whole() {
    let settings = RowRules {
        max_length: Some(48),
        max_prompt_length: Some(20),
        ..RowRules::default()
    };
    let mut pieces = 0;
    for folder in ["tokenizer", "chat"] {
        let short = tokeniser(folder, 420, &settings);
        let whole = tokeniser(folder, usize::MAX, &settings);
        for long in texts(6000) {
            for row in [row("yes", &long), row(&long, " no"), row(&long, &long)] {
                let shortened = short.shortened(&row).unwrap().unwrap();
                let length = |row: &TextRow| {
                    row.prompt.as_ref().map_or(0, String::len) + row.completions[0].text.len()
                };
                pieces += usize::from(length(&shortened) < length(&row));
                assert_eq!(
                    short.example(0, &row).unwrap(),
                    whole.example(0, &row).unwrap(),
                    "{folder}: {:?}",
                    &long[..12]
                );
            }
        }
    }
    assert!(pieces > 30, "{pieces}");
}

#[test]
fn what_cannot_fit_is_refused_by_a_piece_of_it() {
    let tokeniser = tokeniser("tokenizer", 420, &RowRules::default());
    let long = "yes no ".repeat(1000);
    for (row, expected) in [
        (
            row("yes", &long),
            "`completion`, of 7000 bytes, has more than 64 tokens",
        ),
        (
            row(&long, "no"),
            "the prompt, of 7000 bytes, has more than 64 tokens",
        ),
        (row("yes", &" ".repeat(40_000)), ""),
    ] {
        let fault = tokeniser.example(0, &row).unwrap_err();
        assert!(fault.problem.contains(expected), "{}", fault.problem);
    }
}
