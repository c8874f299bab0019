//! Keeps what is on its way to the disk: the writes asked for, and what is durable once each is reported.
//!
//! Invariants: one step asks for at most one write; writes are numbered without gaps and reported in that order (P10);
//! `durable` names a block of the present chain: a cut pulls it and every pending write back below itself, so the late
//! completion of an overwritten append proves nothing.
//! Leaves the meaning of what is written to the modules that stage it.

use std::collections::{BTreeMap, VecDeque};

use quipu_crypto::id::{BlockId, Height, Slot};

use crate::input::{PersistSeq, Tick};
use crate::message::Promise;
use crate::output::{Halt, LogOperation, Output};

/// The writes of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Writes<B> {
    /// Last write asked for.
    asked: PersistSeq,
    /// Last write reported. Invariant: done <= asked.
    done: PersistSeq,
    /// The write that holds the latest vote record.
    vote: PersistSeq,
    /// Last block that is durable. Invariant: durable <= tip, in the same chain.
    durable: BlockId,
    /// Writes in flight that append, each with the last block of the present chain that is durable after it.
    appends: VecDeque<(PersistSeq, BlockId)>,
    /// Operations of the present step.
    staged: Vec<LogOperation<B>>,
    /// What rides along with the next write.
    hint: Option<Height>,
    promises: BTreeMap<Slot, Promise>,
    riding_since: Option<Tick>,
}

impl<B> Writes<B> {
    /// Everything up to `durable` was read from the disk.
    pub(crate) fn new(durable: BlockId) -> Self {
        Self {
            asked: PersistSeq(0),
            done: PersistSeq(0),
            vote: PersistSeq(0),
            durable,
            appends: VecDeque::new(),
            staged: Vec::new(),
            hint: None,
            promises: BTreeMap::new(),
            riding_since: None,
        }
    }

    /// Last durable block of the present chain.
    pub(crate) fn durable(&self) -> BlockId {
        self.durable
    }

    fn next(&self) -> PersistSeq {
        PersistSeq(self.asked.0.saturating_add(1))
    }

    /// Stages a vote record (P1: one record, and everything that reveals it waits for this write).
    pub(crate) fn stage_vote(&mut self, operation: LogOperation<B>) {
        self.vote = self.next();
        self.staged.retain(|staged| !matches!(staged, LogOperation::SetVote(_)));
        self.staged.push(operation);
    }

    /// Stages what moves nothing in the chain; the write that it goes with.
    pub(crate) fn stage(&mut self, operation: LogOperation<B>) -> PersistSeq {
        self.staged.push(operation);
        self.next()
    }

    /// Whether a write is durable.
    pub(crate) fn is_done(&self, write: PersistSeq) -> bool {
        write <= self.done
    }

    /// Stages a cut below which `below` is the last block; `proven` says what a durable block, or one on its way, still
    /// proves after it.
    pub(crate) fn stage_cut(&mut self, from: Height, below: BlockId, proven: &dyn Fn(BlockId, BlockId) -> BlockId) {
        self.durable = proven(self.durable, below);
        for (_, tip) in &mut self.appends {
            *tip = proven(*tip, below);
        }
        self.staged.push(LogOperation::Truncate { from });
    }

    /// Stages an append that ends with `tip`.
    pub(crate) fn stage_append(&mut self, blocks: Vec<B>, tip: BlockId) {
        self.appends.push_back((self.next(), tip));
        self.staged.push(LogOperation::Append(blocks));
    }

    /// Lets the commit height ride with the next write (P4: a hint).
    pub(crate) fn ride_hint(&mut self, height: Height, now: Tick) {
        self.hint = Some(height);
        self.riding_since.get_or_insert(now);
    }

    /// Lets what a peer promised ride with the next write.
    pub(crate) fn ride_promise(&mut self, peer: Slot, promise: Promise, now: Tick) {
        self.promises.insert(peer, promise);
        self.riding_since.get_or_insert(now);
    }

    /// Ends the step: the write to ask for, where there is one. Riders that waited for `patience_ms` go by themselves,
    /// without a sync of their own. What the node has promised then, `watermark`, goes with every synced write.
    pub(crate) fn seal(&mut self, now: Tick, patience_ms: u64, watermark: Option<Promise>) -> Option<Output<B>> {
        let waited = self.riding_since.is_some_and(|since| now.since(since) >= patience_ms);
        if self.staged.is_empty() && !waited {
            return None;
        }
        let sync = !self.staged.is_empty();
        let mut operations = std::mem::take(&mut self.staged);
        operations.extend(watermark.filter(|_| sync).map(LogOperation::Watermark));
        operations.extend(self.hint.take().map(LogOperation::CommitHint));
        let promises = std::mem::take(&mut self.promises);
        operations.extend(
            promises
                .into_iter()
                .map(|(peer, promise)| LogOperation::Remember { peer, promise }),
        );
        self.riding_since = None;
        self.asked = self.next();
        Some(Output::Persist {
            seq: self.asked,
            operations,
            sync,
        })
    }

    /// A write was reported.
    pub(crate) fn complete(&mut self, seq: PersistSeq) -> Result<(), Halt> {
        let expected = PersistSeq(self.done.0.saturating_add(1));
        if seq < expected || seq > self.asked {
            return Err(Halt::UnexpectedCompletion {
                got: seq.0,
                expected: expected.0,
            });
        }
        self.done = seq;
        while let Some((_, tip)) = self.appends.front().copied().filter(|(write, _)| *write <= seq) {
            if tip.height > self.durable.height {
                self.durable = tip;
            }
            self.appends.pop_front();
        }
        Ok(())
    }

    /// Whether the latest vote record is durable.
    pub(crate) fn vote_is_durable(&self) -> bool {
        self.vote <= self.done
    }

    /// What a message that reveals the term waits for (P1).
    pub(crate) fn after_vote(&self) -> Option<PersistSeq> {
        (!self.vote_is_durable()).then_some(self.vote)
    }

    /// What the acknowledgement of a block of the present chain waits for (P2).
    pub(crate) fn after_block(&self, height: Height) -> Option<PersistSeq> {
        if height <= self.durable.height {
            return None;
        }
        self.appends
            .iter()
            .find(|(_, tip)| tip.height >= height)
            .map(|(write, _)| *write)
    }
}
