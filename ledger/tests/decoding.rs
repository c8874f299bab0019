//! Every decoder of the crate on random and on mutated bytes: never a panic, and what is accepted is canonical.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod network;

use std::fmt::Debug;
use std::sync::OnceLock;

use network::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use quipu_crypto::id::{BlockId, Height, Slot, Term};
use quipu_crypto::merkle::Frontier;
use quipu_ledger::block::{Block, Body, Executed, Header};
use quipu_ledger::certificate::{Certificate, CommitStatement};
use quipu_ledger::codec::{self, DecodeError};
use quipu_ledger::membership::{ChangeRequest, Membership, MembershipRecord, SignedRequest};
use quipu_ledger::operation::{Condition, Namespace, Operation, Version};
use quipu_ledger::result::{Outcome, TransactionResult};
use quipu_ledger::rules::ChainTip;
use quipu_ledger::state::{StateKey, StoredValue};
use quipu_ledger::store::record::{self, HeaderRecord, HistoryRecord, PromiseRecord, ResultsRecord, VoteRecord};
use quipu_ledger::transaction::{SignedTransaction, TransactionBody};
use quipu_ledger::vote::{SignatureEntry, VoteStatement};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CAP: usize = 1024 * 1024;

/// Gives `bytes` to the decoder of `T`; what it accepts must be what it writes.
fn strict<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes, CAP) {
        assert_eq!(codec::encode(&value), bytes, "{value:?}");
    }
}

fn ignore<T>(_: Result<T, DecodeError>) {}

/// Gives `bytes` to everything that reads bytes from outside or from the store.
fn decode_all(bytes: &[u8]) {
    strict::<Header>(bytes);
    strict::<Executed>(bytes);
    strict::<Certificate>(bytes);
    strict::<CommitStatement>(bytes);
    strict::<Membership>(bytes);
    strict::<MembershipRecord>(bytes);
    strict::<ChangeRequest>(bytes);
    strict::<SignedRequest>(bytes);
    strict::<Operation>(bytes);
    strict::<Condition>(bytes);
    strict::<Namespace>(bytes);
    strict::<Version>(bytes);
    strict::<Outcome>(bytes);
    strict::<TransactionResult>(bytes);
    strict::<TransactionBody>(bytes);
    strict::<SignatureEntry>(bytes);
    strict::<VoteStatement>(bytes);
    strict::<StoredValue>(bytes);
    strict::<VoteRecord>(bytes);
    strict::<PromiseRecord>(bytes);
    strict::<HeaderRecord>(bytes);
    strict::<ResultsRecord>(bytes);
    strict::<HistoryRecord>(bytes);
    strict::<Frontier>(bytes);
    if let Ok(transaction) = SignedTransaction::decode(bytes.to_vec()) {
        assert_eq!(&transaction.bytes()[..], bytes);
        // What may be known of it before it is decoded.
        let claimed = SignedTransaction::claimed_sender(bytes);
        assert_eq!(claimed, Some(transaction.body().sender));
        assert_eq!(SignedTransaction::id_of(bytes), Some(transaction.id()));
    }
    if let Ok(body) = Body::decode(bytes) {
        assert_eq!(body.encode(), bytes);
    }
    if let Ok(block) = Block::decode(bytes) {
        assert_eq!(block.encode(), bytes);
        let tip = &blocks()[0];
        drop(ChainTip::genesis(&block));
        drop(ChainTip::genesis(tip).unwrap().check(&block));
    }
    if let Ok(key) = StateKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
    }
    if let Ok((key, version)) = record::decode_history_key(bytes) {
        assert_eq!(record::history_key(&key, version), bytes);
    }
    ignore(record::decode_header_record(bytes));
    ignore(record::decode_state_value(bytes));
    ignore(record::decode_results_record(bytes));
    ignore(record::decode_history_record(bytes));
    ignore(record::decode_position(bytes));
    ignore(record::decode_id(bytes));
    ignore(record::decode_hash(bytes));
    ignore(record::decode_frontier(bytes));
    ignore(record::decode_recent_key(bytes));
    ignore(record::decode_promise_key(bytes));
    ignore(record::decode_promise(bytes));
    ignore(record::decode_height_key(bytes));
}

