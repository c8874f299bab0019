//! Keeps what one transaction does, and what a block knows of its transactions before any of them runs.
//!
//! Invariants: [`Plan::settle`] is the one place where a transaction runs, alone or beside others; it touches only the
//! slots of its own operations. What the state does not decide (expiry, duplicates, who needs which key) is in the
//! plan. The membership is the same throughout a block, so reading it needs no lock. Leaves the order to its callers.

use std::cmp::Ordering;
use std::ops::Range;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, TimeMs};
use quipu_crypto::lattice::LatticeHash;

use super::locks::{Mode, Request};
use super::{Remembered, Written, check_rights};
use crate::block::Block;
use crate::membership::Membership;
use crate::operation::{Condition, Operation, Version};
use crate::result::{Outcome, Reason, TransactionResult};
use crate::state::{self, StateKey, StoredRef, StoredValue};
use crate::transaction::SignedTransaction;

/// A key that the block names, while the block runs.
pub(super) struct Slot<'b> {
    pub(super) key: StateKey,
    pub(super) before: Option<StoredValue>,
    /// What the last of `written` left.
    pub(super) now: Option<StoredRef<'b>>,
    pub(super) written: Vec<Written>,
}

impl Slot<'_> {
    /// Those of `keys`, with the value of each.
    pub(super) fn all(keys: Vec<StateKey>, values: Vec<Option<StoredValue>>) -> Vec<Self> {
        let slots = keys.into_iter().zip(values);
        let slot = |(key, before)| Self {
            key,
            before,
            now: None,
            written: Vec::new(),
        };
        slots.map(slot).collect()
    }

    fn current(&self) -> Option<StoredRef<'_>> {
        if self.written.is_empty() {
            return self.before.as_ref().map(StoredValue::as_ref);
        }
        self.now
    }

    /// Takes what the block found out of the sum and puts in what it leaves.
    pub(super) fn account(&self, difference: &mut LatticeHash) {
        if !self.written.is_empty() {
            let before = self.before.as_ref().map(StoredValue::as_ref);
            state::account(difference, &self.key, before, self.now);
        }
    }
}

/// The slots of a block, as a transaction may reach them.
pub(super) trait Slots<'b> {
    /// What `visit` makes of a slot; every number in a plan is one.
    fn visit<R>(&mut self, slot: usize, visit: impl FnOnce(&mut Slot<'b>) -> R) -> Option<R>;
}

impl<'b> Slots<'b> for Vec<Slot<'b>> {
    fn visit<R>(&mut self, slot: usize, visit: impl FnOnce(&mut Slot<'b>) -> R) -> Option<R> {
        self.get_mut(slot).map(visit)
    }
}

/// A transaction that is to run.
pub(super) struct Planned<'b> {
    transaction: &'b SignedTransaction,
    position: u32,
    /// Why it fails whatever the state is.
    decided: Option<Reason>,
    /// Its part of [`Plan::operands`].
    operands: Range<usize>,
}

/// What came of a transaction.
pub(super) struct Settled {
    pub(super) result: TransactionResult,
    pub(super) leaf: Hash,
}

/// What came of a block's transactions.
pub(super) struct Ran<'b> {
    pub(super) settled: Vec<Settled>,
    pub(super) slots: Vec<Slot<'b>>,
    pub(super) difference: LatticeHash,
}

/// A write of a transaction that may still fail.
pub(super) struct Pending<'b> {
    slot: usize,
    operation: u32,
    value: Option<StoredRef<'b>>,
}

/// All that is known of a block before it runs.
pub(super) struct Plan<'b> {
    height: Height,
    time: TimeMs,
    membership: &'b Membership,
    pub(super) transactions: Vec<Planned<'b>>,
    /// Slot of each operation of the block, in order.
    operands: Vec<usize>,
    /// [`super::Effects::first`].
    pub(super) first: Vec<u32>,
    /// [`super::Effects::expired`].
    pub(super) expired: Vec<u32>,
}

