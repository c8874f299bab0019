//! Keeps how single values of the ledger look in output, and how they are read from the command line.
//!
//! Invariant: bytes are shown as text exactly where they are UTF-8, else as hex, so both forms read back to the same
//! bytes. Leaves whole objects to the verbs.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, TimeMs};
use quipu_genesis::text::write_time;
use quipu_ledger::codec::DecodeError;
use quipu_ledger::operation::{Namespace, Version};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Bytes in JSON: text, or `{"hex": "..."}`.
pub(crate) fn bytes_json(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"hex": hex::encode(bytes)}),
    }
}

/// Bytes for people: text, or hex with a mark. Control characters would move the cursor, so they are escaped.
pub(crate) fn bytes_text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text)
            if text
                .chars()
                .any(|letter| letter.is_control() && letter != '\n' && letter != '\t') =>
        {
            text.escape_debug().to_string()
        }
        Ok(text) => text.to_owned(),
        Err(_) => format!("hex:{}", hex::encode(bytes)),
    }
}

/// An object with more fields.
pub(crate) fn with<const N: usize>(mut object: Value, fields: [(&str, Value); N]) -> Value {
    if let Value::Object(map) = &mut object {
        map.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    }
    object
}

/// A version in JSON.
pub(crate) fn version_json(version: Version) -> Value {
    json!({"height": version.height.to_string(), "position": version.position.to_string()})
}

/// A time as RFC 3339.
pub(crate) fn time_text(time: TimeMs) -> String {
    write_time(time)
}

/// Bytes given on the command line: text, or hex where the user says so.
pub(crate) fn read_bytes(text: &str, hex: bool) -> Result<Vec<u8>, Failure> {
    if hex {
        return hex::decode(text).map_err(|error| {
            Failure::usage(format!("'{text}' is not hex: {error}")).hint("leave --hex away to give it as text")
        });
    }
    Ok(text.as_bytes().to_vec())
}

/// Reads the name of a namespace.
pub(crate) fn read_namespace(text: &str) -> Result<Namespace, DecodeError> {
    Namespace::new(text)
}

/// Reads `HEIGHT.POSITION`.
pub(crate) fn read_version(text: &str) -> Result<Version, String> {
    let read = |text: &str| {
        let (height, position) = text.split_once('.')?;
        Some(Version {
            height: height.parse().ok()?,
            position: position.parse().ok()?,
        })
    };
    read(text).ok_or_else(|| "a version is HEIGHT.POSITION, like 12.0".to_owned())
}

/// Reads `HEIGHT:HASH`.
pub(crate) fn read_block_name(text: &str) -> Result<(Height, Hash), String> {
    let read = |text: &str| {
        let (height, hash) = text.split_once(':')?;
        Some((height.parse().ok()?, hash.parse().ok()?))
    };
    read(text).ok_or_else(|| "a block is HEIGHT:HASH, the hash in 64 hex digits".to_owned())
}

/// Reads a length of time: `90`, `90s`, `500ms`, `10min`, `2h`. A bare number is seconds.
pub(crate) fn read_duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let scale = match unit.trim() {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "min" | "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let ms = number.zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    ms.map(std::time::Duration::from_millis)
        .ok_or_else(|| "a length of time is a whole number with ms, s, min or h, like 30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(bytes_json(b"caf\xc3\xa9"), json!("caf\u{e9}"));
        assert_eq!(bytes_json(&[0xff, 0]), json!({"hex": "ff00"}));
        assert_eq!(bytes_text(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(bytes_text(&[0xff]), "hex:ff");
    }

    #[test]
    fn words_of_the_command_line_are_read_strictly() {
        assert_eq!(read_duration("90"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(read_duration("500ms"), Ok(std::time::Duration::from_millis(500)));
        assert!(read_duration("soon").is_err());
        assert!(read_duration("99999999999999999999h").is_err());
        assert!(read_version("1.2").is_ok());
        assert!(read_version("1").is_err());
        assert!(read_block_name("1:zz").is_err());
    }
}
