//! Keeps the one writer of what is derived: executes committed blocks and writes what follows from them.
//!
//! Invariants: state, results, history, indexes and replay memory of a height are written in one batch with that
//! height, without the WAL: a crash takes them back together, to an earlier height, and the log replays the rest.
//! Executed <= tip. Leaves the rules to `crate::execute`, and knowing what is committed to the caller.

use quipu_crypto::id::{BlockId, Height, TimeMs};
use quipu_crypto::lattice::{LATTICE_LENGTH, LatticeHash};
use quipu_crypto::merkle::Frontier;
use rocksdb::WriteBatch;

use super::database::{Database, Durability};
use super::error::{BlockDamage, RecordDamage, StoreError};
use super::log;
use super::record::{self, Family, HistoryRecord, ResultsRecord, height_key, meta};
use super::workers::Workers;
use super::{Store, damaged, read_executed, read_meta, required};
use crate::block::{Block, Executed};
use crate::codec;
use crate::execute::{self, Effects, Progress, Remembered, StateView, replay_boundary};
use crate::membership::Membership;
use crate::operation::Version;
use crate::result::TransactionResult;
use crate::state::{StateKey, StoredValue};

/// Executes blocks, one after the other. There is one for a store.
pub struct Executor {
    store: Store,
    workers: Workers,
    progress: Progress,
    frontier: Frontier,
    /// The last executed block and its time.
    last: BlockId,
    time: TimeMs,
}

/// What came of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedBlock {
    /// The quadruple after it.
    pub executed: Executed,
    /// One for each of its transactions, in order.
    pub results: Vec<TransactionResult>,
}

