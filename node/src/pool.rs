//! Keeps the transactions that wait at a leader for a block: each once, bounded, shared fairly between their senders.
//!
//! Invariant: bytes and count never pass the bounds; an id is in the pool at most once, and in `ids` exactly while it
//! waits; of one sender, first come is
//! first served.

use std::collections::HashSet;

use quipu_crypto::id::{TimeMs, TransactionId};
use quipu_crypto::key::PublicKey;
use quipu_ledger::transaction::VerifiedTransaction;

use crate::fair::{FairQueue, Room};

/// The queue of a leader.
#[derive(Debug)]
pub struct Pool {
    queue: FairQueue<PublicKey, VerifiedTransaction>,
    ids: HashSet<TransactionId>,
}

/// What became of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits.
    New,
    /// It waited already.
    Known,
    /// There is no room, or its sender has its share of it.
    Full,
}

impl Pool {
    /// An empty pool with room for `limit`.
    #[must_use]
    pub fn new(limit: Room) -> Self {
        Self {
            queue: FairQueue::new(limit),
            ids: HashSet::new(),
        }
    }

    /// Lets a transaction wait.
    pub fn add(&mut self, transaction: VerifiedTransaction) -> Added {
        let id = transaction.id();
        if self.ids.contains(&id) {
            return Added::Known;
        }
        let (sender, bytes) = (transaction.body().sender, transaction.bytes().len());
        if self.queue.push(sender, transaction, bytes).is_err() {
            return Added::Full;
        }
        self.ids.insert(id);
        Added::New
    }

    /// Takes those whose turn it is for a block of this time: at most `count` and about `bytes` (one at least). Expired
    /// ones and those that `skip` knows are dropped on the way.
    pub fn take(
        &mut self,
        time: TimeMs,
        count: usize,
        bytes: usize,
        mut skip: impl FnMut(&TransactionId) -> bool,
    ) -> Vec<VerifiedTransaction> {
        let mut taken: Vec<VerifiedTransaction> = Vec::new();
        let mut size = 0_usize;
        while taken.len() < count && size < bytes {
            let Some((transaction, length)) = self.queue.pop() else {
                break;
            };
            self.ids.remove(&transaction.id());
            if transaction.body().expires_at > time && !skip(&transaction.id()) {
                size = size.saturating_add(length);
                taken.push(transaction);
            }
        }
        taken
    }

    /// Forgets everything: a node that no longer leads has no use for it, whoever waits sends again.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.ids.clear();
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.queue.held().items
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.queue.held().bytes
    }
}
