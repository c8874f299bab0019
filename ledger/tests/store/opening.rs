//! Making and opening: each obstacle has its own answer, and reading only leaves no trace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use quipu_crypto::id::{Incarnation, NetworkId};
use quipu_ledger::block::Block;
use quipu_ledger::operation::Namespace;
use quipu_ledger::store::record::Family;
use quipu_ledger::store::{Executor, LogChange, OpenError, Store, StoreError};

use crate::model::{self, BlockPlan, TransactionPlan};
use crate::network::put;
use crate::{append, create, open};

fn chain() -> (quipu_ledger::membership::Membership, Vec<Block>) {
    let transaction = TransactionPlan::New {
        sender: 0,
        lifetime_ms: 1000,
        operations: vec![put("default", "key", "value")],
    };
    let plan = BlockPlan {
        pause_ms: 1,
        opening: false,
        transactions: vec![transaction],
    };
    model::chain(&[plan])
}

/// Name, size, time of change and content of every file.
fn listing(dir: &Path) -> BTreeMap<String, (u64, SystemTime, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            let content = fs::read(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (about.len(), about.modified().unwrap(), content))
        })
        .collect()
}

/// A copy of the directory of an open store: what kill -9 would leave.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn raw(dir: &Path) -> rocksdb::DB {
    let settings = rocksdb::Options::default();
    rocksdb::DB::open_cf(&settings, dir, Family::ALL.map(Family::name)).unwrap()
}

#[test]
fn each_obstacle_has_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blocks) = chain();
    let at = || dir.path().to_owned();
    assert_eq!(Store::open(dir.path()).err(), Some(OpenError::NoStore { dir: at() }));
    let absent = dir.path().join("absent");
    assert_eq!(
        Store::open(&absent).err(),
        Some(OpenError::NoStore { dir: absent.clone() })
    );
    assert!(!absent.exists());

    let store = create(dir.path(), &blocks[0]);
    assert_eq!(Store::open(dir.path()).err(), Some(OpenError::InUse { dir: at() }));
    drop(store);
    let again = Store::create(dir.path(), NetworkId::default(), &blocks[0], Incarnation::default());
    assert_eq!(again.err(), Some(OpenError::Exists { dir: at() }));
    assert_eq!(open(dir.path()).incarnation(), Incarnation([5; 16]));
}

#[test]
fn another_format_is_named_even_where_it_has_other_families() {
    let (_, blocks) = chain();
    for families in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        drop(create(dir.path(), &blocks[0]));
        let mut raw = raw(dir.path());
        raw.put_cf(raw.cf_handle("meta").unwrap(), "format", 7_u32.to_be_bytes())
            .unwrap();
        if families {
            raw.create_cf("journal", &rocksdb::Options::default()).unwrap();
        }
        drop(raw);
        let error = Store::open(dir.path()).err().unwrap();
        let expected = OpenError::Format {
            dir: dir.path().to_owned(),
            found: 7,
            known: 1,
        };
        assert_eq!(error, expected);
        assert!(error.to_string().contains("format 7, this program reads format 1"));
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(Store::open_read_only(dir.path(), scratch.path()).err(), Some(expected));
    }
}

#[test]
fn a_store_whose_making_was_cut_short_can_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = rocksdb::Options::default();
    settings.create_if_missing(true);
    drop(rocksdb::DB::open(&settings, dir.path()).unwrap());
    let (_, blocks) = chain();
    let error = Store::open(dir.path()).err();
    assert!(error.is_some(), "without families or a format it is no store");
    let store = create(dir.path(), &blocks[0]);
    assert_eq!(store.tip(), blocks[0].id());
}

#[test]
fn reading_only_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (membership, blocks) = chain();
    let store = create(dir.path(), &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    for block in &blocks[1..] {
        executor.execute(block, &membership).unwrap();
    }
    // One copy as a crash leaves it, with all the log in the WAL; one as a clean stop leaves it.
    for clean in [false, true] {
        if clean {
            store.flush().unwrap();
        }
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        for entry in fs::read_dir(image.path()).unwrap() {
            fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o444)).unwrap();
        }
        fs::set_permissions(image.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let before = listing(image.path());
        let scratch = tempfile::tempdir().unwrap();
        let reader = Store::open_read_only(image.path(), scratch.path()).unwrap();
        assert_eq!(reader.tip(), blocks.last().unwrap().id());
        assert_eq!(reader.block(blocks[2].id().height).unwrap().unwrap(), blocks[2]);
        let view = reader.view().unwrap();
        let found = view.get(&Namespace::new("default").unwrap(), b"key").unwrap();
        assert_eq!(found.is_some(), clean, "derived records are not in the WAL");
        let refused = reader.write_log(&[LogChange::Start(1)], true);
        assert_eq!(refused, Err(StoreError::ReadOnly));
        drop(view);
        drop(reader);
        assert_eq!(listing(image.path()), before);
        fs::set_permissions(image.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
