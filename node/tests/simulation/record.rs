//! Keeps what all replicas of a run ever executed and answered, and what must hold of it.
//!
//! I13 an answer is what execution finds there, I14 a transaction runs once, I19 equal heights have equal states byte
//! for byte. The oracle of the simulator holds chains, votes and commits; this holds what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use quipu_consensus::simulator::checkers::{Verdict, Violation};
use quipu_crypto::id::{BlockId, Height, Slot, TransactionId};
use quipu_ledger::block::{Block, Executed};
use quipu_ledger::limits::MAX_TIME_AHEAD_MS;
use quipu_ledger::operation::Version;
use quipu_ledger::result::{Outcome, Reason, TransactionResult};
use quipu_node::client_protocol::Receipt;

use crate::derived::Derived;
use crate::founding::BEGIN_MS;

/// How far the time of a committed block may be ahead of the true one: so far may it be ahead of a follower's, and that
/// one be wrong.
const FURTHEST_AHEAD_MS: u64 = MAX_TIME_AHEAD_MS + 1_000;

/// What was found at a height by whoever executed it first.
struct Found {
    id: BlockId,
    executed: Executed,
    fingerprint: u64,
    results: Vec<TransactionResult>,
}

/// All that was executed and answered.
#[derive(Default)]
pub(crate) struct Record {
    heights: BTreeMap<Height, Found>,
    /// Where each transaction stands first.
    first: BTreeMap<TransactionId, Receipt>,
    /// Where each transaction ran.
    ran: BTreeMap<TransactionId, Version>,
    /// Whose clients were told that it never will run.
    never: BTreeSet<TransactionId>,
    /// How far each node has come.
    pub(crate) executed: BTreeMap<Slot, Height>,
    /// How far each node ever came, over all of its lives.
    pub(crate) reached: BTreeMap<Slot, Height>,
    /// The last height with transactions, and the greatest height that an executed block names.
    pub(crate) transactions: Height,
    pub(crate) named: Height,
    /// Blocks that were executed again, after a crash or by another node.
    pub(crate) compared: u64,
}

pub(crate) fn violation(invariant: &'static str, detail: String) -> Verdict {
    Err(Violation { invariant, detail })
}

impl Record {
    /// A node executed a block, and this is what it has now.
    pub(crate) fn executed(
        &mut self,
        slot: Slot,
        block: &Block,
        results: &[TransactionResult],
        derived: &Derived,
        now: u64,
    ) -> Verdict {
        let (id, executed, fingerprint) = (derived.last, derived.executed(), derived.fingerprint());
        let time = block.header().time;
        if time.get() > BEGIN_MS + now + FURTHEST_AHEAD_MS {
            return violation("time", format!("{id} is of {time}, it is {}", BEGIN_MS + now));
        }
        self.executed.insert(slot, id.height);
        let reached = self.reached.entry(slot).or_default();
        *reached = id.height.max(*reached);
        self.named = block.header().executed.height.max(self.named);
        if !results.is_empty() {
            self.transactions = id.height.max(self.transactions);
        }
        if let Some(found) = self.heights.get(&id.height) {
            self.compared += 1;
            let (state, same) = (found.executed == executed, found.fingerprint == fingerprint);
            if found.id != id || !state || !same || found.results != results {
                let detail = format!(
                    "{slot} executed {id}: {executed:?}, another {}: {:?}",
                    found.id, found.executed
                );
                return violation("I19", detail);
            }
            return Ok(());
        }
        for (position, result) in (0..).zip(results) {
            let version = Version {
                height: id.height,
                position,
            };
            let receipt = Receipt {
                id: result.id,
                version,
                outcome: result.outcome,
                block: id.hash,
            };
            self.first.entry(result.id).or_insert(receipt);
            if matches!(result.outcome, Outcome::Failed(Reason::Duplicate | Reason::Expired)) {
                continue;
            }
            if let Some(before) = self.ran.insert(result.id, version) {
                return violation("I14", format!("{} ran at {before} and at {version}", result.id));
            }
            if self.never.contains(&result.id) {
                return violation(
                    "I13",
                    format!("{} ran at {version}, its client was told never", result.id),
                );
            }
        }
        let found = Found {
            id,
            executed,
            fingerprint,
            results: results.to_vec(),
        };
        self.heights.insert(id.height, found);
        Ok(())
    }

    /// A client was given a receipt.
    pub(crate) fn answered(&self, slot: Slot, receipt: &Receipt) -> Verdict {
        if self.first.get(&receipt.id) != Some(receipt) {
            let found = self.first.get(&receipt.id);
            return violation("I13", format!("{slot} answers {receipt:?}, execution found {found:?}"));
        }
        Ok(())
    }

    /// A client was told that its transaction has expired and is in no block.
    pub(crate) fn refused_for_ever(&mut self, slot: Slot, id: TransactionId) -> Verdict {
        if let Some(version) = self.ran.get(&id) {
            return violation("I13", format!("{slot} tells that {id} never runs, it ran at {version}"));
        }
        self.never.insert(id);
        Ok(())
    }
}
