//! Files that are no JSON lines: packed ones, arrays, parquet, text.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use pistar::Result;
use pistar::llm::internals::text::data::file::JsonLines;
use pistar::llm::text::data::{Format, Reading};
use pistar::observer::Silent;
use serde_json::Value;

use crate::data::{file, says};

#[cfg(feature = "parquet")]
fn rows(table: &JsonLines) -> Vec<Value> {
    (0..table.len())
        .map(|row| Value::Object(table.row(row).unwrap()))
        .collect()
}

fn read(bytes: &[u8], format: Option<Format>) -> Result<Vec<Value>> {
    let (_folder, path) = file(bytes);
    let reading = Reading {
        format,
        ..Reading::default()
    };
    let table = JsonLines::read(&path, &reading, &Silent)?;
    (0..table.len())
        .map(|row| table.row(row).map(Value::Object))
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| row.to_string() + "\n").collect()
}

fn some(count: usize) -> Vec<Value> {
    let row = |i: usize| serde_json::json!({"row": i, "text": "é{[,]}\"\\".repeat(i % 7), "list": [[i], {"a": "]"}]});
    (0..count).map(row).collect()
}

#[test]
fn gzip_is_what_is_in_it() {
    let all = some(3000);
    let text = lines(&all);
    assert_eq!(read(&gzip(text.as_bytes()), None).unwrap(), all);
    // Members end to end, as `cat` of two files makes them.
    let (one, two) = text.split_at(text.len() / 3);
    let both = [gzip(one.as_bytes()), gzip(two.as_bytes())].concat();
    assert_eq!(read(&both, None).unwrap(), all);
    let array = Value::Array(all.clone()).to_string();
    assert_eq!(read(&gzip(array.as_bytes()), None).unwrap(), all);
    // The hash is the packed file's: sha256sum FILE.
    let (_folder, path) = file(gzip(text.as_bytes()));
    let table = JsonLines::open(&path).unwrap();
    let plain = JsonLines::open(&{
        let copy = path.with_extension("bin");
        fs::copy(&path, &copy).unwrap();
        fs::write(&copy, text.as_bytes()).unwrap();
        copy
    });
    assert_ne!(table.hash(), plain.unwrap().hash());
    assert!(table.place(2999).unwrap().ends_with("data.jsonl:3000"));
}

#[test]
fn gzip_that_is_cut_short_or_broken() {
    let whole = gzip(lines(&some(3000)).as_bytes());
    for length in [2, 9, 100, whole.len() / 2, whole.len() - 1] {
        says(
            read(&whole[..length], None),
            &[
                "data.jsonl",
                "the compressed file is cut short",
                "fetch it again",
            ],
        );
    }
    let mut broken = whole.clone();
    let middle = whole.len() / 2;
    broken[middle..middle + 20].fill(0x55);
    says(read(&broken, None), &["data.jsonl", "compressed file is"]);
}

#[test]
fn what_follows_the_last_gzip_member() {
    let all = some(30);
    let whole = gzip(lines(&all).as_bytes());
    // Zeros fill up a block: Python's gzip skips them, between members too.
    for zeros in [1, 512, 3 << 20] {
        let padded = [&whole[..], &vec![0; zeros]].concat();
        assert_eq!(read(&padded, None).unwrap(), all);
        let both = [&padded[..], &whole].concat();
        assert_eq!(read(&both, None).unwrap().len(), 2 * all.len());
    }
    for rest in ["x", "\0\0x", "\n", "{\"row\": 30}\n"] {
        let trailing = [&whole[..], rest.as_bytes()].concat();
        says(
            read(&trailing, None),
            &["data.jsonl", "follow the last member", "gunzip -c"],
        );
    }
    says(
        read(&[&whole[..], &whole[..7]].concat(), None),
        &["cut short"],
    );
}

