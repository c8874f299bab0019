//! The official BLAKE3 vectors, the independence of contexts, and the text form.

use std::collections::HashSet;

use super::{CONTEXT_KEYS, Context, Hash, Hasher, InvalidHash};

#[test]
fn derive_key_mode_gives_the_official_vectors() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/blake3.json")).unwrap();
    let context = vectors["context_string"].as_str().unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 13);
    for case in cases {
        let length = usize::try_from(case["input_len"].as_u64().unwrap()).unwrap();
        let input: Vec<u8> = (0..=250).cycle().take(length).collect();
        let expected = hex::decode(case["derive_key"].as_str().unwrap()).unwrap();
        assert_eq!(expected.len(), 131);
        for piece in [1, 64, 1000, length.max(1)] {
            let mut hasher = Hasher::of_string(context);
            for bytes in input.chunks(piece) {
                hasher.update(bytes);
            }
            assert_eq!(hasher.finish().as_bytes()[..], expected[..32], "{length} bytes");
            let mut extended = vec![0; expected.len()];
            hasher.finish_into(&mut extended);
            assert_eq!(extended, expected, "{length} bytes, extended");
        }
    }
}

#[test]
fn every_context_is_listed_once_at_its_place_and_has_a_string_of_its_own() {
    let strings: HashSet<&str> = Context::ALL.iter().map(|context| context.string()).collect();
    assert_eq!(strings.len(), Context::ALL.len());
    for (place, context) in Context::ALL.iter().enumerate() {
        assert_eq!(*context as usize, place);
        assert_eq!(
            CONTEXT_KEYS.get(place),
            Some(&blake3::hazmat::hash_derive_key_context(context.string()))
        );
        assert!(context.string().starts_with("quipu v1 "));
        assert_eq!(
            Hash::of(*context, &[b"ab", b"c"]).as_bytes(),
            &blake3::derive_key(context.string(), b"abc")
        );
    }
}

#[test]
fn text_is_lower_case_hex_of_full_length_only() {
    let hash = Hash::of(Context::Vote, &[b"text"]);
    let text = hash.to_string();
    assert_eq!(text.parse(), Ok(hash));
    for wrong in [
        &text[1..],
        &text.to_uppercase(),
        &format!("{text}00"),
        &format!("0x{text}"),
        &text.replace('a', "g"),
        "",
    ] {
        assert_eq!(wrong.parse::<Hash>(), Err(InvalidHash), "{wrong}");
    }
}
