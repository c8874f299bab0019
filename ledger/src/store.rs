//! Keeps the one RocksDB of a node: the chain, what the node promised, and what follows from executing the chain.
//!
//! Invariants: one thread writes the log (`log`), one [`Executor`] writes what is derived; the log is never cut at or
//! below what is executed; after a write has failed nothing is written any more. Derived families may be behind the
//! log after a crash, but never among themselves. Damaged blocks are written back by their hash (`repair`). Leaves
//! whether a block may be appended to `rules`.

mod database;
mod error;
mod executor;
mod log;
mod options;
pub mod record;
mod repair;
mod view;
mod workers;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use quipu_crypto::id::{BlockId, Height, Incarnation, NetworkId};
use rocksdb::WriteBatch;

use crate::block::{Block, Executed};
use crate::codec;

use database::{Database, Durability, Mode};
pub use error::{BlockDamage, OpenError, RecordDamage, StoreError};
pub use executor::{ExecutedBlock, Executor};
pub use log::LogChange;
pub use options::StoreOptions;
use record::{FORMAT_VERSION, Family, meta};
pub use view::{FoundTransaction, HistoryItem, Page, RawRecords, ReadView};
pub use workers::Workers;

/// An open store. Cheap to clone, and used from several threads.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Database,
    network: NetworkId,
    incarnation: Incarnation,
    /// The last block of the log, and the last executed height.
    position: Mutex<Position>,
    /// Why nothing is written any more.
    poison: OnceLock<String>,
    executor_exists: AtomicBool,
    /// Whether the log ended in damaged records when the store was opened, and was cut there.
    cut_at_opening: bool,
}

#[derive(Clone, Copy)]
struct Position {
    tip: BlockId,
    executed: Height,
}

impl Store {
    /// Makes a store in `dir` that begins with block 0.
    ///
    /// # Errors
    /// Where there is one already, or `dir` cannot be written.
    pub fn create(
        dir: &Path,
        network: NetworkId,
        genesis: &Block,
        incarnation: Incarnation,
    ) -> Result<Self, OpenError> {
        Self::create_with(dir, network, genesis, incarnation, &StoreOptions::default())
    }

