//! Crafted signatures: small-order and mixed-order points, torsion, non-canonical encodings, cancelling pairs.
//!
//! The verdict to expect is worked out here from the text of ZIP-215 with curve arithmetic of its own. On every case
//! single, batch and each must give it, whatever stands beside the case in the batch.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::key::{KeyError, PublicKey, SecretKey};
use quipu_crypto::signature::{Signature, SignedHash, verify, verify_batch, verify_each};
use sha2::{Digest, Sha512};

/// The order of the prime-order group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn scalar(seed: u64) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(seed.to_le_bytes()).into())
}

fn message(number: u64) -> Hash {
    Hash::of(Context::Vote, &[&number.to_le_bytes()])
}

fn challenge(r: &[u8; 32], key: &[u8; 32], hash: &Hash) -> Scalar {
    Scalar::from_bytes_mod_order_wide(
        &Sha512::new()
            .chain_update(r)
            .chain_update(key)
            .chain_update(hash.as_bytes())
            .finalize()
            .into(),
    )
}

fn claim(key: [u8; 32], hash: Hash, r: [u8; 32], s: [u8; 32]) -> SignedHash {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&r);
    bytes[32..].copy_from_slice(&s);
    SignedHash {
        key: PublicKey::from_bytes(key),
        hash,
        signature: Signature::from_bytes(bytes),
    }
}

/// ZIP-215 by its text: decode A and R leniently, s strictly, and check `[8][s]B = [8]R + [8][k]A`.
fn expected(claim: &SignedHash) -> bool {
    let (r, s) = claim.signature.as_bytes().split_at(32);
    let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().unwrap(), s.try_into().unwrap());
    let key = claim.key.as_bytes();
    let (Some(big_a), Some(big_r)) = (
        CompressedEdwardsY(*key).decompress(),
        CompressedEdwardsY(r).decompress(),
    ) else {
        return false;
    };
    let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else {
        return false;
    };
    let k = challenge(&r, key, &claim.hash);
    let eight = Scalar::from(8_u8);
    (B * (eight * s) - big_r * eight - (big_a * k) * eight).is_identity()
}

/// All encodings of points of small order: 8 canonical ones, and 6 that are not.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let small = |bytes: &[u8; 32]| {
        CompressedEdwardsY(*bytes)
            .decompress()
            .is_some_and(|point| point.is_small_order())
    };
    let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    encodings.extend(non_canonical_encodings().into_iter().filter(small));
    encodings
}

/// All encodings that decode, but to a point with another encoding: y of p or more, or a sign where x is 0.
fn non_canonical_encodings() -> Vec<[u8; 32]> {
    let mut candidates = Vec::new();
    for low in 0..=255_u8 {
        for sign in [0, 0x80] {
            let mut high = [0xff; 32];
            (high[0], high[31]) = (low, 0x7f | sign);
            candidates.push(high);
            let mut one = [0; 32];
            (one[0], one[31]) = (low, sign);
            candidates.push(one);
        }
    }
    let strange = |bytes: &[u8; 32]| {
        CompressedEdwardsY(*bytes)
            .decompress()
            .is_some_and(|point| point.compress().as_bytes() != bytes)
    };
    candidates.retain(strange);
    candidates
}

/// A signature by the secret scalar `secret` whose key and R carry the given torsion; s is off by `error`.
fn mixed(secret: u64, key_torsion: EdwardsPoint, r_torsion: EdwardsPoint, hash: Hash, error: Scalar) -> SignedHash {
    let (a, nonce) = (scalar(secret), scalar(secret + 1000));
    let key = (B * a + key_torsion).compress().to_bytes();
    let r = (B * nonce + r_torsion).compress().to_bytes();
    let s = nonce + challenge(&r, &key, &hash) * a + error;
    claim(key, hash, r, s.to_bytes())
}

fn honest(number: u64) -> SignedHash {
    let key = SecretKey::from_seed([u8::try_from(number % 200).unwrap(); 32]);
    let hash = message(number);
    SignedHash {
        key: key.public(),
        hash,
        signature: key.sign(&hash),
    }
}

