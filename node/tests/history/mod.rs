//! Keeps what clients saw of a network, and the chain that came of it, for the [`checker`].
//!
//! Invariant: times are of one clock, that of the process in which all clients run.

pub(crate) mod checker;
pub(crate) mod forks;
mod telling;

use std::collections::BTreeMap;
use std::path::Path;

use quipu_crypto::id::{Height, Slot, TransactionId};
use quipu_ledger::block::Executed;
use quipu_ledger::operation::{Operation, Version};
use quipu_ledger::result::Outcome;
use quipu_ledger::store::Store;

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The connection that it came through.
    pub(crate) client: usize,
    /// The node that was to answer it, where one alone was asked.
    pub(crate) node: Option<Slot>,
    /// When it was called, ns.
    pub(crate) begin: u64,
    /// When its answer was there, ns.
    pub(crate) end: u64,
    pub(crate) act: Act,
}

/// What was done, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A transaction.
    Write { id: TransactionId, fate: Fate },
    /// The value of a key, or the values of all keys with a prefix.
    Read {
        wanted: Wanted,
        /// Key, value, version.
        found: Vec<(Vec<u8>, Vec<u8>, Version)>,
        /// The state that was read.
        height: Height,
        /// Whether it had to see everything that was acknowledged before it began.
        fresh: bool,
    },
}

/// What a read asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Key(Vec<u8>),
    Prefix(Vec<u8>),
}

/// What a client knows of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged(Version, Outcome),
    /// It was refused, or can be in no block any more.
    Never,
    Unresolved,
}

/// A transaction in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) version: Version,
    pub(crate) id: TransactionId,
    pub(crate) operations: Vec<Operation>,
    /// Whether its block's time had reached its expiry.
    pub(crate) expired: bool,
    pub(crate) outcome: Outcome,
}

/// What a node has made of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    /// The node, as people count them.
    pub(crate) node: usize,
    /// All transactions, in their order.
    pub(crate) placed: Vec<Placed>,
    /// The last height.
    pub(crate) tip: Height,
    /// What it found at each height.
    pub(crate) executed: BTreeMap<u64, Executed>,
}

/// The copy of a stopped node.
pub(crate) fn copy(node: usize, data: &Path) -> Copy {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open_read_only(data, scratch.path()).unwrap();
    let view = store.view().unwrap();
    let tip = view.height();
    let (mut placed, mut executed) = (Vec::new(), BTreeMap::new());
    for height in 1..=tip.get() {
        let block = store.block(Height(height)).unwrap().unwrap();
        let results = view.results(Height(height)).unwrap().unwrap();
        assert_eq!(block.transactions().len(), results.outcomes.len());
        executed.insert(height, results.executed);
        for (position, (transaction, outcome)) in block.transactions().iter().zip(results.outcomes).enumerate() {
            placed.push(Placed {
                version: Version {
                    height: Height(height),
                    position: position.try_into().unwrap(),
                },
                id: transaction.id(),
                operations: transaction.body().operations.clone(),
                expired: block.header().time >= transaction.body().expires_at,
                outcome,
            });
        }
    }
    let node = node + 1;
    Copy {
        node,
        placed,
        tip,
        executed,
    }
}
