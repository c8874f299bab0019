//! Keeps the arithmetic of majorities over signature entries, for votes and certificates alike.
//!
//! Invariants: entries are sorted by (slot, outgoing) and unique, every one verifies (a bad one spoils the list, so
//! that there is one list for one meaning); while joint, the incoming and the outgoing voters each have a majority.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::Slot;
use quipu_crypto::key::PublicKey;
use quipu_crypto::signature::{self, SignedHash};

use crate::limits::MAX_SIGNATURE_ENTRIES;
use crate::membership::{Membership, Node};
use crate::vote::SignatureEntry;

/// Why signature entries are no majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumFault {
    /// More entries than there can be voters.
    #[error("{0} signatures are more than there can be")]
    TooMany(usize),
    /// Not sorted by (slot, outgoing), or the same twice.
    #[error("the signature of slot {0} is out of order or there twice")]
    Unsorted(Slot),
    /// Of a slot that is no voter.
    #[error("slot {0} is no voter")]
    NotAVoter(Slot),
    /// Marked as an outgoing voter's, but the slot's key is the same among the incoming ones.
    #[error("slot {0} has one key only, its signature must not be marked as outgoing")]
    NotOutgoing(Slot),
    /// The signature is not that of the slot's key.
    #[error("the signature of slot {0} is wrong")]
    WrongSignature(Slot),
    /// All good, but too few.
    #[error("{have} of {of} voters are no majority")]
    NoMajority {
        /// Voters that signed.
        have: usize,
        /// Voters that there are in this set.
        of: usize,
    },
}

/// How many of `voters` are a majority.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    (voters >> 1).saturating_add(1)
}

/// Whether `entries` are signatures of a majority (each majority, while joint) over what `statement` says for each
/// voter.
///
/// # Errors
/// Where an entry is out of order, of a stranger or not valid, or they are too few.
pub fn check(
    membership: &Membership,
    entries: &[SignatureEntry],
    statement: &dyn Fn(Slot) -> Hash,
) -> Result<(), QuorumFault> {
    if entries.len() > MAX_SIGNATURE_ENTRIES {
        return Err(QuorumFault::TooMany(entries.len()));
    }
    for (earlier, later) in entries.iter().zip(entries.iter().skip(1)) {
        if (earlier.slot, earlier.outgoing) >= (later.slot, later.outgoing) {
            return Err(QuorumFault::Unsorted(later.slot));
        }
    }
    let mut claims = Vec::with_capacity(entries.len());
    for entry in entries {
        claims.push(SignedHash {
            key: key_of(membership, entry)?,
            hash: statement(entry.slot),
            signature: entry.signature,
        });
    }
    let verdicts = signature::verify_each(&claims);
    if let Some((entry, _)) = entries.iter().zip(verdicts).find(|(_, good)| !good) {
        return Err(QuorumFault::WrongSignature(entry.slot));
    }
    let signed = |node: &&Node| {
        let mut of_slot = entries.iter().zip(&claims).filter(|(entry, _)| entry.slot == node.slot);
        of_slot.any(|(_, claim)| claim.key == node.key)
    };
    demand(membership.voters().filter(signed).count(), membership.voters().count())?;
    if membership.outgoing.is_empty() {
        return Ok(());
    }
    demand(
        membership.outgoing.iter().filter(signed).count(),
        membership.outgoing.len(),
    )
}

fn demand(have: usize, of: usize) -> Result<(), QuorumFault> {
    if have >= majority(of) {
        Ok(())
    } else {
        Err(QuorumFault::NoMajority { have, of })
    }
}

/// The key that `entry` says it was made with.
fn key_of(membership: &Membership, entry: &SignatureEntry) -> Result<PublicKey, QuorumFault> {
    let incoming = membership.voters().find(|node| node.slot == entry.slot);
    let outgoing = membership.outgoing.iter().find(|node| node.slot == entry.slot);
    let (named, other) = if entry.outgoing {
        (outgoing, incoming)
    } else {
        (incoming, None)
    };
    let named = named.ok_or(QuorumFault::NotAVoter(entry.slot))?;
    if other.is_some_and(|other| other.key == named.key) {
        return Err(QuorumFault::NotOutgoing(entry.slot));
    }
    Ok(named.key)
}
