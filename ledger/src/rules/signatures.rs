//! Keeps the check of senders' signatures, in batches over many blocks: the one costly rule.
//!
//! Invariant: the verdict is that of verifying each alone. Who skips a transaction must have verified the very same
//! bytes: an id does not cover the signature, so a known id with another signature is not a verified one.

use quipu_crypto::id::{Height, TransactionId};
use quipu_crypto::signature::{self, SignedHash};

use crate::block::Block;
use crate::transaction::SignedTransaction;

/// Signatures in one batch: beyond some hundreds it saves no more, and this bounds the memory.
const BATCH: usize = 2048;

/// A transaction that must not stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {height}, transaction {position} ({id}): {fault}")]
pub struct BadTransaction {
    /// Height of the block.
    pub height: Height,
    /// Index in it.
    pub position: u32,
    /// Whose.
    pub id: TransactionId,
    /// What is wrong.
    pub fault: TransactionFault,
}

/// Why a transaction must not stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionFault {
    /// It was signed for another network.
    #[error("it was signed for another network")]
    WrongNetwork,
    /// The signature is not its sender's.
    #[error("the signature is not its sender's")]
    WrongSignature,
}

impl TransactionFault {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongNetwork => "transaction_of_other_network",
            Self::WrongSignature => "wrong_transaction_signature",
        }
    }
}

/// Checks every transaction of `blocks`.
///
/// # Errors
/// The first that is of another network than its block, or whose signature is not its sender's.
pub fn check(blocks: &[&Block]) -> Result<(), BadTransaction> {
    check_unless(blocks, |_| false)
}

/// Checks every transaction of `blocks` but the signatures of those that `verified` knows.
///
/// `verified` must answer for the whole transaction, its signature included: compare the bytes, not the id.
///
/// # Errors
/// The first that is of another network than its block, or whose signature is not its sender's.
pub fn check_unless(
    blocks: &[&Block],
    mut verified: impl FnMut(&SignedTransaction) -> bool,
) -> Result<(), BadTransaction> {
    let mut batch: Vec<(Place, SignedHash)> = Vec::new();
    for block in blocks {
        let header = block.header();
        for (position, transaction) in (0_u32..).zip(block.transactions()) {
            let place = Place {
                height: header.height,
                position,
                id: transaction.id(),
            };
            if transaction.body().network != header.network {
                // Everything before it is checked first, so that the first fault is named.
                flush(&mut batch)?;
                return Err(place.bad(TransactionFault::WrongNetwork));
            }
            if !verified(transaction) {
                batch.push((place, transaction.signed_hash()));
            }
            if batch.len() == BATCH {
                flush(&mut batch)?;
            }
        }
    }
    flush(&mut batch)
}

#[derive(Clone, Copy)]
struct Place {
    height: Height,
    position: u32,
    id: TransactionId,
}

impl Place {
    const fn bad(self, fault: TransactionFault) -> BadTransaction {
        BadTransaction {
            height: self.height,
            position: self.position,
            id: self.id,
            fault,
        }
    }
}

fn flush(batch: &mut Vec<(Place, SignedHash)>) -> Result<(), BadTransaction> {
    let (places, claims): (Vec<Place>, Vec<SignedHash>) = batch.drain(..).unzip();
    if signature::verify_batch(&claims) {
        return Ok(());
    }
    let verdicts = signature::verify_each(&claims);
    match places.iter().zip(verdicts).find(|(_, good)| !good) {
        Some((place, _)) => Err(place.bad(TransactionFault::WrongSignature)),
        None => Ok(()),
    }
}
