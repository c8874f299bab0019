//! Keeps the rules of execution: what a block's transactions do to the world state, as a pure function.
//!
//! Invariants: the outcome depends on the chain up to the block and on nothing else; the checks come in the order of
//! [`Reason`]; a transaction's operations take effect all or not at all. Leaves loading and storing to its caller:
//! every key is known before anything runs, so a view is asked once a block.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, TimeMs, TransactionId};
use quipu_crypto::lattice::LatticeHash;

use crate::block::{Block, Executed};
use crate::limits::REPLAY_PURGE_STEP_MS;
use crate::membership::Membership;
use crate::operation::{Condition, Operation, Version};
use crate::result::{Outcome, Reason, TransactionResult, results_chain};
use crate::state::{self, StateKey, StoredRef, StoredValue};
use crate::transaction::{SignedTransaction, TransactionBody};

/// What execution reads: the state and the replay memory as they are before the block.
pub trait StateView {
    /// Why it could not be read.
    type Error;

    /// The value of each of `keys`, in order.
    ///
    /// # Errors
    /// Where the state cannot be read.
    fn values(&self, keys: &[StateKey]) -> Result<Vec<Option<StoredValue>>, Self::Error>;

    /// Whether each of `ids` is in the replay memory, in order.
    ///
    /// # Errors
    /// Where the memory cannot be read.
    fn seen(&self, ids: &[Remembered]) -> Result<Vec<bool>, Self::Error>;
}

/// An entry of the replay memory: an id and when it may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remembered {
    /// The transaction's `expires_at`.
    pub expires_at: TimeMs,
    /// Its id.
    pub id: TransactionId,
}

impl Remembered {
    /// The entry of a transaction.
    #[must_use]
    pub fn of(transaction: &SignedTransaction) -> Self {
        Self {
            expires_at: transaction.body().expires_at,
            id: transaction.id(),
        }
    }
}

/// What a block does, to be written in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects<'b> {
    /// One for each transaction, in order.
    pub results: Vec<TransactionResult>,
    /// Keys whose stored value differs after the block, each once, in the order in which they are first named.
    pub changes: Vec<Change<'b>>,
    /// One for each key that an applied transaction writes, in order of the transactions.
    pub history: Vec<HistoryEntry>,
    /// Positions of the first occurrence of their id: enters the replay memory and the index.
    pub first: Vec<u32>,
    /// Positions of expired transactions, each id once: enters the index unless the id stands there already.
    pub expired: Vec<u32>,
}

/// A key whose stored value differs after a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'b> {
    /// Which.
    pub key: StateKey,
    /// What it held before the block.
    pub before: Option<StoredValue>,
    /// What it holds now.
    pub after: Option<StoredRef<'b>>,
}

/// One key that one applied transaction wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Which key.
    pub key: StateKey,
    /// Position of the transaction in the block.
    pub position: u32,
    /// Index of its last operation that writes the key.
    pub operation: u32,
    /// Whether that one is a delete.
    pub deleted: bool,
}

/// Up to which `expires_at` the replay memory is empty after a block of this time.
#[must_use]
pub const fn replay_boundary(time: TimeMs) -> TimeMs {
    match time.0.checked_rem(REPLAY_PURGE_STEP_MS) {
        Some(beyond) => TimeMs(time.0.saturating_sub(beyond)),
        None => time,
    }
}

/// What is known of the chain after executing it up to a height: the quadruple, and the sum behind its state digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The quadruple.
    pub executed: Executed,
    /// Its state digest is this one's digest.
    pub lattice: LatticeHash,
}

impl Progress {
    /// After block 0.
    #[must_use]
    pub fn genesis() -> Self {
        let lattice = LatticeHash::new();
        let executed = Executed::genesis();
        Self { executed, lattice }
    }

