//! # quipu-crypto: what everything else trusts
//!
//! Hashes, keys, signatures and the two accumulators (Merkle tree, lattice hash) of Quipu. No I/O but key files, no
//! clock, no threads; randomness only where a key or a nonce is drawn.
//!
//! | module | keeps |
//! | --- | --- |
//! | [`hash`] | BLAKE3-256 in derive-key mode, one context string for each use |
//! | [`key`] | Ed25519 keys: the secret one that signs, the public one that names |
//! | [`key_file`] | secret keys on disk, plain or under a passphrase, for their owner's eyes only |
//! | [`signature`] | signatures and the one rule that verifies them, single and in batch |
//! | [`merkle`] | Merkle trees with proofs, for lists |
//! | [`lattice`] | the lattice hash, for sets that change |
//! | [`random`] | random bytes for keys, nonces and incarnations |
//! | [`id`] | the small words that every crate shares: height, term, slot, block id, network id, incarnation, time |
//!
//! Every signature of Quipu is made over a 32-byte [`hash::Hash`] that carries its own context, so bytes that were
//! signed for one purpose never pass for another.
#![forbid(unsafe_code)]

pub mod hash;
pub mod id;
pub mod key;
pub mod key_file;
pub mod lattice;
pub mod merkle;
pub mod random;
pub mod signature;