/// The keys that a block names, sorted, each once; and which of them each operation names, in order.
pub(super) fn keys(block: &Block) -> (Vec<StateKey>, Vec<usize>) {
    let operations = block.transactions().iter().flat_map(|tx| &tx.body().operations);
    let mut named: Vec<(&Operation, usize)> = operations.zip(0..).collect();
    let mut operands = vec![0; named.len()];
    named.sort_unstable_by(|(a, at), (b, bt)| in_store(a, b).then(at.cmp(bt)));
    let mut keys: Vec<StateKey> = Vec::with_capacity(named.len());
    let mut last: Option<&Operation> = None;
    for (operation, at) in named {
        if last.is_none_or(|last| in_store(last, operation).is_ne()) {
            keys.push(StateKey::new(operation.namespace(), operation.key()));
            last = Some(operation);
        }
        if let Some(slot) = operands.get_mut(at) {
            *slot = keys.len().saturating_sub(1);
        }
    }
    (keys, operands)
}

/// The order of the keys of two operations: that of [`StateKey`].
fn in_store(a: &Operation, b: &Operation) -> Ordering {
    let (left, right) = (a.namespace().as_str(), b.namespace().as_str());
    let namespaces = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
    namespaces.then_with(|| a.key().cmp(b.key()))
}

impl<'b> Plan<'b> {
    /// Decides what the state does not. `operands` are of [`keys`]; `ids` and `seen` are of the transactions.
    pub(super) fn new(
        block: &'b Block,
        membership: &'b Membership,
        operands: Vec<usize>,
        ids: &[Remembered],
        seen: &[bool],
    ) -> Self {
        let mut plan = Self {
            height: block.header().height,
            time: block.header().time,
            membership,
            transactions: Vec::with_capacity(ids.len()),
            operands,
            first: Vec::new(),
            expired: Vec::new(),
        };
        let again = again(ids);
        let known = ids.iter().zip(seen.iter().zip(again));
        let mut start: usize = 0;
        for ((transaction, position), (entry, (seen, again))) in block.transactions().iter().zip(0..).zip(known) {
            let end = start.saturating_add(transaction.body().operations.len());
            let decided = plan.decide(*entry, position, *seen, again);
            plan.transactions.push(Planned {
                transaction,
                position,
                decided,
                operands: start..end,
            });
            start = end;
        }
        plan
    }

    fn decide(&mut self, entry: Remembered, position: u32, seen: bool, again: bool) -> Option<Reason> {
        if self.time >= entry.expires_at {
            if !again {
                self.expired.push(position);
            }
            return Some(Reason::Expired);
        }
        if seen || again {
            return Some(Reason::Duplicate);
        }
        self.first.push(position);
        None
    }

