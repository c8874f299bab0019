//! Keeps the comparison of the store with the watermark beside it: what the node promised and its disk does not hold.
//!
//! Invariants: it is made before anything is sent. A missing watermark is not an error: a node of an older version had
//! none, and the other nodes remember as well; it is said in the log. Where there is no other voter, nobody could bring
//! back what is lost, so such a node does not start, and nothing is written into its store before that is known.
//! Leaves recovering to the engine.

use std::fs;
use std::path::Path;

use quipu_consensus::message::Promise;
use quipu_crypto::id::{BlockId, Height};
use quipu_ledger::store::{Store, StoreError};

use super::restore::Restart;
use super::{Prepared, StartError};
use crate::watermark::{WATERMARK_FILE, WatermarkFile};

/// Where RocksDB writes its text log while the store is looked at.
const LOOK_DIR: &str = "look";

/// Looks at the store of an only voter without writing into it.
///
/// A database that opens for writing ends its log at the last record that it can read, and deletes the rest. Where
/// others have the blocks, that costs nothing; here a sound block behind a damaged record would be gone for ever.
///
/// # Errors
/// [`StartError::LostBlocks`] where it has not got what the watermark names.
pub(super) fn look_before_opening(prepared: &Prepared, data: &Path) -> Result<(), StartError> {
    if !is_alone(prepared) || !prepared.dir.join(WATERMARK_FILE).exists() {
        return Ok(());
    }
    let (_, watermark) = WatermarkFile::open(&prepared.dir, prepared.node.incarnation)?;
    let accepted = watermark.unwrap_or_default().accepted;
    let look = prepared.dir.join(LOOK_DIR);
    let failed = |source| StartError::File {
        path: look.clone(),
        source,
    };
    fs::create_dir_all(&look).map_err(failed)?;
    let wrong = |message: String| StartError::Store {
        data: data.to_owned(),
        message,
    };
    let store = Store::open_read_only(data, &look).map_err(|error| wrong(error.to_string()))?;
    let last = last_sound(&store).map_err(|error| wrong(error.to_string()))?;
    let there = accepted.height <= last && holds(&store, accepted);
    drop(store);
    fs::remove_dir_all(&look).map_err(failed)?;
    if there {
        return Ok(());
    }
    Err(lost_blocks(prepared, data, last, accepted.height.since(last)))
}

/// The last block that can be read, with all between it and what is executed.
fn last_sound(store: &Store) -> Result<Height, StoreError> {
    let mut last = store.view()?.height();
    while last < store.tip().height && store.block(last.next()).is_ok() {
        last = last.next();
    }
    Ok(last)
}

/// Whether no other node could bring back what this one has lost.
fn is_alone(prepared: &Prepared) -> bool {
    let mut voters = prepared.genesis.membership().voters();
    voters.all(|voter| voter.slot == prepared.node.slot)
}

fn lost_blocks(prepared: &Prepared, data: &Path, tip: Height, missing: u64) -> StartError {
    StartError::LostBlocks {
        data: data.to_owned(),
        tip,
        missing,
        watermark: prepared.dir.join(WATERMARK_FILE),
    }
}

/// What was kept beside the store.
pub(super) struct Kept {
    /// The open file.
    pub(super) file: WatermarkFile,
    /// What it said.
    pub(super) watermark: Option<Promise>,
    /// The last block that was durable once, where the store has not got it any more.
    pub(super) lost: Option<BlockId>,
}

impl Kept {
    /// Reads the watermark, for a store on which `starts` were claimed.
    pub(super) fn read(prepared: &Prepared, starts: u64) -> Result<Self, StartError> {
        let (file, watermark) = WatermarkFile::open(&prepared.dir, prepared.node.incarnation)?;
        if watermark.is_none() && starts > 0 {
            tracing::warn!(
                starts,
                "there was no {WATERMARK_FILE} file beside a store that was in use: a new one is made. Whether the \
                 store has lost something, only the other nodes know. (Nodes before version 0.2 kept none.)"
            );
        }
        let lost = None;
        Ok(Self { file, watermark, lost })
    }

    /// Compares it with what the store holds, as far as that could be read.
    pub(super) fn compare(
        &mut self,
        prepared: &Prepared,
        store: &Store,
        starts: u64,
        restart: &Restart,
    ) -> Result<(), StartError> {
        let tip = restart.beginning.tip.id();
        let failed = |error: StoreError| StartError::Store {
            data: store.dir().to_owned(),
            message: error.to_string(),
        };
        let noted = self.watermark.unwrap_or_default();
        let vote = store.vote().map_err(failed)?;
        let held = noted.accepted.height <= tip.height && holds(store, noted.accepted);
        let older = noted.start > starts || noted.vote > vote.term;
        self.lost = (!held).then_some(noted.accepted);
        if held && !older && restart.cut.is_none() {
            return Ok(());
        }
        let missing = noted
            .accepted
            .height
            .max(restart.cut.unwrap_or_default())
            .since(tip.height);
        // Without a watermark the operator has said that it goes on with what there is.
        if is_alone(prepared) && self.watermark.is_some() {
            return Err(lost_blocks(prepared, store.dir(), tip.height, missing));
        }
        tracing::error!(%tip, promised = %noted.accepted, promised_term = %noted.vote, term = %vote.term, missing,
            starts, promised_starts = noted.start,
            "the store has lost what this node had promised: it recovers, and takes no part in deciding until it has \
             caught up");
        Ok(())
    }
}

/// Whether the store has that block, as far as its headers can be read.
fn holds(store: &Store, id: BlockId) -> bool {
    id.height == Height::ZERO || !matches!(store.block_id(id.height), Ok(found) if found != Some(id))
}
