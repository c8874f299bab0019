//! Keeps the log side of the store: blocks and promises, written by one thread, each drain of its queue one batch.
//!
//! Invariants: heights have no gap, each block names the one below it, terms never fall; nothing executed is cut off.
//! A change that would break one of these poisons the store, as does any write that fails: there is no retry, for
//! nobody knows what a failed sync has left on the disk. Blocks are checked when they are read.

use std::collections::BTreeMap;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{BlockId, Height, Slot, Term};
use quipu_crypto::merkle::Frontier;
use rocksdb::WriteBatch;

use super::database::{Database, Durability};
use super::error::{BlockDamage, StoreError};
use super::record::{
    self, Family, HeaderRecord, PromiseRecord, VoteRecord, decode_header_record, decode_height_key, height_key, meta,
};
use super::repair::{Named, unreadable};
use super::{Store, decoded, read_meta};
use crate::block::{Block, Header};
use crate::certificate::Certificate;
use crate::codec;
use crate::limits::{MAX_BLOCK_BYTES, MAX_HEADER_BYTES};
use crate::rules;

/// One change of the log or of what the node promises.
#[derive(Clone, Debug)]
pub enum LogChange {
    /// The term that the node takes part in, and its vote there.
    Vote(VoteRecord),
    /// Cuts off the blocks from this height on.
    Truncate {
        /// The first one to go.
        from: Height,
    },
    /// Appends a block.
    Append(Block),
    /// Writes a block again where it stands in the chain, for its records are damaged.
    Restore(Block),
    /// A height that is known to be committed.
    CommitHint(Height),
    /// Keeps a certificate beside the block that it certifies.
    Certify(Certificate),
    /// What was seen of a peer's promises.
    Remember {
        /// The peer.
        peer: Slot,
        /// The highest of each.
        promise: PromiseRecord,
    },
    /// The number of the last start that is claimed.
    Start(u64),
    /// The block that a node which forgot what it promised has still to get; `None` when it has it.
    Recover(Option<BlockId>),
}

/// Puts the records of a block into a batch.
pub(super) fn put_block(database: &Database, batch: &mut WriteBatch, block: &Block) -> Result<(), StoreError> {
    let id = block.id();
    let record = HeaderRecord {
        hash: id.hash,
        signature: block.signature().copied(),
        header: block.header_bytes().to_vec(),
    };
    let key = height_key(id.height);
    batch.put_cf(database.family(Family::Headers)?, key, codec::encode(&record));
    batch.put_cf(database.family(Family::Bodies)?, key, block.body_bytes());
    Ok(())
}

/// Which block's header is stored at a height.
pub(super) fn read_id(database: &Database, height: Height) -> Result<BlockId, StoreError> {
    let bytes = database.get(Family::Headers, &height_key(height));
    let bytes = bytes.map_err(|error| unreadable(height, error))?;
    let (record, header) = check_header(height, &bytes.ok_or_else(|| missing(height))?)?;
    Ok(id_of(&header, record.hash))
}

pub(super) fn missing(height: Height) -> StoreError {
    StoreError::DamagedBlock {
        height,
        damage: BlockDamage::NoHeader,
    }
}

fn id_of(header: &Header, hash: Hash) -> BlockId {
    BlockId {
        height: header.height,
        term: header.term,
        hash,
    }
}

/// Reads a header's record: the header must have the hash beside it and the height that it is stored under.
fn check_header(height: Height, bytes: &[u8]) -> Result<(HeaderRecord, Header), StoreError> {
    let damaged = |damage| StoreError::DamagedBlock { height, damage };
    let record = decode_header_record(bytes).map_err(|error| damaged(BlockDamage::Record(error)))?;
    if Hash::of(Context::Header, &[&record.header]) != record.hash {
        return Err(damaged(BlockDamage::Hash));
    }
    let header: Header =
        codec::decode(&record.header, MAX_HEADER_BYTES).map_err(|error| damaged(BlockDamage::Record(error)))?;
    if header.height != height {
        return Err(damaged(BlockDamage::Height(header.height)));
    }
    Ok((record, header))
}

