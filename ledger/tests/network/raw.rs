//! A raw handle on copies of the filled store: changes any record, then has the copy verified.

use std::path::Path;
use std::sync::OnceLock;

use quipu_ledger::state::StateKey;
use quipu_ledger::store::record::{self, Family};
use quipu_ledger::verify::{self, Place, Report, VerifyError, VerifyOptions};
use rocksdb::{DB, IteratorMode, Options};
use tempfile::TempDir;

use super::filled::{Filled, fill};

/// The untouched store, made once.
pub fn original() -> &'static (TempDir, Filled) {
    static ORIGINAL: OnceLock<(TempDir, Filled)> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let filled = fill(dir.path());
        (dir, filled)
    })
}

pub fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

pub fn verify_at(dir: &Path, options: VerifyOptions) -> Result<Report, VerifyError> {
    verify::run(dir, &original().1.genesis, options, &mut |_| {})
}

/// A raw handle on a copy of the original.
pub struct Raw {
    db: DB,
    dir: TempDir,
}

impl Raw {
    pub fn new() -> Self {
        let dir = copy_of(original().0.path());
        let options = Options::default();
        let families = DB::list_cf(&options, dir.path()).unwrap();
        let db = DB::open_cf(&options, dir.path(), families).unwrap();
        Self { db, dir }
    }

    pub fn family(&self, family: Family) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(family.name()).unwrap()
    }

    pub fn records(&self, family: Family) -> Vec<(Vec<u8>, Vec<u8>)> {
        let records = self.db.iterator_cf(self.family(family), IteratorMode::Start);
        records
            .map(|record| record.unwrap())
            .map(|(key, value)| (key.into_vec(), value.into_vec()))
            .collect()
    }

    pub fn get(&self, family: Family, key: &[u8]) -> Vec<u8> {
        self.db.get_cf(self.family(family), key).unwrap().unwrap()
    }

    pub fn put(&self, family: Family, key: &[u8], value: &[u8]) -> &Self {
        self.db.put_cf(self.family(family), key, value).unwrap();
        self
    }

    pub fn delete(&self, family: Family, key: &[u8]) -> &Self {
        self.db.delete_cf(self.family(family), key).unwrap();
        self
    }

    pub fn verify_with(self, options: VerifyOptions) -> Result<Report, VerifyError> {
        drop(self.db);
        verify_at(self.dir.path(), options)
    }

    /// Closes the store and gives the copy.
    pub fn into_dir(self) -> TempDir {
        let Self { db, dir } = self;
        drop(db);
        dir
    }

    pub fn verify(self) -> Report {
        self.verify_with(VerifyOptions::default()).unwrap()
    }

    /// Expects the first finding to be of this kind at this place.
    pub fn finds(self, kind: &str, place: &Place) {
        let report = self.verify();
        assert!(
            !report.ok(),
            "nothing was found, where {kind} at {place:?} was expected"
        );
        let first = &report.findings[0];
        assert_eq!((first.kind, &first.place), (kind, place), "{first}");
    }
}

pub fn key(name: &str) -> Place {
    Place::Key(name.to_owned())
}

/// The place that a finding about a record must name.
pub fn place(family: Family, record: &[u8]) -> Place {
    match family {
        Family::Headers | Family::Bodies | Family::Results | Family::Certificates => {
            Place::Height(record::decode_height_key(record).unwrap())
        }
        Family::State => Place::Key(StateKey::from_bytes(record).unwrap().to_string()),
        Family::History => Place::Key(record::decode_history_key(record).unwrap().0.to_string()),
        Family::Transactions => Place::Key(record::decode_id(record).unwrap().to_string()),
        Family::Recent => Place::Key(record::decode_recent_key(record).unwrap().id.to_string()),
        Family::Meta => Place::Key(format!("meta/{}", record.escape_ascii())),
    }
}
