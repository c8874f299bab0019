//! Keeps the one thread that writes the log: each drain of its queue is one atomic, synced batch (natural group
//! commit).
//!
//! Invariant: completions leave in the order of the writes; after a failed write nothing more is written (rule P9).

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::input::PersistSeq;
use quipu_consensus::output::LogOperation;
use quipu_ledger::store::record::{PromiseRecord, VoteRecord};
use quipu_ledger::store::{LogChange, Store};

use crate::chain_block::ChainBlock;
use crate::replica::Event;
use crate::run::RunEvent;

/// Most writes in one batch.
const MAX_DRAIN: usize = 256;

/// One write that the engine asked for.
#[derive(Debug)]
pub struct Write {
    /// Its number.
    pub seq: PersistSeq,
    /// What to change.
    pub operations: Vec<LogOperation<ChainBlock>>,
    /// Whether it must be durable before it counts.
    pub sync: bool,
}

/// Serves the queue until its sender is gone or a write fails.
pub fn run(store: &Store, queue: &Receiver<Write>, events: &Sender<RunEvent>) {
    while let Ok(first) = queue.recv() {
        let mut drained = vec![first];
        drained.extend(queue.try_iter().take(MAX_DRAIN));
        let sync = drained.iter().any(|write| write.sync);
        let seqs: Vec<PersistSeq> = drained.iter().map(|write| write.seq).collect();
        let changes: Vec<LogChange> = drained
            .into_iter()
            .flat_map(|write| write.operations)
            .flat_map(changes)
            .collect();
        let written = store.write_log(&changes, sync);
        if let Err(error) = &written {
            tracing::error!(%error, "writing the log failed; the node stops");
        }
        for seq in seqs {
            let event = match &written {
                Ok(()) => Event::Persisted { seq },
                Err(_) => Event::PersistFailed { seq },
            };
            if events.send(RunEvent::Replica(event)).is_err() {
                return;
            }
        }
        if written.is_err() {
            return;
        }
    }
}

/// The engine's wish in the store's words.
#[must_use]
pub fn changes(operation: LogOperation<ChainBlock>) -> Vec<LogChange> {
    match operation {
        LogOperation::SetVote(vote) => {
            vec![LogChange::Vote(VoteRecord {
                term: vote.term,
                voted_for: vote.voted_for,
            })]
        }
        LogOperation::Truncate { from } => vec![LogChange::Truncate { from }],
        LogOperation::Append(blocks) => blocks
            .iter()
            .map(|block| LogChange::Append(block.block().clone()))
            .collect(),
        LogOperation::CommitHint(height) => vec![LogChange::CommitHint(height)],
        LogOperation::Remember { peer, promise } => vec![LogChange::Remember {
            peer,
            promise: PromiseRecord {
                start: promise.start,
                vote: promise.vote,
                accepted: promise.accepted,
            },
        }],
        // Not the store's: it stands beside it.
        LogOperation::Watermark(_) => Vec::new(),
        LogOperation::Restore(block) => vec![LogChange::Restore(block.block().clone())],
    }
}
