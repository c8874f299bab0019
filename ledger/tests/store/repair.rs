//! Damaged blocks are written back by their hash, whatever was damaged; a block of another hash never is; a log that
//! ends in damaged records is cut behind what is executed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quipu_crypto::id::Height;
use quipu_ledger::block::Block;
use quipu_ledger::store::record::{self, Family};
use quipu_ledger::store::{BlockDamage, Executor, LogChange, Store, StoreError};
use rocksdb::DB;

use crate::damage::{change, raw};
use crate::model::{self, BlockPlan, TransactionPlan};
use crate::network::{self, put};
use crate::{append, create, open};

/// A chain with bodies of `length` bytes and more.
fn chain(length: usize) -> Vec<Block> {
    let plan = |number: usize| BlockPlan {
        pause_ms: 1,
        opening: false,
        transactions: vec![TransactionPlan::New {
            sender: 0,
            lifetime_ms: 1000,
            operations: vec![put("default", "key", &format!("{number:0length$}"))],
        }],
    };
    model::chain(&(1..=8).map(plan).collect::<Vec<_>>()).1
}

fn stored(dir: &Path, blocks: &[Block]) {
    let store = create(dir, &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    store.flush().unwrap();
}

fn remove(database: &DB, family: Family, height: u64) {
    let handle = database.cf_handle(family.name()).unwrap();
    database.delete_cf(handle, record::height_key(Height(height))).unwrap();
}

/// Restores what can be, until all is readable; answers with the heights, in the order in which they were.
fn restore_all(store: &Store, blocks: &[Block]) -> Vec<u64> {
    let mut restored = Vec::new();
    for height in 0..blocks.len() {
        while store
            .blocks(Height(height as u64), Height(height as u64), usize::MAX)
            .is_err()
        {
            let (at, hash) = store.to_restore(Height(height as u64)).expect("the hash is known");
            let block = &blocks[at.get() as usize];
            assert_eq!(block.hash(), hash, "{at}");
            assert!(restored.len() < 100, "restored for ever: {restored:?}");
            store.write_log(&[LogChange::Restore(block.clone())], true).unwrap();
            restored.push(at.get());
        }
    }
    restored
}

/// What is restored after `damage` to the raw database of a chain.
fn restored(damage: impl FnOnce(&DB)) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(1);
    stored(dir.path(), &blocks);
    let database = raw(dir.path());
    damage(&database);
    drop(database);
    let store = open(dir.path());
    let tip = store.tip();
    let restored = restore_all(&store, &blocks);
    assert_eq!(store.tip(), tip, "the tip does not move");
    drop(store);
    let store = open(dir.path());
    let (_, all) = store.blocks(Height(0), tip.height, usize::MAX).unwrap();
    assert_eq!(all, blocks);
    assert_eq!(store.to_restore(Height(3)), None);
    restored
}

#[test]
fn a_block_is_written_back_whatever_of_it_is_damaged() {
    let body = |height| move |database: &DB| change(database, Family::Bodies, height, |body| body[3] ^= 1);
    let header = |height| move |database: &DB| change(database, Family::Headers, height, |header| header[150] ^= 1);
    assert_eq!(restored(body(3)), [3]);
    assert_eq!(restored(header(3)), [3]);
    assert_eq!(restored(body(0)), [0]);
    assert_eq!(restored(header(0)), [0]);
    assert_eq!(restored(body(9)), [9], "the tip");
    assert_eq!(restored(|database| remove(database, Family::Bodies, 3)), [3]);
    assert_eq!(restored(|database| remove(database, Family::Headers, 3)), [3]);
    let both = |database: &DB| {
        header(3)(database);
        body(3)(database);
    };
    assert_eq!(restored(both), [3]);
    let neighbours = |database: &DB| (3..=6).for_each(|height| header(height)(database));
    assert_eq!(
        restored(neighbours),
        [6, 5, 4, 3],
        "from above: each names the one below"
    );
}

#[test]
fn a_record_of_another_height_is_written_over() {
    let misdirected = |database: &DB| {
        for family in [Family::Headers, Family::Bodies] {
            let handle = database.cf_handle(family.name()).unwrap();
            let other = database.get_cf(handle, record::height_key(Height(2))).unwrap().unwrap();
            change(database, family, 5, |value| *value = other);
        }
    };
    assert_eq!(restored(misdirected), [5]);
}

/// A stale read: at a height stands a sound block of another branch.
#[test]
fn a_sound_block_that_does_not_belong_there_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (blocks, other) = (chain(1), chain(2));
    stored(dir.path(), &blocks);
    let elsewhere = tempfile::tempdir().unwrap();
    stored(elsewhere.path(), &other);
    let (database, stale) = (raw(dir.path()), raw(elsewhere.path()));
    for family in [Family::Headers, Family::Bodies] {
        let handle = stale.cf_handle(family.name()).unwrap();
        let old = stale.get_cf(handle, record::height_key(Height(5))).unwrap().unwrap();
        change(&database, family, 5, |value| *value = old);
    }
    drop(database);
    let store = open(dir.path());
    // Sound by itself; the block above tells.
    let found = StoreError::DamagedBlock {
        height: Height(6),
        damage: BlockDamage::Chain,
    };
    assert_eq!(store.block(Height(5)), Err(found));
    assert_eq!(store.to_restore(Height(5)), Some((Height(5), blocks[5].hash())));
    assert_eq!(store.to_restore(Height(6)), Some((Height(5), blocks[5].hash())));
    assert_eq!(restore_all(&store, &blocks), [5]);
    assert_eq!(store.blocks(Height(0), Height(9), usize::MAX).unwrap().1, blocks);
}