impl Executor {
    /// Takes up execution where the store left it: at a lower height than before, where a crash came between.
    ///
    /// # Errors
    /// Where there is an executor already, or what it needs is damaged.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Self::open_with(store, Workers::none())
    }

    /// [`Self::open`], with threads that execute each block together. What comes of it is the same.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(store: &Store, workers: Workers) -> Result<Self, StoreError> {
        store.claim_executor()?;
        Self::resume(store, workers).inspect_err(|_| store.release_executor())
    }

    fn resume(store: &Store, workers: Workers) -> Result<Self, StoreError> {
        let database = &store.0.database;
        let Some(executed) = read_executed(database)? else {
            return Self::begin(store, workers);
        };
        let lattice = read_meta(database, meta::LATTICE, decode_lattice)?;
        let lattice = required(lattice, Family::Meta, meta::LATTICE)?;
        let frontier = read_meta(database, meta::FRONTIER, record::decode_frontier)?;
        let frontier = required(frontier, Family::Meta, meta::FRONTIER)?;
        let beyond = |key: &[u8]| damaged(Family::Meta, key, RecordDamage::Dangling);
        if executed.height > store.tip().height {
            return Err(beyond(meta::EXECUTED));
        }
        if lattice.digest() != executed.state_digest {
            return Err(beyond(meta::LATTICE));
        }
        if frontier.count() != executed.height.next().get() {
            return Err(beyond(meta::FRONTIER));
        }
        let header = read(store, executed.height, Store::header)?;
        let last = read(store, executed.height, Store::block_id)?;
        Ok(Self {
            store: store.clone(),
            workers,
            progress: Progress { executed, lattice },
            frontier,
            last,
            time: header.time,
        })
    }

    /// Executes block 0, which changes no state.
    fn begin(store: &Store, workers: Workers) -> Result<Self, StoreError> {
        let block = read(store, Height::ZERO, Store::block)?;
        let mut frontier = Frontier::new();
        log::push(&mut frontier, &block.hash());
        let executor = Self {
            store: store.clone(),
            workers,
            progress: Progress::genesis(),
            frontier,
            last: block.id(),
            time: block.header().time,
        };
        let mut batch = WriteBatch::default();
        executor.put_progress(&mut batch, &executor.progress, &executor.frontier, &[])?;
        store.write_derived(batch, Height::ZERO)?;
        Ok(executor)
    }

    /// The quadruple after the last executed block.
    #[must_use]
    pub const fn executed(&self) -> Executed {
        self.progress.executed
    }

    /// The last executed block.
    #[must_use]
    pub const fn last(&self) -> BlockId {
        self.last
    }

    /// Executes the next block, which must be committed and in the log. `membership` is the one in force at its height.
    ///
    /// # Errors
    /// Where it is not the next one, or the database fails. An error of the write poisons the store.
    pub fn execute(&mut self, block: &Block, membership: &Membership) -> Result<ExecutedBlock, StoreError> {
        self.store.check_writable()?;
        let (id, tip) = (block.id(), self.store.tip());
        let follows = id.height == self.last.height.next() && block.header().previous == self.last.hash;
        if !follows || id.height > tip.height {
            let executed = self.last;
            return Err(StoreError::NotExecutable { block: id, executed });
        }
        let effects = execute::execute_by(&self.workers, &self.store.0.database, block, membership)?;
        let progress = self.progress.after(&effects);
        let mut frontier = self.frontier.clone();
        log::push(&mut frontier, &id.hash);

        let mut batch = WriteBatch::default();
        self.put_effects(&mut batch, block, &effects)?;
        self.put_progress(&mut batch, &progress, &frontier, &effects.results)?;
        self.store.write_derived(batch, id.height)?;

        self.progress = progress;
        self.frontier = frontier;
        self.last = id;
        self.time = block.header().time;
        Ok(ExecutedBlock {
            executed: self.progress.executed,
            results: effects.results,
        })
    }

    fn put_effects(&self, batch: &mut WriteBatch, block: &Block, effects: &Effects<'_>) -> Result<(), StoreError> {
        let database = &self.store.0.database;
        let height = block.header().height;
        let state = database.family(Family::State)?;
        for change in &effects.changes {
            match change.after {
                Some(stored) => batch.put_cf(state, &change.key, record::encode_state_value(stored)),
                None if change.before.is_some() => batch.delete_cf(state, &change.key),
                None => {}
            }
        }
        let history = database.family(Family::History)?;
        for change in &effects.changes {
            for written in &change.written {
                let position = written.position;
                let value = HistoryRecord {
                    deleted: written.deleted,
                    operation: written.operation,
                };
                let key = record::history_key(&change.key, Version { height, position });
                batch.put_cf(history, key, codec::encode(&value));
            }
        }
        self.put_ids(batch, block, effects)
    }

    fn put_ids(&self, batch: &mut WriteBatch, block: &Block, effects: &Effects<'_>) -> Result<(), StoreError> {
        let database = &self.store.0.database;
        let (index, recent) = (database.family(Family::Transactions)?, database.family(Family::Recent)?);
        let height = block.header().height;
        let at = |position: u32| {
            let transaction = usize::try_from(position)
                .ok()
                .and_then(|at| block.transactions().get(at));
            transaction.map(|transaction| (Remembered::of(transaction), Version { height, position }))
        };
        let boundary = replay_boundary(block.header().time);
        if boundary > replay_boundary(self.time) {
            let (from, to) = record::forgotten_range(boundary);
            batch.delete_range_cf(recent, from, to);
        }
        // In order of keys, as the changes are: neighbours find their place in memory at half the cost.
        let mut first: Vec<(Remembered, Version)> = effects.first.iter().copied().filter_map(at).collect();
        first.sort_unstable_by_key(|(entry, _)| entry.id);
        for (entry, version) in &first {
            batch.put_cf(index, entry.id.0.as_bytes(), record::encode_position(*version));
        }
        first.sort_unstable_by_key(|(entry, _)| *entry);
        for (entry, _) in &first {
            batch.put_cf(recent, record::recent_key(entry), []);
        }
        for (entry, version) in effects.expired.iter().copied().filter_map(at) {
            if !database.contains(Family::Transactions, entry.id.0.as_bytes())? {
                batch.put_cf(index, entry.id.0.as_bytes(), record::encode_position(version));
            }
        }
        Ok(())
    }

    fn put_progress(
        &self,
        batch: &mut WriteBatch,
        progress: &Progress,
        frontier: &Frontier,
        results: &[TransactionResult],
    ) -> Result<(), StoreError> {
        let database = &self.store.0.database;
        let executed = progress.executed;
        let outcomes = results.iter().map(|result| result.outcome).collect();
        let record = ResultsRecord { executed, outcomes };
        let results = database.family(Family::Results)?;
        batch.put_cf(results, height_key(executed.height), codec::encode(&record));
        let family = database.family(Family::Meta)?;
        batch.put_cf(family, meta::EXECUTED, codec::encode(&executed));
        batch.put_cf(family, meta::LATTICE, progress.lattice.to_bytes());
        batch.put_cf(family, meta::FRONTIER, codec::encode(frontier));
        Ok(())
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.store.release_executor();
    }
}

impl Store {
    /// Writes what follows from a height.
    fn write_derived(&self, batch: WriteBatch, executed: Height) -> Result<(), StoreError> {
        self.check_writable()?;
        let written = self.0.database.write(batch, Durability::Derived);
        written.map_err(|error| self.poison(error))?;
        self.position().executed = executed;
        Ok(())
    }
}

impl StateView for Database {
    type Error = StoreError;

    fn values(&self, keys: &[StateKey]) -> Result<Vec<Option<StoredValue>>, StoreError> {
        self.get_many(Family::State, keys, |key, value| {
            let value = value.map(record::decode_state_value).transpose();
            value.map_err(|error| damaged(Family::State, key.as_bytes(), RecordDamage::Decode(error)))
        })
    }

    fn seen(&self, ids: &[Remembered]) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<[u8; 40]> = ids.iter().map(record::recent_key).collect();
        self.get_many(Family::Recent, &keys, |_, value| Ok(value.is_some()))
    }
}

fn read<T>(
    store: &Store,
    height: Height,
    read: impl FnOnce(&Store, Height) -> Result<Option<T>, StoreError>,
) -> Result<T, StoreError> {
    let damage = BlockDamage::NoHeader;
    read(store, height)?.ok_or(StoreError::DamagedBlock { height, damage })
}

fn decode_lattice(bytes: &[u8]) -> Result<LatticeHash, codec::DecodeError> {
    let bytes: &[u8; LATTICE_LENGTH] = bytes.try_into().map_err(|_| codec::DecodeError::Malformed)?;
    Ok(LatticeHash::from_bytes(bytes))
}
