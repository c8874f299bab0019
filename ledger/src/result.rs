//! Keeps what came of a transaction: applied, or failed with a reason. Both stand in the chain for good.
//!
//! Invariant: a result is a function of the chain up to its block, the same on every node.

use std::fmt;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::TransactionId;
use quipu_crypto::merkle;
use serde::{Deserialize, Serialize};

use crate::codec;

/// What came of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every operation took effect.
    Applied,
    /// None did.
    Failed(Reason),
}

/// Why a transaction in a block had no effect. The order of the variants is the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The block's time had reached `expires_at`.
    Expired,
    /// The same id stands earlier in the chain.
    Duplicate,
    /// `expires_at` is more than the network's `max_lifetime` after the block's time.
    ExpiryTooFar,
    /// The sender is no member.
    UnknownMember,
    /// The sender may not write there, or there is no such namespace.
    NotPermitted {
        /// Index of the operation.
        operation: u32,
    },
    /// A `require` did not hold.
    RequirementFailed {
        /// Index of the operation.
        operation: u32,
    },
}

impl Reason {
    /// Stable code of the reason, as the command line prints it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::ExpiryTooFar => "expiry_too_far",
            Self::UnknownMember => "unknown_member",
            Self::NotPermitted { .. } => "not_permitted",
            Self::RequirementFailed { .. } => "requirement_failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("it had expired when its block was made"),
            Self::Duplicate => f.write_str("the same transaction stands earlier in the chain"),
            Self::ExpiryTooFar => f.write_str("its expiry was further ahead than the network allows"),
            Self::UnknownMember => f.write_str("its sender is not a member of the network"),
            Self::NotPermitted { operation } => {
                write!(
                    f,
                    "operation {operation}: the sender may not write in this namespace, or there is none"
                )
            }
            Self::RequirementFailed { operation } => {
                write!(f, "operation {operation}: the required condition did not hold")
            }
        }
    }
}

/// A result as `results_root` commits to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionResult {
    /// Whose.
    pub id: TransactionId,
    /// What.
    pub outcome: Outcome,
}

impl TransactionResult {
    /// Its leaf under `results_root`.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        Hash::of(Context::ResultLeaf, &[&codec::encode_sized(self, 40)])
    }
}

/// The next link of the results chain: `previous`, then the count (8 bytes, little-endian) and the Merkle root of the
/// results of one block. Before block 0 stands [`Hash::ZERO`]; blocks without transactions have a count of 0.
#[must_use]
pub fn results_chain(previous: &Hash, results: &[TransactionResult]) -> Hash {
    let leaves: Vec<Hash> = results.iter().map(TransactionResult::leaf).collect();
    link(previous, &leaves)
}

/// [`results_chain`], where the leaves are known already.
pub(crate) fn link(previous: &Hash, leaves: &[Hash]) -> Hash {
    let count = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
    let root = merkle::root(leaves);
    Hash::of(
        Context::ResultsChain,
        &[previous.as_bytes(), &count.to_le_bytes(), root.as_bytes()],
    )
}
