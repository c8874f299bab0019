//! Execution on the store: equal to the naive model after every block, over restarts at any point.

use proptest::prelude::*;
use quipu_crypto::id::{Height, Incarnation, NetworkId};
use quipu_ledger::limits::REPLAY_PURGE_STEP_MS;
use quipu_ledger::operation::{Condition, Namespace};
use quipu_ledger::rules;
use quipu_ledger::store::{Executor, Store, StoreError, Workers, record};

use crate::model::{self, Model};
use crate::network::{self, put};
use crate::{append, assert_equal, create, open, small};

fn keys(model: &Model) -> Vec<(Namespace, Vec<u8>)> {
    let names = model.history.keys();
    names
        .map(|(namespace, key)| (Namespace::new(namespace.clone()).unwrap(), key.clone()))
        .collect()
}

/// What a key held after `height`, by the model's history.
fn held(model: &Model, namespace: &Namespace, key: &[u8], height: Height) -> Option<Vec<u8>> {
    let written = &model.history[&(namespace.as_str().to_owned(), key.to_vec())];
    let last = written.iter().rev().find(|(version, _, _)| version.height <= height);
    last.and_then(|(_, _, value)| value.clone())
}

fn assert_reads(store: &Store, model: &Model) {
    let view = store.view().unwrap();
    assert_eq!(view.executed(), Some(model.last()));
    for (namespace, key) in keys(model) {
        let name = (namespace.as_str().to_owned(), key.clone());
        let found = view.get(&namespace, &key).unwrap();
        let found = found.map(|entry| (entry.version, entry.value));
        assert_eq!(found, model.state.get(&name).cloned());
        for height in 0..=model.last().height.get() {
            let found = view.get_at(&namespace, &key, Height(height)).unwrap();
            let found = found.map(|entry| entry.value);
            assert_eq!(
                found,
                held(model, &namespace, &key, Height(height)),
                "{name:?} at {height}"
            );
        }
        let mut written = Vec::new();
        let mut after = None;
        loop {
            let page = view.history(&namespace, &key, after, 2, usize::MAX).unwrap();
            written.extend(page.items.into_iter().map(|item| {
                assert_eq!(item.deleted, item.value.is_none());
                (item.version, item.id, item.value)
            }));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!(written, model.history[&name]);
    }
    for (id, version) in &model.index {
        let found = view.transaction(*id).unwrap().unwrap();
        let outcome =
            model.outcomes[usize::try_from(version.height.get()).unwrap()][usize::try_from(version.position).unwrap()];
        assert_eq!((found.version, found.result.outcome), (*version, outcome));
        assert_eq!(found.executed, model.last().height);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_store_equals_the_model_over_restarts(plans in model::plans(1..16), restarts in any::<u32>()) {
        let dir = tempfile::tempdir().unwrap();
        let (membership, blocks) = model::chain(&plans);
        let mut model = Model::new(&blocks[0]);
        let mut store = create(dir.path(), &blocks[0]);
        let mut executor = Executor::open(&store).unwrap();
        for (block, number) in blocks[1..].iter().zip(0..) {
            store.write_log(&append(std::slice::from_ref(block)), true).unwrap();
            let results = model.execute(block, &membership);
            let executed = executor.execute(block, &membership).unwrap();
            prop_assert_eq!(executed.results, results);
            prop_assert_eq!(executed.executed, model.last());
            if restarts >> (number % 32) & 1 == 1 {
                drop(executor);
                drop(store);
                store = open(dir.path());
                executor = Executor::open(&store).unwrap();
            }
            prop_assert_eq!(executor.executed(), model.last());
            assert_equal(&store, &model);
        }
        assert_reads(&store, &model);
        prop_assert_eq!(rules::chain_root(&store.frontier().unwrap()), {
            let mut tip = rules::ChainTip::genesis(&blocks[0]).unwrap();
            for block in &blocks[1..] {
                tip = tip.check(block).unwrap();
            }
            rules::chain_root(tip.frontier())
        });
    }

    /// A node that lost what it had derived (a crash before any flush) derives the same again.
    #[test]
    fn a_second_store_with_the_same_log_has_the_same_records(plans in model::plans(1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let (membership, blocks) = model::chain(&plans);
        let store = create(dir.path(), &blocks[0]);
        store.write_log(&append(&blocks[1..]), true).unwrap();
        let mut executor = Executor::open(&store).unwrap();
        let mut model = Model::new(&blocks[0]);
        for height in 1..blocks.len() {
            let block = store.block(Height(u64::try_from(height).unwrap())).unwrap().unwrap();
            executor.execute(&block, &membership).unwrap();
            model.execute(&block, &membership);
        }
        assert_equal(&store, &model);
    }
}

/// Blocks that are large enough to be shared out, in which keys meet and transactions fail.
fn large_blocks() -> Vec<model::BlockPlan> {
    let transaction = |block: u64, number: u64| {
        let key = |at: u64| format!("k{}", at * 7 % 401);
        let operations = vec![
            network::require("default", &key(number), Condition::Present),
            network::delete("default", &key(number + 3)),
            put("default", &key(number), &format!("{block}.{number}")),
        ];
        let operations = if number % 3 == 1 {
            operations
        } else {
            operations[2..].to_vec()
        };
        model::TransactionPlan::New {
            sender: u8::try_from(number % 4).unwrap(),
            lifetime_ms: if number % 50 == 7 { 0 } else { 40_000 },
            operations,
        }
    };
    let block = |block: u64| {
        let again = (0..20).map(|number| model::TransactionPlan::Again(number * 37));
        model::BlockPlan {
            pause_ms: 4_000,
            opening: false,
            transactions: (0..400).map(|number| transaction(block, number)).chain(again).collect(),
        }
    };
    (0..5).map(block).collect()
}

#[test]
fn any_number_of_threads_makes_the_same_store() {
    let (membership, blocks) = model::chain(&large_blocks());
    let mut stores = Vec::new();
    for threads in [1, 2, 3, 8] {
        let dir = tempfile::tempdir().unwrap();
        let store = create(dir.path(), &blocks[0]);
        store.write_log(&append(&blocks[1..]), true).unwrap();
        let workers = Workers::new(threads).unwrap();
        let mut executor = Executor::open_with(&store, workers).unwrap();
        let mut model = Model::new(&blocks[0]);
        for block in &blocks[1..] {
            let done = executor.execute(block, &membership).unwrap();
            assert_eq!(done.results, model.execute(block, &membership));
            assert_eq!(done.executed, model.last());
        }
        assert_equal(&store, &model);
        let records = |family| store.records(family).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        stores.push(record::Family::ALL.map(records));
    }
    for store in &stores[1..] {
        assert_eq!(store, &stores[0]);
    }
}

#[test]
fn only_the_next_block_of_the_log_is_executed_and_only_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |pause_ms| model::BlockPlan {
        pause_ms,
        opening: false,
        transactions: Vec::new(),
    };
    let (membership, blocks) = model::chain(&[plan(1), plan(2)]);
    let (_, others) = model::chain(&[plan(3)]);
    let store = create(dir.path(), &blocks[0]);
    let mut executor = Executor::open(&store).unwrap();
    assert_eq!(Executor::open(&store).err(), Some(StoreError::ExecutorExists));
    let refused = |executor: &mut Executor, block| {
        let error = executor.execute(block, &membership).unwrap_err();
        assert!(matches!(error, StoreError::NotExecutable { .. }), "{error}");
    };
    refused(&mut executor, &blocks[1]); // not in the log yet
    store.write_log(&append(&blocks[1..]), true).unwrap();
    refused(&mut executor, &blocks[2]);
    executor.execute(&blocks[1], &membership).unwrap();
    refused(&mut executor, &blocks[1]);
    // The same height of another chain, on the same parent, is not told apart by its parent: only by the log's order.
    assert_eq!(others[1], blocks[1]);
    drop(executor);
    assert_eq!(Executor::open(&store).unwrap().executed().height, Height(1));
}

/// The memory is emptied in whole steps: what expires on the mark goes, what expires after it stays.
#[test]
fn the_replay_memory_is_purged_on_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let mark = (network::START.0 / REPLAY_PURGE_STEP_MS + 2) * REPLAY_PURGE_STEP_MS;
    let start = network::START.0 + 1000;
    let new = |expires_at: u64| model::TransactionPlan::New {
        sender: 0,
        lifetime_ms: i64::try_from(expires_at - start).unwrap(),
        operations: vec![put("default", "k", "v")],
    };
    let block = |pause_ms, transactions| model::BlockPlan {
        pause_ms,
        opening: false,
        transactions,
    };
    let plans = [
        block(0, vec![new(mark), new(mark + 1)]),
        block(mark - 1 - start, Vec::new()),
        block(1, Vec::new()),
    ];
    let (membership, blocks) = model::chain(&plans);
    let store = create(dir.path(), &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    let mut model = Model::new(&blocks[0]);
    let mut sizes = Vec::new();
    for block in &blocks[1..] {
        executor.execute(block, &membership).unwrap();
        model.execute(block, &membership);
        assert_equal(&store, &model);
        sizes.push(model.recent().len());
    }
    assert_eq!(sizes, [0, 2, 2, 1]);
}

#[test]
fn an_executor_refuses_what_does_not_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blocks) = model::chain(&[]);
    let store = Store::create_with(
        dir.path(),
        NetworkId::default(),
        &blocks[0],
        Incarnation::default(),
        &small(),
    )
    .unwrap();
    drop(Executor::open(&store).unwrap());
    drop(store);
    let settings = rocksdb::Options::default();
    let families = record::Family::ALL.map(record::Family::name);
    let raw = rocksdb::DB::open_cf(&settings, dir.path(), families).unwrap();
    raw.put_cf(raw.cf_handle("meta").unwrap(), "lattice", [1; 2048])
        .unwrap();
    drop(raw);
    let error = Executor::open(&open(dir.path())).err().unwrap();
    assert!(
        matches!(error, StoreError::DamagedRecord { ref key, .. } if key == "lattice"),
        "{error}"
    );
}