    /// After the next block, which had these effects.
    #[must_use]
    pub fn after(&self, effects: &Effects<'_>) -> Self {
        let mut lattice = self.lattice.clone();
        for change in &effects.changes {
            let before = change.before.as_ref().map(StoredValue::as_ref);
            state::account(&mut lattice, &change.key, before, change.after);
        }
        let state_digest = if effects.changes.is_empty() {
            self.executed.state_digest
        } else {
            lattice.digest()
        };
        let executed = Executed {
            height: self.executed.height.next(),
            state_digest,
            results_chain: results_chain(&self.executed.results_chain, &effects.results),
            state_root: Hash::ZERO,
        };
        Self { executed, lattice }
    }
}

/// Whether the sender is a member and may do what the operations do. Also admission's early advice.
///
/// # Errors
/// [`Reason::UnknownMember`] or [`Reason::NotPermitted`].
pub fn check_rights(body: &TransactionBody, membership: &Membership) -> Result<(), Reason> {
    let member = membership.member(&body.sender).ok_or(Reason::UnknownMember)?;
    for (operation, index) in body.operations.iter().zip(0_u32..) {
        let permitted = if operation.writes() {
            membership.may_write(member, operation.namespace())
        } else {
            has_namespace(membership, operation)
        };
        if !permitted {
            return Err(Reason::NotPermitted { operation: index });
        }
    }
    Ok(())
}

fn has_namespace(membership: &Membership, operation: &Operation) -> bool {
    let namespaces = &membership.namespaces;
    namespaces
        .binary_search_by(|rights| rights.name.cmp(operation.namespace()))
        .is_ok()
}

/// Executes a block on the state that `view` shows. `membership` is the one in force at the block's height.
///
/// # Errors
/// Only those of the view.
pub fn execute<'b, V: StateView>(view: &V, block: &'b Block, membership: &Membership) -> Result<Effects<'b>, V::Error> {
    let transactions = block.transactions();
    let ids: Vec<Remembered> = transactions.iter().map(Remembered::of).collect();
    let mut run = Run::load(view, block, membership)?;
    let seen = view.seen(&ids)?;
    for ((transaction, entry), (position, seen)) in transactions.iter().zip(&ids).zip((0_u32..).zip(seen)) {
        run.step(transaction, *entry, position, seen);
    }
    Ok(run.finish())
}

/// A key that the block names, while the block runs.
struct Slot<'b> {
    key: StateKey,
    before: Option<StoredValue>,
    /// What transactions of this block made of it; `None` as long as none has.
    now: Option<Option<StoredRef<'b>>>,
}

impl Slot<'_> {
    fn current(&self) -> Option<StoredRef<'_>> {
        match &self.now {
            Some(now) => *now,
            None => self.before.as_ref().map(StoredValue::as_ref),
        }
    }
}

/// A write of a transaction that may still fail.
struct Pending<'b> {
    slot: usize,
    operation: u32,
    value: Option<StoredRef<'b>>,
}

struct Run<'b, 'm> {
    height: Height,
    time: TimeMs,
    membership: &'m Membership,
    slots: Vec<Slot<'b>>,
    /// Slot of each operation of the block, in order.
    operands: std::vec::IntoIter<usize>,
    /// First occurrences in this block, the expired ones among them.
    here: BTreeSet<TransactionId>,
    pending: Vec<Pending<'b>>,
    effects: Effects<'b>,
}