/// Adds what is no integer below the order: s + order, with the same residue.
fn unreduced(s: &[u8]) -> [u8; 32] {
    let (mut sum, mut carry) = ([0; 32], 0);
    for ((out, a), b) in sum.iter_mut().zip(s).zip(ORDER) {
        let total = u16::from(*a) + u16::from(b) + carry;
        (*out, carry) = (total.to_le_bytes()[0], total >> 8);
    }
    sum
}

fn cases() -> Vec<SignedHash> {
    let mut cases = Vec::new();
    // Small order throughout: with s = 0 every pair verifies, under whatever message; with s = 1 none does.
    for key in small_order_encodings() {
        for r in small_order_encodings() {
            for s in [0, 1_u8] {
                cases.push(claim(key, message(u64::from(s)), r, Scalar::from(s).to_bytes()));
            }
        }
    }
    // Mixed order: every torsion on the key and on R, right and wrong.
    for key_torsion in EIGHT_TORSION {
        for r_torsion in EIGHT_TORSION {
            for (number, error) in [Scalar::ZERO, Scalar::ONE, scalar(77)].into_iter().enumerate() {
                let number = u64::try_from(number).unwrap();
                cases.push(mixed(number, key_torsion, r_torsion, message(number), error));
            }
        }
    }
    // Non-canonical encodings, also of points whose logarithm nobody knows, beside honest halves.
    let good = honest(3);
    let (good_r, good_s) = good.signature.as_bytes().split_at(32);
    for strange in non_canonical_encodings() {
        cases.push(claim(
            strange,
            good.hash,
            good_r.try_into().unwrap(),
            good_s.try_into().unwrap(),
        ));
        cases.push(claim(
            *good.key.as_bytes(),
            good.hash,
            strange,
            good_s.try_into().unwrap(),
        ));
        // s made for an R of small order that is written strangely: verifies where R is of small order.
        let k = challenge(&strange, (B * scalar(5)).compress().as_bytes(), &good.hash);
        cases.push(claim(
            (B * scalar(5)).compress().to_bytes(),
            good.hash,
            strange,
            (k * scalar(5)).to_bytes(),
        ));
    }
    // No points at all, and numbers that are too large.
    for low in 0..=40 {
        let mut bytes = [0x5a; 32];
        bytes[0] = low;
        cases.push(claim(
            bytes,
            good.hash,
            good_r.try_into().unwrap(),
            good_s.try_into().unwrap(),
        ));
        cases.push(claim(
            *good.key.as_bytes(),
            good.hash,
            bytes,
            good_s.try_into().unwrap(),
        ));
    }
    cases.push(claim(
        *good.key.as_bytes(),
        good.hash,
        good_r.try_into().unwrap(),
        unreduced(good_s),
    ));
    cases.push(claim([0; 32], message(0), Scalar::ONE.to_bytes(), ORDER));
    // Honest ones, and honest ones with one bit turned over.
    for number in 0..64 {
        let claim = honest(number);
        let mut bytes = *claim.signature.as_bytes();
        bytes[usize::try_from(number).unwrap()] ^= 4;
        cases.extend([
            claim,
            SignedHash {
                signature: Signature::from_bytes(bytes),
                ..claim
            },
        ]);
        cases.push(SignedHash {
            hash: message(number + 1),
            ..claim
        });
    }
    cases
}

#[test]
fn the_cases_are_many_and_of_both_kinds() {
    let cases = cases();
    let good = cases.iter().filter(|claim| expected(claim)).count();
    println!("{} cases, {good} verify", cases.len());
    assert!(cases.len() > 800 && good > 300 && cases.len() - good > 300);
    assert_eq!(small_order_encodings().len(), 14);
    assert_eq!(non_canonical_encodings().len(), 26);
}

