//! A store with some hundred transactions of every outcome, in two terms, as a stopped node leaves it.

use std::path::Path;

use quipu_crypto::id::{Height, Incarnation, Slot, Term};
use quipu_ledger::block::Block;
use quipu_ledger::operation::{Condition, Operation, Version};
use quipu_ledger::rules::ChainTip;
use quipu_ledger::store::record::{PromiseRecord, VoteRecord};
use quipu_ledger::store::{Executor, LogChange, Store};
use quipu_ledger::transaction::SignedTransaction;

use super::*;

/// Height of the second term's opening block.
pub const SECOND_OPENING: Height = Height(21);
/// The last executed block.
pub const EXECUTED: Height = Height(40);
/// The last block: those above [`EXECUTED`] are not known to be committed.
pub const TIP: Height = Height(42);
/// The block with a certificate beside the chain.
pub const CERTIFIED: Height = Height(30);

/// What was stored.
pub struct Filled {
    pub genesis: Block,
    /// By height.
    pub blocks: Vec<Block>,
}

/// Fills a store in `dir`.
pub fn fill(dir: &Path) -> Filled {
    let genesis = genesis(1, membership(3));
    let store = Store::create(dir, genesis.header().network, &genesis, Incarnation([7; 16])).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    let mut tip = ChainTip::genesis(&genesis).unwrap();
    let mut blocks = vec![genesis.clone()];
    while tip.id().height < TIP {
        let block = match tip.id().height.next() {
            Height(1) => opening(&tip, Term(1), 0, &[0, 2]),
            SECOND_OPENING => opening(&tip, Term(3), 1, &[0, 1, 2]),
            height => {
                // A leader names what a majority has executed, and not with every block.
                let named = if height.get() % 3 == 0 {
                    executor.executed()
                } else {
                    tip.header().executed
                };
                next_executed(&tip, named, transactions_of(workload(&tip, blocks.last().unwrap())))
            }
        };
        tip = tip.check(&block).unwrap();
        store.write_log(&[LogChange::Append(block.clone())], false).unwrap();
        if block.header().height <= EXECUTED {
            executor.execute(&block, tip.membership()).unwrap();
        }
        blocks.push(block);
    }
    store.write_log(&promises(&blocks), true).unwrap();
    store.flush().unwrap();
    Filled { genesis, blocks }
}

/// What a node keeps beside the chain.
fn promises(blocks: &[Block]) -> Vec<LogChange> {
    let certified = blocks[usize::try_from(CERTIFIED.get()).unwrap()].header();
    let signers = [(0, false, node_key(0)), (1, false, node_key(1))];
    let promise = PromiseRecord {
        start: 3,
        vote: Term(3),
        accepted: blocks.last().unwrap().id(),
    };
    vec![
        LogChange::Vote(VoteRecord {
            term: Term(3),
            voted_for: Some(Slot(1)),
        }),
        LogChange::CommitHint(EXECUTED),
        LogChange::Start(2),
        LogChange::Remember { peer: Slot(1), promise },
        LogChange::Certify(certificate(certified, certified.term, &signers)),
    ]
}

/// Ten transactions for the block after `tip`: applied ones, and one of each way to fail.
fn workload(tip: &ChainTip, parent: &Block) -> Vec<SignedTransaction> {
    let network = tip.network();
    let height = tip.id().height.next().get();
    let time = tip.header().time.plus(1000);
    let first = height * 100;
    let soon = time.plus(3_000);
    let late = time.plus(50_000);
    let key = |number: u64| format!("k{:02}", number % 40);
    let make =
        |sender, number, expires_at, operations| transaction(network, sender, first + number, expires_at, operations);
    let two = vec![
        put(
            "default",
            &key(height * 3 + 1),
            &"x".repeat(usize::try_from(height * 50).unwrap()),
        ),
        put("default", &key(height * 3 + 1), "twice"),
        delete("default", &key(height * 5 + 2)),
    ];
    let never = Condition::Version(Version {
        height: Height(height),
        position: 77,
    });
    let checked: Vec<Operation> = vec![
        require(
            "default",
            "counter",
            if height == 2 {
                Condition::Absent
            } else {
                Condition::Present
            },
        ),
        put("default", "counter", &height.to_string()),
    ];
    let again = make(
        0,
        0,
        late,
        vec![put("default", &key(height), &format!("value of {height}"))],
    );
    let mut transactions = vec![
        again.clone(),
        make(0, 1, soon, two),
        make(
            1,
            2,
            late,
            vec![put("audit", &format!("a{}", height % 7), &height.to_string())],
        ),
        make(0, 3, soon, checked),
        make(
            0,
            4,
            late,
            vec![require("default", "counter", never), delete("default", "counter")],
        ),
        make(2, 5, late, vec![put("default", "forbidden", "by carol")]),
        make(9, 6, late, vec![put("default", "forbidden", "by a stranger")]),
        make(0, 7, time, vec![put("default", "late", "too late")]),
        make(0, 8, time.plus(60_001), vec![put("default", "early", "too early")]),
        again,
    ];
    // One that stands in the block before already.
    transactions.extend(parent.transactions().first().cloned());
    transactions
}
