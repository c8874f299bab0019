//! Keeps how replica and engine are rebuilt from what is stored.
//!
//! Invariants: what is restored is what is on the disk; blocks above the base are checked again before they count. A
//! damaged block above what is executed ends the chain there ([`Restart::cut`]); one below is repaired later.
//! Leaves where it is stored to [`Stored`]: the store in the product, an image in the simulator.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use quipu_consensus::engine::{Restored, Settings};
use quipu_consensus::input::{Entropy, Tick};
use quipu_consensus::message::Promise;
use quipu_consensus::output::VoteRecord;
use quipu_consensus::raft::{Raft, RaftRules};
use quipu_crypto::id::{BlockId, Height, Slot, Term};
use quipu_crypto::key::SecretKey;
use quipu_crypto::merkle::Frontier;
use quipu_ledger::block::{Block, Executed, Header, Kind};
use quipu_ledger::membership::Node;
use quipu_ledger::rules::{ChainTip, Fault};
use quipu_ledger::store::record::PromiseRecord;
use quipu_ledger::store::{Store, StoreError};

use crate::chain_block::{ChainBlock, configuration};
use crate::replica::Beginning;

/// What a start reads. Heights above the tip hold nothing.
#[expect(missing_docs, reason = "as the methods of `Store` of the same names")]
#[expect(clippy::missing_errors_doc, reason = "where it cannot be read, or is damaged")]
pub trait Stored {
    /// Why it could not be read.
    type Error: Display;

    fn tip(&self) -> BlockId;
    fn commit_hint(&self) -> Result<Height, Self::Error>;
    fn vote(&self) -> Result<VoteRecord, Self::Error>;
    fn promises(&self) -> Result<BTreeMap<Slot, Promise>, Self::Error>;
    fn starts(&self) -> Result<u64, Self::Error>;
    fn recovering(&self) -> Result<Option<BlockId>, Self::Error>;
    fn terms(&self) -> Result<Vec<(Term, Height)>, Self::Error>;
    fn header(&self, height: Height) -> Result<Option<Header>, Self::Error>;
    fn block(&self, height: Height) -> Result<Option<Block>, Self::Error>;
    fn frontier_to(&self, last: Height) -> Result<Frontier, Self::Error>;
    fn executed_at(&self, height: Height) -> Result<Option<Executed>, Self::Error>;
}

/// Who starts, and how.
pub struct Start<'a> {
    /// This node.
    pub node: &'a Node,
    /// Its key.
    pub key: &'a SecretKey,
    /// What it noted of its promises beside the store.
    pub watermark: Option<Promise>,
    /// Times and limits of the engine.
    pub settings: Settings,
}

/// What a start begins with.
pub struct Restart {
    /// For the replica, engine included.
    pub beginning: Beginning,
    /// The end of the committed chain.
    pub base: Arc<ChainTip>,
    /// The blocks above it.
    pub blocks: Vec<ChainBlock>,
    /// From here on the stored chain is damaged: the caller cuts it before anything is appended.
    pub cut: Option<Height>,
}

/// Reads everything that a replica starts from.
///
/// # Errors
/// What is damaged or does not fit, in words.
pub fn read<S: Stored>(
    stored: &S,
    executed: Executed,
    start: &Start<'_>,
    now: Tick,
    entropy: &mut dyn Entropy,
) -> Result<Restart, String> {
    // What is executed was committed, also where the hint on the disk is older.
    let committed = words(stored.commit_hint())?
        .max(executed.height)
        .min(stored.tip().height);
    // A header between the executed and the committed one may be damaged: then the chain ends below it.
    let base = chain_tip(stored, committed).or_else(|_| chain_tip(stored, executed.height))?;
    let base = Arc::new(base);
    let (blocks, cut) = blocks_above(stored, &base)?;
    let tip = blocks
        .last()
        .and_then(ChainBlock::tip)
        .map_or_else(|| Arc::clone(&base), Arc::clone);
    let restored = Restored {
        slot: start.node.slot,
        incarnation: start.node.incarnation,
        starts: words(stored.starts())?,
        vote: words(stored.vote())?,
        terms: words(stored.terms())?,
        base: base.id(),
        blocks: blocks.clone(),
        commit_hint: base.id().height,
        configuration: (base.membership_height(), configuration(base.membership())),
        promises: words(stored.promises())?,
        watermark: start.watermark,
        recovering: words(stored.recovering())?,
    };
    let engine = Raft::new(start.settings, restored, RaftRules, now, entropy);
    let header = words(stored.header(executed.height))?.ok_or("the executed block is missing")?;
    let beginning = Beginning {
        slot: start.node.slot,
        key: start.key.clone(),
        engine: Box::new(engine),
        last_transactions: last_transactions(stored, &tip),
        tip,
        executed: words(quadruples(stored, base.header().executed.height, executed))?,
        executed_time: header.time,
    };
    Ok(Restart {
        beginning,
        base,
        blocks,
        cut,
    })
}

