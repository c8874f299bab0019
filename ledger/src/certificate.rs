//! Keeps commit certificates: a majority's signed claim to have stored a block durably in one view.
//!
//! Invariant: the format is fixed now, because headers bind its digest for good. Making and judging certificates
//! comes with membership changes; until then every header names none.

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, NetworkId, Term};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::vote::{EngineId, SignatureEntry};

/// What a voter signs after it has stored a block durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatement {
    /// The network.
    pub network: NetworkId,
    /// The engine.
    pub engine: EngineId,
    /// The term in which the signer accepted the block.
    pub view: Term,
    /// The block's height.
    pub height: Height,
    /// The block's hash.
    pub hash: Hash,
    /// Height of the membership block in force.
    pub membership: Height,
}

impl CommitStatement {
    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(Context::Commit, &[&codec::encode(self)])
    }
}

/// A majority's signatures over one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The engine.
    pub engine: EngineId,
    /// The one view of all signatures.
    pub view: Term,
    /// The certified block's height.
    pub height: Height,
    /// The certified block's hash.
    pub hash: Hash,
    /// Height of the membership block in force at `height`.
    pub membership: Height,
    /// Sorted by (slot, outgoing), unique.
    pub signatures: Vec<SignatureEntry>,
}

impl Certificate {
    /// As the header of the block that carries it names it.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(Context::Certificate, &[&codec::encode(self)])
    }
}
