//! Tokens that only the files beside `tokenizer.json` know.

use serde_json::Value;
use tokenizers::AddedToken;

use super::special::Special;
use super::{Error, Result, guarded};

/// The roles that `transformers` adds first, in its order.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The roles of which a token has to be in the vocabulary: it is generated, or stands in every text.
const NEEDED: [&str; 3] = ["bos_token", "eos_token", "pad_token"];

/// A token that a file adds.
struct Found {
    token: AddedToken,
    /// Its number, if the file says it.
    number: Option<u32>,
    /// The file, and the field in it.
    place: String,
    /// Whether the file lists it as an added one, and does not only name it as special.
    listed: bool,
}

impl Found {
    /// The field that names it.
    fn role(&self) -> &str {
        self.place.rsplit(' ').next().unwrap_or_default()
    }
}

/// Adds them as `transformers` does: first what is listed, in the order of numbers, then the named
/// special tokens, then further special ones. Returns the last that got a new number, and its place.
///
/// # Errors
/// What is no token, or a token that would get another number than its file says.
pub(super) fn add(
    inner: &mut tokenizers::Tokenizer,
    special: &Special,
) -> Result<Option<(u32, String)>> {
    let mut latest = None;
    for found in all(special)? {
        let needed = NEEDED.contains(&found.role());
        let Found {
            token,
            number,
            place,
            listed,
        } = found;
        let text = token.content.clone();
        let known = inner.token_to_id(&text);
        let there = (inner.get_added_vocabulary().get_vocab()).contains_key(&text);
        // A named token that the vocabulary has as such is added; one that it has not at all is told
        // where the role is looked for.
        if !listed && (there || (known.is_none() && needed)) {
            continue;
        }
        let before = highest(inner);
        let failed = |problem: String| {
            let remedy = "save the tokenizer again with transformers' `save_pretrained`";
            Error::invalid(&place, problem, remedy)
        };
        guarded(|| inner.add_tokens([token])).map_err(|e| failed(format!("`{text}`: {e}")))?;
        let got = inner.token_to_id(&text);
        if let (Some(number), Some(got)) = (number, got)
            && number != got
        {
            return Err(failed(format!(
                "`{text}` is token {number} there, and {got} in what tokenizer.json makes of it"
            )));
        }
        let Some(got) = got.filter(|_| known.is_none()) else {
            continue;
        };
        if before.is_some_and(|before| got <= before) {
            return Err(failed(format!(
                "`{text}` would become token {got}, which is another's: numbers of the vocabulary \
                 have holes"
            )));
        }
        latest = Some((got, place));
    }
    Ok(latest)
}

fn highest(inner: &tokenizers::Tokenizer) -> Option<u32> {
    inner.get_vocab(true).into_values().max()
}

/// What the files say, in the order in which it is added.
fn all(special: &Special) -> Result<Vec<Found>> {
    let named = named(special)?;
    let is_special = |text: &str| named.iter().any(|found| found.token.content == text);
    let mut all = Vec::new();
    if let Some((path, list)) = special.list() {
        let place = format!("{}: added_tokens_decoder", path.display());
        let Value::Object(list) = list else {
            return Err(wrong(&place, "it is no object"));
        };
        for (number, token) in list {
            let number: u32 = (number.parse())
                .map_err(|_| wrong(&place, &format!("`{number}` is no token's number")))?;
            let mut token = parse(&place, token, false)?;
            token.special |= is_special(&token.content);
            all.push(listed(token, number, &place));
        }
    } else {
        let (path, list) = &special.added;
        let place = path.display().to_string();
        for (text, number) in list {
            let number = (number.as_u64().and_then(|n| u32::try_from(n).ok()))
                .ok_or_else(|| wrong(&place, &format!("`{text}` has no token's number")))?;
            let token = AddedToken::from(text.clone(), is_special(text));
            all.push(listed(token, number, &place));
        }
    }
    all.sort_by_key(|found| found.number);
    all.extend(named);
    Ok(all)
}

fn listed(token: AddedToken, number: u32, place: &str) -> Found {
    Found {
        token,
        number: Some(number),
        place: place.into(),
        listed: true,
    }
}

/// Special tokens that are named: `*_token`, then the lists of further ones.
fn named(special: &Special) -> Result<Vec<Found>> {
    let (mut roles, mut further) = (Vec::new(), Vec::new());
    for (path, fields) in special.texts() {
        for (name, value) in fields {
            let place = format!("{}: {name}", path.display());
            let put = |to: &mut Vec<Found>, value: &Value| -> Result<()> {
                let token = parse(&place, value, true)?;
                to.push(Found {
                    token,
                    number: None,
                    place: place.clone(),
                    listed: false,
                });
                Ok(())
            };
            match (name.as_str(), value) {
                ("additional_special_tokens" | "extra_special_tokens", Value::Array(list)) => {
                    list.iter().try_for_each(|token| put(&mut further, token))?;
                }
                ("extra_special_tokens", Value::Object(named)) => {
                    named
                        .values()
                        .try_for_each(|token| put(&mut roles, token))?;
                }
                (name, Value::String(_) | Value::Object(_)) if name.ends_with("_token") => {
                    put(&mut roles, value)?;
                }
                _ => {}
            }
        }
    }
    let order = |found: &Found| ROLES.iter().position(|&role| role == found.role());
    roles.sort_by_key(|found| order(found).unwrap_or(ROLES.len()));
    roles.extend(further);
    // The first file that names a token says how it is.
    let mut seen = std::collections::HashSet::new();
    roles.retain(|found| {
        !found.token.content.is_empty() && seen.insert(found.token.content.clone())
    });
    Ok(roles)
}

/// A token as text, or as the object of its flags.
fn parse(place: &str, value: &Value, special: bool) -> Result<AddedToken> {
    let object = match value {
        Value::String(text) => return Ok(AddedToken::from(text.clone(), special)),
        Value::Object(object) => object,
        _ => return Err(wrong(place, &format!("{value} is no token"))),
    };
    let Some(Value::String(text)) = object.get("content") else {
        return Err(wrong(place, "a token has no `content`"));
    };
    let flag = |name: &str, otherwise: bool| match object.get(name) {
        None => Ok(otherwise),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(wrong(place, &format!("`{name}` of `{text}` is {other}"))),
    };
    let special = special || flag("special", false)?;
    Ok(AddedToken {
        content: text.clone(),
        single_word: flag("single_word", false)?,
        lstrip: flag("lstrip", false)?,
        rstrip: flag("rstrip", false)?,
        normalized: flag("normalized", !special)?,
        special,
    })
}

fn wrong(place: &str, problem: &str) -> Error {
    Error::invalid(
        place,
        problem,
        "it must list tokens as transformers writes them",
    )
}
