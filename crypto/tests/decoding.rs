//! Decoders meet random and mutated bytes: they answer or refuse, and never panic or take more than their cap.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::key::{KeyError, PublicKey, SecretKey};
use quipu_crypto::key_file;
use quipu_crypto::merkle::{self, ConsistencyProof, Frontier, InclusionProof, MAX_PATH};
use quipu_crypto::signature::{Signature, SignedHash, verify, verify_batch, verify_each};

#[test]
fn keys_hashes_and_signatures_are_bare_bytes() {
    let key = SecretKey::from_seed([7; 32]);
    let hash = Hash::of(Context::Vote, &[b"bare"]);
    let signature = key.sign(&hash);
    assert_eq!(postcard::to_stdvec(&key.public()).unwrap(), key.public().as_bytes());
    assert_eq!(postcard::to_stdvec(&hash).unwrap(), hash.as_bytes());
    let bytes = postcard::to_stdvec(&signature).unwrap();
    assert_eq!(bytes, signature.as_bytes());
    assert_eq!(postcard::from_bytes::<Signature>(&bytes).unwrap(), signature);
    assert!(postcard::from_bytes::<Signature>(&bytes[..63]).is_err());
}

#[test]
fn a_secret_key_does_not_show_itself() {
    let key = SecretKey::from_seed([0xa7; 32]);
    let shown = format!("{key:?}");
    assert_eq!(shown, format!("SecretKey(of {})", key.public()));
    assert!(!shown.contains("a7a7") && !shown.contains("167"));
}

#[test]
fn public_keys_have_one_text_form() {
    let key = SecretKey::from_seed([1; 32]).public();
    let text = key.to_string();
    assert_eq!(text.parse(), Ok(key));
    for wrong in [
        &text[1..],
        &text.to_uppercase(),
        &format!("{text}0"),
        "",
        &text.replace(&text[..1], "x"),
    ] {
        assert_eq!(wrong.parse::<PublicKey>(), Err(KeyError::NotHex));
    }
}

