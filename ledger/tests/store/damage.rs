//! Damaged records: whatever is changed, missing or swapped in the log is an error that names the height.

use std::path::Path;

use quipu_crypto::id::Height;
use quipu_ledger::block::Block;
use quipu_ledger::store::record::{self, Family};
use quipu_ledger::store::{BlockDamage, LogChange, Store, StoreError};

use crate::model::{self, BlockPlan, TransactionPlan};
use crate::network::put;
use crate::{append, create, open};

fn chain() -> Vec<Block> {
    let plan = |value: &str| BlockPlan {
        pause_ms: 1,
        opening: false,
        transactions: vec![TransactionPlan::New {
            sender: 0,
            lifetime_ms: 1000,
            operations: vec![put("default", "key", value)],
        }],
    };
    // Longer than what is kept in tables, so that some bodies lie in blob files.
    let long = "x".repeat(9_000);
    model::chain(&[plan("one"), plan(&long), plan("three")]).1
}

pub(crate) fn raw(dir: &Path) -> rocksdb::DB {
    let settings = rocksdb::Options::default();
    rocksdb::DB::open_cf(&settings, dir, Family::ALL.map(Family::name)).unwrap()
}

/// The damage of block 3 after `change` to the raw database.
fn damage(change: impl FnOnce(&rocksdb::DB)) -> BlockDamage {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain();
    let store = create(dir.path(), &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    drop(store);
    let database = raw(dir.path());
    change(&database);
    drop(database);
    let store = open(dir.path());
    assert_eq!(store.block(Height(2)).unwrap().as_ref(), Some(&blocks[2]));
    assert_eq!(store.block(Height(4)).unwrap().as_ref(), Some(&blocks[4]));
    let error = store.block(Height(3)).unwrap_err();
    assert!(store.blocks(Height(2), Height(4), usize::MAX).is_err());
    match error {
        StoreError::DamagedBlock { height, damage } => {
            assert_eq!(height, Height(3));
            damage
        }
        other => panic!("{other}"),
    }
}

pub(crate) fn change(database: &rocksdb::DB, family: Family, height: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let handle = database.cf_handle(family.name()).unwrap();
    let key = record::height_key(Height(height));
    let mut value = database.get_cf(handle, key).unwrap().unwrap();
    change(&mut value);
    database.put_cf(handle, key, value).unwrap();
}

#[test]
fn a_flipped_byte_anywhere_in_a_body_is_found() {
    let length = chain()[3].body_bytes().len();
    for at in [0, 1, 40, length / 2, length - 1] {
        let found = damage(|database| change(database, Family::Bodies, 3, |body| body[at] ^= 1));
        assert!(matches!(found, BlockDamage::Block(_)), "{at}: {found}");
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_header_is_found() {
    // Not within the signature (bytes 33 to 97): the hash does not cover it, the proposer's key does.
    for at in [0, 31, 99, 120, 160, 200, 300] {
        let found = damage(|database| change(database, Family::Headers, 3, |header| header[at] ^= 1));
        assert!(
            matches!(found, BlockDamage::Hash | BlockDamage::Record(_)),
            "{at}: {found}"
        );
    }
}

#[test]
fn what_is_missing_or_elsewhere_is_found() {
    let remove = |family: Family| {
        move |database: &rocksdb::DB| {
            let handle = database.cf_handle(family.name()).unwrap();
            database.delete_cf(handle, record::height_key(Height(3))).unwrap();
        }
    };
    assert_eq!(damage(remove(Family::Bodies)), BlockDamage::NoBody);
    assert_eq!(damage(remove(Family::Headers)), BlockDamage::NoHeader);
    let take = |family: Family| {
        move |database: &rocksdb::DB| {
            let handle = database.cf_handle(family.name()).unwrap();
            let other = database.get_cf(handle, record::height_key(Height(2))).unwrap().unwrap();
            change(database, family, 3, |value| *value = other);
        }
    };
    assert!(matches!(damage(take(Family::Bodies)), BlockDamage::Block(_)));
    assert_eq!(damage(take(Family::Headers)), BlockDamage::Height(Height(2)));
}

/// A block of a branch that was cut off is sound in itself; the one above it tells.
#[test]
fn a_block_left_from_before_is_found_at_every_height_below_the_tip() {
    let plan = |pause_ms| BlockPlan {
        pause_ms,
        opening: false,
        transactions: Vec::new(),
    };
    let branch = |pause_ms| model::chain(&[plan(1), plan(pause_ms), plan(pause_ms), plan(pause_ms)]).1;
    let (old, new) = (branch(1), branch(2));
    assert_eq!(old[2], new[2]);
    for stale in 3..=5_u64 {
        let dir = tempfile::tempdir().unwrap();
        let store = create(dir.path(), &old[0]);
        store.write_log(&append(&old[1..]), true).unwrap();
        drop(store);
        let database = raw(dir.path());
        let key = record::height_key(Height(stale));
        let left = [Family::Headers, Family::Bodies].map(|family| {
            (
                family,
                database
                    .get_cf(database.cf_handle(family.name()).unwrap(), key)
                    .unwrap(),
            )
        });
        drop(database);
        let store = open(dir.path());
        let mut changes = vec![LogChange::Truncate { from: Height(3) }];
        changes.extend(append(&new[3..]));
        store.write_log(&changes, true).unwrap();
        drop(store);
        let database = raw(dir.path());
        for (family, value) in left {
            database
                .put_cf(database.cf_handle(family.name()).unwrap(), key, value.unwrap())
                .unwrap();
        }
        drop(database);

        let store = open(dir.path());
        let chain = |height| {
            let damage = BlockDamage::Chain;
            StoreError::DamagedBlock { height, damage }
        };
        // At the tip only the peers can tell: the log ends as it once did, on another block than it now has below.
        let above = Height(stale).next();
        let alone = if stale == 5 {
            Ok(Some(old[5].clone()))
        } else {
            Err(chain(above))
        };
        assert_eq!(store.block(Height(stale)), alone);
        assert_eq!(store.block(Height(2)), Ok(Some(new[2].clone())));
        // The first block of the old branch follows on what both have; the others do not.
        let found = store.blocks(Height(0), Height(5), usize::MAX).unwrap_err();
        assert_eq!(found, chain(if stale == 3 { above } else { Height(stale) }));
    }
}

#[test]
fn a_damaged_tip_is_named_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain();
    drop(create(dir.path(), &blocks[0]));
    let database = raw(dir.path());
    change(&database, Family::Headers, 0, |header| header[150] ^= 1);
    drop(database);
    let error = Store::open(dir.path()).err().unwrap().to_string();
    assert!(error.starts_with("block 0 is damaged"), "{error}");
}