#[test]
fn single_batch_and_each_give_the_verdict_of_zip_215() {
    let neighbours = [honest(1), honest(2), honest(1), honest(4)];
    for case in cases() {
        let verdict = expected(&case);
        assert_eq!(
            verify(&case.key, &case.hash, &case.signature),
            verdict,
            "single: {case:?}"
        );
        assert_eq!(verify_batch(&[case]), verdict, "batch of one: {case:?}");
        assert_eq!(verify_batch(&[case, case]), verdict, "batch of itself twice: {case:?}");
        for place in 0..=neighbours.len() {
            let mut batch = neighbours.to_vec();
            batch.insert(place, case);
            assert_eq!(verify_batch(&batch), verdict, "batch, at {place}: {case:?}");
        }
        assert_eq!(verify_each(&[case]), [verdict]);
    }
}

#[test]
fn each_finds_every_verdict_among_all_cases_in_any_grouping() {
    let cases = cases();
    let verdicts: Vec<bool> = cases.iter().map(expected).collect();
    assert_eq!(verify_each(&cases), verdicts);
    let good: Vec<SignedHash> = cases.iter().filter(|claim| expected(claim)).copied().collect();
    assert!(verify_batch(&good));
    assert_eq!(verify_each(&good), vec![true; good.len()]);
    for length in [0, 1, 2, 7, 8, 9, 15, 16, 17, 100, 255, 256] {
        for chunk in cases.chunks(length.max(1)).take(40) {
            let verdicts: Vec<bool> = chunk.iter().map(expected).collect();
            assert_eq!(verify_each(chunk), verdicts);
            assert_eq!(verify_batch(chunk), verdicts.iter().all(|good| *good));
        }
    }
    assert!(verify_batch(&[]) && verify_each(&[]).is_empty());
}

#[test]
fn a_single_bad_one_is_found_at_every_place() {
    for length in [8, 9, 33, 64] {
        let good: Vec<SignedHash> = (0..length).map(honest).collect();
        for bad in 0..good.len() {
            let mut claims = good.clone();
            claims[bad].hash = message(999);
            let verdicts = verify_each(&claims);
            assert!(
                verdicts.iter().enumerate().all(|(place, good)| *good == (place != bad)),
                "{bad} of {length}"
            );
        }
    }
}

/// Two wrong signatures whose errors add up to nothing pass a batch without random factors.
#[test]
fn errors_that_cancel_each_other_do_not_pass_a_batch() {
    let none = EIGHT_TORSION[0];
    for number in 0..100 {
        let error = scalar(number + 5000);
        let first = mixed(number, none, none, message(number), error);
        for (second_key, count) in [(number, 2), (number + 300, 2), (number + 300, 3)] {
            let second = mixed(second_key, none, none, message(number + 1), -error);
            let mut batch = vec![first, second];
            batch.resize(count, honest(number));
            assert!(!verify_batch(&batch), "cancelling pair {number}");
            assert_eq!(verify_each(&batch)[..2], [false, false]);
        }
    }
}

#[test]
fn enrolment_takes_honest_keys_only() {
    for number in 0..100 {
        assert_eq!(honest(number).key.check_enrolment(), Ok(()));
        for torsion in &EIGHT_TORSION[1..] {
            let key = PublicKey::from_bytes((B * scalar(number) + torsion).compress().to_bytes());
            assert_eq!(key.check_enrolment(), Err(KeyError::MixedOrder));
        }
    }
    for key in small_order_encodings() {
        assert_eq!(PublicKey::from_bytes(key).check_enrolment(), Err(KeyError::SmallOrder));
    }
    for key in non_canonical_encodings() {
        let refused = PublicKey::from_bytes(key).check_enrolment();
        assert!(
            matches!(refused, Err(KeyError::SmallOrder | KeyError::NotAPoint)),
            "{refused:?}"
        );
    }
    let mut refused = 0;
    for low in 0..=255 {
        let mut bytes = [0x11; 32];
        bytes[0] = low;
        let honest = CompressedEdwardsY(bytes)
            .decompress()
            .is_some_and(|point| point.is_torsion_free());
        assert_eq!(PublicKey::from_bytes(bytes).check_enrolment().is_ok(), honest);
        refused += u32::from(CompressedEdwardsY(bytes).decompress().is_none());
    }
    assert!(refused > 50);
}
