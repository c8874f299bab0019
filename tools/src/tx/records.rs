//! Keeps the records of a file that is imported: NDJSON (the value is the line as it is) or CSV (the value is the
//! record as a JSON object, fields in the order of the file, all of them text).
//!
//! Invariants: a record is held, never the file; what is wrong is told with its line before anything is made of it;
//! two records of different keys never become one key, and no field of a record is silently left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use quipu_ledger::limits::{MAX_KEY_BYTES, MAX_TRANSACTION_BYTES};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::failure::Failure;

/// How a file holds its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, the first line has the names.
    Csv,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Where it begins, from 1.
    pub(super) line: u64,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Reads the records of a file one by one.
pub(super) struct Records {
    source: Source,
    field: String,
    path: PathBuf,
}

enum Source {
    Ndjson {
        lines: BufReader<File>,
        line: u64,
    },
    Csv {
        reader: Box<csv::Reader<Quotes>>,
        names: csv::StringRecord,
        index: usize,
    },
}

impl Format {
    /// As the file's name says; NDJSON where it says nothing.
    pub(super) fn of(path: &Path) -> Self {
        let csv = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if csv { Self::Csv } else { Self::Ndjson }
    }
}

impl Records {
    /// Opens `path`; the key of each record is its field `field`.
    pub(super) fn open(path: &Path, format: Format, field: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::file(path, "read", &error);
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            let text = format!("{}: is not a regular file", path.display());
            return Err(Failure::general("file", text).hint("it is read twice: first to check it, then to send it"));
        }
        let file = File::open(path).map_err(failed)?;
        let source = match format {
            Format::Ndjson => Source::Ndjson {
                lines: BufReader::new(file),
                line: 0,
            },
            Format::Csv => {
                let mut reader = Box::new(csv::Reader::from_reader(Quotes::new(file)));
                let names = reader
                    .headers()
                    .map_err(|error| wrong(path, 1, &format!("is not CSV: {error}")))?
                    .clone();
                closed(reader.get_ref(), path)?;
                let mut known = BTreeSet::new();
                if let Some(twice) = names.iter().find(|name| !known.insert(*name)) {
                    return Err(wrong(path, 1, &format!("names the field '{twice}' twice")));
                }
                let index = names.iter().position(|name| name == field).ok_or_else(|| {
                    let known: Vec<&str> = names.iter().collect();
                    wrong(path, 1, &format!("has no field '{field}'; it has {}", known.join(", ")))
                })?;
                Source::Csv { reader, names, index }
            }
        };
        Ok(Self {
            source,
            field: field.to_owned(),
            path: path.to_owned(),
        })
    }

    fn read(&mut self) -> Result<Option<Record>, Failure> {
        match &mut self.source {
            Source::Ndjson { lines, line } => next_json(lines, line, &self.field, &self.path),
            Source::Csv { reader, names, index } => next_csv(reader, names, *index, &self.path),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// What is wrong with a line.
pub(super) fn wrong(path: &Path, line: u64, problem: &str) -> Failure {
    Failure::usage(format!("{}: line {line} {problem}", path.display())).hint("nothing was sent; correct the file")
}

fn next_json(lines: &mut BufReader<File>, line: &mut u64, field: &str, path: &Path) -> Result<Option<Record>, Failure> {
    let cap = MAX_TRANSACTION_BYTES.saturating_add(2);
    loop {
        *line = line.saturating_add(1);
        let mut bytes = Vec::new();
        let read = lines
            .take(u64::try_from(cap).unwrap_or(u64::MAX))
            .read_until(b'\n', &mut bytes);
        if read.map_err(|error| Failure::file(path, "read", &error))? == 0 {
            return Ok(None);
        }
        if bytes.len() >= cap && bytes.last() != Some(&b'\n') {
            return Err(wrong(
                path,
                *line,
                &format!("is longer than a transaction may be ({MAX_TRANSACTION_BYTES} bytes)"),
            ));
        }
        while bytes.pop_if(|last| *last == b'\n' || *last == b'\r').is_some() {}
        if bytes.is_empty() {
            continue;
        }
        let key = json_key(&bytes, field).map_err(|problem| wrong(path, *line, &problem))?;
        return Ok(Some(Record {
            line: *line,
            key: checked(key, field, path, *line)?,
            value: bytes,
        }));
    }
}

/// The key of a JSON record: its field, which is text or a whole number.
fn json_key(line: &[u8], field: &str) -> Result<String, String> {
    let Fields { fields, twice } = serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "is not a JSON object".to_owned(),
        _ => format!("is not JSON: {error}"),
    })?;
    if let Some(twice) = twice {
        return Err(format!("has the field '{twice}' twice"));
    }
    match fields.get(field) {
        Some(Value::String(key)) => Ok(key.clone()),
        // Others have no exact text: two of them could become one key.
        Some(Value::Number(key)) if key.is_i64() || key.is_u64() => Ok(key.to_string()),
        Some(Value::Number(_)) => Err(format!(
            "has a number in the field '{field}' that is not a whole number of at most 64 bits; write it as text"
        )),
        Some(_) => Err(format!("has a field '{field}' that is neither text nor a number")),
        None => Err(format!("has no field '{field}'")),
    }
}

