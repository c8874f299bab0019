//! Keeps the rules of execution: what a block's transactions do to the world state, as a pure function.
//!
//! Invariants: the outcome depends on the chain up to the block and on nothing else, nor on who runs what beside whom;
//! the checks come in the order of [`Reason`]; a transaction's operations take effect all or not at all. Leaves loading
//! and storing to its caller: every key is known before anything runs, so a view is asked once a block.
//!
//! `run` has what one transaction does, `locks` who may run beside whom (ordered strict two-phase locking, and why it
//! cannot deadlock), `crew` how the threads of a [`Crew`] share a block. Alone, the same transactions run in order.

mod crew;
mod locks;
mod run;

/// What `locks` is built of: a test builds the same file of other parts.
mod sync {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
}

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{TimeMs, TransactionId};
use quipu_crypto::lattice::LatticeHash;

use crate::block::{Block, Executed};
use crate::limits::REPLAY_PURGE_STEP_MS;
use crate::membership::Membership;
use crate::operation::Operation;
use crate::result::{self, Reason, TransactionResult};
use crate::state::{StateKey, StoredRef, StoredValue};
use crate::transaction::{SignedTransaction, TransactionBody};
pub use crew::{Alone, Crew};
use run::{Plan, Ran, Slot};

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
    /// Their leaves under `results_root`.
    pub leaves: Vec<Hash>,
    /// Keys that an applied transaction wrote, each once, sorted.
    pub changes: Vec<Change<'b>>,
    /// What the changes add to the sum behind the state digest.
    pub difference: LatticeHash,
    /// Positions of the first occurrence of their id: enters the replay memory and the index.
    pub first: Vec<u32>,
    /// Positions of expired transactions, each id once: enters the index unless the id stands there already.
    pub expired: Vec<u32>,
}

/// A key that a block wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'b> {
    /// Which.
    pub key: StateKey,
    /// What it held before the block.
    pub before: Option<StoredValue>,
    /// What it holds now; nothing before and after where what was not there was deleted.
    pub after: Option<StoredRef<'b>>,
    /// One for each transaction that wrote it, in order: its history.
    pub written: Vec<Written>,
}

/// One key that one applied transaction wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
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
        lattice.combine(&effects.difference);
        let state_digest = if effects.changes.is_empty() {
            self.executed.state_digest
        } else {
            lattice.digest()
        };
        let executed = Executed {
            height: self.executed.height.next(),
            state_digest,
            results_chain: result::link(&self.executed.results_chain, &effects.leaves),
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
pub fn execute<'b, V>(view: &V, block: &'b Block, membership: &'b Membership) -> Result<Effects<'b>, V::Error>
where
    V: StateView + Sync,
    V::Error: Send,
{
    execute_by(&Alone, view, block, membership)
}

/// [`execute`], with the work shared out among a crew where there is enough of it. The effects are the same.
///
/// # Errors
/// Only those of the view.
pub fn execute_by<'b, V>(
    crew: &impl Crew,
    view: &V,
    block: &'b Block,
    membership: &'b Membership,
) -> Result<Effects<'b>, V::Error>
where
    V: StateView + Sync,
    V::Error: Send,
{
    let ids: Vec<Remembered> = block.transactions().iter().map(Remembered::of).collect();
    let (keys, operands) = run::keys(block);
    if crew.worth(keys.len(), operands.len()) {
        return crew.enter(|| {
            let (values, seen) = crew::load(crew, view, &keys, &ids)?;
            let plan = Plan::new(block, membership, operands, &ids, &seen);
            let ran = crew::run(crew, &plan, Slot::all(keys, values));
            Ok(effects(plan, ran))
        });
    }
    let (values, seen) = (view.values(&keys)?, view.seen(&ids)?);
    let plan = Plan::new(block, membership, operands, &ids, &seen);
    let ran = in_order(&plan, Slot::all(keys, values));
    Ok(effects(plan, ran))
}

/// Runs all transactions of a block, one after the other.
fn in_order<'b>(plan: &Plan<'b>, mut slots: Vec<Slot<'b>>) -> Ran<'b> {
    let mut pending = Vec::new();
    let settled = plan
        .transactions
        .iter()
        .map(|planned| plan.settle(planned, &mut slots, &mut pending));
    let settled = settled.collect();
    let mut difference = LatticeHash::new();
    for slot in &slots {
        slot.account(&mut difference);
    }
    Ran {
        settled,
        slots,
        difference,
    }
}

fn effects<'b>(plan: Plan<'b>, ran: Ran<'b>) -> Effects<'b> {
    let written = ran.slots.into_iter().filter(|slot| !slot.written.is_empty());
    Effects {
        results: ran.settled.iter().map(|settled| settled.result).collect(),
        leaves: ran.settled.iter().map(|settled| settled.leaf).collect(),
        changes: written.map(Change::from).collect(),
        difference: ran.difference,
        first: plan.first,
        expired: plan.expired,
    }
}

impl<'b> From<Slot<'b>> for Change<'b> {
    fn from(slot: Slot<'b>) -> Self {
        Self {
            key: slot.key,
            before: slot.before,
            after: slot.now,
            written: slot.written,
        }
    }
}
