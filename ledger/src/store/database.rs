//! Keeps the rim to RocksDB: one handle, families by name, errors as ours. Nothing else in the crate calls RocksDB.
//!
//! Invariant: a batch is written whole or not at all. Leaves what a batch may hold to `log` and `executor`.

use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions, Snapshot, WriteBatch, WriteOptions};

use super::error::{OpenError, StoreError};
use super::options::{self, StoreOptions};
use super::record::{FORMAT_VERSION, Family, meta};

/// How sure a write must be when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// On the disk.
    Synced,
    /// In the write-ahead log: survives the process.
    Logged,
    /// In memory only, until the next flush of all families.
    Derived,
}

/// An open database.
pub(super) struct Database {
    db: DB,
    dir: PathBuf,
    writable: bool,
}

/// How to open.
pub(super) enum Mode<'p> {
    /// To read and write; made where there is none.
    Create,
    /// To read and write.
    Write,
    /// To read. The text log goes to the directory that is given.
    Read(&'p Path),
}

impl Database {
    /// Opens the database in `dir` with all families.
    pub(super) fn open(dir: &Path, settings: &StoreOptions, mode: &Mode<'_>) -> Result<Self, OpenError> {
        let create = matches!(mode, Mode::Create);
        if !create && !dir.join("CURRENT").is_file() {
            return Err(OpenError::NoStore { dir: dir.to_owned() });
        }
        let families = options::families(settings);
        let opened = match mode {
            Mode::Create | Mode::Write => {
                let mut database = options::database(settings, None);
                database.create_if_missing(create);
                database.create_missing_column_families(create);
                DB::open_cf_descriptors(&database, dir, families)
            }
            Mode::Read(scratch) => {
                let database = options::database(settings, Some(scratch));
                DB::open_cf_descriptors_read_only(&database, dir, families, false)
            }
        };
        let db = opened.map_err(|error| explain(dir, mode, &error))?;
        Ok(Self {
            db,
            dir: dir.to_owned(),
            writable: !matches!(mode, Mode::Read(_)),
        })
    }

    /// The directory that it is in.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it was opened to write.
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// The version of the format, where there is one.
    pub(super) fn format(&self) -> Result<Option<u32>, StoreError> {
        let bytes = self.get(Family::Meta, meta::FORMAT)?;
        Ok(bytes.map(|bytes| read_format(&bytes)))
    }

    /// The handle of a family, for batches.
    pub(super) fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        self.db
            .cf_handle(family.name())
            .ok_or_else(|| StoreError::Database(format!("the column family {} is missing", family.name())))
    }

    /// The value of a key.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db
            .get_cf(self.family(family)?, key)
            .map_err(|error| failed(family, error))
    }

    /// Whether a key has a value.
    pub(super) fn contains(&self, family: Family, key: &[u8]) -> Result<bool, StoreError> {
        let found = self.db.get_pinned_cf(self.family(family)?, key);
        Ok(found.map_err(|error| failed(family, error))?.is_some())
    }

    /// What `read` makes of the value of each key, in the order of `keys`.
    pub(super) fn get_many<K: AsRef<[u8]>, T>(
        &self,
        family: Family,
        keys: &[K],
        mut read: impl FnMut(&K, Option<&[u8]>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let handle = self.family(family)?;
        let found = self.db.batched_multi_get_cf(handle, keys, false);
        let answers = keys.iter().zip(found);
        answers
            .map(|(key, value)| read(key, value.map_err(|error| failed(family, error))?.as_deref()))
            .collect()
    }

    /// An iterator over a family as it is now.
    pub(super) fn iterate(&self, family: Family) -> Result<DBRawIterator<'_>, StoreError> {
        Ok(self.db.raw_iterator_cf_opt(self.family(family)?, bulk_read()))
    }

    /// All families as they are now.
    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        self.db.snapshot()
    }

    /// Writes a batch.
    pub(super) fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        if !self.writable {
            return Err(StoreError::ReadOnly);
        }
        let mut how = WriteOptions::default();
        how.set_sync(durability == Durability::Synced);
        how.disable_wal(durability == Durability::Derived);
        Ok(self.db.write_opt(batch, &how)?)
    }

    /// Brings everything that is in memory into tables: what a clean stop does, so that the next start replays nothing.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let families: Result<Vec<&ColumnFamily>, StoreError> =
            Family::ALL.into_iter().map(|family| self.family(family)).collect();
        Ok(self.db.flush_cfs_opt(&families?, &rocksdb::FlushOptions::default())?)
    }
}

/// An error of reading, with the family that it is about: what is to be done depends on it.
pub(super) fn failed(family: Family, error: rocksdb::Error) -> StoreError {
    StoreError::Database(format!("reading {}: {}", family.name(), error.into_string()))
}

/// A long iteration leaves the cache to others and is checked.
pub(super) fn bulk_read() -> ReadOptions {
    let mut how = ReadOptions::default();
    how.fill_cache(false);
    how.set_verify_checksums(true);
    how
}

fn read_format(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(u32::MAX, u32::from_be_bytes)
}

/// Why RocksDB did not open: in use, another format (which may have other families), or what it says.
fn explain(dir: &Path, mode: &Mode<'_>, error: &rocksdb::Error) -> OpenError {
    let text = error.as_ref();
    if text.contains("lock") && text.contains("LOCK") {
        return OpenError::InUse { dir: dir.to_owned() };
    }
    let scratch = match mode {
        Mode::Read(scratch) => Some(*scratch),
        Mode::Create | Mode::Write => None,
    };
    let names = [Family::Meta.name()];
    let settings = options::database(&StoreOptions::default(), scratch);
    let found = DB::open_cf_for_read_only(&settings, dir, names, false)
        .ok()
        .and_then(|db| {
            let handle = db.cf_handle(Family::Meta.name())?;
            db.get_cf(handle, meta::FORMAT).ok().flatten()
        })
        .map(|bytes| read_format(&bytes));
    match found {
        Some(found) if found != FORMAT_VERSION => OpenError::Format {
            dir: dir.to_owned(),
            found,
            known: FORMAT_VERSION,
        },
        _ => OpenError::Store(StoreError::Database(text.to_owned())),
    }
}
