//! Keeps what a leader does: its opening block, cutting blocks from the pool, naming what was executed.
//!
//! A block is cut as soon as the log writer is idle, or when a full one waits; there is no batch timer. An empty block
//! is cut only to name an executed height with transactions, or to let the time reach an expiry that somebody waits
//! for.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use quipu_consensus::engine::Role;
use quipu_consensus::input::{Input, Tick};
use quipu_consensus::message::{Message, VoteSignature};
use quipu_crypto::id::{Height, Slot, TimeMs, TransactionId};
use quipu_ledger::block::{Block, Body, Executed, Items};
use quipu_ledger::limits::{BLOCK_CUT_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_SIGNATURE_ENTRIES};
use quipu_ledger::result::TransactionResult;
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::transaction::SignedTransaction;
use quipu_ledger::vote::{EngineId, SignatureEntry, VoteStatement};

use super::{Action, Moment, Replica};
use crate::chain_block::{ChainBlock, configuration};
use crate::limits::{IDLE_NAMING_MS, REMEMBERED_TRANSACTIONS, UNCOMMITTED_BLOCKS};

/// What only a leader needs.
#[derive(Debug)]
pub(super) struct Leading {
    /// Transactions in blocks that are not executed here yet.
    in_chain: HashSet<TransactionId>,
    /// Lately executed ones, oldest first: a transaction that is sent again just then needs no second place.
    executed: HashSet<TransactionId>,
    executed_order: VecDeque<TransactionId>,
    /// Greatest height of a block with transactions.
    last_transactions: Height,
    /// Earliest expiry that somebody waits for.
    expiry: Option<TimeMs>,
    /// When the last block was cut.
    cut_at: Tick,
}

impl Leading {
    pub(super) fn new(last_transactions: Height) -> Self {
        Self {
            in_chain: HashSet::new(),
            executed: HashSet::new(),
            executed_order: VecDeque::new(),
            last_transactions,
            expiry: None,
            cut_at: Tick(0),
        }
    }

    pub(super) fn stop(&mut self) {
        self.in_chain.clear();
        self.expiry = None;
    }

    pub(super) fn truncated(&mut self, from: Height) {
        self.last_transactions = self.last_transactions.min(from);
        self.in_chain.clear();
    }

    pub(super) fn transactions_at(&mut self, height: Height) {
        self.last_transactions = height;
    }

    /// Somebody waits for a block of that time, where the chain had reached `reached`.
    ///
    /// A late question about a time that is past must not stay: no block would answer it, and it would hide later ones.
    pub(super) fn wait_for(&mut self, expiry: TimeMs, reached: TimeMs) {
        if expiry <= reached {
            return;
        }
        self.expiry = Some(self.expiry.map_or(expiry, |earlier| earlier.min(expiry)));
    }

    pub(super) fn executed(&mut self, results: &[TransactionResult]) {
        for result in results {
            self.in_chain.remove(&result.id);
            if self.executed.insert(result.id) {
                self.executed_order.push_back(result.id);
            }
        }
        while self.executed_order.len() > REMEMBERED_TRANSACTIONS {
            if let Some(oldest) = self.executed_order.pop_front() {
                self.executed.remove(&oldest);
            }
        }
    }

    /// Whether it stands in the chain already, as far as is known without the index.
    pub(super) fn in_chain(&self, id: &TransactionId) -> bool {
        self.in_chain.contains(id) || self.executed.contains(id)
    }

    /// Whether this node executed it lately.
    pub(super) fn lately_executed(&self, id: &TransactionId) -> bool {
        self.executed.contains(id)
    }
}

impl Replica {
    /// Proposes the opening block that carries the votes, this node's own among them.
    pub(super) fn begin_to_lead(
        &mut self,
        moment: &Moment<'_>,
        votes: &[(Slot, VoteSignature)],
        out: &mut Vec<Action>,
    ) {
        let Some(proposal) = self.engine.proposal() else {
            out.push(Action::Halt(
                "the engine elected this node and has no place for a block".to_owned(),
            ));
            return;
        };
        let mut entries = vec![self.vote(&VoteStatement {
            network: self.network,
            engine: EngineId::Raft,
            term: proposal.term,
            candidate: self.slot,
            voter: self.slot,
            last: proposal.parent,
        })];
        entries.extend(
            votes
                .iter()
                .filter_map(|(_, signature)| vote_entries(signature))
                .flatten(),
        );
        entries.sort_unstable_by_key(|entry| (entry.slot, entry.outgoing));
        entries.dedup_by_key(|entry| (entry.slot, entry.outgoing));
        self.remember_chain();
        self.leading.cut_at = moment.now;
        self.propose(moment, Items::Votes(entries), out);
    }

    /// What is appended here but not executed, so that nothing of it is proposed again.
    fn remember_chain(&mut self) {
        self.leading.in_chain.clear();
        let mut height = self.agreement.executed().next();
        while height <= self.tip.id().height {
            if let Some(block) = self.engine.block(height) {
                self.leading
                    .in_chain
                    .extend(block.block().transactions().iter().map(SignedTransaction::id));
            }
            height = height.next();
        }
    }

