//! TensorBoard's file, read by a reader of its own.

use serde_json::Value;

use crate::place::Place;

/// CRC-32C bit by bit, and masked.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in bytes.iter().flat_map(|b| (0..8).map(move |i| b >> i & 1)) {
        let out = crc & 1 ^ u32::from(bit);
        crc = (crc >> 1) ^ if out == 1 { 0x82f6_3b78 } else { 0 };
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of any protobuf message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Wire<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for i in 0.. {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let size = match key & 7 {
            0 => {
                found.push((key >> 3, Wire::Number(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = bytes.split_at(size);
        found.push((key >> 3, Wire::Bytes(field)));
        bytes = rest;
    }
    found
}

/// Step, name and value of every scalar; every frame must be whole.
pub fn scalars(mut bytes: &[u8]) -> Vec<(u64, String, f32)> {
    let mut found = Vec::new();
    let mut first = true;
    while !bytes.is_empty() {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(word(8), masked(&bytes[..8]));
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let event = &bytes[12..12 + length];
        assert_eq!(word(12 + length), masked(event));
        bytes = &bytes[16 + length..];
        let mut step = 0;
        for (number, field) in fields(event) {
            match (number, field) {
                (1, Wire::Bytes(time)) => {
                    let time = f64::from_le_bytes(time.try_into().unwrap());
                    assert!(time > 1.7e9 && time < 1e10, "{time}");
                }
                (2, Wire::Number(number)) => step = number,
                (3, Wire::Bytes(version)) => assert!(first && version == b"brain.Event:2"),
                (5, Wire::Bytes(summary)) => {
                    for (number, value) in fields(summary) {
                        assert_eq!(number, 1);
                        let Wire::Bytes(value) = value else { panic!() };
                        let (mut tag, mut scalar) = (None, None);
                        for field in fields(value) {
                            match field {
                                (1, Wire::Bytes(name)) => {
                                    tag = Some(String::from_utf8(name.to_vec()).unwrap())
                                }
                                (2, Wire::Bytes(b)) => {
                                    scalar = Some(f32::from_le_bytes(b.try_into().unwrap()))
                                }
                                (number, _) => panic!("field {number}"),
                            }
                        }
                        found.push((step, tag.unwrap(), scalar.unwrap()));
                    }
                }
                (number, _) => panic!("field {number}"),
            }
        }
        first = false;
    }
    found
}

#[test]
fn events_are_the_rows_under_the_names_of_transformers_once_each() {
    let place = Place::new(9);
    let all = [
        "dpo",
        "--model",
        "model",
        "--data",
        "data.jsonl",
        "--steps",
        "6",
        "--batch",
        "3",
        "--eval-rows",
        "3",
        "--eval-every",
        "2",
        "--checkpoint-every",
        "2",
        "--out",
        "run",
    ];
    place.train(&all);
    let check = || {
        let events = std::fs::read(place.at("run/events.out.tfevents.0")).unwrap();
        let mut found = scalars(&events);
        for row in place.rows("run") {
            let fields = row.as_object().unwrap();
            let evaluation = fields.contains_key("eval_loss");
            for (name, value) in fields {
                let tag = match name.strip_prefix("eval_") {
                    Some(name) => format!("eval/{name}"),
                    None if evaluation || name == "step" => continue,
                    None => format!("train/{name}"),
                };
                let at = found
                    .iter()
                    .position(|(step, other, _)| row["step"] == *step && *other == tag);
                let (_, _, scalar) = found.remove(at.unwrap_or_else(|| panic!("{tag}: {row}")));
                assert_eq!(scalar, value.as_f64().unwrap() as f32, "{tag}: {row}");
            }
        }
        // What remains is when, not what.
        for (_, tag, scalar) in &found {
            assert!(
                ["train/tokens_per_second", "eval/runtime"].contains(&tag.as_str()),
                "{tag}"
            );
            assert!(*scalar > 0.0);
        }
        assert_eq!(found.len(), 9);
    };
    check();
    place.train(&["--resume", "run/checkpoint-4"]);
    check();
    // A run that was killed while it wrote an event.
    let manifest: Value = serde_json::from_str(&place.read("run/manifest.json")).unwrap();
    assert_eq!(manifest["status"], "complete");
    let path = place.at("run/events.out.tfevents.0");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 3);
    std::fs::write(&path, bytes).unwrap();
    place.train(&["--resume", "run/checkpoint-4"]);
    check();
}