impl<'b, 'm> Run<'b, 'm> {
    fn load<V: StateView>(view: &V, block: &'b Block, membership: &'m Membership) -> Result<Self, V::Error> {
        let mut slot_of: BTreeMap<StateKey, usize> = BTreeMap::new();
        let mut keys = Vec::new();
        let mut operands = Vec::new();
        for operation in block.transactions().iter().flat_map(|tx| &tx.body().operations) {
            let key = StateKey::new(operation.namespace(), operation.key());
            let slot = *slot_of.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                keys.len().saturating_sub(1)
            });
            operands.push(slot);
        }
        let values = view.values(&keys)?;
        let slots = keys.into_iter().zip(values);
        let slots = slots.map(|(key, before)| Slot { key, before, now: None });
        Ok(Self {
            height: block.header().height,
            time: block.header().time,
            membership,
            slots: slots.collect(),
            operands: operands.into_iter(),
            here: BTreeSet::new(),
            pending: Vec::new(),
            effects: Effects::default(),
        })
    }

    fn step(&mut self, transaction: &'b SignedTransaction, entry: Remembered, position: u32, seen: bool) {
        let body = transaction.body();
        let operands: Vec<usize> = self.operands.by_ref().take(body.operations.len()).collect();
        let expired = self.time >= entry.expires_at;
        let first_here = self.here.insert(entry.id);
        let outcome = if expired {
            if first_here {
                self.effects.expired.push(position);
            }
            Outcome::Failed(Reason::Expired)
        } else if seen || !first_here {
            Outcome::Failed(Reason::Duplicate)
        } else {
            self.effects.first.push(position);
            self.run(body, &operands, position)
        };
        self.effects.results.push(TransactionResult { id: entry.id, outcome });
    }

    /// The checks from [`Reason::ExpiryTooFar`] on, then the operations.
    fn run(&mut self, body: &'b TransactionBody, operands: &[usize], position: u32) -> Outcome {
        let furthest = self.time.plus(self.membership.parameters.max_lifetime_ms);
        if body.expires_at > furthest {
            return Outcome::Failed(Reason::ExpiryTooFar);
        }
        if let Err(reason) = check_rights(body, self.membership) {
            return Outcome::Failed(reason);
        }
        self.pending.clear();
        let version = Version {
            height: self.height,
            position,
        };
        for ((operation, slot), index) in body.operations.iter().zip(operands).zip(0_u32..) {
            let value = match operation {
                Operation::Put { value, .. } => Some(StoredRef { version, value }),
                Operation::Delete { .. } => None,
                Operation::Require { condition, .. } => {
                    if !holds(condition, self.sees(*slot)) {
                        return Outcome::Failed(Reason::RequirementFailed { operation: index });
                    }
                    continue;
                }
            };
            self.pend(*slot, index, value);
        }
        self.take_effect(position);
        Outcome::Applied
    }

    /// What the running transaction finds: its own writes first.
    fn sees(&self, slot: usize) -> Option<StoredRef<'_>> {
        match self.pending.iter().rev().find(|write| write.slot == slot) {
            Some(write) => write.value,
            None => self.slots.get(slot).and_then(Slot::current),
        }
    }

    fn pend(&mut self, slot: usize, operation: u32, value: Option<StoredRef<'b>>) {
        let write = Pending { slot, operation, value };
        match self.pending.iter_mut().find(|earlier| earlier.slot == slot) {
            Some(earlier) => *earlier = write,
            None => self.pending.push(write),
        }
    }

    fn take_effect(&mut self, position: u32) {
        for write in self.pending.drain(..) {
            let Some(slot) = self.slots.get_mut(write.slot) else {
                continue;
            };
            self.effects.history.push(HistoryEntry {
                key: slot.key.clone(),
                position,
                operation: write.operation,
                deleted: write.value.is_none(),
            });
            slot.now = Some(write.value);
        }
    }

    fn finish(mut self) -> Effects<'b> {
        for slot in self.slots {
            let Some(after) = slot.now else { continue };
            if slot.before.is_none() && after.is_none() {
                continue;
            }
            self.effects.changes.push(Change {
                key: slot.key,
                before: slot.before,
                after,
            });
        }
        self.effects
    }
}

fn holds(condition: &Condition, found: Option<StoredRef<'_>>) -> bool {
    match (condition, found) {
        (Condition::Absent, found) => found.is_none(),
        (Condition::Present, found) => found.is_some(),
        (Condition::Version(version), Some(found)) => found.version == *version,
        (Condition::Value(value), Some(found)) => found.value == *value,
        (Condition::Version(_) | Condition::Value(_), None) => false,
    }
}
