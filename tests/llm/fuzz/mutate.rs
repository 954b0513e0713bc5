//! Inputs made from sound ones: their structure changed where they have one, and then their bytes.

use pistar::random::Stream;
use serde_json::{Value, json};

/// Any of them.
pub fn choose<'a, T>(stream: &mut Stream, of: &'a [T]) -> &'a T {
    &of[stream.below(of.len() as u32) as usize]
}

/// A place of a text or a file.
fn place(stream: &mut Stream, length: usize) -> usize {
    stream.below(length.max(1) as u32) as usize
}

/// Stands for lists in lists in lists, too deep for a value here.
const DEEP: &str = "as deep as can be";

/// A value that is seldom meant.
fn extreme(stream: &mut Stream) -> Value {
    let deep = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    match stream.below(26) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(1),
        5 => json!(0.5),
        6 => json!(1e308),
        7 => json!(-1e-308),
        8 => json!(9_007_199_254_740_993_u64),
        9 => json!(u64::MAX),
        10 => json!(i64::MIN),
        11 => json!(i32::MAX),
        12 => json!(u32::MAX),
        13 => json!(1_000_000_000),
        14 => json!(""),
        15 => json!("\u{0}"),
        16 => json!("x".repeat(100_000)),
        17 => json!("../../etc/passwd"),
        18 => json!("\u{feff}é🙂\u{202e}"),
        19 => json!([]),
        20 => json!({}),
        21 => deep(100),
        22 => json!(DEEP),
        23 => json!(vec![1; 10_000]),
        24 => json!([null, {"a": [1, "b"]}]),
        _ => json!("none"),
    }
}

fn size(value: &Value) -> u32 {
    1 + match value {
        Value::Array(all) => all.iter().map(size).sum(),
        Value::Object(all) => all.values().map(size).sum(),
        _ => 0,
    }
}

/// Changes the part that is `at` parts into a value.
fn change(value: &mut Value, at: &mut u32, stream: &mut Stream) {
    if *at == 0 {
        *at = u32::MAX;
        return edit(value, stream);
    }
    *at -= 1;
    let parts: Vec<&mut Value> = match value {
        Value::Array(all) => all.iter_mut().collect(),
        Value::Object(all) => all.values_mut().collect(),
        _ => return,
    };
    for part in parts {
        change(part, at, stream);
        if *at == u32::MAX {
            return;
        }
    }
}

fn edit(value: &mut Value, stream: &mut Stream) {
    match value {
        Value::Object(all) if !all.is_empty() && stream.below(2) == 0 => {
            let keys: Vec<String> = all.keys().cloned().collect();
            let key = choose(stream, &keys).clone();
            let taken = all.remove(&key);
            match stream.below(3) {
                0 => {}
                1 => drop(all.insert(key + "s", taken.unwrap_or_default())),
                _ => {
                    let other = choose(stream, &keys).clone();
                    all.insert(other, taken.unwrap_or_default());
                }
            }
        }
        Value::Array(all) if !all.is_empty() && stream.below(2) == 0 => {
            let at = place(stream, all.len());
            match stream.below(4) {
                0 => drop(all.remove(at)),
                1 => {
                    let copies = std::iter::repeat_n(all[at].clone(), 300);
                    all.extend(copies);
                }
                2 => all.truncate(at),
                _ => all.reverse(),
            }
        }
        Value::Number(number) if stream.below(2) == 0 => {
            let by = choose(stream, &[-1.0, 0.5, 2.0, 1e6, 1e-6, 1e18]);
            *value = json!(number.as_f64().unwrap_or(1.0) * by);
        }
        _ => *value = extreme(stream),
    }
}