    /// [`Self::create`], tuned.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_with(
        dir: &Path,
        network: NetworkId,
        genesis: &Block,
        incarnation: Incarnation,
        settings: &StoreOptions,
    ) -> Result<Self, OpenError> {
        let database = Database::open(dir, settings, &Mode::Create)?;
        // A format stands in the batch that makes a store, so one without it was cut short and holds nothing.
        if database.format()?.is_some() {
            return Err(OpenError::Exists { dir: dir.to_owned() });
        }
        let mut batch = WriteBatch::default();
        let family = database.family(Family::Meta)?;
        batch.put_cf(family, meta::FORMAT, FORMAT_VERSION.to_be_bytes());
        batch.put_cf(family, meta::NETWORK, network.0.as_bytes());
        batch.put_cf(family, meta::INCARNATION, incarnation.0);
        log::put_block(&database, &mut batch, genesis)?;
        database.write(batch, Durability::Synced)?;
        Self::load(database)
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// Where there is none, it is in use, of another format, or damaged at its ends.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, &StoreOptions::default())
    }

    /// [`Self::open`], tuned.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(dir: &Path, settings: &StoreOptions) -> Result<Self, OpenError> {
        Self::load(Database::open(dir, settings, &Mode::Write)?)
    }

    /// Opens the store in `dir` without writing anything into it; RocksDB's own text log goes to `scratch`.
    ///
    /// # Errors
    /// As [`Self::open`]; a store in use is not noticed.
    pub fn open_read_only(dir: &Path, scratch: &Path) -> Result<Self, OpenError> {
        Self::load(Database::open(dir, &StoreOptions::default(), &Mode::Read(scratch))?)
    }

    fn load(database: Database) -> Result<Self, OpenError> {
        let dir = || database.dir().to_owned();
        match database.format()? {
            Some(FORMAT_VERSION) => {}
            Some(found) => {
                let known = FORMAT_VERSION;
                return Err(OpenError::Format {
                    dir: dir(),
                    found,
                    known,
                });
            }
            None => return Err(OpenError::NoStore { dir: dir() }),
        }
        let network = read_meta(&database, meta::NETWORK, record::decode_hash)?;
        let incarnation = read_meta(&database, meta::INCARNATION, record::decode_incarnation)?;
        let executed = read_executed(&database)?.map_or(Height::ZERO, |executed| executed.height);
        let repair::End { tip, damaged } = repair::read_end(&database, executed)?;
        if damaged && database.is_writable() {
            repair::cut_damaged(&database, tip)?;
        }
        Ok(Self(Arc::new(Inner {
            network: NetworkId(required(network, Family::Meta, meta::NETWORK)?),
            incarnation: required(incarnation, Family::Meta, meta::INCARNATION)?,
            position: Mutex::new(Position { tip, executed }),
            poison: OnceLock::new(),
            executor_exists: AtomicBool::new(false),
            cut_at_opening: damaged,
            database,
        })))
    }

    /// The network that the chain belongs to.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.0.network
    }

    /// The incarnation of the node that this is the store of.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.0.incarnation
    }

    /// The directory that it is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.database.dir()
    }

    /// Whether the log ended in damaged records when the store was opened: it was cut there, behind what is executed.
    #[must_use]
    pub fn cut_at_opening(&self) -> bool {
        self.0.cut_at_opening
    }

    /// Why the store refuses writes, where it does.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.0.poison.get().map(String::as_str)
    }

    /// Bytes that are free for this process on the store's file system.
    ///
    /// # Errors
    /// Where the file system does not answer.
    pub fn free_space(&self) -> Result<u64, StoreError> {
        let answer = rustix::fs::statvfs(self.dir()).map_err(|error| StoreError::System {
            what: "asking for free space",
            error: error.to_string(),
        })?;
        Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
    }

    /// Brings everything that is in memory into tables, so that the next start replays nothing. For a clean stop.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.check_writable()?;
        self.0.database.flush()
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        match self.0.poison.get() {
            Some(reason) => Err(StoreError::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    /// Refuses all writes from now on, and gives the reason back.
    fn poison(&self, error: StoreError) -> StoreError {
        self.0.poison.get_or_init(|| error.to_string());
        error
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        // Whoever panics while holding it has changed nothing: each change is one assignment.
        self.0.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim_executor(&self) -> Result<(), StoreError> {
        if self.0.executor_exists.swap(true, Ordering::AcqRel) {
            return Err(StoreError::ExecutorExists);
        }
        Ok(())
    }

    fn release_executor(&self) {
        self.0.executor_exists.store(false, Ordering::Release);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({}, tip {})", self.dir().display(), self.tip())
    }
}

fn read_executed(database: &Database) -> Result<Option<Executed>, StoreError> {
    read_meta(database, meta::EXECUTED, |bytes| codec::decode(bytes, 256))
}

/// Reads a record of `meta`.
fn read_meta<T>(
    database: &Database,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, codec::DecodeError>,
) -> Result<Option<T>, StoreError> {
    let bytes = database.get(Family::Meta, key)?;
    bytes
        .map(|bytes| decoded(Family::Meta, key, decode(&bytes)))
        .transpose()
}

fn decoded<T>(family: Family, key: &[u8], result: Result<T, codec::DecodeError>) -> Result<T, StoreError> {
    result.map_err(|error| damaged(family, key, RecordDamage::Decode(error)))
}

fn required<T>(record: Option<T>, family: Family, key: &[u8]) -> Result<T, StoreError> {
    record.ok_or_else(|| damaged(family, key, RecordDamage::Missing))
}

fn damaged(family: Family, key: &[u8], error: RecordDamage) -> StoreError {
    StoreError::DamagedRecord {
        family: family.name(),
        key: key.escape_ascii().to_string(),
        error,
    }
}