fn blocks() -> &'static [Block] {
    static BLOCKS: OnceLock<Vec<Block>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let block_0 = genesis(1, membership(3));
        let tip = ChainTip::genesis(&block_0).unwrap();
        let first = opening(&tip, Term(1), 0, &[0, 1, 2]);
        let tip = tip.check(&first).unwrap();
        let version = Version {
            height: Height(300),
            position: 70_000,
        };
        let operations = vec![
            put("default", "key", "value"),
            delete("default", "key"),
            require("default", "key", Condition::Version(version)),
            require("audit", "key", Condition::Value(vec![1, 2, 3])),
        ];
        let transactions = (0..3).map(|number| transaction(tip.network(), 0, number, START, operations.clone()));
        let mut body = transactions_of(transactions.collect());
        body.certificate = Some(certificate(
            tip.header(),
            Term(1),
            &[(0, false, node_key(0)), (1, false, node_key(1))],
        ));
        let second = next(&tip, body);
        vec![block_0, first, second]
    })
}

/// Valid bytes of many kinds, to be mutated.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut samples = Vec::new();
        for block in blocks() {
            samples.extend([
                block.encode(),
                block.header_bytes().to_vec(),
                block.body_bytes().to_vec(),
            ]);
            let record = HeaderRecord {
                hash: block.hash(),
                signature: block.signature().copied(),
                header: block.header_bytes().to_vec(),
            };
            samples.push(codec::encode(&record));
        }
        let transaction = &blocks()[2].transactions()[0];
        samples.push(transaction.bytes().to_vec());
        samples.extend(transaction.body().operations.iter().map(codec::encode));
        samples.push(codec::encode(&membership(3)));
        samples.push(codec::encode(&blocks()[2].body().certificate));
        let key = StateKey::new(&Namespace::new("default").unwrap(), b"key");
        samples.push(record::history_key(&key, Version::default()));
        samples.push(key.as_bytes().to_vec());
        samples.push(record::promise_key(Slot(7)));
        samples.push(codec::encode(&greatest_promise()));
        let outcomes = vec![Outcome::Applied; 20];
        let executed = Executed::genesis();
        samples.push(codec::encode(&ResultsRecord { executed, outcomes }));
        samples
    })
}

/// What an attacker does to bytes: changes some, cuts, repeats or inserts a piece, writes a great length.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
    Length(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        any::<Index>().prop_map(Mutation::Length),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let at = |index: &Index| index.index(bytes.len() + 1);
    match mutation {
        Mutation::Set(index, byte) => {
            let at = at(index).min(bytes.len() - 1);
            bytes[at] = *byte;
        }
        Mutation::Cut(index) => bytes.truncate(at(index).max(1)),
        Mutation::Insert(index, piece) => drop(bytes.splice(at(index)..at(index), piece.iter().copied())),
        Mutation::Repeat(from, to) => {
            let (from, to) = (at(from).min(at(to)), at(from).max(at(to)));
            let piece = bytes[from..to].to_vec();
            drop(bytes.splice(to..to, piece));
        }
        Mutation::Length(index) => {
            let great = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
            drop(bytes.splice(at(index)..at(index), great));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
    }

    #[test]
    fn mutated_bytes_never_panic(sample in any::<Index>(), mutations in vec(mutation(), 1..4)) {
        let samples = samples();
        let mut bytes = samples[sample.index(samples.len())].clone();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        decode_all(&bytes);
    }
}

/// Peers say the numbers in it.
fn greatest_promise() -> PromiseRecord {
    PromiseRecord {
        start: u64::MAX,
        vote: Term::MAX,
        accepted: BlockId {
            height: Height::MAX,
            term: Term::MAX,
            hash: blocks()[0].hash(),
        },
    }
}

#[test]
fn the_greatest_promise_can_be_read_again() {
    let promise = greatest_promise();
    assert_eq!(record::decode_promise(&codec::encode(&promise)), Ok(promise));
}

#[test]
fn what_is_longer_than_its_cap_is_refused_before_it_is_read() {
    let long = vec![0; CAP + 1];
    assert!(matches!(
        codec::decode::<Header>(&long, 512),
        Err(DecodeError::TooLong { .. })
    ));
    assert!(matches!(Body::decode(&long), Err(DecodeError::TooLong { .. })));
    assert!(matches!(
        SignedTransaction::decode(long),
        Err(DecodeError::TooLong { .. })
    ));
}

/// A list that claims more elements than bytes can hold must not make the decoder reserve room for them.
#[test]
fn a_great_length_allocates_nothing() {
    for variant in 0..3_u8 {
        let bytes = [&[variant][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
        assert_eq!(Body::decode(&bytes).unwrap_err(), DecodeError::Malformed);
    }
}

#[test]
fn every_sample_is_taken_by_some_decoder() {
    for block in blocks() {
        assert_eq!(&Block::decode(&block.encode()).unwrap(), block);
        assert_eq!(
            codec::decode::<Header>(block.header_bytes(), 512).unwrap(),
            *block.header()
        );
    }
    samples().iter().for_each(|sample| decode_all(sample));
}
