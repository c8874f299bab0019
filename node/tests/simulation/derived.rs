//! Keeps what follows from the chain, as the store keeps it: state, replay memory, index and quadruples.
//!
//! Invariant: it is a function of the blocks executed so far. The rules are those of `ledger::execute`.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::{Hash, Hasher};

use quipu_crypto::id::{BlockId, Height, TimeMs, TransactionId};
use quipu_crypto::lattice::LatticeHash;
use quipu_ledger::block::{Block, Executed};
use quipu_ledger::execute::{self, Progress, Remembered, StateView, replay_boundary};
use quipu_ledger::membership::Membership;
use quipu_ledger::operation::Version;
use quipu_ledger::result::{Outcome, TransactionResult};
use quipu_ledger::state::{self, StateKey, StoredValue};
use quipu_node::client_protocol::Receipt;

/// What one node has executed.
#[derive(Clone)]
pub(crate) struct Derived {
    progress: Progress,
    pub(crate) last: BlockId,
    pub(crate) time: TimeMs,
    state: BTreeMap<StateKey, StoredValue>,
    recent: BTreeSet<Remembered>,
    index: BTreeMap<TransactionId, Receipt>,
    quadruples: Vec<Executed>,
}

impl Derived {
    /// After block 0.
    pub(crate) fn genesis(block: &Block) -> Self {
        let progress = Progress::genesis();
        Self {
            quadruples: vec![progress.executed],
            progress,
            last: block.id(),
            time: block.header().time,
            state: BTreeMap::new(),
            recent: BTreeSet::new(),
            index: BTreeMap::new(),
        }
    }

    pub(crate) const fn executed(&self) -> Executed {
        self.progress.executed
    }

    pub(crate) fn executed_at(&self, height: Height) -> Option<Executed> {
        self.quadruples.get(height.get() as usize).copied()
    }

    pub(crate) fn find(&self, id: TransactionId) -> Option<Receipt> {
        self.index.get(&id).copied()
    }

    /// Executes the next block.
    pub(crate) fn execute(&mut self, block: &Block, membership: &Membership) -> Vec<TransactionResult> {
        let (id, header) = (block.id(), block.header());
        assert_eq!(header.previous, self.last.hash, "blocks are executed in order");
        let Ok(effects) = execute::execute(self, block, membership);
        self.progress = self.progress.after(&effects);
        let boundary = replay_boundary(header.time);
        if boundary > replay_boundary(self.time) {
            self.recent.retain(|entry| entry.expires_at > boundary);
        }
        let entry = |position: u32| {
            let transaction = &block.transactions()[position as usize];
            let outcome = effects.results[position as usize].outcome;
            (
                Remembered::of(transaction),
                receipt(id, position, transaction.id(), outcome),
            )
        };
        for (entry, receipt) in effects.first.iter().map(|position| entry(*position)) {
            self.index.insert(entry.id, receipt);
            self.recent.insert(entry);
        }
        for (entry, receipt) in effects.expired.iter().map(|position| entry(*position)) {
            self.index.entry(entry.id).or_insert(receipt);
        }
        let changes: Vec<(StateKey, Option<StoredValue>)> = effects
            .changes
            .iter()
            .map(|change| (change.key.clone(), change.after.map(owned)))
            .collect();
        let results = effects.results;
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        self.quadruples.push(self.progress.executed);
        self.last = id;
        self.time = header.time;
        results
    }

    /// Stands for every byte of the state and of the replay memory.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (key, stored) in &self.state {
            key.as_bytes().hash(&mut hasher);
            (stored.version, &stored.value).hash(&mut hasher);
        }
        self.recent.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the state digest is that of the state.
    pub(crate) fn digest_is_right(&self) -> bool {
        let mut lattice = LatticeHash::new();
        for (key, stored) in &self.state {
            lattice.add_element(&state::element(key, stored.as_ref()));
        }
        lattice.digest() == self.executed().state_digest
    }
}

fn owned(stored: state::StoredRef<'_>) -> StoredValue {
    StoredValue {
        version: stored.version,
        value: stored.value.to_vec(),
    }
}

fn receipt(block: BlockId, position: u32, id: TransactionId, outcome: Outcome) -> Receipt {
    Receipt {
        id,
        version: Version {
            height: block.height,
            position,
        },
        outcome,
        block: block.hash,
    }
}

impl StateView for Derived {
    type Error = Infallible;

    fn values(&self, keys: &[StateKey]) -> Result<Vec<Option<StoredValue>>, Infallible> {
        Ok(keys.iter().map(|key| self.state.get(key).cloned()).collect())
    }

    fn seen(&self, ids: &[Remembered]) -> Result<Vec<bool>, Infallible> {
        Ok(ids.iter().map(|id| self.recent.contains(id)).collect())
    }
}