    /// The locks that each transaction needs, in order: its keys, once each, alone where it writes.
    pub(super) fn requests(&self) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::with_capacity(self.operands.len());
        let running = self
            .transactions
            .iter()
            .enumerate()
            .filter(|(_, planned)| planned.decided.is_none());
        for (transaction, planned) in running {
            let from = requests.len();
            for (operation, lock) in planned.operations().zip(self.operands_of(planned)) {
                let mode = if operation.writes() {
                    Mode::Exclusive
                } else {
                    Mode::Shared
                };
                requests.push(Request {
                    transaction,
                    lock: *lock,
                    mode,
                });
            }
            once_each(&mut requests, from);
        }
        requests
    }

    fn operands_of(&self, planned: &Planned<'_>) -> &[usize] {
        self.operands.get(planned.operands.clone()).unwrap_or_default()
    }

    /// Runs a transaction on slots that nobody else changes meanwhile. `pending` is empty room.
    pub(super) fn settle(
        &self,
        planned: &Planned<'b>,
        slots: &mut impl Slots<'b>,
        pending: &mut Vec<Pending<'b>>,
    ) -> Settled {
        let outcome = match planned.decided {
            Some(reason) => Err(reason),
            None => self.run(planned, slots, pending),
        };
        let outcome = outcome.map_or_else(Outcome::Failed, |()| Outcome::Applied);
        let result = TransactionResult {
            id: planned.transaction.id(),
            outcome,
        };
        Settled {
            result,
            leaf: result.leaf(),
        }
    }

    /// The checks from [`Reason::ExpiryTooFar`] on, then the operations.
    fn run(
        &self,
        planned: &Planned<'b>,
        slots: &mut impl Slots<'b>,
        pending: &mut Vec<Pending<'b>>,
    ) -> Result<(), Reason> {
        let body = planned.transaction.body();
        let furthest = self.time.plus(self.membership.parameters.max_lifetime_ms);
        if body.expires_at > furthest {
            return Err(Reason::ExpiryTooFar);
        }
        check_rights(body, self.membership)?;
        pending.clear();
        let version = Version {
            height: self.height,
            position: planned.position,
        };
        for ((operation, slot), index) in body.operations.iter().zip(self.operands_of(planned)).zip(0_u32..) {
            let value = match operation {
                Operation::Put { value, .. } => Some(StoredRef { version, value }),
                Operation::Delete { .. } => None,
                Operation::Require { condition, .. } => {
                    if !sees(*slot, slots, pending, |found| holds(condition, found)) {
                        return Err(Reason::RequirementFailed { operation: index });
                    }
                    continue;
                }
            };
            pend(
                pending,
                Pending {
                    slot: *slot,
                    operation: index,
                    value,
                },
            );
        }
        for write in pending.drain(..) {
            slots.visit(write.slot, |slot| {
                slot.written.push(Written {
                    position: planned.position,
                    operation: write.operation,
                    deleted: write.value.is_none(),
                });
                slot.now = write.value;
            });
        }
        Ok(())
    }
}

impl<'b> Planned<'b> {
    fn operations(&self) -> impl Iterator<Item = &'b Operation> {
        self.transaction.body().operations.iter()
    }
}

/// Whether each id stands earlier in the block. It does not matter what came of it there.
fn again(ids: &[Remembered]) -> Vec<bool> {
    let mut sorted: Vec<(&Remembered, usize)> = ids.iter().zip(0..).collect();
    sorted.sort_unstable_by_key(|(entry, at)| (entry.id, *at));
    let mut again = vec![false; ids.len()];
    for pair in sorted.windows(2) {
        let [(before, _), (entry, at)] = pair else { continue };
        if before.id == entry.id
            && let Some(again) = again.get_mut(*at)
        {
            *again = true;
        }
    }
    again
}

/// Leaves of the requests from `from` on the strongest for each lock.
fn once_each(requests: &mut Vec<Request>, from: usize) {
    if requests.len().saturating_sub(from) < 2 {
        return;
    }
    let mut own = requests.split_off(from);
    own.sort_unstable_by_key(|request| (request.lock, std::cmp::Reverse(request.mode)));
    own.dedup_by_key(|request| request.lock);
    requests.append(&mut own);
}

/// What the running transaction finds in a slot: its own writes first.
fn sees<'b>(
    slot: usize,
    slots: &mut impl Slots<'b>,
    pending: &[Pending<'b>],
    judge: impl FnOnce(Option<StoredRef<'_>>) -> bool,
) -> bool {
    match pending.iter().find(|write| write.slot == slot) {
        Some(write) => judge(write.value),
        None => slots.visit(slot, |slot| judge(slot.current())).unwrap_or(false),
    }
}

fn pend<'b>(pending: &mut Vec<Pending<'b>>, write: Pending<'b>) {
    match pending.iter_mut().find(|earlier| earlier.slot == write.slot) {
        Some(earlier) => *earlier = write,
        None => pending.push(write),
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
