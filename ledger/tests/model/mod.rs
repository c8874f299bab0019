//! A naive ledger: maps that are cloned for each transaction. What the real execution and store are compared with.
//!
//! Invariant: shares no code with `execute` beyond the types, and forgets nothing: a duplicate is an id that was ever
//! seen before it expired.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test target uses its own part

use std::collections::BTreeMap;

use proptest::prelude::*;
use quipu_crypto::id::{Height, Slot, Term, TimeMs, TransactionId};
use quipu_crypto::lattice::LatticeHash;
use quipu_ledger::block::{Block, Executed};
use quipu_ledger::membership::Membership;
use quipu_ledger::operation::{Condition, Namespace, Operation, Version};
use quipu_ledger::result::{self, Outcome, Reason, TransactionResult};
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::transaction::SignedTransaction;
use serde_bytes::Bytes;

use crate::network;

type Key = (String, Vec<u8>);

/// One writing of a key: who, which transaction, and what (`None`: deleted).
pub type Written = (Version, TransactionId, Option<Vec<u8>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub state: BTreeMap<Key, (Version, Vec<u8>)>,
    pub history: BTreeMap<Key, Vec<Written>>,
    pub index: BTreeMap<TransactionId, Version>,
    pub seen: BTreeMap<TransactionId, TimeMs>,
    pub outcomes: Vec<Vec<Outcome>>,
    pub executed: Vec<Executed>,
    pub time: TimeMs,
}

impl Model {
    /// After block 0.
    pub fn new(genesis: &Block) -> Self {
        Self {
            outcomes: vec![Vec::new()],
            executed: vec![Executed::genesis()],
            time: genesis.header().time,
            ..Self::default()
        }
    }

    pub fn last(&self) -> Executed {
        *self.executed.last().unwrap()
    }

    /// What the replay memory holds: all that expires after the last ten-second mark.
    pub fn recent(&self) -> Vec<(TimeMs, TransactionId)> {
        let mark = self.time.0 / 10_000 * 10_000;
        let mut recent: Vec<_> = self
            .seen
            .iter()
            .map(|(id, expires_at)| (*expires_at, *id))
            .filter(|(expires_at, _)| expires_at.0 > mark)
            .collect();
        recent.sort_unstable();
        recent
    }

    pub fn digest(&self) -> quipu_crypto::hash::Hash {
        let mut lattice = LatticeHash::new();
        for ((namespace, key), (version, value)) in &self.state {
            let element = (namespace, Bytes::new(key), Bytes::new(value), version);
            lattice.add_element(&postcard::to_stdvec(&element).unwrap());
        }
        lattice.digest()
    }

    pub fn execute(&mut self, block: &Block, membership: &Membership) -> Vec<TransactionResult> {
        let height = block.header().height;
        self.time = block.header().time;
        let mut results = Vec::new();
        for (transaction, position) in block.transactions().iter().zip(0..) {
            let version = Version { height, position };
            let outcome = match self.attempt(transaction, version, membership) {
                Ok(()) => Outcome::Applied,
                Err(reason) => Outcome::Failed(reason),
            };
            let id = transaction.id();
            self.index.entry(id).or_insert(version);
            if outcome != Outcome::Failed(Reason::Expired) {
                self.seen.entry(id).or_insert(transaction.body().expires_at);
            }
            results.push(TransactionResult { id, outcome });
        }
        self.outcomes
            .push(results.iter().map(|result| result.outcome).collect());
        let executed = Executed {
            height,
            state_digest: self.digest(),
            results_chain: result::results_chain(&self.last().results_chain, &results),
            state_root: quipu_crypto::hash::Hash::ZERO,
        };
        self.executed.push(executed);
        results
    }

    fn attempt(&mut self, tx: &SignedTransaction, version: Version, membership: &Membership) -> Result<(), Reason> {
        let body = tx.body();
        if self.time >= body.expires_at {
            return Err(Reason::Expired);
        }
        if self.seen.contains_key(&tx.id()) {
            return Err(Reason::Duplicate);
        }
        if body.expires_at.0 > self.time.0 + membership.parameters.max_lifetime_ms {
            return Err(Reason::ExpiryTooFar);
        }
        let Some(member) = membership.members.iter().find(|member| member.key == body.sender) else {
            return Err(Reason::UnknownMember);
        };
        for (operation, index) in body.operations.iter().zip(0..) {
            let known = membership
                .namespaces
                .iter()
                .any(|rights| rights.name == *operation.namespace());
            if !known || operation.writes() && !membership.may_write(member, operation.namespace()) {
                return Err(Reason::NotPermitted { operation: index });
            }
        }
        let mut state = self.state.clone();
        let mut wrote: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
        for (operation, index) in body.operations.iter().zip(0..) {
            let key = (operation.namespace().as_str().to_owned(), operation.key().to_vec());
            match operation {
                Operation::Put { value, .. } => {
                    state.insert(key.clone(), (version, value.clone()));
                    wrote.insert(key, Some(value.clone()));
                }
                Operation::Delete { .. } => {
                    state.remove(&key);
                    wrote.insert(key, None);
                }
                Operation::Require { condition, .. } => {
                    let found = state.get(&key);
                    let holds = match condition {
                        Condition::Absent => found.is_none(),
                        Condition::Present => found.is_some(),
                        Condition::Version(version) => found.is_some_and(|(found, _)| found == version),
                        Condition::Value(value) => found.is_some_and(|(_, found)| found == value),
                    };
                    if !holds {
                        return Err(Reason::RequirementFailed { operation: index });
                    }
                }
            }
        }
        self.state = state;
        for (key, value) in wrote {
            self.history.entry(key).or_default().push((version, tx.id(), value));
        }
        Ok(())
    }
}