/// A value of JSON, some of its parts changed, and perhaps its text.
pub fn of_json(stream: &mut Stream, of: &Value) -> Vec<u8> {
    let mut value = of.clone();
    for _ in 0..1 + stream.below(3) {
        let mut at = stream.below(size(&value));
        change(&mut value, &mut at, stream);
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let text = value.to_string().replace(&format!("\"{DEEP}\""), &deep);
    let text = text.into_bytes();
    if stream.below(4) == 0 {
        of_text(
            stream,
            &text,
            &[
                "1e400", "{", "}", "[", "\"", ":", "\\u0000", "\\ud800", "NaN", ",,", "//",
            ],
        )
    } else {
        text
    }
}

/// Lines of JSON, one of them changed, or the lines themselves.
pub fn of_lines(stream: &mut Stream, of: &[Value]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = of.iter().map(|v| v.to_string().into_bytes()).collect();
    let at = place(stream, lines.len());
    match stream.below(8) {
        0 => lines.truncate(at),
        1 => lines.insert(at, vec![b'\n'; 100]),
        2 => lines.insert(at, b"[".to_vec()),
        3 => {
            let copies = std::iter::repeat_n(lines[at].clone(), 500);
            lines.extend(copies);
        }
        _ => lines[at] = of_json(stream, &of[at]),
    }
    lines.join(&b"\n"[..])
}

/// A text, some of it cut out, twice, or replaced by pieces that mean something in it.
pub fn of_text(stream: &mut Stream, of: &[u8], pieces: &[&str]) -> Vec<u8> {
    let mut text = of.to_vec();
    for _ in 0..1 + stream.below(3) {
        let begin = place(stream, text.len());
        let end = (begin + place(stream, 1 + text.len().min(40))).min(text.len());
        let piece = choose(stream, pieces).as_bytes().to_vec();
        match stream.below(5) {
            0 => text.truncate(begin),
            1 => drop(text.splice(begin..begin, piece)),
            2 => drop(text.splice(begin..end, piece)),
            3 => {
                let twice = text[begin..end].to_vec();
                drop(text.splice(begin..begin, twice));
            }
            _ => drop(text.drain(begin..end)),
        }
    }
    text
}

/// Bytes, some of them flipped, set, cut off, or numbers that look like lengths made extreme.
pub fn of_bytes(stream: &mut Stream, of: &[u8]) -> Vec<u8> {
    let mut bytes = of.to_vec();
    for _ in 0..1 + stream.below(4) {
        let at = place(stream, bytes.len());
        match stream.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(&[0; 100]),
            2 | 3 => {
                let flip = 1 << stream.below(8);
                bytes.get_mut(at).into_iter().for_each(|b| *b ^= flip);
            }
            4 => {
                let number = *choose(stream, &[0, 1, u32::MAX, i32::MAX as u32, 1 << 24]);
                for (b, new) in bytes.iter_mut().skip(at).zip(number.to_le_bytes()) {
                    *b = new;
                }
            }
            _ => bytes.iter_mut().skip(at).take(16).for_each(|b| *b = 0xff),
        }
    }
    bytes
}

/// A file of safetensors, its header changed, or how long it says that is, or its bytes.
pub fn of_safetensors(stream: &mut Stream, of: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(of[..8].try_into().unwrap()) as usize;
    if stream.below(5) == 0 {
        return of_bytes(stream, of);
    }
    let header: Value = serde_json::from_slice(&of[8..8 + length]).unwrap();
    let header = of_json(stream, &header);
    let said = match stream.below(6) {
        0 => *choose(stream, &[0, 1, u64::MAX, 1 << 63, 100_000_001]),
        _ => header.len() as u64,
    };
    [&said.to_le_bytes()[..], &header, &of[8 + length..]].concat()
}

/// Settings of TOML, the values or names of some changed.
pub fn of_toml(stream: &mut Stream, of: &str) -> Vec<u8> {
    let mut lines: Vec<String> = of.lines().map(String::from).collect();
    for _ in 0..1 + stream.below(2) {
        let at = place(stream, lines.len());
        let name = lines[at].split(" = ").next().unwrap_or_default().to_owned();
        let value = match stream.below(8) {
            0 => "inf".to_string(),
            1 => "nan".to_string(),
            2 => "9223372036854775807".into(),
            3 => "1979-05-27T07:32:00Z".into(),
            4 => "'''".into(),
            5 => "{ a = 1 }".into(),
            _ => {
                let value = extreme(stream);
                if value.is_null() || value.is_object() {
                    "[[1]]".into()
                } else {
                    value.to_string()
                }
            }
        };
        match stream.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, format!("{name} = {value}")),
            2 => lines[at] = format!("{name}s = {value}"),
            3 => lines[at] = format!("[{name}]"),
            _ => lines[at] = format!("{name} = {value}"),
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    let text = lines.join("\n").into_bytes();
    if stream.below(4) == 0 {
        of_text(stream, &text, &["=", "[", "\"", "\n", "#", "1_0", "0x"])
    } else {
        text
    }
}