#[test]
fn a_row_of_any_size_in_a_small_file_is_refused_before_it_is_unpacked() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"{\"text\": \"a\"}\n[\"").unwrap();
    let piece = vec![b'a'; 1 << 20];
    (0..70).for_each(|_| encoder.write_all(&piece).unwrap());
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    says(read(&bomb, None), &["data.jsonl: row 2", "64 MiB"]);
    for before in ["[{\"text\": \"b\"}, {\"text\": \"", "[[[[\""] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(before.as_bytes()).unwrap();
        (0..70).for_each(|_| encoder.write_all(&piece).unwrap());
        says(read(&encoder.finish().unwrap(), None), &["row ", "64 MiB"]);
    }
    let deep = format!("{{\"text\": {}", "[".repeat(100_000));
    says(read(deep.as_bytes(), None), &["data.jsonl:1", "recursion"]);
}

#[test]
#[cfg(feature = "parquet")]
fn numbers_that_are_not_finite_matter_where_they_are_read() {
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message row { required binary text (UTF8); required double aux; }";
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.parquet");
    let out = fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(out, schema.into(), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = ["a", "b", "c"].map(ByteArray::from);
    let mut column = group.next_column().unwrap().unwrap();
    (column
        .typed::<ByteArrayType>()
        .write_batch(&texts, None, None))
    .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let numbers = [0.5, f64::NAN, f64::INFINITY];
    (column
        .typed::<DoubleType>()
        .write_batch(&numbers, None, None))
    .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let found = rows(&JsonLines::open(&path).unwrap());
    let row = |text: &str, aux: Value| serde_json::json!({"text": text, "aux": aux});
    let null = Value::Null;
    assert_eq!(
        found,
        [row("a", 0.5.into()), row("b", null.clone()), row("c", null)]
    );
    let keeping = |keep: &str| {
        let reading = Reading {
            r#where: Some(keep.into()),
            ..Reading::default()
        };
        JsonLines::read(&path, &reading, &Silent).map(|table| table.len())
    };
    assert_eq!(keeping("text != 'b'").unwrap(), 2);
    // A comparison with null would keep or drop the row without a word.
    for keep in ["aux < 1", "row.aux < 1", "row['aux'] < 1"] {
        says(
            keeping(keep),
            &["odd.parquet: row 2", "`aux`", "not finite"],
        );
    }
}

#[test]
fn arrays_are_read_by_element() {
    for count in [1, 2, 500] {
        let all = some(count);
        let array = Value::Array(all.clone());
        for text in [
            array.to_string(),
            format!("{array:#}"),
            format!("\u{feff} \n\t{array} \r\n\n"),
        ] {
            assert_eq!(read(text.as_bytes(), None).unwrap(), all, "{count}");
        }
    }
    let (_folder, path) = file("[\n {\"a\": 1},\n {\"a\":\n 2}, 3]");
    let table = JsonLines::open(&path).unwrap();
    assert_eq!(table.len(), 3);
    assert_eq!(table.row(1).unwrap()["a"], 2);
    says(
        table.row(2),
        &[
            "data.jsonl:4: element 3",
            "no JSON object",
            "a list of objects",
        ],
    );
}

#[test]
fn arrays_that_are_broken() {
    let whole = Value::Array(some(40)).to_string();
    for length in [1, 2, 30, whole.len() - 1] {
        says(
            read(&whole.as_bytes()[..length], None),
            &["data.jsonl:1", "it ends within element", "must end with ]"],
        );
    }
    says(read(b"[]", None), &["no rows", "a list of JSON objects"]);
    says(
        read(b"[{},\n]", None),
        &["data.jsonl:2", "element 2 is empty", "comma"],
    );
    says(read(b"[{},,{}]", None), &["element 2 is empty"]);
    says(
        read(b"[{}]\n{}", None),
        &["data.jsonl:2", "something follows", "format: jsonl"],
    );
    says(read(b"[{}}]", None), &["element 1 has a bracket too many"]);
    says(
        read(b"[{} {}]", None),
        &["element 1", "trailing characters"],
    );
    says(
        read(b"[\n{\"a\": nope}]", None),
        &["data.jsonl:2: element 1", "not JSON"],
    );
    says(read(b"{}", Some(Format::Json)), &["no JSON array"]);
}

#[test]
fn text_is_cut_as_the_format_says() {
    let text = "one \ntwo\r\n\n  \nthree\n\nfour\n";
    let texts = |format: Format, text: &str| -> Vec<String> {
        let rows = read(text.as_bytes(), Some(format)).unwrap();
        rows.iter()
            .map(|row| row["text"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(texts(Format::Lines, text), ["one ", "two", "three", "four"]);
    assert_eq!(
        texts(Format::Paragraphs, text),
        ["one \ntwo", "three", "four"]
    );
    assert_eq!(texts(Format::Paragraphs, "\n\n a\nb"), [" a\nb"]);
    assert_eq!(texts(Format::Document, text), [text]);
    assert_eq!(texts(Format::Lines, "\u{feff}a\nb"), ["a", "b"]);
    for format in [Format::Lines, Format::Paragraphs, Format::Document] {
        says(read(b"\n \n", Some(format)), &["no rows", "give some text"]);
        says(read(b"a\n\nb\xff", Some(format)), &["not UTF-8"]);
    }
    says(
        read(text.as_bytes(), None),
        &[
            "data.jsonl:1",
            "not JSON",
            "say format: lines, paragraphs or document",
        ],
    );
}

#[test]
#[cfg(feature = "parquet")]
fn parquet_is_what_pyarrow_wrote() {
    let folder = crate::fixtures::folder("parquet");
    let expected = rows(&JsonLines::open(&folder.join("rows.jsonl")).unwrap());
    for codec in [
        "none", "snappy", "gzip", "lz4", "zstd", "brotli", "zstd-2", "brotli-2",
    ] {
        let table = JsonLines::open(&folder.join(format!("{codec}.parquet"))).unwrap();
        assert_eq!(rows(&table), expected, "{codec}");
        assert!(table.place(4).unwrap().ends_with(".parquet: row 5"));
    }
}

#[test]
#[cfg(feature = "parquet")]
fn packed_pages_that_are_broken() {
    for name in ["zstd", "brotli", "zstd-2"] {
        let name = format!("{name}.parquet");
        let whole = fs::read(crate::fixtures::folder("parquet").join(name)).unwrap();
        let rows = read(&whole, None).unwrap();
        // Whatever byte is wrong, there is an answer: other rows, or an error that names the file.
        for at in (4..whole.len()).step_by(7) {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            match read(&broken, None) {
                Ok(found) => assert!(found.len() <= 2 * rows.len()),
                Err(error) => assert!(error.to_string().contains("data.jsonl"), "{error}"),
            }
        }
    }
}

#[test]
#[cfg(feature = "parquet")]
fn parquet_that_is_cut_short_or_broken() {
    let whole = fs::read(crate::fixtures::folder("parquet").join("snappy.parquet")).unwrap();
    for length in (4..whole.len()).step_by(whole.len() / 37) {
        says(
            read(&whole[..length], None),
            &["data.jsonl", "no whole parquet file", "fetch it again"],
        );
    }
    // A byte that is wrong is an error or another value, but no panic.
    for at in (4..whole.len()).step_by(13) {
        let mut broken = whole.clone();
        broken[at] ^= 0xff;
        let _ = read(&broken, None);
    }
    let format = Some(Format::Lines);
    says(read(&whole, format), &["it is a parquet file, not text"]);
}

/// Reads nothing but the file: a path in a message is the user's.
#[test]
fn a_missing_file_is_named() {
    let none = Path::new("no/such/file.json.gz");
    says(
        JsonLines::open(none),
        &["no/such/file.json.gz", "cannot read"],
    );
}