/// A plan for a chain, of numbers only, so that it shrinks well.
#[derive(Clone, Debug)]
pub struct BlockPlan {
    pub pause_ms: u64,
    /// Begins a new term instead of carrying transactions.
    pub opening: bool,
    pub transactions: Vec<TransactionPlan>,
}

#[derive(Clone, Debug)]
pub enum TransactionPlan {
    New {
        sender: u8,
        lifetime_ms: i64,
        operations: Vec<Operation>,
    },
    /// The transaction with this number of all so far, again.
    Again(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let namespace = prop_oneof![12 => Just("default"), 2 => Just("audit"), 1 => Just("nowhere")];
    let value = || proptest::collection::vec(0_u8..3, 0..2);
    let version = || {
        (0_u64..12, 0_u32..3).prop_map(|(height, position)| Version {
            height: Height(height),
            position,
        })
    };
    let condition = prop_oneof![
        Just(Condition::Absent),
        Just(Condition::Present),
        version().prop_map(Condition::Version),
        value().prop_map(Condition::Value),
    ];
    (
        namespace,
        proptest::collection::vec(b'a'..b'd', 1..3),
        0..8,
        value(),
        condition,
    )
        .prop_map(|(namespace, key, choice, value, condition)| {
            let namespace = Namespace::new(namespace).unwrap();
            match choice {
                0..4 => Operation::Put { namespace, key, value },
                4..6 => Operation::Delete { namespace, key },
                _ => Operation::Require {
                    namespace,
                    key,
                    condition,
                },
            }
        })
}

pub fn transaction() -> impl Strategy<Value = TransactionPlan> {
    let new = (
        0_u8..6,
        -3_000_i64..70_000,
        proptest::collection::vec(operation(), 1..5),
    )
        .prop_map(|(sender, lifetime_ms, operations)| TransactionPlan::New {
            // Member 0 writes in `default`, 1 in both, 2 nowhere, 3 is a stranger.
            sender: [0, 0, 1, 1, 2, 3][usize::from(sender)],
            lifetime_ms,
            operations,
        });
    prop_oneof![4 => new, 1 => any::<usize>().prop_map(TransactionPlan::Again)]
}

pub fn plans(blocks: std::ops::Range<usize>) -> impl Strategy<Value = Vec<BlockPlan>> {
    let pause = prop_oneof![3 => 0_u64..1_500, 1 => 0_u64..25_000];
    let block = (
        pause,
        prop::bool::weighted(0.15),
        proptest::collection::vec(transaction(), 0..5),
    );
    let block = block.prop_map(|(pause_ms, opening, transactions)| BlockPlan {
        pause_ms,
        opening,
        transactions,
    });
    proptest::collection::vec(block, blocks)
}

/// Makes the chain of a plan, block 0 and the first opening included.
pub fn chain(plans: &[BlockPlan]) -> (Membership, Vec<Block>) {
    let membership = network::membership(1);
    let genesis = network::genesis(7, membership.clone());
    let mut tip = ChainTip::genesis(&genesis).unwrap();
    let opening = network::opening(&tip, Term(1), 0, &[0]);
    tip = tip.check(&opening).unwrap();
    let mut blocks = vec![genesis, opening];
    let mut made: Vec<SignedTransaction> = Vec::new();
    for plan in plans {
        let header = tip.header();
        if plan.opening {
            blocks.push(network::opening(&tip, header.term.next(), 0, &[0]));
        } else {
            let time = header.time.plus(plan.pause_ms);
            let transactions = plan
                .transactions
                .iter()
                .filter_map(|plan| make(plan, &tip, time, &mut made));
            let body = network::transactions_of(transactions.collect());
            let header = tip.next(header.term, time, Slot(0), header.executed, &body);
            blocks.push(rules::seal(header, body, &network::node_key(0)).unwrap());
        }
        tip = tip.check(blocks.last().unwrap()).unwrap();
    }
    (membership, blocks)
}

fn make(
    plan: &TransactionPlan,
    tip: &ChainTip,
    time: TimeMs,
    made: &mut Vec<SignedTransaction>,
) -> Option<SignedTransaction> {
    match plan {
        TransactionPlan::Again(_) if made.is_empty() => None,
        TransactionPlan::Again(number) => Some(made[number % made.len()].clone()),
        TransactionPlan::New {
            sender,
            lifetime_ms,
            operations,
        } => {
            let expires_at = TimeMs(time.0.checked_add_signed(*lifetime_ms).unwrap());
            let number = u64::try_from(made.len()).unwrap();
            let transaction = network::transaction(tip.network(), *sender, number, expires_at, operations.clone());
            made.push(transaction.clone());
            Some(transaction)
        }
    }
}