    /// Fills a granted vote with this node's signature, as it leaves.
    pub(super) fn sign_vote(&self, candidate: Slot, message: Message<ChainBlock>) -> Message<ChainBlock> {
        match message {
            Message::VoteAnswer(mut answer) if answer.granted => {
                let entry = self.vote(&VoteStatement {
                    network: self.network,
                    engine: EngineId::Raft,
                    term: answer.term,
                    candidate,
                    voter: self.slot,
                    last: answer.last,
                });
                answer.signature = VoteSignature(quipu_ledger::codec::encode(&vec![entry]));
                Message::VoteAnswer(answer)
            }
            other => other,
        }
    }

    fn vote(&self, statement: &VoteStatement) -> SignatureEntry {
        SignatureEntry {
            slot: statement.voter,
            outgoing: false,
            signature: self.key.sign(&statement.hash()),
        }
    }

    /// Cuts as many blocks as may be cut now.
    pub(super) fn cut_blocks(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        while self.role == Role::Leader && !self.stopping {
            let Some(proposal) = self.engine.proposal() else { return };
            if proposal.opening || !self.ready_to_cut(moment) {
                return;
            }
            let time = moment.wall.max(self.tip.header().time);
            let leading = &self.leading;
            let taken = self
                .pool
                .take(time, MAX_BLOCK_TRANSACTIONS, BLOCK_CUT_BYTES, |id| leading.in_chain(id));
            if taken.is_empty() && !self.empty_block_is_due(moment) {
                return;
            }
            self.leading.in_chain.extend(taken.iter().map(|tx| tx.id()));
            self.leading.cut_at = moment.now;
            if self.leading.expiry.is_some_and(|expiry| expiry <= time) {
                self.leading.expiry = None;
            }
            let items = taken.into_iter().map(|tx| tx.transaction().clone()).collect();
            let before = self.tip.id().height;
            self.propose(moment, Items::Transactions(items), out);
            self.drain(moment, out);
            if self.tip.id().height == before {
                return;
            }
        }
    }

    /// A full block never waits; others wait until the disk is idle and not too many blocks are on their way.
    fn ready_to_cut(&self, moment: &Moment<'_>) -> bool {
        if self.pool.is_empty() {
            return self.empty_block_is_due(moment);
        }
        let uncommitted = self.tip.id().height.since(self.committed.height);
        self.pool.bytes() >= BLOCK_CUT_BYTES || (self.unsynced == 0 && uncommitted < UNCOMMITTED_BLOCKS)
    }

    fn empty_block_is_due(&self, moment: &Moment<'_>) -> bool {
        let tip = self.tip.header();
        if self
            .leading
            .expiry
            .is_some_and(|expiry| expiry <= moment.wall && tip.time < expiry)
        {
            return true;
        }
        let idle = moment.now.0.saturating_sub(self.leading.cut_at.0) >= IDLE_NAMING_MS;
        let unnamed = self.leading.last_transactions > tip.executed.height;
        idle && unnamed && self.name_executed().height >= self.leading.last_transactions
    }

    /// The quadruple for the next block: what a majority with this node agrees on, or the parent's byte for byte.
    fn name_executed(&self) -> Executed {
        let parent = self.tip.header().executed;
        self.agreement
            .named(self.slot, &configuration(self.tip.membership()))
            .filter(|executed| executed.height > parent.height)
            .copied()
            .unwrap_or(parent)
    }

    /// Makes the next block and gives it to the engine.
    fn propose(&mut self, moment: &Moment<'_>, items: Items, out: &mut Vec<Action>) {
        let term = self.engine.status().term;
        match self.make_block(moment, term, items) {
            Ok(block) => self.own_inputs.push_back(Input::Propose { block }),
            Err(error) => out.push(Action::Halt(format!("a block made here is not valid: {error}"))),
        }
    }

    fn make_block(
        &self,
        moment: &Moment<'_>,
        term: quipu_crypto::id::Term,
        items: Items,
    ) -> Result<ChainBlock, String> {
        let body = Body {
            items,
            certificate: None,
        };
        let time = moment.wall.max(self.tip.header().time);
        let header = self.tip.next(term, time, self.slot, self.name_executed(), &body);
        let block: Block = rules::seal(header, body, &self.key).map_err(|error| error.to_string())?;
        let tip: ChainTip = self.tip.extend(&block).map_err(|fault| fault.to_string())?;
        Ok(ChainBlock::new(block, Arc::new(tip)))
    }
}

/// The entries of a vote as they travel, where they are well-formed.
#[must_use]
pub(crate) fn vote_entries(signature: &VoteSignature) -> Option<Vec<SignatureEntry>> {
    let entries: Vec<SignatureEntry> = quipu_ledger::codec::decode(&signature.0, VoteSignature::MAX_BYTES).ok()?;
    (entries.len() <= MAX_SIGNATURE_ENTRIES).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_question_about_a_past_time_does_not_hide_a_later_one() {
        let mut leading = Leading::new(Height::ZERO);
        leading.wait_for(TimeMs(10), TimeMs(20));
        leading.wait_for(TimeMs(40), TimeMs(20));
        leading.wait_for(TimeMs(30), TimeMs(20));
        assert_eq!(leading.expiry, Some(TimeMs(30)));
    }
}
