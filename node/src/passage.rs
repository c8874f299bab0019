//! Keeps when blocks and transactions passed each point of the loop, until the next point tells how long that took.
//!
//! Invariants: nothing here is part of a decision; what is kept is bounded, and where it is not known when something
//! came, no time is recorded for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use quipu_consensus::block::Block as _;
use quipu_consensus::input::PersistSeq;
use quipu_consensus::message::Message;
use quipu_consensus::output::LogOperation;
use quipu_crypto::id::{Height, TransactionId};
use quipu_ledger::transaction::SignedTransaction;

use crate::chain_block::ChainBlock;
use crate::stages::Stages;

/// One in so many transactions of the pool is looked at; which ones, their ids say.
pub const SAMPLE: u64 = 8;
/// Most transactions that are looked at, at a time.
const MAX_SAMPLED: usize = 16_384;
/// Most blocks that are looked at, at a time.
const MAX_BLOCKS: usize = 1_024;

/// A block between its appending and its execution.
#[derive(Debug)]
struct Under {
    height: Height,
    seq: PersistSeq,
    transactions: u64,
    appended: Instant,
    durable: Option<Instant>,
}

/// What is under way.
#[derive(Debug)]
pub struct Passage {
    stages: Arc<Stages>,
    pooled: HashMap<TransactionId, Instant>,
    heard: VecDeque<(Height, Instant)>,
    under: VecDeque<Under>,
}

impl Passage {
    /// Nothing is under way.
    #[must_use]
    pub fn new(stages: Arc<Stages>) -> Self {
        Self {
            stages,
            pooled: HashMap::new(),
            heard: VecDeque::new(),
            under: VecDeque::new(),
        }
    }

    /// A transaction came to this leader.
    pub fn submitted(&mut self, id: TransactionId, now: Instant) {
        if is_sampled(&id) && self.pooled.len() < MAX_SAMPLED {
            self.pooled.insert(id, now);
        }
    }

    /// A message that was found good came from a peer.
    pub fn heard(&mut self, message: &Message<ChainBlock>, now: Instant) {
        let Message::Append(append) = message else { return };
        for block in &append.blocks {
            self.heard.push_back((block.id().height, now));
        }
        while self.heard.len() > MAX_BLOCKS {
            self.heard.pop_front();
        }
    }

    /// The engine asks to write; answers with how many transactions are written.
    pub fn appended(&mut self, seq: PersistSeq, operations: &[LogOperation<ChainBlock>], leads: bool) -> u64 {
        let appends = operations.iter().filter_map(|operation| match operation {
            LogOperation::Append(blocks) => Some(blocks),
            _ => None,
        });
        let mut all = 0_u64;
        for block in appends.flatten() {
            let now = Instant::now();
            let ids = block.block().transactions().iter().map(SignedTransaction::id);
            let transactions = u64::try_from(block.block().transactions().len()).unwrap_or(u64::MAX);
            all = all.saturating_add(transactions);
            for id in ids.filter(is_sampled) {
                if let Some(since) = self.pooled.remove(&id) {
                    self.stages
                        .pool
                        .queue
                        .record(now.saturating_duration_since(since), SAMPLE);
                }
            }
            let height = block.id().height;
            self.passed_the_gate(height, transactions, now);
            // What was appended there before was cut off.
            self.under.retain(|under| under.height < height);
            self.under.push_back(Under {
                height,
                seq,
                transactions,
                appended: now,
                durable: None,
            });
        }
        if !leads {
            self.pooled.clear();
        }
        while self.under.len() > MAX_BLOCKS {
            self.under.pop_front();
        }
        all
    }

    fn passed_the_gate(&mut self, height: Height, transactions: u64, now: Instant) {
        while let Some((heard, since)) = self.heard.pop_front_if(|(heard, _)| *heard <= height) {
            if heard == height {
                let waited = now.saturating_duration_since(since);
                self.stages.gate.queue.record(waited, transactions);
                return;
            }
        }
    }

    /// A write is durable.
    pub fn persisted(&mut self, seq: PersistSeq, now: Instant) {
        for under in &mut self.under {
            if under.seq == seq && under.durable.is_none() {
                under.durable = Some(now);
                let took = now.saturating_duration_since(under.appended);
                self.stages.order.queue.record(took, under.transactions);
            }
        }
    }

    /// A block is committed, and durable here: it goes to execution.
    pub fn committed(&mut self, height: Height, now: Instant) {
        while let Some(under) = self.under.pop_front_if(|under| under.height <= height) {
            if under.height == height
                && let Some(durable) = under.durable
            {
                let took = now.saturating_duration_since(durable);
                self.stages.order.service.record(took, under.transactions);
            }
        }
    }
}

fn is_sampled(id: &TransactionId) -> bool {
    let first = id.0.as_bytes().first().copied().unwrap_or_default();
    u64::from(first).is_multiple_of(SAMPLE)
}
