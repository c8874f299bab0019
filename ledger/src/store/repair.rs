//! Keeps what is done about damaged blocks: which block of which hash stood where one cannot be read, writing it back,
//! and where the log ends when its last records are damaged.
//!
//! Invariants: a block is written back only where the chain names its hash: the header above it does, or the tip, or,
//! where that is damaged too, the sound header that is stored at its own height; where none of them can be read, block
//! 0 alone, for its network. Nothing else moves by it, the tip least of all. At opening the log is cut only behind what
//! is executed. Leaves asking the peers to the engine.

use std::collections::BTreeMap;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height};
use rocksdb::WriteBatch;

use super::database::{Database, Durability};
use super::error::{BlockDamage, StoreError};
use super::record::{Family, decode_height_key, height_key};
use super::{Store, decoded, log};
use crate::block::Block;

/// Where the log ends.
pub(super) struct End {
    /// The last block whose header is sound, with all between it and what is executed.
    pub(super) tip: BlockId,
    /// Whether records above it are damaged.
    pub(super) damaged: bool,
}

/// Finds where the log ends: at its last header, or, where that is damaged, at the last sound one that is not below
/// `executed`.
pub(super) fn read_end(database: &Database, executed: Height) -> Result<End, StoreError> {
    let mut headers = database.iterate(Family::Headers)?;
    headers.seek_to_last();
    let last = match (headers.item(), headers.status()) {
        (Some((key, _)), _) => Some(decoded(Family::Headers, key, decode_height_key(key))?),
        (None, Err(_)) => None,
        (None, Ok(())) => return Err(log::missing(Height::ZERO)),
    };
    if let Some(last) = last {
        match log::read_id(database, last) {
            Ok(tip) => return Ok(End { tip, damaged: false }),
            Err(error) if last <= executed => return Err(error),
            Err(_) => {}
        }
    }
    let mut tip = log::read_id(database, executed)?;
    while let Ok(next) = log::read_id(database, tip.height.next()) {
        tip = next;
    }
    Ok(End { tip, damaged: true })
}

/// Cuts off what stands above the tip.
pub(super) fn cut_damaged(database: &Database, tip: BlockId) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    let (first, end) = (height_key(tip.height.next()), height_key(Height(u64::MAX)));
    for family in [Family::Headers, Family::Bodies] {
        batch.delete_range_cf(database.family(family)?, first, end);
    }
    database.write(batch, Durability::Synced)
}

/// What the blocks that are written back in one batch say of those below them.
pub(super) type Named = BTreeMap<Height, Hash>;

impl Store {
    /// Which block is to be written back, and its hash, where the one at `height` was found damaged: that one, or the
    /// one below it which it does not follow on, or one above it that must be sound first, so that the hash is known.
    /// `None` where nothing is damaged (any more), or where no header tells the hash.
    pub fn to_restore(&self, height: Height) -> Option<(Height, Hash)> {
        let tip = self.tip();
        let mut at = height;
        while at <= tip.height {
            match self.expected(at) {
                Some(hash) if self.is_sound(at, hash) => {
                    // The damage that was found is that the one below is another than it names.
                    let below = at.previous().filter(|_| at == height)?;
                    let named = self.header(at).ok().flatten()?.previous;
                    return (!self.is_sound(below, named)).then_some((below, named));
                }
                Some(hash) => return Some((at, hash)),
                None => at = at.next(),
            }
        }
        None
    }

    /// The hash that the chain has at `height`.
    fn expected(&self, height: Height) -> Option<Hash> {
        let tip = self.tip();
        if height >= tip.height {
            return (height == tip.height).then_some(tip.hash);
        }
        match self.header(height.next()) {
            Ok(Some(above)) => Some(above.previous),
            _ => self.block_id(height).ok().flatten().map(|id| id.hash),
        }
    }

    /// Whether the block at `height` can be read and has that hash.
    fn is_sound(&self, height: Height, hash: Hash) -> bool {
        matches!(self.read_block(height), Ok(Some(block)) if block.hash() == hash)
    }

    /// Puts a block back where the chain names its hash.
    pub(super) fn put_restored(
        &self,
        batch: &mut WriteBatch,
        block: &Block,
        tip: BlockId,
        named: &mut Named,
    ) -> Result<(), StoreError> {
        let id = block.id();
        let expected = named.get(&id.height).copied().or_else(|| self.expected(id.height));
        // What names block 0 may be damaged with it, in one block of a table; the network's id is a hash of all of it.
        let is_genesis = id.height == Height::ZERO && expected.is_none() && block.header().network == self.network();
        if id.height > tip.height || (expected != Some(id.hash) && !is_genesis) {
            return Err(StoreError::NotRestorable { block: id, expected });
        }
        if let Some(below) = id.height.previous() {
            named.insert(below, block.header().previous);
        }
        log::put_block(&self.0.database, batch, block)
    }
}

/// What RocksDB cannot read of a block is damage of that block.
pub(super) fn unreadable(height: Height, error: StoreError) -> StoreError {
    match error {
        StoreError::Database(text) => StoreError::DamagedBlock {
            height,
            damage: BlockDamage::Unreadable(text),
        },
        other => other,
    }
}
