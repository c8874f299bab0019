//! The log: what is appended, cut off and promised is there after a restart; what would break the chain is refused.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};
use quipu_ledger::block::Block;
use quipu_ledger::rules::ChainTip;
use quipu_ledger::store::record::{PromiseRecord, VoteRecord};
use quipu_ledger::store::{Executor, LogChange, Store, StoreError};

use crate::model::{self, BlockPlan};
use crate::network;
use crate::{append, create, open};

/// A chain with an opening where `true` stands.
fn chain(openings: &[bool]) -> Vec<Block> {
    let plan = |opening: &bool| BlockPlan {
        pause_ms: 10,
        opening: *opening,
        transactions: Vec::new(),
    };
    model::chain(&openings.iter().map(plan).collect::<Vec<_>>()).1
}

fn stored(store: &Store) -> Vec<Block> {
    let last = store.tip().height;
    let (previous, blocks) = store.blocks(Height::ZERO, last, usize::MAX).unwrap();
    assert_eq!(previous, None);
    blocks
}

#[test]
fn what_was_appended_and_promised_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(&[false, true, false]);
    let store = create(dir.path(), &blocks[0]);
    assert_eq!((store.vote().unwrap(), store.starts().unwrap()), Default::default());
    let vote = VoteRecord {
        term: Term(9),
        voted_for: Some(Slot(2)),
    };
    let promise = PromiseRecord {
        start: 7,
        vote: Term(8),
        accepted: blocks[1].id(),
    };
    let mut changes = append(&blocks[1..]);
    changes.push(LogChange::Vote(vote));
    changes.push(LogChange::CommitHint(Height(2)));
    changes.push(LogChange::Start(3));
    changes.push(LogChange::Recover(Some(blocks[2].id())));
    for peer in [Slot(300), Slot(4)] {
        changes.push(LogChange::Remember { peer, promise });
    }
    let certificate = network::certificate(blocks[1].header(), Term(1), &[(0, false, network::node_key(0))]);
    changes.push(LogChange::Certify(certificate.clone()));
    store.write_log(&changes, true).unwrap();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.tip(), blocks.last().unwrap().id());
    assert_eq!(stored(&store), blocks);
    assert_eq!(store.network(), blocks[0].header().network);
    assert_eq!(store.vote().unwrap(), vote);
    assert_eq!(store.commit_hint().unwrap(), Height(2));
    assert_eq!(store.starts().unwrap(), 3);
    assert_eq!(store.recovering().unwrap(), Some(blocks[2].id()));
    let promises: Vec<_> = store.promises().unwrap().into_iter().collect();
    assert_eq!(promises, [(Slot(4), promise), (Slot(300), promise)]);
    assert_eq!(store.certificate(Height(1)).unwrap(), Some(certificate));
    assert_eq!(store.certificate(Height(2)).unwrap(), None);
    assert_eq!(store.block(Height(99)).unwrap(), None);
    store.write_log(&[LogChange::Recover(None)], true).unwrap();
    assert_eq!(store.recovering().unwrap(), None);
}

#[test]
fn a_suffix_is_replaced_in_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    let old = chain(&[false, false, false, false]);
    let new = chain(&[false, true, false]);
    assert_eq!(old[2], new[2]);
    let store = create(dir.path(), &old[0]);
    store.write_log(&append(&old[1..]), true).unwrap();
    let mut changes = vec![LogChange::Truncate { from: Height(3) }];
    changes.extend(append(&new[3..]));
    store.write_log(&changes, true).unwrap();
    assert_eq!(stored(&store), new);
    // Appended, cut off and appended again within one batch.
    let mut changes = vec![LogChange::Truncate { from: Height(2) }];
    changes.extend(append(&old[2..4]));
    changes.push(LogChange::Truncate { from: Height(3) });
    changes.extend(append(&new[3..]));
    changes.push(LogChange::Truncate { from: Height(99) });
    store.write_log(&changes, true).unwrap();
    assert_eq!(stored(&store), new);
    drop(store);
    let store = open(dir.path());
    assert_eq!(stored(&store), new);
    assert_eq!(store.header(Height(5)).unwrap(), None);
}

