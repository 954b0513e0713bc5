//! Units of text: words, characters, tokens.

use std::collections::HashMap;

/// The words of a text: runs of letters, digits and inner apostrophes, in any script. `don't` is one
/// word, `well-known` two.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let apostrophe = |c: char| c == '\'' || c == '’';
    text.split(move |c: char| !(c.is_alphanumeric() || apostrophe(c)))
        .map(move |word| word.trim_matches(apostrophe))
        .filter(|word| !word.is_empty())
}

/// A word as it is compared: in lower case, and with a straight apostrophe.
pub(super) fn folded(word: &str, case_sensitive: bool) -> String {
    let word = word.replace('’', "'");
    if case_sensitive {
        word
    } else {
        word.to_lowercase()
    }
}

/// Whether a text is a single word.
pub(super) fn is_word(text: &str) -> bool {
    let mut found = words(text);
    found.next() == Some(text) && found.next().is_none()
}

/// How often each word of a text occurs, as it is compared, and how many there are.
pub(super) fn counts(text: &str, case_sensitive: bool) -> (HashMap<String, usize>, usize) {
    let (mut counts, mut all) = (HashMap::new(), 0);
    for word in words(text) {
        *counts.entry(folded(word, case_sensitive)).or_insert(0) += 1;
        all += 1;
    }
    (counts, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters() {
        let all = |text| words(text).collect::<Vec<_>>();
        assert_eq!(
            all("“Don’t!” said well-known Łukasz, 'twice'."),
            ["Don’t", "said", "well", "known", "Łukasz", "twice"]
        );
        assert_eq!(all(" ... '' "), [""; 0]);
        assert_eq!(folded("Don’t", false), "don't");
        assert!(is_word("don't") && !is_word("not good") && !is_word(":-)") && !is_word(""));
    }
}
