//! Keeps what a voter signs when it elects a leader, and the entry in which any signature of a node stands.
//!
//! Invariant: entries are sorted by (slot, outgoing) and unique; each counts in every majority whose listed key
//! verifies it. A pre-vote is never signed.

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{BlockId, NetworkId, Slot, Term};
use quipu_crypto::signature::Signature;
use serde::{Deserialize, Serialize};

use crate::codec;

/// Which ordering engine a statement belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineId {
    /// Raft; the view of a statement is the term.
    Raft,
}

/// What a voter signs: the candidate may lead the term, on top of exactly this block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteStatement {
    /// The network.
    pub network: NetworkId,
    /// The engine.
    pub engine: EngineId,
    /// The term voted for.
    pub term: Term,
    /// Who asked.
    pub candidate: Slot,
    /// Who votes.
    pub voter: Slot,
    /// The candidate's last block; the opening block follows directly on it.
    pub last: BlockId,
}

impl VoteStatement {
    /// What is signed.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Context::Vote, &[&codec::encode(self)])
    }
}

/// A signature of a node, in votes and certificates alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureEntry {
    /// Whose.
    pub slot: Slot,
    /// Made with the key that the slot has among the outgoing voters (only while joint, and only where keys differ).
    pub outgoing: bool,
    /// The signature.
    pub signature: Signature,
}
