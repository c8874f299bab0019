//! Reads: pages of scans, views that stand still, histories.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, TransactionId};
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::store::{Executor, Store};

use crate::model::{self, BlockPlan, TransactionPlan};
use crate::network::{delete, put};
use crate::{append, create};

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

/// A store that has executed one block of one transaction for each list of operations. Member 1 may write everywhere.
fn executed(dir: &std::path::Path, blocks: Vec<Vec<Operation>>) -> Store {
    let plan = |operations| BlockPlan {
        pause_ms: 1,
        opening: false,
        transactions: vec![TransactionPlan::New {
            sender: 1,
            lifetime_ms: 1000,
            operations,
        }],
    };
    let (membership, blocks) = model::chain(&blocks.into_iter().map(plan).collect::<Vec<_>>());
    let store = create(dir, &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    for block in &blocks[1..] {
        executor.execute(block, &membership).unwrap();
    }
    store
}

#[test]
fn scans_go_on_where_the_page_ended() {
    let dir = tempfile::tempdir().unwrap();
    let keys = ["a", "ab", "ab1", "ab2", "ab3", "ac", "b"];
    let writes = keys.iter().map(|key| put("default", key, "12345"));
    let others = ["ab", "ab2"].iter().map(|key| put("audit", key, "other"));
    let store = executed(dir.path(), vec![writes.chain(others).collect()]);
    let view = store.view().unwrap();
    let pages = |name: &str, prefix: &str, limit, bytes| {
        let mut pages: Vec<Vec<String>> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = view
                .scan(&namespace(name), prefix.as_bytes(), after.as_deref(), limit, bytes)
                .unwrap();
            let keys = page
                .items
                .iter()
                .map(|entry| String::from_utf8(entry.key.clone()).unwrap());
            pages.push(keys.collect());
            let Some(next) = page.next else { return pages };
            after = Some(next);
        }
    };
    let all = usize::MAX;
    assert_eq!(pages("default", "", all, all), [keys.to_vec()]);
    assert_eq!(pages("default", "ab", all, all), [vec!["ab", "ab1", "ab2", "ab3"]]);
    assert_eq!(
        pages("default", "ab", 2, all),
        [vec!["ab", "ab1"], vec!["ab2", "ab3"]],
        "a full last page has no next"
    );
    assert_eq!(pages("default", "ab", 3, all), [vec!["ab", "ab1", "ab2"], vec!["ab3"]]);
    assert_eq!(pages("default", "a", all, 1).len(), 6, "a page holds one at least");
    assert_eq!(pages("audit", "ab", 1, all), [vec!["ab"], vec!["ab2"]]);
    assert_eq!(pages("default", "zz", all, all), [Vec::<String>::new()]);
    assert_eq!(pages("nowhere", "", all, all), [Vec::<String>::new()]);
    let from_before = view.scan(&namespace("default"), b"ab", Some(b"a"), all, all).unwrap();
    assert_eq!(
        from_before.items.len(),
        4,
        "a start before the prefix begins at the prefix"
    );
}

#[test]
fn a_view_stands_still_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |value: &str| BlockPlan {
        pause_ms: 1,
        opening: false,
        transactions: vec![TransactionPlan::New {
            sender: 1,
            lifetime_ms: 1000,
            operations: vec![put("default", "key", value)],
        }],
    };
    let (membership, blocks) = model::chain(&[plan("one"), plan("two")]);
    let store = create(dir.path(), &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    executor.execute(&blocks[1], &membership).unwrap();
    executor.execute(&blocks[2], &membership).unwrap();
    let before = store.view().unwrap();
    executor.execute(&blocks[3], &membership).unwrap();
    let after = store.view().unwrap();
    let name = namespace("default");
    for (view, height, value) in [(&before, 2, b"one"), (&after, 3, b"two")] {
        assert_eq!(view.height(), Height(height));
        let entry = view.get(&name, b"key").unwrap().unwrap();
        assert_eq!(
            (entry.value.as_slice(), entry.version.height),
            (value.as_slice(), Height(height))
        );
        assert_eq!(
            view.history(&name, b"key", None, 9, usize::MAX).unwrap().items.len(),
            usize::try_from(height - 1).unwrap()
        );
    }
    let second = blocks[3].transactions()[0].id();
    assert_eq!(before.transaction(second).unwrap(), None);
    assert!(after.transaction(second).unwrap().is_some());
    assert_eq!(after.transaction(TransactionId(Hash::ZERO)).unwrap(), None);
    assert_eq!(before.results(Height(3)).unwrap(), None);
}

#[test]
fn a_key_written_twice_in_a_transaction_has_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = executed(
        dir.path(),
        vec![
            vec![
                put("default", "k", "1"),
                put("default", "k", "2"),
                put("default", "kk", "x"),
            ],
            vec![put("default", "k", "3"), delete("default", "k")],
            vec![delete("default", "k"), put("default", "k", "4")],
        ],
    );
    let view = store.view().unwrap();
    let history = view.history(&namespace("default"), b"k", None, 9, usize::MAX).unwrap();
    let found: Vec<_> = history
        .items
        .iter()
        .map(|item| (item.version.height.get(), item.value.as_deref()))
        .collect();
    assert_eq!(
        found,
        [(2, Some(b"2".as_slice())), (3, None), (4, Some(b"4".as_slice()))]
    );
    let at = |height| view.get_at(&namespace("default"), b"k", Height(height)).unwrap();
    assert_eq!(at(1), None);
    assert_eq!(at(2).unwrap().value, b"2");
    assert_eq!(at(3), None);
    assert_eq!(at(99).unwrap().value, b"4");
}

#[test]
fn a_page_of_history_ends_when_it_holds_enough_bytes_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = executed(
        dir.path(),
        vec![
            vec![put("default", "k", "1111")],
            vec![put("default", "k", "2222")],
            vec![put("default", "k", "3333")],
        ],
    );
    let view = store.view().unwrap();
    let page = view.history(&namespace("default"), b"k", None, 9, 5).unwrap();
    assert_eq!(page.items.len(), 2);
    let page = view.history(&namespace("default"), b"k", page.next, 9, 5).unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
}
