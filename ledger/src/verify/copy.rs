//! Keeps the copy that is verified: RocksDB opened to read, tolerant where it is damaged, so that damage gets a name.
//!
//! Invariants: nothing is written into the copy (RocksDB's text log goes to the scratch directory), and no damage
//! panics. Where an iterator fails, single keys are asked for: the first that cannot be read is the one to name.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, DBRawIterator, DBRecoveryMode, Options, ReadOptions};

use super::report::{Finding, Kind, Place, VerifyError};
use crate::store::record::{FORMAT_VERSION, Family, meta};

/// A copy, open to read.
pub(super) struct Copy {
    db: DB,
    /// What RocksDB said where the copy opened only with its damage ignored.
    pub(super) damage: Option<String>,
}

/// Why a copy does not open.
pub(super) enum Refusal {
    /// It cannot be verified.
    Error(VerifyError),
    /// It is damaged beyond reading.
    Damage(Finding),
}

fn unreadable_format(why: &str) -> Refusal {
    Refusal::Damage(Kind::DamagedDatabase.at_key("meta/format", format!("the record {why}")))
}

fn unreadable(why: &str) -> Refusal {
    Refusal::Damage(Kind::DamagedDatabase.at(Place::Copy, format!("the database cannot be opened: {why}")))
}

/// Why a record could not be read.
#[derive(Clone, Debug)]
pub(super) enum Flaw {
    /// The database says that its files are damaged.
    Damage(String),
    /// A record stands where none belongs: its key.
    Stray(Vec<u8>),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(text) => f.write_str(text),
            Self::Stray(key) => write!(f, "there is an unexpected key {}", key.escape_ascii()),
        }
    }
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        Self::Error(error)
    }
}

impl Copy {
    /// Opens the copy in `dir`, which is a node's directory or its data directory.
    pub(super) fn open(dir: &Path, scratch: &Path) -> Result<Self, Refusal> {
        let dir = locate(dir)?;
        refuse_used(&dir)?;
        let copy = Self::open_data(&dir, scratch)?;
        let format = copy
            .get(Family::Meta, meta::FORMAT)
            .map_err(|flaw| unreadable_format(&format!("cannot be read: {flaw}")))?;
        let found = format
            .as_deref()
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes);
        match found {
            Some(FORMAT_VERSION) => Ok(copy),
            Some(found) => Err(Refusal::Error(VerifyError::Format {
                dir,
                found,
                known: FORMAT_VERSION,
            })),
            None => Err(unreadable_format("is missing or damaged")),
        }
    }

    fn open_data(dir: &Path, scratch: &Path) -> Result<Self, Refusal> {
        let mut strict = options(scratch);
        // A log file that the copy should have, and has not, or not whole.
        strict.set_track_and_verify_wals_in_manifest(true);
        let found = DB::list_cf(&strict, dir).map_err(|error| unreadable(error.as_ref()))?;
        for family in Family::ALL {
            if !found.iter().any(|name| name == family.name()) {
                return Err(unreadable(&format!("the column family {} is missing", family.name())));
            }
        }
        if let Some(stray) = found.iter().find(|name| !known(name)) {
            return Err(unreadable(&format!(
                "there is a column family {stray}, which no store has"
            )));
        }
        let error = match DB::open_cf_for_read_only(&strict, dir, &found, false) {
            Ok(db) => return Ok(Self { db, damage: None }),
            Err(error) => error.into_string(),
        };
        // Only what tables and logs contain may be ignored. Without the files that say which ones belong together, what
        // opens is some other state of the database, or nothing.
        if !is_about_contents(&error) {
            return Err(unreadable(&error));
        }
        // Damaged files are left out until they are read, a damaged log ends where it can be read no further.
        let mut tolerant = options(scratch);
        // Must stay on: a read-only open that is to forget the logs that MANIFEST names dereferences null.
        tolerant.set_track_and_verify_wals_in_manifest(true);
        tolerant.set_paranoid_checks(false);
        tolerant.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        match DB::open_cf_for_read_only(&tolerant, dir, &found, false) {
            Ok(db) => Ok(Self {
                db,
                damage: Some(error),
            }),
            Err(_) => Err(unreadable(&error)),
        }
    }

    /// The damage, where it may hide the end of the chain. That of a table shows when the table is read.
    pub(super) fn damage_of_log(&self) -> Option<&str> {
        let of_table = |text: &&str| [".sst", ".blob"].iter().any(|suffix| text.contains(suffix));
        self.damage.as_deref().filter(|text| !of_table(text))
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, Flaw> {
        let missing = || Flaw::Damage(format!("the column family {} is missing", family.name()));
        self.db.cf_handle(family.name()).ok_or_else(missing)
    }

    /// The value of a key.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Flaw> {
        let found = self.db.get_cf_opt(self.family(family)?, key, &checked());
        found.map_err(|error| Flaw::Damage(error.into_string()))
    }

    /// All records of a family in the order of their keys.
    pub(super) fn cursor(&self, family: Family) -> Result<Cursor<'_>, Flaw> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family)?, checked());
        iterator.seek_to_first();
        Ok(Cursor {
            copy: self,
            family,
            iterator,
        })
    }

    /// The last key of a family, where it can be read.
    pub(super) fn last_key(&self, family: Family) -> Option<Vec<u8>> {
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family).ok()?, checked());
        iterator.seek_to_last();
        iterator.key().map(<[u8]>::to_vec)
    }
}