#[test]
fn only_the_block_that_the_chain_names_is_written_back() {
    let (blocks, other) = (chain(1), chain(2));
    for wrong in [&other[3], &other[9]] {
        let dir = tempfile::tempdir().unwrap();
        stored(dir.path(), &blocks);
        let store = open(dir.path());
        let error = store.write_log(&[LogChange::Restore(wrong.clone())], true).unwrap_err();
        assert!(matches!(error, StoreError::NotRestorable { .. }), "{error}");
        assert!(store.poisoned().is_some());
        drop(store);
        assert_eq!(
            open(dir.path())
                .block(wrong.header().height)
                .unwrap()
                .as_ref()
                .map(Block::hash),
            Some(blocks[wrong.header().height.get() as usize].hash())
        );
    }
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path(), &blocks[..5]);
    let error = open(dir.path())
        .write_log(&[LogChange::Restore(blocks[5].clone())], true)
        .unwrap_err();
    assert!(
        matches!(error, StoreError::NotRestorable { .. }),
        "above the tip: {error}"
    );
}

#[test]
fn block_0_is_written_back_for_its_network_where_no_header_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(1);
    stored(dir.path(), &blocks);
    let database = raw(dir.path());
    (0..=2).for_each(|height| change(&database, Family::Headers, height, |header| header[150] ^= 1));
    drop(database);
    let other = network::genesis(8, network::membership(3));
    let refused = open(dir.path()).write_log(&[LogChange::Restore(other)], true);
    assert!(
        matches!(refused, Err(StoreError::NotRestorable { .. })),
        "another network's: {refused:?}"
    );
    let store = open(dir.path());
    store.write_log(&[LogChange::Restore(blocks[0].clone())], true).unwrap();
    assert_eq!(restore_all(&store, &blocks), [2, 1]);
    assert_eq!(store.block(Height(0)).unwrap().as_ref(), Some(&blocks[0]));
}

/// The file that holds all of a family's records.
fn file_of(dir: &Path, family: Family, extension: &str) -> PathBuf {
    let database = raw(dir);
    let tables = database.live_files().unwrap();
    let mut tables = tables.iter().filter(|file| file.column_family_name == family.name());
    let table = tables.next().unwrap().name.trim_start_matches('/').to_owned();
    assert!(tables.next().is_none());
    drop(database);
    if extension == "sst" {
        return dir.join(table);
    }
    let mut blobs = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    blobs
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// A bit rots on the disk itself: RocksDB's own checksum finds it. What is written back is read from then on.
#[test]
fn what_the_database_itself_cannot_read_is_written_back() {
    for (length, extension) in [(1, "sst"), (9_000, "blob")] {
        let dir = tempfile::tempdir().unwrap();
        let blocks = chain(length);
        stored(dir.path(), &blocks);
        let file = file_of(dir.path(), Family::Bodies, extension);
        flip(&file, 200);
        let store = open(dir.path());
        let error = (0..10).find_map(|height| store.block(Height(height)).err());
        let unreadable = |damage: &BlockDamage| matches!(damage, BlockDamage::Unreadable(_));
        assert!(
            matches!(&error, Some(StoreError::DamagedBlock { damage, .. }) if unreadable(damage)),
            "{extension}: {error:?}"
        );
        assert!(!restore_all(&store, &blocks).is_empty());
        // Many tables that overlap with the damaged one: were they merged, every write would fail from then on.
        for _ in 0..8 {
            let again = blocks.iter().cloned().map(LogChange::Restore).collect::<Vec<_>>();
            store.write_log(&again, true).unwrap();
            store.flush().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        store.write_log(&[LogChange::CommitHint(Height(1))], true).unwrap();
        drop(store);
        let store = open(dir.path());
        assert_eq!(store.blocks(Height(0), Height(9), usize::MAX).unwrap().1, blocks);
    }
}

#[test]
fn a_log_that_ends_in_damaged_records_is_cut_behind_what_is_executed() {
    for first in [6_u64, 9] {
        let dir = tempfile::tempdir().unwrap();
        let blocks = chain(1);
        stored(dir.path(), &blocks);
        assert!(!open(dir.path()).cut_at_opening());
        let database = raw(dir.path());
        (first..=9).for_each(|height| change(&database, Family::Headers, height, |header| header[150] ^= 1));
        drop(database);
        let store = open(dir.path());
        assert!(store.cut_at_opening());
        assert_eq!(store.tip(), blocks[first as usize - 1].id());
        assert_eq!(store.block(Height(9)).unwrap(), None);
        // What was cut comes again.
        store.write_log(&append(&blocks[first as usize..]), true).unwrap();
        drop(store);
        let store = open(dir.path());
        assert!(!store.cut_at_opening());
        assert_eq!(store.blocks(Height(0), Height(9), usize::MAX).unwrap().1, blocks);
    }
}

#[test]
fn what_is_executed_is_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (blocks, membership) = (chain(1), network::membership(1));
    let store = create(dir.path(), &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    for block in &blocks[1..] {
        executor.execute(block, &membership).unwrap();
    }
    drop(executor);
    store.flush().unwrap();
    drop(store);
    let database = raw(dir.path());
    change(&database, Family::Headers, 9, |header| header[150] ^= 1);
    drop(database);
    let error = Store::open(dir.path()).err().unwrap().to_string();
    assert!(error.starts_with("block 9 is damaged"), "{error}");
}
