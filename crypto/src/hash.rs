//! Keeps the one hash function, BLAKE3-256 in derive-key mode, and the list of all its context strings.
//!
//! Invariant: each use has a context of its own ([`Context`]), so equal bytes hashed for two uses never collide.
//! Source: BLAKE3 specification, section 2.3 (`derive_key`). Leaves trees to `merkle` and `lattice`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

/// Length of a hash in bytes.
pub const HASH_LENGTH: usize = 32;

/// What a hash is for. The string is part of the format: changing one letter is a new format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Context {
    /// Id of a transaction: its body's bytes.
    Transaction,
    /// Hash of a block: its header's bytes. The proposer signs it.
    Header,
    /// Root of a block's items bound to their count.
    BodyRoot,
    /// Merkle leaf: a transaction (body and signature) in a block's body.
    TransactionLeaf,
    /// Merkle leaf: a signed vote in the body of an opening block.
    VoteLeaf,
    /// Merkle leaf: the record in the body of a membership block.
    MembershipLeaf,
    /// Merkle leaf: the hash of an earlier block under `chain_root`.
    ChainLeaf,
    /// Root of the earlier blocks bound to their count.
    ChainRoot,
    /// Merkle leaf: the result of a transaction.
    ResultLeaf,
    /// One link of the results chain.
    ResultsChain,
    /// An inner node of any Merkle tree.
    MerkleNode,
    /// The root of the empty Merkle tree.
    MerkleEmpty,
    /// Expansion of one state entry into a lattice element.
    StateElement,
    /// Digest of the lattice accumulator.
    StateDigest,
    /// Hash of an `executed` quadruple, as acknowledgements carry it.
    Executed,
    /// A vote that a node signs.
    Vote,
    /// A statement of durable storage that a voter signs for a commit certificate.
    Commit,
    /// Digest of a commit certificate, as headers carry it.
    Certificate,
    /// Network id: the genesis in canonical form.
    Network,
    /// What an organisation signs in the ceremony.
    GenesisApproval,
    /// What an administrator signs to ask for a change of membership.
    MembershipRequest,
    /// Checksum of a slot of a node's watermark file.
    Watermark,
    /// Random factors of a batch verification. Used in memory only, no part of the format.
    BatchCoefficients,
}

impl Context {
    /// Every context, in the order of `FORMAT.md`.
    pub const ALL: [Self; 23] = [
        Self::Transaction,
        Self::Header,
        Self::BodyRoot,
        Self::TransactionLeaf,
        Self::VoteLeaf,
        Self::MembershipLeaf,
        Self::ChainLeaf,
        Self::ChainRoot,
        Self::ResultLeaf,
        Self::ResultsChain,
        Self::MerkleNode,
        Self::MerkleEmpty,
        Self::StateElement,
        Self::StateDigest,
        Self::Executed,
        Self::Vote,
        Self::Commit,
        Self::Certificate,
        Self::Network,
        Self::GenesisApproval,
        Self::MembershipRequest,
        Self::Watermark,
        Self::BatchCoefficients,
    ];

    /// The context string of BLAKE3's derive-key mode.
    #[must_use]
    pub const fn string(self) -> &'static str {
        match self {
            Self::Transaction => "quipu v1 transaction",
            Self::Header => "quipu v1 header",
            Self::BodyRoot => "quipu v1 body root",
            Self::TransactionLeaf => "quipu v1 transaction leaf",
            Self::VoteLeaf => "quipu v1 vote leaf",
            Self::MembershipLeaf => "quipu v1 membership leaf",
            Self::ChainLeaf => "quipu v1 chain leaf",
            Self::ChainRoot => "quipu v1 chain root",
            Self::ResultLeaf => "quipu v1 result leaf",
            Self::ResultsChain => "quipu v1 results chain",
            Self::MerkleNode => "quipu v1 merkle node",
            Self::MerkleEmpty => "quipu v1 merkle empty",
            Self::StateElement => "quipu v1 state element",
            Self::StateDigest => "quipu v1 state digest",
            Self::Executed => "quipu v1 executed",
            Self::Vote => "quipu v1 vote",
            Self::Commit => "quipu v1 commit",
            Self::Certificate => "quipu v1 certificate",
            Self::Network => "quipu v1 network",
            Self::GenesisApproval => "quipu v1 genesis approval",
            Self::MembershipRequest => "quipu v1 membership request",
            Self::Watermark => "quipu v1 watermark",
            Self::BatchCoefficients => "quipu v1 batch coefficients",
        }
    }
}

/// A BLAKE3-256 hash. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hash([u8; HASH_LENGTH]);

impl Hash {
    /// Thirty-two zero bytes: what stands before the first block, and where nothing is named yet.
    pub const ZERO: Self = Self([0; HASH_LENGTH]);

    /// Takes the bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_LENGTH] {
        &self.0
    }

    /// The hash of `parts`, one after the other, under `context`.
    ///
    /// The parts are not separated: give at most one of variable length, or encode lengths yourself.
    #[must_use]
    pub fn of(context: Context, parts: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new(context);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 lower-case hex digits")]
pub struct InvalidHash;

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidHash);
        }
        let mut bytes = [0; HASH_LENGTH];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidHash)?;
        Ok(Self(bytes))
    }
}

/// The hash of every context string, made once: it is half the cost of hashing a short message.
static CONTEXT_KEYS: LazyLock<[ContextKey; Context::ALL.len()]> =
    LazyLock::new(|| Context::ALL.map(|context| hash_derive_key_context(context.string())));

/// Hashes a stream of bytes under one context.
#[derive(Clone, Debug)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// An empty stream under `context`.
    #[must_use]
    pub fn new(context: Context) -> Self {
        match CONTEXT_KEYS.get(context as usize) {
            Some(key) => Self(blake3::Hasher::new_from_context_key(key)),
            None => Self::of_string(context.string()),
        }
    }

    fn of_string(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(context))
    }

    /// Appends `bytes` to the stream.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The 32-byte hash of the stream so far.
    #[must_use]
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }

    /// Fills `out` with extended output of the stream so far (BLAKE3 specification, section 2.6).
    pub fn finish_into(&self, out: &mut [u8]) {
        self.0.finalize_xof().fill(out);
    }
    /// Extended output of the stream so far, to be read piece by piece.
    pub(crate) fn finish_xof(&self) -> blake3::OutputReader {
        self.0.finalize_xof()
    }
}

#[cfg(test)]
mod tests;
