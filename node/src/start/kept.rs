//! Keeps the comparison of the store with the watermark beside it: what the node promised and its disk does not hold.
//!
//! Invariants: it is made before anything is sent. A missing watermark is not an error: a node of an older version had
//! none, and the other nodes remember as well; it is said in the log. Where there is no other voter, nobody could bring
//! back what is lost, so such a node does not start. Leaves recovering to the engine.

use quipu_consensus::message::Promise;
use quipu_crypto::id::{BlockId, Height};
use quipu_ledger::store::{Store, StoreError};

use super::restore::Restart;
use super::{Prepared, StartError};
use crate::watermark::{WATERMARK_FILE, WatermarkFile};

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
    /// Reads the watermark, for a store whose start counter was `before` until now.
    pub(super) fn read(prepared: &Prepared, before: u64) -> Result<Self, StartError> {
        let (file, watermark) = WatermarkFile::open(&prepared.dir, prepared.node.incarnation)?;
        if watermark.is_none() && before > 0 {
            tracing::warn!(
                starts = before,
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
        start: u64,
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
        let older = noted.start >= start || noted.vote > vote.term;
        self.lost = (!held).then_some(noted.accepted);
        if held && !older && restart.cut.is_none() {
            return Ok(());
        }
        let missing = noted
            .accepted
            .height
            .max(restart.cut.unwrap_or_default())
            .since(tip.height);
        let alone = prepared.genesis.membership().voters().count() <= 1;
        if alone {
            return Err(StartError::LostBlocks {
                data: store.dir().to_owned(),
                tip: tip.height,
                missing,
                watermark: prepared.dir.join(WATERMARK_FILE),
            });
        }
        tracing::error!(%tip, promised = %noted.accepted, promised_term = %noted.vote, term = %vote.term, missing,
            starts = start, promised_starts = noted.start,
            "the store has lost what this node had promised: it recovers, and takes no part in deciding until it has \
             caught up");
        Ok(())
    }
}

/// Whether the store has that block, as far as its headers can be read.
fn holds(store: &Store, id: BlockId) -> bool {
    id.height == Height::ZERO || !matches!(store.block_id(id.height), Ok(found) if found != Some(id))
}