/// A key and its value.
type Item<'i> = (&'i [u8], &'i [u8]);

/// Reads a family from its first key to its last.
pub(super) struct Cursor<'c> {
    copy: &'c Copy,
    family: Family,
    iterator: DBRawIterator<'c>,
}

impl Cursor<'_> {
    /// The value of `key`, which must be greater than all that were taken before. A record below it is a stray one.
    pub(super) fn take(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Flaw> {
        if let Some((found, value)) = self.iterator.item() {
            return match found.cmp(key) {
                Ordering::Less => Err(Flaw::Stray(found.to_vec())),
                Ordering::Greater => Ok(None),
                Ordering::Equal => {
                    let value = value.to_vec();
                    self.iterator.next();
                    Ok(Some(value))
                }
            };
        }
        if self.iterator.status().is_ok() {
            return Ok(None);
        }
        let value = self.copy.get(self.family, key)?;
        self.iterator.seek([key, &[0]].concat());
        Ok(value)
    }

    /// The record that it stands at, none behind the last one.
    pub(super) fn item(&self) -> Result<Option<Item<'_>>, Flaw> {
        match (self.iterator.item(), self.iterator.status()) {
            (Some(item), _) => Ok(Some(item)),
            (None, Ok(())) => Ok(None),
            (None, Err(error)) => Err(Flaw::Damage(error.into_string())),
        }
    }

    /// Goes on to the next record.
    pub(super) fn advance(&mut self) {
        if self.iterator.valid() {
            self.iterator.next();
        }
    }
}

/// Whether an error of opening is about what a table or a log contains, and not about the files that name them.
fn is_about_contents(error: &str) -> bool {
    let of_the_whole = [
        "MANIFEST",
        "CURRENT",
        "VersionEdit",
        "Missing WAL",
        "Size mismatch: WAL",
        "WAL number",
    ];
    !of_the_whole.iter().any(|word| error.contains(word))
}

fn known(name: &str) -> bool {
    name == "default" || Family::ALL.iter().any(|family| family.name() == name)
}

fn checked() -> ReadOptions {
    let mut how = ReadOptions::default();
    how.set_verify_checksums(true);
    how.fill_cache(false);
    how
}

fn options(scratch: &Path) -> Options {
    let mut options = Options::default();
    options.set_db_log_dir(scratch);
    // Tables open when they are read, so that a damaged one does not hide the sound ones.
    options.set_max_open_files(512);
    // A record that was torn while it was written is no damage: it was never acknowledged.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

/// Where the database is: in `dir` itself, or in `data` below it. A file of it that may not be read says nothing about
/// the copy, so it ends the verification.
fn locate(dir: &Path) -> Result<PathBuf, Refusal> {
    let places = [
        dir.to_owned(),
        dir.join("data"),
        dir.join("store"),
        dir.join("data").join("store"),
    ];
    let mut remains = None;
    for place in places {
        let names = match names(&place) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(forbidden(place, &error)),
            Err(_) => continue,
        };
        if names.iter().any(|name| name == "CURRENT") {
            for file in names.iter().map(|name| place.join(name)) {
                match File::open(&file) {
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(forbidden(file, &error)),
                    _ => {}
                }
            }
            return Ok(place);
        }
        if remains.is_none() && names.iter().any(|name| is_of_store(name)) {
            remains = Some(place);
        }
    }
    Err(match remains {
        Some(place) => unreadable(&format!("there is no file CURRENT in {}", place.display())),
        None => VerifyError::NoStore { dir: dir.to_owned() }.into(),
    })
}

/// Names of the regular files in a directory.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Whether only a store, or the data directory around one, has such a file.
fn is_of_store(name: &str) -> bool {
    name.starts_with("MANIFEST-") || name.ends_with(".sst") || name == "incarnation.toml"
}

fn forbidden(path: PathBuf, error: &std::io::Error) -> Refusal {
    Refusal::Error(VerifyError::Forbidden {
        path,
        reason: error.to_string(),
    })
}

/// A running node holds a lock on `LOCK`; asking for a shared one tells, and writes nothing.
fn refuse_used(dir: &Path) -> Result<(), VerifyError> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let Ok(lock) = File::open(dir.join("LOCK")) else {
        return Ok(());
    };
    match fcntl_lock(&lock, FlockOperation::NonBlockingLockShared) {
        Err(error) if error == rustix::io::Errno::AGAIN || error == rustix::io::Errno::ACCESS => {
            Err(VerifyError::InUse { dir: dir.to_owned() })
        }
        _ => Ok(()),
    }
}