impl Store {
    /// Writes changes in one piece, in order. With `sync` they are on the disk when this returns.
    ///
    /// # Errors
    /// Any error poisons the store: the process should say so and exit.
    pub fn write_log(&self, changes: &[LogChange], sync: bool) -> Result<(), StoreError> {
        self.check_writable()?;
        self.write_changes(changes, sync).map_err(|error| self.poison(error))
    }

    fn write_changes(&self, changes: &[LogChange], sync: bool) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut tip = self.tip();
        // Hashes of blocks of this batch, for a truncation that comes after them.
        let mut fresh: BTreeMap<Height, BlockId> = BTreeMap::new();
        let mut named = Named::new();
        for change in changes {
            match change {
                LogChange::Append(block) => {
                    check_next(block, tip)?;
                    put_block(&self.0.database, &mut batch, block)?;
                    tip = block.id();
                    fresh.insert(tip.height, tip);
                }
                LogChange::Restore(block) => self.put_restored(&mut batch, block, tip, &mut named)?,
                LogChange::Truncate { from } => tip = self.truncate(&mut batch, *from, tip, &fresh)?,
                LogChange::Certify(certificate) => {
                    let family = self.0.database.family(Family::Certificates)?;
                    batch.put_cf(family, height_key(certificate.height), codec::encode(certificate));
                }
                LogChange::Vote(_)
                | LogChange::CommitHint(_)
                | LogChange::Remember { .. }
                | LogChange::Start(_)
                | LogChange::Recover(_) => self.put_promise(&mut batch, change)?,
            }
        }
        let durability = if sync { Durability::Synced } else { Durability::Logged };
        self.0.database.write(batch, durability)?;
        self.position().tip = tip;
        Ok(())
    }

    fn put_promise(&self, batch: &mut WriteBatch, change: &LogChange) -> Result<(), StoreError> {
        let family = self.0.database.family(Family::Meta)?;
        match change {
            LogChange::Vote(vote) => batch.put_cf(family, meta::VOTE, codec::encode(vote)),
            LogChange::CommitHint(height) => batch.put_cf(family, meta::COMMIT, height_key(*height)),
            LogChange::Start(count) => batch.put_cf(family, meta::START, count.to_be_bytes()),
            LogChange::Recover(Some(lacking)) => batch.put_cf(family, meta::RECOVER, codec::encode(lacking)),
            LogChange::Recover(None) => batch.delete_cf(family, meta::RECOVER),
            LogChange::Remember { peer, promise } => {
                batch.put_cf(family, record::promise_key(*peer), codec::encode(promise));
            }
            LogChange::Append(_) | LogChange::Restore(_) | LogChange::Truncate { .. } | LogChange::Certify(_) => {}
        }
        Ok(())
    }

    /// Cuts off the blocks from `from` on, and gives the tip that is left.
    fn truncate(
        &self,
        batch: &mut WriteBatch,
        from: Height,
        tip: BlockId,
        fresh: &BTreeMap<Height, BlockId>,
    ) -> Result<BlockId, StoreError> {
        if from > tip.height {
            return Ok(tip);
        }
        let executed = self.position().executed;
        let refused = StoreError::Truncation { from, executed, tip };
        let Some(last) = from.previous().filter(|last| *last >= executed) else {
            return Err(refused);
        };
        let (first, end) = (height_key(from), height_key(tip.height.next()));
        for family in [Family::Headers, Family::Bodies] {
            batch.delete_range_cf(self.0.database.family(family)?, first, end);
        }
        match fresh.get(&last) {
            Some(id) => Ok(*id),
            None => self.block_id(last)?.ok_or(refused),
        }
    }

    /// The last block of the log.
    #[must_use]
    pub fn tip(&self) -> BlockId {
        self.position().tip
    }

    /// The block at a height, checked, also against the one above it: `None` above the tip.
    ///
    /// # Errors
    /// Where it is damaged or missing, or the block above does not follow on it: one of the two is left from before.
    pub fn block(&self, height: Height) -> Result<Option<Block>, StoreError> {
        let Some(block) = self.read_block(height)? else {
            return Ok(None);
        };
        let above = height.next();
        let follows = match self.read_header(above) {
            Ok(Some((_, header))) => header.previous == block.hash(),
            // Nothing is above it, or that is damaged, which is for its own reader to say.
            Ok(None) | Err(_) => true,
        };
        if follows {
            return Ok(Some(block));
        }
        if self.block_id(height)? != Some(block.id()) {
            // Both were replaced in between.
            return self.block(height);
        }
        let (height, damage) = (above, BlockDamage::Chain);
        Err(StoreError::DamagedBlock { height, damage })
    }

    /// The block at a height, checked by itself.
    pub(super) fn read_block(&self, height: Height) -> Result<Option<Block>, StoreError> {
        let Some((record, _)) = self.read_header(height)? else {
            return Ok(None);
        };
        let damaged = |damage| StoreError::DamagedBlock { height, damage };
        let body = self.0.database.get(Family::Bodies, &height_key(height));
        let body = body
            .map_err(|error| unreadable(height, error))?
            .ok_or_else(|| damaged(BlockDamage::NoBody))?;
        let block = Block::from_parts(record.header, record.signature, body);
        block.map(Some).map_err(|error| damaged(BlockDamage::Block(error)))
    }

    /// The header at a height: `None` above the tip.
    ///
    /// # Errors
    /// Where it is damaged or missing.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        Ok(self.read_header(height)?.map(|(_, header)| header))
    }

    /// Which block stands at a height: `None` above the tip.
    ///
    /// # Errors
    /// Where its header is damaged or missing.
    pub fn block_id(&self, height: Height) -> Result<Option<BlockId>, StoreError> {
        let header = self.read_header(height)?;
        Ok(header.map(|(record, header)| id_of(&header, record.hash)))
    }

    fn read_header(&self, height: Height) -> Result<Option<(HeaderRecord, Header)>, StoreError> {
        let bytes = self.0.database.get(Family::Headers, &height_key(height));
        match bytes.map_err(|error| unreadable(height, error))? {
            Some(bytes) => check_header(height, &bytes).map(Some),
            None if height > self.tip().height => Ok(None),
            None => Err(missing(height)),
        }
    }

    /// Blocks from `first` to `last` as far as the tip, and the one below them, for sending: as many as fit into
    /// `max_bytes`, but at least one.
    ///
    /// # Errors
    /// Where one is damaged or missing, or does not follow on the one below it.
    pub fn blocks(
        &self,
        first: Height,
        last: Height,
        max_bytes: usize,
    ) -> Result<(Option<BlockId>, Vec<Block>), StoreError> {
        let previous = first
            .previous()
            .map(|below| self.block_id(below))
            .transpose()?
            .flatten();
        let mut below = previous.map_or(Hash::ZERO, |id| id.hash);
        let mut blocks = Vec::new();
        let mut bytes = 0_usize;
        let mut height = first;
        while height <= last {
            let Some(block) = self.read_block(height)? else { break };
            if block.header().previous != below {
                let damage = BlockDamage::Chain;
                return Err(StoreError::DamagedBlock { height, damage });
            }
            bytes = bytes.saturating_add(block.size());
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            below = block.hash();
            blocks.push(block);
            height = height.next();
        }
        Ok((previous, blocks))
    }

    /// Each term of the chain with its first height, in order. Terms never fall, so this looks at few headers.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn terms(&self) -> Result<Vec<(Term, Height)>, StoreError> {
        let tip = self.tip();
        // A damaged header is taken for one of the term of the next sound one above it, until it is written back.
        let term_at = |mut height: Height| -> Result<Term, StoreError> {
            loop {
                match self.header(height) {
                    Ok(Some(header)) => return Ok(header.term),
                    Ok(None) => return Ok(tip.term),
                    Err(StoreError::DamagedBlock { .. }) => height = height.next(),
                    Err(error) => return Err(error),
                }
            }
        };
        let mut terms = vec![(term_at(Height::ZERO)?, Height::ZERO)];
        while let Some((term, first)) = terms.last().copied().filter(|(term, _)| *term < tip.term) {
            let begins = next_term(term, first, tip.height, &term_at)?;
            terms.push((term_at(begins)?, begins));
        }
        Ok(terms)
    }

    /// The certificate of the block at a height, where one is kept.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>, StoreError> {
        let key = height_key(height);
        let bytes = self.0.database.get(Family::Certificates, &key)?;
        bytes
            .map(|bytes| decoded(Family::Certificates, &key, codec::decode(&bytes, MAX_BLOCK_BYTES)))
            .transpose()
    }

    /// The term that the node takes part in, and its vote there.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn vote(&self) -> Result<VoteRecord, StoreError> {
        let vote = read_meta(&self.0.database, meta::VOTE, |bytes| codec::decode(bytes, 32))?;
        Ok(vote.unwrap_or_default())
    }

    /// The highest height that was noted as committed.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn commit_hint(&self) -> Result<Height, StoreError> {
        let hint = read_meta(&self.0.database, meta::COMMIT, decode_height_key)?;
        Ok(hint.unwrap_or_default())
    }

    /// The number of the last start that is claimed.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn starts(&self) -> Result<u64, StoreError> {
        let start = read_meta(&self.0.database, meta::START, decode_height_key)?;
        Ok(start.map_or(0, Height::get))
    }

    /// The block that a recovery had still to get, where it did not end.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn recovering(&self) -> Result<Option<BlockId>, StoreError> {
        read_meta(&self.0.database, meta::RECOVER, |bytes| codec::decode(bytes, 64))
    }

    /// What is remembered of peers' promises, by slot.
    ///
    /// # Errors
    /// Where a record is damaged.
    pub fn promises(&self) -> Result<BTreeMap<Slot, PromiseRecord>, StoreError> {
        let mut promises = BTreeMap::new();
        let mut records = self.0.database.iterate(Family::Meta)?;
        records.seek(meta::PROMISE);
        while let Some((key, value)) = records.item().filter(|(key, _)| key.starts_with(meta::PROMISE)) {
            let slot = decoded(Family::Meta, key, record::decode_promise_key(key))?;
            let promise = decoded(Family::Meta, key, record::decode_promise(value))?;
            promises.insert(slot, promise);
            records.next();
        }
        records.status()?;
        Ok(promises)
    }

    /// The Merkle frontier over blocks 0 up to the tip, as [`rules::ChainTip::restore`] takes it.
    ///
    /// # Errors
    /// Where a header or the stored frontier is damaged.
    pub fn frontier(&self) -> Result<Frontier, StoreError> {
        self.frontier_to(self.tip().height)
    }

    /// The Merkle frontier over the hashes of blocks 0 up to `last`; quick from the executed height on.
    ///
    /// # Errors
    /// Where a header or the stored frontier is damaged.
    pub fn frontier_to(&self, last: Height) -> Result<Frontier, StoreError> {
        let stored = read_meta(&self.0.database, meta::FRONTIER, record::decode_frontier)?;
        let mut frontier = stored
            .filter(|stored| stored.count() <= last.next().get())
            .unwrap_or_default();
        while frontier.count() <= last.get() {
            let Some(id) = self.block_id(Height(frontier.count()))? else {
                break;
            };
            push(&mut frontier, &id.hash);
        }
        Ok(frontier)
    }
}