/// A JSON record, with the first field that it has twice.
struct Fields {
    fields: BTreeMap<String, Value>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let (mut fields, mut twice) = (BTreeMap::new(), None);
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        twice.get_or_insert_with(|| name.clone());
                    }
                    fields.insert(name, value);
                }
                Ok(Fields { fields, twice })
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn next_csv(
    reader: &mut csv::Reader<Quotes>,
    names: &csv::StringRecord,
    index: usize,
    path: &Path,
) -> Result<Option<Record>, Failure> {
    let mut record = csv::StringRecord::new();
    let line = reader.position().line();
    let more = reader.read_record(&mut record);
    closed(reader.get_ref(), path)?;
    let more = more.map_err(|error| wrong(path, line, &format!("is not CSV: {error}")))?;
    if !more {
        return Ok(None);
    }
    let line = record.position().map_or(line, csv::Position::line);
    let fields = names.iter().zip(record.iter());
    let fields: Vec<String> = fields
        .map(|(name, field)| format!("{}:{}", Value::from(name), Value::from(field)))
        .collect();
    let value = format!("{{{}}}", fields.join(",")).into_bytes();
    let key = record.get(index).unwrap_or_default().to_owned();
    let name = names.get(index).unwrap_or_default();
    Ok(Some(Record {
        line,
        key: checked(key, name, path, line)?,
        value,
    }))
}

/// A field that is never closed holds all that comes after it, which the reader of CSV takes as it is.
fn closed(quotes: &Quotes, path: &Path) -> Result<(), Failure> {
    match quotes.unclosed() {
        Some(line) => Err(wrong(path, line, "opens a quoted field that is never closed")),
        None => Ok(()),
    }
}

/// A CSV file, and whether it is within a quoted field.
struct Quotes {
    file: File,
    at: At,
    /// Bytes read.
    position: usize,
    line: u64,
    /// Where the last quoted field was opened.
    opened: u64,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within a quoted field: its end, or the first of two.
    Quote,
}

impl Quotes {
    const fn new(file: File) -> Self {
        Self {
            file,
            at: At::Start,
            position: 0,
            line: 1,
            opened: 0,
            ended: false,
        }
    }

    /// The line whose quoted field the file has ended in.
    fn unclosed(&self) -> Option<u64> {
        (self.ended && self.at == At::Quoted).then_some(self.opened)
    }

    fn step(&mut self, byte: u8) {
        // A mark of UTF-8 in front is no part of the first field.
        let is_mark = b"\xef\xbb\xbf".get(self.position) == Some(&byte) && self.at == At::Start;
        self.position = self.position.saturating_add(1);
        self.at = match (self.at, byte) {
            (At::Start, b'"') => {
                self.opened = self.line;
                At::Quoted
            }
            (At::Start, _) if is_mark => At::Start,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) | (At::Quote, b'"') => At::Quoted,
            (At::Start | At::Plain | At::Quote, b',' | b'\n' | b'\r') => At::Start,
            (At::Start | At::Plain | At::Quote, _) => At::Plain,
        };
        self.line = self.line.saturating_add(u64::from(byte == b'\n'));
    }
}

impl Read for Quotes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        for byte in buffer.iter().take(count) {
            self.step(*byte);
        }
        Ok(count)
    }
}

