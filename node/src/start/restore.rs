//! Keeps how replica and engine are rebuilt from the store.
//!
//! Invariant: what is restored is what is on the disk; blocks above the base are checked again before they count.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::engine::Restored;
use quipu_consensus::input::Tick;
use quipu_consensus::message::Promise;
use quipu_consensus::output::VoteRecord;
use quipu_consensus::raft::{Raft, RaftRules};
use quipu_crypto::id::Height;
use quipu_crypto::key::SecretKey;
use quipu_ledger::block::{Block, Executed, Kind};
use quipu_ledger::membership::Node;
use quipu_ledger::rules::ChainTip;
use quipu_ledger::store::{Store, StoreError};

use crate::chain_block::{ChainBlock, configuration};
use crate::clock::SystemEntropy;
use crate::limits::ENGINE_SETTINGS;
use crate::replica::Beginning;

/// What a start begins with.
pub struct Restart {
    /// For the replica, engine included.
    pub beginning: Beginning,
    /// The end of the committed chain.
    pub base: Arc<ChainTip>,
    /// The blocks above it.
    pub blocks: Vec<ChainBlock>,
}

/// Reads everything that a replica starts from.
///
/// # Errors
/// What is damaged or does not fit, in words.
pub fn read(
    store: &Store,
    executed: Executed,
    node: &Node,
    key: &SecretKey,
    start: u64,
    now: Tick,
) -> Result<Restart, String> {
    let failed = |error: StoreError| error.to_string();
    // What is executed was committed, also where the hint on the disk is older.
    let committed = store
        .commit_hint()
        .map_err(failed)?
        .max(executed.height)
        .min(store.tip().height);
    let base = Arc::new(chain_tip(store, committed)?);
    let blocks = blocks_above(store, &base)?;
    let tip = blocks
        .last()
        .and_then(ChainBlock::tip)
        .map_or_else(|| Arc::clone(&base), Arc::clone);
    let vote = store.vote().map_err(failed)?;
    let restored = Restored {
        slot: node.slot,
        incarnation: node.incarnation,
        start,
        vote: VoteRecord {
            term: vote.term,
            voted_for: vote.voted_for,
        },
        terms: store.terms().map_err(failed)?,
        base: base.id(),
        blocks: blocks.clone(),
        commit_hint: committed,
        configuration: (base.membership_height(), configuration(base.membership())),
        promises: promises(store).map_err(failed)?,
    };
    let engine = Raft::new(ENGINE_SETTINGS, restored, RaftRules, now, &mut SystemEntropy);
    let header = store
        .header(executed.height)
        .map_err(failed)?
        .ok_or("the executed block is missing")?;
    let beginning = Beginning {
        slot: node.slot,
        key: key.clone(),
        engine: Box::new(engine),
        last_transactions: last_transactions(store, &tip).map_err(failed)?,
        tip,
        executed: quadruples(store, base.header().executed.height, executed).map_err(failed)?,
        executed_time: header.time,
    };
    Ok(Restart {
        beginning,
        base,
        blocks,
    })
}

/// The chain up to `height`, from the stored headers.
fn chain_tip(store: &Store, height: Height) -> Result<ChainTip, String> {
    let failed = |error: StoreError| error.to_string();
    let header = store.header(height).map_err(failed)?.ok_or("a header is missing")?;
    let id = store.block_id(height).map_err(failed)?.ok_or("a header is missing")?;
    let frontier = store.frontier_to(height).map_err(failed)?;
    let in_force: Block = store
        .block(header.membership)
        .map_err(failed)?
        .ok_or("the membership block is missing")?;
    ChainTip::restore(header, id.hash, frontier, &in_force).map_err(|fault| fault.to_string())
}

fn blocks_above(store: &Store, base: &Arc<ChainTip>) -> Result<Vec<ChainBlock>, String> {
    let mut blocks = Vec::new();
    let mut tip = Arc::clone(base);
    while tip.id().height < store.tip().height {
        let height = tip.id().height.next();
        let block = store
            .block(height)
            .map_err(|error| error.to_string())?
            .ok_or("a block is missing")?;
        let next = tip.check(&block).map_err(|fault| format!("block {height}: {fault}"))?;
        tip = Arc::new(next);
        blocks.push(ChainBlock::new(block, Arc::clone(&tip)));
    }
    Ok(blocks)
}

fn promises(store: &Store) -> Result<BTreeMap<quipu_crypto::id::Slot, Promise>, StoreError> {
    let kept = store.promises()?;
    let promise = |kept: quipu_ledger::store::record::PromiseRecord| Promise {
        start: kept.start,
        vote: kept.vote,
        accepted: kept.accepted,
    };
    Ok(kept.into_iter().map(|(slot, kept)| (slot, promise(kept))).collect())
}

/// Own quadruples that a block above the committed ones may name.
fn quadruples(store: &Store, from: Height, executed: Executed) -> Result<BTreeMap<Height, Executed>, StoreError> {
    let mut quadruples = BTreeMap::from([(executed.height, executed)]);
    let mut height = from.min(executed.height);
    while height < executed.height {
        if let Some(quadruple) = store.executed_at(height)? {
            quadruples.insert(height, quadruple);
        }
        height = height.next();
    }
    Ok(quadruples)
}

/// Greatest height of a block with transactions that no header names as executed yet; lower ones do not matter.
fn last_transactions(store: &Store, tip: &ChainTip) -> Result<Height, StoreError> {
    let mut height = tip.id().height;
    while height > tip.header().executed.height {
        let header = store.header(height)?;
        if header.is_some_and(|header| header.kind == Kind::Transactions && header.item_count > 0) {
            return Ok(height);
        }
        height = height.previous().unwrap_or_default();
    }
    Ok(Height::ZERO)
}
