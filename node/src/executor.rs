//! Keeps the one thread that executes committed blocks, in order, and the one that reads old blocks for slow peers.
//! A block with many keys it shares out among the threads of its `Executor` (`[execution]` in the configuration).
//!
//! Invariants: only blocks that the replica handed over are executed: committed, and durable on this node. A block that
//! is damaged is told of and waited for, never skipped; a peer gets the blocks below it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::input::FetchId;
use quipu_crypto::id::{BlockId, Height};
use quipu_ledger::block::Block;
use quipu_ledger::membership::Membership;
use quipu_ledger::store::{Executor, Store, StoreError};

use crate::chain_block::ChainBlock;
use crate::damage::Damages;
use crate::replica::{Event, ExecutedBlock};
use crate::run::RunEvent;
use crate::stages::Stages;
use crate::status::SharedStatus;

/// A block to execute; where it is not given it is in the store.
#[derive(Debug)]
pub struct Execution {
    /// Its height.
    pub height: Height,
    /// The block.
    pub block: Option<Block>,
    /// When it was handed over.
    pub since: Instant,
}

/// Executes until the sender is gone or the store fails.
pub fn run(
    mut executor: Executor,
    damages: &Damages,
    membership: &Arc<Membership>,
    queue: &Receiver<Execution>,
    events: &Sender<RunEvent>,
    status: &SharedStatus,
    stages: &Stages,
) {
    for Execution { height, block, since } in queue {
        let begun = Instant::now();
        let event = match execute(&mut executor, damages, membership, height, block) {
            Ok(block) => {
                status.set_executed(block.id.height, block.time);
                let count = u64::try_from(block.results.len()).unwrap_or(u64::MAX);
                let waited = begun.saturating_duration_since(since);
                stages.execution.queue.record(waited, count);
                stages.execution.served(begun, count);
                RunEvent::Executed {
                    block,
                    since: Instant::now(),
                }
            }
            Err(error) => RunEvent::Broken(format!("block {height} could not be executed: {error}")),
        };
        let broken = matches!(event, RunEvent::Broken(_));
        if events.send(event).is_err() || broken {
            return;
        }
    }
}

fn execute(
    executor: &mut Executor,
    damages: &Damages,
    membership: &Membership,
    height: Height,
    block: Option<Block>,
) -> Result<ExecutedBlock, StoreError> {
    let block = match block {
        Some(block) => block,
        None => damages.wait_for(height)?,
    };
    let done = executor.execute(&block, membership)?;
    Ok(ExecutedBlock {
        id: block.id(),
        time: block.header().time,
        executed: done.executed,
        results: done.results,
    })
}

/// Blocks to read for a peer that is behind.
#[derive(Debug)]
pub struct Fetch {
    /// Whose question.
    pub fetch: FetchId,
    /// From here.
    pub first: Height,
    /// To here at most.
    pub last: Height,
    /// About so many bytes.
    pub max_bytes: u64,
}

/// Reads until the sender is gone.
pub fn fetch(store: &Store, damages: &Damages, queue: &Receiver<Fetch>, events: &Sender<RunEvent>) {
    for Fetch {
        fetch,
        first,
        last,
        max_bytes,
    } in queue
    {
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let (previous, blocks) = sound_blocks(store, damages, first, last, max_bytes);
        let blocks = blocks.into_iter().map(ChainBlock::stored).collect();
        if events
            .send(RunEvent::Replica(Event::Loaded {
                fetch,
                previous,
                blocks,
            }))
            .is_err()
        {
            return;
        }
    }
}

/// Blocks for a peer, from `first` on as far as they can be read; the first that cannot is told of.
fn sound_blocks(
    store: &Store,
    damages: &Damages,
    first: Height,
    last: Height,
    max_bytes: usize,
) -> (BlockId, Vec<Block>) {
    let error = match store.blocks(first, last, max_bytes) {
        Ok((previous, blocks)) => return (previous.unwrap_or_default(), blocks),
        Err(error) => error,
    };
    tracing::error!(%first, %last, %error, "blocks for a peer could not be read");
    damages.tell(&error);
    let StoreError::DamagedBlock { height, .. } = error else {
        return Default::default();
    };
    let below = height.previous().filter(|below| *below >= first);
    let sound = below.and_then(|below| store.blocks(first, below, max_bytes).ok());
    let (previous, blocks) = sound.unwrap_or_default();
    (previous.unwrap_or_default(), blocks)
}
