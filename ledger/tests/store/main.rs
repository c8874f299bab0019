//! The store: the log, what is derived from it, reads, restarts, crashes and damage, against the naive model.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::panic
)]

#[path = "../model/mod.rs"]
mod model;
#[path = "../network/mod.rs"]
mod network;

mod crash;
mod damage;
mod execution;
mod log;
mod opening;
mod reads;
mod records;
mod repair;

use std::path::Path;

use quipu_crypto::id::{Height, Incarnation};
use quipu_ledger::block::Block;
use quipu_ledger::execute::Progress;
use quipu_ledger::state::StateKey;
use quipu_ledger::store::record::{self, Family};
use quipu_ledger::store::{LogChange, Store, StoreOptions};

use model::Model;

/// Small enough that many tests run side by side.
fn small() -> StoreOptions {
    StoreOptions {
        block_cache: 4 * 1024 * 1024,
        write_buffers: 4 * 1024 * 1024,
        ..StoreOptions::default()
    }
}

fn create(dir: &Path, genesis: &Block) -> Store {
    let incarnation = Incarnation([5; 16]);
    Store::create_with(dir, genesis.header().network, genesis, incarnation, &small()).unwrap()
}

fn open(dir: &Path) -> Store {
    Store::open_with(dir, &small()).unwrap()
}

fn append(blocks: &[Block]) -> Vec<LogChange> {
    blocks.iter().cloned().map(LogChange::Append).collect()
}

/// Every derived record equals what the model says, and nothing else is there.
fn assert_equal(store: &Store, model: &Model) {
    let state: Vec<_> = store
        .records(Family::State)
        .unwrap()
        .map(|found| {
            let (key, value) = found.unwrap();
            let key = StateKey::from_bytes(&key).unwrap();
            let stored = record::decode_state_value(&value).unwrap();
            (
                (key.namespace().to_owned(), key.key().to_vec()),
                (stored.version, stored.value),
            )
        })
        .collect();
    let mut expected: Vec<_> = model.state.clone().into_iter().collect();
    expected.sort_by_key(|((namespace, key), _)| (namespace.len(), namespace.clone(), key.clone()));
    assert_eq!(state, expected, "state");

    let recent: Vec<_> = store
        .records(Family::Recent)
        .unwrap()
        .map(|found| {
            let (key, value) = found.unwrap();
            assert!(value.is_empty());
            let entry = record::decode_recent_key(&key).unwrap();
            (entry.expires_at, entry.id)
        })
        .collect();
    assert_eq!(recent, model.recent(), "replay memory");

    let index: Vec<_> = store
        .records(Family::Transactions)
        .unwrap()
        .map(|found| {
            let (key, value) = found.unwrap();
            (
                record::decode_id(&key).unwrap(),
                record::decode_position(&value).unwrap(),
            )
        })
        .collect();
    let expected: Vec<_> = model.index.iter().map(|(id, version)| (*id, *version)).collect();
    assert_eq!(index, expected, "index");

    let results: Vec<_> = store
        .records(Family::Results)
        .unwrap()
        .zip(0..)
        .map(|(found, height)| {
            let (key, value) = found.unwrap();
            assert_eq!(record::decode_height_key(&key).unwrap(), Height(height));
            let record = record::decode_results_record(&value).unwrap();
            (record.executed, record.outcomes)
        })
        .collect();
    let expected: Vec<_> = model
        .executed
        .iter()
        .copied()
        .zip(model.outcomes.iter().cloned())
        .collect();
    assert_eq!(results, expected, "results");
    assert_history(store, model);
}

fn assert_history(store: &Store, model: &Model) {
    let history: Vec<_> = store
        .records(Family::History)
        .unwrap()
        .map(|found| {
            let (key, value) = found.unwrap();
            let (key, version) = record::decode_history_key(&key).unwrap();
            let deleted = record::decode_history_record(&value).unwrap().deleted;
            (key, version, deleted)
        })
        .collect();
    let mut expected: Vec<_> = model
        .history
        .iter()
        .flat_map(|((namespace, key), written)| {
            let namespace = quipu_ledger::operation::Namespace::new(namespace.clone()).unwrap();
            let key = StateKey::new(&namespace, key);
            written
                .iter()
                .map(move |(version, _, value)| (key.clone(), *version, value.is_none()))
        })
        .collect();
    expected.sort_by_key(|(key, version, _)| record::history_key(key, *version));
    assert_eq!(history, expected, "history");
}

/// Block 0 is executed by the executor itself.
#[test]
fn a_new_store_has_executed_block_0() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blocks) = model::chain(&[]);
    let store = create(dir.path(), &blocks[0]);
    assert_eq!(store.view().unwrap().executed(), None);
    let executor = quipu_ledger::store::Executor::open(&store).unwrap();
    assert_eq!(executor.executed(), Progress::genesis().executed);
    assert_eq!(
        store.executed_at(Height::ZERO).unwrap(),
        Some(Progress::genesis().executed)
    );
    assert_equal(&store, &Model::new(&blocks[0]));
}