/// Appends a block's hash to the tree under `chain_root`.
pub(super) fn push(frontier: &mut Frontier, hash: &Hash) {
    frontier.push(rules::chain_leaf(hash));
}

fn check_next(block: &Block, tip: BlockId) -> Result<(), StoreError> {
    let header = block.header();
    if header.height != tip.height.next() || header.previous != tip.hash || header.term < tip.term {
        return Err(StoreError::NotNext { block: block.id(), tip });
    }
    Ok(())
}

/// First height above `first` with a greater term than `term`; the tip has one. Gallops, then halves.
fn next_term(
    term: Term,
    first: Height,
    tip: Height,
    term_at: &impl Fn(Height) -> Result<Term, StoreError>,
) -> Result<Height, StoreError> {
    let (mut within, mut step) = (first, 1_u64);
    let mut beyond = tip;
    loop {
        let probe = within.plus(step).min(tip);
        if term_at(probe)? > term {
            beyond = beyond.min(probe);
            break;
        }
        within = probe;
        step = step.saturating_mul(2);
    }
    while beyond.since(within) > 1 {
        let middle = within.plus(beyond.since(within).div_euclid(2));
        if term_at(middle)? > term {
            beyond = middle;
        } else {
            within = middle;
        }
    }
    Ok(beyond)
}
