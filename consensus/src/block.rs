//! Keeps what the engine knows of a block and of a membership: an id, a parent, a size, who votes.
//!
//! Invariant: the engine never makes, signs or opens a block; it orders blocks that its host made at the tip.
//! Leaves the content to the host (in the product: `ledger`, joined in `node`).

use std::collections::BTreeSet;
use std::fmt;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Slot};
use serde::{Deserialize, Serialize};

/// A block as the engine sees it. Cloning must be cheap (share the bytes).
pub trait Block: Clone + fmt::Debug {
    /// Height, term and hash.
    fn id(&self) -> BlockId;
    /// Hash of the block before it.
    fn previous(&self) -> Hash;
    /// Whether it opens a term and carries the votes of it.
    fn is_opening(&self) -> bool;
    /// Its length on the wire, in bytes. Windows and batches are counted in it.
    fn size(&self) -> u64;
    /// For a membership block: the configuration that is in force from this block on.
    fn configuration(&self) -> Option<Configuration>;
}

/// Who votes and who only listens. In force from the append of the membership block that carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters; while joint, the incoming ones.
    pub voters: BTreeSet<Slot>,
    /// The former voters while joint; empty otherwise.
    pub outgoing: BTreeSet<Slot>,
    /// Those who receive blocks and never count.
    pub learners: BTreeSet<Slot>,
}
