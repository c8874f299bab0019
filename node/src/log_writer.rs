//! Keeps the one thread that writes the log: each drain of its queue is one atomic, synced batch (natural group
//! commit).
//!
//! Invariants: completions leave in the order of the writes; after a failed write nothing more is written (rule P9).
//! The watermark is written after the batch that it speaks of and before anybody is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::input::PersistSeq;
use quipu_consensus::message::Promise;
use quipu_consensus::output::LogOperation;
use quipu_ledger::store::record::{PromiseRecord, VoteRecord};
use quipu_ledger::store::{LogChange, Store};

use crate::chain_block::ChainBlock;
use crate::damage::Damages;
use crate::limits::WATERMARK_SYNC_MS;
use crate::replica::Event;
use crate::run::RunEvent;
use crate::stages::Stages;
use crate::watermark::WatermarkFile;

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
    /// How many transactions it appends.
    pub transactions: u64,
    /// When it was handed over.
    pub since: Instant,
}

/// What it writes to.
#[derive(Debug)]
pub struct LogWriter {
    /// The log.
    pub store: Store,
    /// What was promised, beside it.
    pub watermark: WatermarkFile,
    /// Where blocks that are written back are counted.
    pub damages: Damages,
    /// Where times are counted.
    pub stages: Arc<Stages>,
}

/// What a drain of the queue comes to.
struct Batch {
    log: Vec<LogChange>,
    /// Synced if one write of it must be.
    sync: bool,
    /// The last watermark; of what is not synced none may be noted.
    promise: Option<Promise>,
}

impl Batch {
    fn of(drained: Vec<Write>) -> Self {
        let sync = drained.iter().any(|write| write.sync);
        let mut batch = Self {
            log: Vec::new(),
            sync,
            promise: None,
        };
        for operation in drained.into_iter().flat_map(|write| write.operations) {
            match operation {
                LogOperation::Watermark(noted) => batch.promise = Some(noted).filter(|_| sync),
                other => batch.log.extend(changes(other)),
            }
        }
        batch
    }
}

impl LogWriter {
    /// Serves the queue until its sender is gone or a write fails.
    pub fn run(mut self, queue: &Receiver<Write>, events: &Sender<RunEvent>) {
        let mut synced = Instant::now();
        while let Ok(first) = queue.recv() {
            let mut drained = vec![first];
            drained.extend(queue.try_iter().take(MAX_DRAIN));
            let begun = Instant::now();
            let count = self.waited(&drained, begun);
            let seqs: Vec<PersistSeq> = drained.iter().map(|write| write.seq).collect();
            let written = self.write(drained, &mut synced);
            self.stages.log.served(begun, count);
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

    /// Notes how long each write waited; answers with how many transactions they append.
    fn waited(&self, drained: &[Write], now: Instant) -> u64 {
        drained.iter().fold(0, |count, write| {
            let waited = now.saturating_duration_since(write.since);
            self.stages.log.queue.record(waited, write.transactions);
            count.saturating_add(write.transactions)
        })
    }

    /// Writes a drain of the queue as one batch, and then the last watermark of it.
    fn write(&mut self, drained: Vec<Write>, synced: &mut Instant) -> Result<(), String> {
        let Batch { log, sync, promise } = Batch::of(drained);
        self.store.write_log(&log, sync).map_err(|error| error.to_string())?;
        for change in &log {
            if let LogChange::Restore(block) = change {
                self.damages.tally().repaired.fetch_add(1, Ordering::Relaxed);
                tracing::info!(block = %block.id(), "a damaged block was written back");
            }
        }
        if let Some(promise) = promise {
            let failed = |error: std::io::Error| format!("the watermark file: {error}");
            self.watermark.write(&promise).map_err(failed)?;
            if synced.elapsed() >= Duration::from_millis(WATERMARK_SYNC_MS) {
                *synced = Instant::now();
                self.watermark.sync().map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // For a clean stop; what it cannot bring to the disk now, a power cut may take back.
        if let Err(error) = self.watermark.sync() {
            tracing::warn!(%error, "the watermark file could not be synced");
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
        LogOperation::Start(number) => vec![LogChange::Start(number)],
        LogOperation::Recover(lacking) => vec![LogChange::Recover(lacking)],
        LogOperation::Restore(block) => vec![LogChange::Restore(block.block().clone())],
    }
}

#[cfg(test)]
mod tests {
    use quipu_crypto::id::{Height, Term};

    use super::*;

    fn write(seq: u64, operations: Vec<LogOperation<ChainBlock>>, sync: bool) -> Write {
        let seq = PersistSeq(seq);
        Write {
            seq,
            operations,
            sync,
            transactions: 0,
            since: Instant::now(),
        }
    }

    #[test]
    fn one_write_that_must_be_durable_makes_the_whole_drain_so_and_only_then_is_a_promise_noted() {
        let noted = |term| {
            LogOperation::Watermark(Promise {
                vote: Term(term),
                ..Promise::default()
            })
        };
        let hint = || LogOperation::CommitHint(Height(1));
        let lazy = Batch::of(vec![
            write(1, vec![hint(), noted(3)], false),
            write(2, vec![hint()], false),
        ]);
        assert!(!lazy.sync && lazy.promise.is_none() && lazy.log.len() == 2);
        for place in 0..3 {
            let drained = (0..3)
                .map(|number| write(number, vec![hint(), noted(number)], number == place))
                .collect();
            let batch = Batch::of(drained);
            assert!(batch.sync, "the write at {place}");
            assert_eq!(batch.promise.map(|promise| promise.vote), Some(Term(2)), "the last one");
            assert_eq!(batch.log.len(), 3);
        }
    }
}