fn words<T, E: Display>(read: Result<T, E>) -> Result<T, String> {
    read.map_err(|error| error.to_string())
}

/// The chain up to `height`, from the stored headers.
fn chain_tip<S: Stored>(stored: &S, height: Height) -> Result<ChainTip, String> {
    let header = words(stored.header(height))?.ok_or("a header is missing")?;
    let hash = header.hash();
    let frontier = words(stored.frontier_to(height))?;
    let in_force: Block = words(stored.block(header.membership))?.ok_or("the membership block is missing")?;
    ChainTip::restore(header, hash, frontier, &in_force).map_err(|fault| fault.to_string())
}

/// The sound blocks on `base`, and the first height that is damaged.
fn blocks_above<S: Stored>(stored: &S, base: &Arc<ChainTip>) -> Result<(Vec<ChainBlock>, Option<Height>), String> {
    let mut blocks = Vec::new();
    let mut tip = Arc::clone(base);
    while tip.id().height < stored.tip().height {
        let height = tip.id().height.next();
        let Ok(Some(block)) = stored.block(height) else {
            return Ok((blocks, Some(height)));
        };
        let next = match tip.check(&block) {
            Ok(next) => next,
            // Sound by itself, and of another branch: what stands there is not what was written last.
            Err(Fault::WrongPrevious { .. }) => return Ok((blocks, Some(height))),
            Err(fault) => return Err(format!("block {height}: {fault}")),
        };
        tip = Arc::new(next);
        blocks.push(ChainBlock::new(block, Arc::clone(&tip)));
    }
    Ok((blocks, None))
}

/// Own quadruples that a block above the committed ones may name.
fn quadruples<S: Stored>(stored: &S, from: Height, executed: Executed) -> Result<BTreeMap<Height, Executed>, S::Error> {
    let mut quadruples = BTreeMap::from([(executed.height, executed)]);
    let mut height = from.min(executed.height);
    while height < executed.height {
        if let Some(quadruple) = stored.executed_at(height)? {
            quadruples.insert(height, quadruple);
        }
        height = height.next();
    }
    Ok(quadruples)
}

/// Greatest height of a block with transactions that no header names as executed yet; lower ones do not matter.
/// One that cannot be read may have some.
fn last_transactions<S: Stored>(stored: &S, tip: &ChainTip) -> Height {
    let mut height = tip.id().height;
    while height > tip.header().executed.height {
        let header = stored.header(height).ok().flatten();
        if header.is_none_or(|header| header.kind == Kind::Transactions && header.item_count > 0) {
            return height;
        }
        height = height.previous().unwrap_or_default();
    }
    Height::ZERO
}

impl Stored for Store {
    type Error = StoreError;

    fn tip(&self) -> BlockId {
        self.tip()
    }

    fn commit_hint(&self) -> Result<Height, StoreError> {
        self.commit_hint()
    }

    fn vote(&self) -> Result<VoteRecord, StoreError> {
        let kept = self.vote()?;
        Ok(VoteRecord {
            term: kept.term,
            voted_for: kept.voted_for,
        })
    }

    fn promises(&self) -> Result<BTreeMap<Slot, Promise>, StoreError> {
        let promise = |kept: PromiseRecord| Promise {
            start: kept.start,
            vote: kept.vote,
            accepted: kept.accepted,
        };
        let kept = self.promises()?;
        Ok(kept.into_iter().map(|(slot, kept)| (slot, promise(kept))).collect())
    }

    fn starts(&self) -> Result<u64, StoreError> {
        self.starts()
    }

    fn recovering(&self) -> Result<Option<BlockId>, StoreError> {
        self.recovering()
    }

    fn terms(&self) -> Result<Vec<(Term, Height)>, StoreError> {
        self.terms()
    }

    fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        self.header(height)
    }

    fn block(&self, height: Height) -> Result<Option<Block>, StoreError> {
        self.block(height)
    }

    fn frontier_to(&self, last: Height) -> Result<Frontier, StoreError> {
        self.frontier_to(last)
    }

    fn executed_at(&self, height: Height) -> Result<Option<Executed>, StoreError> {
        self.executed_at(height)
    }
}
