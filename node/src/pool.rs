//! Keeps the transactions that wait at a leader for a block: first come, first served, each once, bounded.
//!
//! Invariant: bytes and count never pass the bounds; an id is in the pool at most once.

use std::collections::{HashSet, VecDeque};

use quipu_crypto::id::{TimeMs, TransactionId};
use quipu_ledger::transaction::VerifiedTransaction;

/// How much a pool takes.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Most transactions.
    pub transactions: usize,
    /// Most bytes of them.
    pub bytes: usize,
}

/// The queue of a leader.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    queue: VecDeque<VerifiedTransaction>,
    ids: HashSet<TransactionId>,
    bytes: usize,
}

/// What became of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits.
    New,
    /// It waited already.
    Known,
    /// There is no room.
    Full,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            ids: HashSet::new(),
            bytes: 0,
        }
    }

    /// Lets a transaction wait.
    pub fn add(&mut self, transaction: VerifiedTransaction) -> Added {
        if self.ids.contains(&transaction.id()) {
            return Added::Known;
        }
        let bytes = self.bytes.saturating_add(transaction.bytes().len());
        if self.queue.len() >= self.limits.transactions || bytes > self.limits.bytes {
            return Added::Full;
        }
        self.bytes = bytes;
        self.ids.insert(transaction.id());
        self.queue.push_back(transaction);
        Added::New
    }

    /// Takes the oldest for a block of this time: at most `count` and about `bytes` (one at least). Expired ones and
    /// those that `skip` knows are dropped on the way.
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
            let Some(transaction) = self.queue.pop_front() else {
                break;
            };
            let length = transaction.bytes().len();
            self.ids.remove(&transaction.id());
            self.bytes = self.bytes.saturating_sub(length);
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
        self.bytes = 0;
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
