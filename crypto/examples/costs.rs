//! Prints what each operation of the crate costs on this machine, the best of several runs on one core.
//!
//! `cargo run --release -p quipu-crypto --example costs`
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::hint::black_box;
use std::time::Instant;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::key::SecretKey;
use quipu_crypto::lattice::LatticeHash;
use quipu_crypto::merkle;
use quipu_crypto::signature::{Signature, SignedHash, verify, verify_batch, verify_each};

/// Keeps the compiler from leaving out what makes `value`.
fn keep<T>(value: T) {
    let _ = black_box(value);
}

/// Microseconds for one of `count` things done by `work`, the best of seven runs.
fn cost(name: &str, count: u32, mut work: impl FnMut()) {
    let best = (0..7)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("{name:44} {:9.3} us", best.as_secs_f64() * 1e6 / f64::from(count));
}

fn claims(count: u32, keys: u32) -> Vec<SignedHash> {
    let signers: Vec<SecretKey> = (0..keys).map(|_| SecretKey::generate().unwrap()).collect();
    signers
        .iter()
        .cycle()
        .zip(0..count)
        .map(|(key, number)| {
            let hash = Hash::of(Context::Transaction, &[&number.to_le_bytes()]);
            SignedHash {
                key: key.public(),
                hash,
                signature: key.sign(&hash),
            }
        })
        .collect()
}

fn main() {
    let key = SecretKey::generate().unwrap();
    let hash = Hash::of(Context::Transaction, &[b"message"]);
    cost("sign", 200, || (0..200).for_each(|_| keep(key.sign(black_box(&hash)))));
    let signature = key.sign(&hash);
    let public = key.public();
    cost("verify one", 200, || {
        (0..200).for_each(|_| assert!(verify(black_box(&public), &hash, &signature)));
    });
    for count in [2, 4, 8, 16, 64, 256, 1024, 4096] {
        let claims = claims(count, count);
        cost(&format!("verify_batch of {count}, each"), count, || {
            assert!(verify_batch(black_box(&claims)));
        });
    }
    for keys in [1, 16] {
        let claims = claims(256, keys);
        cost(&format!("verify_batch of 256 by {keys} keys, each"), 256, || {
            assert!(verify_batch(black_box(&claims)));
        });
    }
    for bad in [0, 1, 4, 32, 1024] {
        let mut claims = claims(1024, 1024);
        claims
            .iter_mut()
            .step_by(1024 / bad.max(1))
            .take(bad)
            .for_each(|claim| claim.signature = Signature::EMPTY);
        cost(&format!("verify_each of 1024, {bad} bad, each"), 1024, || {
            assert_eq!(
                verify_each(black_box(&claims)).iter().filter(|good| !**good).count(),
                bad
            );
        });
    }
    for length in [32, 64, 280, 1500, 65_536] {
        let bytes = vec![7; length];
        cost(&format!("hash of {length} bytes"), 1000, || {
            (0..1000).for_each(|_| keep(Hash::of(Context::Transaction, &[black_box(&bytes)])));
        });
    }
    let mut lattice = LatticeHash::new();
    let element = [7; 280];
    cost("lattice: add 280 bytes", 1000, || {
        (0..1000).for_each(|_| lattice.add_element(black_box(&element)));
    });
    cost("lattice: digest", 1000, || {
        (0..1000).for_each(|_| keep(lattice.digest()));
    });
    let leaves = vec![hash; 1000];
    cost("merkle: root of 1000, each leaf", 1000, || {
        keep(merkle::root(black_box(&leaves)));
    });
}