fn checked(key: String, field: &str, path: &Path, line: u64) -> Result<Vec<u8>, Failure> {
    if key.is_empty() {
        return Err(wrong(
            path,
            line,
            &format!("has an empty field '{field}'; a key has at least one byte"),
        ));
    }
    if key.len() > MAX_KEY_BYTES {
        let length = key.len();
        return Err(wrong(
            path,
            line,
            &format!("has a field '{field}' of {length} bytes; a key has at most {MAX_KEY_BYTES}"),
        ));
    }
    Ok(key.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &[u8]) -> Result<Vec<(u64, String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let all = Records::open(&path, Format::of(&path), "id").and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let shown = |record: Record| (record.line, text(record.key), text(record.value));
        all.map(|all| all.into_iter().map(shown).collect()).map_err(|failure| {
            failure
                .message
                .strip_prefix(&format!("{}: ", path.display()))
                .unwrap_or(&failure.message)
                .to_owned()
        })
    }

    #[test]
    fn json_lines_stay_as_they_are() {
        let all = read("a.ndjson", b"{\"id\": \"x\",  \"n\":1}\r\n\n{\"n\":2,\"id\":7}").unwrap();
        assert_eq!(
            all,
            [
                (1, "x".to_owned(), "{\"id\": \"x\",  \"n\":1}".to_owned()),
                (3, "7".to_owned(), "{\"n\":2,\"id\":7}".to_owned())
            ]
        );
    }

    #[test]
    fn csv_records_become_objects() {
        let all = read("a.CSV", b"id,say\nx,\"he said \"\"hi\"\"\nand left\"\ny,\n").unwrap();
        assert_eq!(
            all,
            [
                (
                    2,
                    "x".to_owned(),
                    r#"{"id":"x","say":"he said \"hi\"\nand left"}"#.to_owned()
                ),
                (4, "y".to_owned(), r#"{"id":"y","say":""}"#.to_owned())
            ]
        );
    }

    #[test]
    fn whole_numbers_keep_every_digit() {
        let all = read("a", b"{\"id\":18446744073709551615}\n{\"id\":-9223372036854775808}").unwrap();
        let keys: Vec<_> = all.iter().map(|one| one.1.as_str()).collect();
        assert_eq!(keys, ["18446744073709551615", "-9223372036854775808"]);
    }

    #[test]
    fn closed_quotes_are_taken_wherever_they_stand() {
        for text in [
            "\u{feff}\"id\",\"y\"\r\n\"1\",\"\"\r\n",
            "id,y\n1,2\"3\n",
            "id,y\n1,\"a\"\"\"",
            "id,y\n1,\"a\"b\"\n",
            "id,y\n1,\"a\"",
        ] {
            assert_eq!(read("a.csv", text.as_bytes()).map(|all| all.len()), Ok(1), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let long = format!("{{\"id\":\"{}\"}}", "k".repeat(MAX_KEY_BYTES + 1));
        let huge = format!(
            "{{\"id\":\"x\"}}\n{{\"id\":\"{}\"}}\n",
            "v".repeat(MAX_TRANSACTION_BYTES)
        );
        for (name, text, problem) in [
            ("a", "{\"id\":\"x\"}\n{\"id\":", "line 2 is not JSON"),
            ("a", "[1]", "line 1 is not a JSON object"),
            ("a", "{\"id\":\"x\"}\n\n{\"ix\":1}", "line 3 has no field 'id'"),
            (
                "a",
                "{\"id\":null}",
                "line 1 has a field 'id' that is neither text nor a number",
            ),
            ("a", "{\"id\":\"\"}", "line 1 has an empty field 'id'"),
            ("a", &long, "line 1 has a field 'id' of 1025 bytes"),
            ("a", &huge, "line 2 is longer than a transaction"),
            ("a.csv", "ix,y\n1,2\n", "line 1 has no field 'id'; it has ix, y"),
            ("a.csv", "id,y\n1,2\n3\n", "line 3 is not CSV"),
            ("a.csv", "id,y\n,2\n", "line 2 has an empty field 'id'"),
            (
                "a",
                "{\"id\":12345678901234567890123}",
                "line 1 has a number in the field 'id' that is not a whole",
            ),
            ("a", "{\"id\":1.50}", "line 1 has a number in the field 'id'"),
            ("a", "{\"id\":1e2}", "line 1 has a number in the field 'id'"),
            (
                "a",
                "{\"id\":\"x\"}\n{\"id\":\"d1\",\"id\":\"d2\"}",
                "line 2 has the field 'id' twice",
            ),
            ("a", "{\"id\":1,\"n\":1,\"n\":1}", "line 1 has the field 'n' twice"),
            ("a.csv", "id,y,y\n1,2,3\n", "line 1 names the field 'y' twice"),
            ("a.csv", "id,y\n1,2\n3,\"4\n5,6\n", "line 3 opens a quoted field"),
            ("a.csv", "id,y\n1,2\n\"3,4\n5,6\n", "line 3 opens a quoted field"),
            ("a.csv", "id,\"y\n1,2\n", "line 1 opens a quoted field"),
        ] {
            let told = read(name, text.as_bytes()).unwrap_err();
            assert!(told.starts_with(problem), "{problem}: {told}");
        }
        assert!(
            read("a", b"{\"id\":\"\xff\"}")
                .unwrap_err()
                .starts_with("line 1 is not JSON")
        );
    }
}