#[test]
fn a_block_that_does_not_follow_poisons_the_store() {
    let blocks = chain(&[false, false]);
    let other = chain(&[true, false]);
    let lower_term = {
        let tip = ChainTip::genesis(&blocks[0]).unwrap();
        let tip = tip.check(&network::opening(&tip, Term(5), 0, &[0])).unwrap();
        let body = network::transactions_of(Vec::new());
        let header = tip.next(Term(4), tip.header().time, Slot(0), tip.header().executed, &body);
        let first = network::opening(&ChainTip::genesis(&blocks[0]).unwrap(), Term(5), 0, &[0]);
        (
            first,
            quipu_ledger::rules::seal(header, body, &network::node_key(0)).unwrap(),
        )
    };
    let cases = [
        vec![blocks[2].clone()],
        vec![blocks[1].clone(), blocks[1].clone()],
        vec![blocks[1].clone(), blocks[2].clone(), other[3].clone()],
        vec![lower_term.0, lower_term.1],
    ];
    for case in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = create(dir.path(), &blocks[0]);
        let error = store.write_log(&append(&case), true).unwrap_err();
        assert!(matches!(error, StoreError::NotNext { .. }), "{error}");
        let again = store.write_log(&[LogChange::Start(1)], true).unwrap_err();
        assert_eq!(again, StoreError::Poisoned(error.to_string()));
        assert_eq!(store.poisoned(), Some(error.to_string().as_str()));
        assert_eq!(stored(&store), blocks[..1], "nothing of the batch was written");
        assert_eq!(
            Executor::open(&store).err(),
            Some(StoreError::Poisoned(error.to_string()))
        );
    }
}

#[test]
fn nothing_executed_is_cut_off() {
    let (membership, blocks) = model::chain(&[
        BlockPlan {
            pause_ms: 1,
            opening: false,
            transactions: Vec::new(),
        },
        BlockPlan {
            pause_ms: 1,
            opening: false,
            transactions: Vec::new(),
        },
    ]);
    for (from, refused) in [(0, true), (1, true), (2, true), (3, false)] {
        let dir = tempfile::tempdir().unwrap();
        let store = create(dir.path(), &blocks[0]);
        store.write_log(&append(&blocks[1..]), true).unwrap();
        let mut executor = Executor::open(&store).unwrap();
        executor.execute(&blocks[1], &membership).unwrap();
        executor.execute(&blocks[2], &membership).unwrap();
        let answer = store.write_log(&[LogChange::Truncate { from: Height(from) }], true);
        assert_eq!(
            matches!(answer, Err(StoreError::Truncation { .. })),
            refused,
            "{from}: {answer:?}"
        );
        assert_eq!(store.poisoned().is_some(), refused);
    }
}

#[test]
fn terms_are_found_wherever_they_begin() {
    for pattern in 0_u32..256 {
        let openings: Vec<bool> = (0..8).map(|bit| pattern >> bit & 1 == 1).collect();
        let blocks = chain(&openings);
        let mut expected: Vec<(Term, Height)> = Vec::new();
        for block in &blocks {
            let id = block.id();
            if expected.last().is_none_or(|(term, _)| *term < id.term) {
                expected.push((id.term, id.height));
            }
        }
        if pattern % 16 == 5 || pattern == 0 || pattern == 255 || pattern == 128 {
            let dir = tempfile::tempdir().unwrap();
            let store = create(dir.path(), &blocks[0]);
            store.write_log(&append(&blocks[1..]), false).unwrap();
            assert_eq!(store.terms().unwrap(), expected, "{openings:?}");
        }
    }
}

#[test]
fn pages_of_blocks_end_at_their_bytes_but_hold_one() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(&[false; 6]);
    let store = create(dir.path(), &blocks[0]);
    store.write_log(&append(&blocks[1..]), true).unwrap();
    let size = blocks[2].size();
    let page = |first, last, bytes| {
        let (previous, blocks) = store.blocks(Height(first), Height(last), bytes).unwrap();
        (
            previous.map(|id: BlockId| id.height.get()),
            blocks.iter().map(|block| block.id().height.get()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(page(2, 99, 2 * size), (Some(1), vec![2, 3]));
    assert_eq!(page(2, 99, 2 * size - 1), (Some(1), vec![2]));
    assert_eq!(page(2, 99, 0), (Some(1), vec![2]));
    assert_eq!(page(6, 99, usize::MAX), (Some(5), vec![6, 7]));
    assert_eq!(page(8, 99, usize::MAX), (Some(7), vec![]));
    assert_eq!(page(3, 2, usize::MAX), (Some(2), vec![]));
}

#[test]
fn space_is_free_here() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(dir.path(), &chain(&[])[0]);
    assert!(store.free_space().unwrap() >= quipu_ledger::limits::MIN_FREE_BYTES);
    assert_ne!(store.tip().hash, Hash::ZERO);
}