#[test]
fn lists_longer_than_their_cap_are_refused() {
    let hash = Hash::ZERO;
    let whole = |length: usize| InclusionProof {
        index: 1,
        count: 2,
        path: vec![hash; length],
    };
    for (length, taken) in [(0, true), (MAX_PATH, true), (MAX_PATH + 1, false), (5000, false)] {
        let bytes = postcard::to_stdvec(&whole(length)).unwrap();
        assert_eq!(
            postcard::from_bytes::<InclusionProof>(&bytes).is_ok(),
            taken,
            "{length}"
        );
        assert_eq!(
            postcard::from_bytes::<ConsistencyProof>(&bytes).is_ok(),
            taken,
            "{length}"
        );
    }
    // A length of 2^63 and nothing behind it: refused before anything is allocated for it.
    let boast = [1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(postcard::from_bytes::<InclusionProof>(&boast).is_err());
    assert!(postcard::from_bytes::<Frontier>(&boast[1..]).is_err());
    // JSON tells no length beforehand: the cap holds while reading.
    let json = |length: usize| serde_json::to_string(&whole(length)).unwrap();
    assert!(serde_json::from_str::<InclusionProof>(&json(MAX_PATH)).is_ok());
    assert!(serde_json::from_str::<InclusionProof>(&json(MAX_PATH + 1)).is_err());
}

#[test]
fn a_frontier_whose_peaks_do_not_fit_its_count_is_refused() {
    for count in 0..=9_u64 {
        for peaks in 0..=5_usize {
            let bytes = postcard::to_stdvec(&(count, vec![Hash::ZERO; peaks])).unwrap();
            let fits = usize::try_from(count.count_ones()).unwrap() == peaks;
            assert_eq!(
                postcard::from_bytes::<Frontier>(&bytes).is_ok(),
                fits,
                "{count} {peaks}"
            );
        }
    }
    let bytes = postcard::to_stdvec(&(u64::MAX, vec![Hash::ZERO; 64])).unwrap();
    let mut full: Frontier = postcard::from_bytes(&bytes).unwrap();
    let before = full.clone();
    full.push(Hash::ZERO);
    assert_eq!(full, before, "a full tree stays as it is");
}

/// Key files that others made; the passphrase of the encrypted ones is "hemp", their cost next to nothing.
const FILES: [&str; 3] = [
    include_str!("data/rfc8410.pem"),
    include_str!("data/openssl-pbkdf2.pem"),
    include_str!("data/openssl-scrypt.pem"),
];

proptest! {
    #[test]
    fn postcard_bytes_of_any_kind(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = postcard::from_bytes::<Signature>(&bytes);
        let _ = postcard::from_bytes::<PublicKey>(&bytes);
        if let Ok(proof) = postcard::from_bytes::<InclusionProof>(&bytes) {
            prop_assert!(proof.path.len() <= MAX_PATH);
            let _ = proof.root(Hash::ZERO);
        }
        if let Ok(proof) = postcard::from_bytes::<ConsistencyProof>(&bytes) {
            prop_assert!(proof.path.len() <= MAX_PATH);
            let _ = proof.verify(Hash::ZERO, Hash::ZERO);
        }
        if let Ok(mut frontier) = postcard::from_bytes::<Frontier>(&bytes) {
            frontier.push(Hash::ZERO);
            let _ = frontier.root();
        }
    }

    #[test]
    fn mutated_proofs(count in 1..200_u64, seed: u64, at: prop::sample::Index, byte: u8) {
        let leaf = |number: u64| merkle::leaf(Context::ChainLeaf, &number.to_le_bytes());
        let leaves: Vec<Hash> = (0..count).map(leaf).collect();
        let (index, root) = (seed % count, merkle::root(&leaves));
        let proof = merkle::prove_inclusion(&leaves, index).unwrap();
        let mut bytes = postcard::to_stdvec(&proof).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = postcard::from_bytes::<InclusionProof>(&bytes) {
            let leaf = leaves[usize::try_from(index).unwrap()];
            // What verifies has the same index and path; the count is bound elsewhere.
            let same = read.path == proof.path && read.index == index;
            prop_assert!(!read.verify(leaf, root) || same || count != read.count);
        }
    }

    #[test]
    fn spki_is_taken_in_one_form_only(
        bytes in prop::collection::vec(any::<u8>(), 0..60), at: prop::sample::Index, byte: u8,
    ) {
        prop_assert!(PublicKey::from_spki_der(&bytes).is_none_or(|key| key.spki_der()[..] == bytes));
        let key = SecretKey::from_seed([3; 32]).public();
        let mut der = key.spki_der();
        prop_assert_eq!(PublicKey::from_spki_der(&der), Some(key));
        der[at.index(44)] = byte;
        prop_assert!(PublicKey::from_spki_der(&der).is_none_or(|key| key.spki_der() == der));
        prop_assert_eq!(PublicKey::from_spki_der(&der[..43]), None);
    }

    #[test]
    fn any_key_and_signature_have_one_verdict(claims in prop::collection::vec(any::<[[u8; 32]; 3]>(), 0..12)) {
        let claims: Vec<SignedHash> = claims.iter().map(|[key, r, s]| {
            let key = PublicKey::from_bytes(*key);
            let _ = key.check_enrolment();
            let signature = Signature::from_bytes([r.as_slice(), s].concat().try_into().unwrap());
            SignedHash { key, hash: Hash::from_bytes(*s), signature }
        }).collect();
        let single = |claim: &SignedHash| verify(&claim.key, &claim.hash, &claim.signature);
        let verdicts: Vec<bool> = claims.iter().map(single).collect();
        prop_assert_eq!(verify_batch(&claims), verdicts.iter().all(|good| *good));
        prop_assert_eq!(verify_each(&claims), verdicts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_key_files(
        which in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: Option<prop::sample::Index>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let (label, document) = pkcs8::SecretDocument::from_pem(FILES[which]).unwrap();
        let mut der = document.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        let body = pkcs8::der::pem::encode_string(label, pkcs8::LineEnding::LF, &der).unwrap();
        fs::write(&path, body).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let _ = key_file::is_encrypted(&path);
        let _ = key_file::read(&path, None);
        let _ = key_file::read(&path, Some("hemp"));
    }

    #[test]
    fn key_files_of_any_text(
        begin in "(-----BEGIN (ENCRYPTED )?PRIVATE KEY-----\n)?",
        body in "[A-Za-z0-9+/=\n -]{0,200}",
        end in "(\n-----END PRIVATE KEY-----\n)?",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, [begin, body, end].concat()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        prop_assert!(key_file::read(&path, Some("hemp")).is_err());
    }
}
