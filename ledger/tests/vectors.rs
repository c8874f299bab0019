//! `vectors.json`: every encoding and hash of `FORMAT.md` by example. The test makes the examples anew and compares.
//!
//! `UPDATE_VECTORS=1 cargo test --release -p quipu-ledger --test vectors` writes the file: only for a new format.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod network;

use network::*;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, Incarnation, Slot, Term};
use quipu_crypto::lattice::LatticeHash;
use quipu_crypto::merkle::{self, Frontier};
use quipu_ledger::block::{Block, Body, Items};
use quipu_ledger::certificate::CommitStatement;
use quipu_ledger::codec;
use quipu_ledger::membership::{ChangeRequest, Membership, MembershipRecord, SignedRequest};
use quipu_ledger::operation::{Condition, Version};
use quipu_ledger::result::{Outcome, Reason, TransactionResult};
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::state::{StateKey, element};
use quipu_ledger::store::record::{Family, PromiseRecord, VoteRecord, decode_results_record, decode_state_value};
use quipu_ledger::store::{Executor, LogChange, Store};
use quipu_ledger::transaction::SignedTransaction;
use quipu_ledger::vote::{EngineId, VoteStatement};
use serde_json::{Value, json};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(bytes)
}

fn encoded<T: serde::Serialize>(value: &T) -> String {
    hex(codec::encode(value))
}

/// A chain with every kind of block: (blocks, the store in which they were executed).
fn chain(dir: &std::path::Path) -> (Vec<Block>, Store) {
    let block_0 = genesis(1, membership(3));
    let store = Store::create(dir, block_0.header().network, &block_0, Incarnation([7; 16])).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    let mut tip = ChainTip::genesis(&block_0).unwrap();
    let mut blocks = vec![block_0];
    for height in 1..=6 {
        let executed = if height == 3 || height == 6 {
            executor.executed()
        } else {
            tip.header().executed
        };
        let mut block = match height {
            1 => opening(&tip, Term(1), 0, &[0, 2]),
            4 => opening(&tip, Term(3), 1, &[0, 1, 2]),
            2 | 5 => next(&tip, transactions_of(transactions(&tip, &blocks))),
            _ => next_executed(&tip, executed, transactions_of(Vec::new())),
        };
        if height == 6 {
            let signers = [(0, false, node_key(0)), (1, false, node_key(1))];
            let body = Body {
                certificate: Some(certificate(tip.header(), Term(3), &signers)),
                ..block.body().clone()
            };
            block = next_executed(&tip, executed, body);
        }
        tip = tip.check(&block).unwrap();
        store.write_log(&[LogChange::Append(block.clone())], false).unwrap();
        executor.execute(&block, tip.membership()).unwrap();
        blocks.push(block);
    }
    drop(executor);
    let promise = PromiseRecord {
        start: 300,
        vote: Term(3),
        accepted: blocks[6].id(),
    };
    let vote = VoteRecord {
        term: Term(3),
        voted_for: Some(Slot(1)),
    };
    let changes = [
        LogChange::Vote(vote),
        LogChange::CommitHint(Height(6)),
        LogChange::Start(2),
        LogChange::Remember { peer: Slot(1), promise },
        LogChange::Certify(blocks[6].body().certificate.clone().unwrap()),
    ];
    store.write_log(&changes, true).unwrap();
    (blocks, store)
}

/// Of block 2: one applied and one failed of each kind. Of block 5: what changes and what may not happen again.
fn transactions(tip: &ChainTip, blocks: &[Block]) -> Vec<SignedTransaction> {
    let network = tip.network();
    let time = tip.header().time.plus(1000);
    let late = time.plus(50_000);
    let make = |sender, number, operations| transaction(network, sender, number, late, operations);
    let wrong_version = Condition::Version(Version {
        height: Height(1),
        position: 300,
    });
    if tip.id().height == Height(1) {
        return vec![
            make(
                0,
                1,
                vec![
                    put("default", "a", "first"),
                    put("default", "b", ""),
                    put("default", "gone", "soon"),
                ],
            ),
            make(
                1,
                2,
                vec![
                    require("audit", "x", Condition::Absent),
                    put("audit", "x", "1"),
                    put("audit", "x", "2"),
                ],
            ),
            make(0, 3, vec![require("default", "a", wrong_version)]),
            make(2, 4, vec![put("default", "c", "not permitted")]),
            make(9, 5, vec![put("default", "c", "of a stranger")]),
            transaction(network, 0, 6, time, vec![put("default", "c", "expired")]),
            transaction(network, 0, 7, time.plus(60_001), vec![put("default", "c", "too far")]),
            transaction(
                network,
                0,
                8,
                time.plus(4_000),
                vec![require("default", "a", Condition::Present)],
            ),
        ];
    }
    let written = Condition::Version(Version {
        height: Height(2),
        position: 0,
    });
    vec![
        make(
            0,
            9,
            vec![require("default", "a", written), put("default", "a", "second")],
        ),
        make(
            0,
            10,
            vec![
                require("default", "b", Condition::Value(Vec::new())),
                delete("default", "gone"),
            ],
        ),
        blocks[2].transactions()[0].clone(),
        blocks[2].transactions()[5].clone(),
    ]
}

fn block_vector(block: &Block) -> Value {
    let leaves: Vec<String> = block.body().items.leaves().iter().map(ToString::to_string).collect();
    json!({
        "height": block.header().height.get(),
        "kind": format!("{:?}", block.header().kind),
        "header": hex(block.header_bytes()),
        "hash": block.hash().to_string(),
        "signature": block.signature().map(|signature| hex(signature.as_bytes())),
        "body": hex(block.body_bytes()),
        "leaves": leaves,
        "body_root": block.header().body_root.to_string(),
        "chain_root": block.header().chain_root.to_string(),
        "executed_hash": block.header().executed.hash().to_string(),
        "block": hex(block.encode()),
        "transactions": block.transactions().iter().map(transaction_vector).collect::<Vec<_>>(),
    })
}

fn transaction_vector(transaction: &SignedTransaction) -> Value {
    let body = transaction.body();
    json!({
        "id": transaction.id().to_string(),
        "sender": body.sender.to_string(),
        "nonce": hex(body.nonce),
        "expires_at": body.expires_at.get().to_string(),
        "operations": body.operations.iter().map(encoded).collect::<Vec<_>>(),
        "signature": hex(transaction.signature().as_bytes()),
        "bytes": hex(transaction.bytes()),
    })
}

fn hashes() -> Value {
    let contexts = Context::ALL.iter().map(|context| {
        json!({
            "context": context.string(),
            "empty": Hash::of(*context, &[]).to_string(),
            "quipu": Hash::of(*context, &[b"quipu"]).to_string(),
        })
    });
    let trees = (0..8_u64).map(|count| {
        let leaves: Vec<Hash> = (0..count)
            .map(|number| rules::chain_leaf(&Hash::of(Context::Header, &[&number.to_le_bytes()])))
            .collect();
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        json!({
            "count": count,
            "leaves": leaves.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "root": merkle::root(&leaves).to_string(),
            "chain_root": rules::chain_root(&frontier).to_string(),
            "frontier": encoded(&frontier),
        })
    });
    json!({ "contexts": contexts.collect::<Vec<_>>(), "merkle": trees.collect::<Vec<_>>() })
}

fn keys() -> Value {
    let named = [
        ("node 0", node_key(0)),
        ("organisation 0", administrator_key(0)),
        ("member 0", member_key(0)),
    ];
    let vectors = named.iter().map(|(name, key)| {
        let message = Hash::of(Context::Transaction, &[b"quipu"]);
        json!({
            "name": name,
            "public": key.public().to_string(),
            "message": message.to_string(),
            "signature": hex(key.sign(&message).as_bytes()),
        })
    });
    vectors.collect()
}

fn votes(blocks: &[Block]) -> Value {
    let (last, opening) = (blocks[3].id(), &blocks[4]);
    let Items::Votes(votes) = &opening.body().items else {
        panic!()
    };
    let vectors = votes.iter().map(|entry| {
        let statement = VoteStatement {
            network: opening.header().network,
            engine: EngineId::Raft,
            term: opening.header().term,
            candidate: opening.header().proposer,
            voter: entry.slot,
            last,
        };
        json!({
            "statement": encoded(&statement),
            "hash": statement.hash().to_string(),
            "entry": encoded(entry),
        })
    });
    vectors.collect()
}

fn certificates(blocks: &[Block]) -> Value {
    let certificate = blocks[6].body().certificate.clone().unwrap();
    let statement = CommitStatement {
        network: blocks[5].header().network,
        engine: certificate.engine,
        view: certificate.view,
        height: certificate.height,
        hash: certificate.hash,
        membership: certificate.membership,
    };
    json!({
        "statement": encoded(&statement),
        "statement_hash": statement.digest().to_string(),
        "certificate": encoded(&certificate),
        "digest": certificate.digest().to_string(),
    })
}

fn change(blocks: &[Block]) -> Value {
    let before = membership(3);
    let mut after = before.clone();
    after.nodes[2] = node(3, &node_key(3));
    let request = ChangeRequest {
        network: blocks[0].header().network,
        nonce: [5; 16],
        expires_at: START.plus(60_000),
        expected_height: Height::ZERO,
        expected_hash: blocks[0].hash(),
        membership: after.clone(),
    };
    let hash = request.hash();
    let approvals = [0, 2].map(|number| (format!("org-{number}"), administrator_key(number).sign(&hash)));
    let signed = SignedRequest {
        request: request.clone(),
        approvals: approvals.to_vec(),
    };
    let joint = MembershipRecord::Joint {
        membership: Membership {
            outgoing: before.nodes,
            ..after.clone()
        },
        request: signed,
    };
    let last = MembershipRecord::Final {
        membership: after,
        joint: Height(7),
        request: hash,
        certificate: blocks[6].body().certificate.clone().unwrap(),
    };
    json!({
        "request": encoded(&request),
        "request_hash": hash.to_string(),
        "joint": encoded(&joint),
        "final": encoded(&last),
    })
}

fn execution(blocks: &[Block], store: &Store) -> Value {
    let heights = blocks.iter().map(|block| {
        let height = block.header().height;
        let record = store.view().unwrap().results(height).unwrap().unwrap();
        let results = block
            .transactions()
            .iter()
            .zip(&record.outcomes)
            .map(|(transaction, outcome)| {
                let result = TransactionResult {
                    id: transaction.id(),
                    outcome: *outcome,
                };
                json!({ "result": encoded(&result), "leaf": result.leaf().to_string(), "code": code(outcome) })
            });
        json!({
            "height": height.get(),
            "results": results.collect::<Vec<_>>(),
            "results_chain": record.executed.results_chain.to_string(),
            "state_digest": record.executed.state_digest.to_string(),
        })
    });
    let heights: Vec<Value> = heights.collect();
    let elements: Vec<String> = store
        .records(Family::State)
        .unwrap()
        .map(|record| record.unwrap())
        .map(|(key, value)| {
            hex(element(
                &StateKey::from_bytes(&key).unwrap(),
                decode_state_value(&value).unwrap().as_ref(),
            ))
        })
        .collect();
    let mut lattice = LatticeHash::new();
    for element in &elements {
        lattice.add_element(&hex::decode(element).unwrap());
    }
    json!({
        "heights": heights,
        "empty_state_digest": LatticeHash::new().digest().to_string(),
        "elements": elements,
        "accumulator": hex(lattice.to_bytes()),
        "state_digest": lattice.digest().to_string(),
    })
}

fn code(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Failed(reason) => reason.code(),
    }
}

fn records(store: &Store) -> Value {
    let families = Family::ALL.iter().map(|family| {
        let records = store.records(*family).unwrap().map(|record| {
            let (key, value) = record.unwrap();
            json!([hex(key), hex(value)])
        });
        (family.name().to_owned(), records.collect::<Vec<_>>().into())
    });
    Value::Object(families.collect())
}

/// Bytes that postcard's own decoder takes, or nearly, and that must be refused.
fn refused(blocks: &[Block]) -> Value {
    let header = blocks[2].header_bytes().to_vec();
    // Height 2 as a varint of two bytes.
    let long_varint = [&header[..33], &[0x82, 0x00], &header[34..]].concat();
    let left_over = [&header[..], &[0]].concat();
    let short = header[..header.len() - 1].to_vec();
    let mut kind = header.clone();
    kind[67] = 3;
    let cases = [
        ("a varint that is longer than need be", long_varint),
        ("a byte left over", left_over),
        ("a byte missing", short),
        ("an unknown kind", kind),
    ];
    for (what, bytes) in &cases {
        let decoded = codec::decode::<quipu_ledger::block::Header>(bytes, 512);
        assert!(decoded.is_err(), "{what}");
    }
    cases
        .iter()
        .map(|(what, bytes)| json!({ "what": what, "header": hex(bytes) }))
        .collect()
}

#[test]
fn the_vectors_are_what_the_code_makes() {
    let dir = tempfile::tempdir().unwrap();
    let (blocks, store) = chain(dir.path());
    let outcomes = decode_results_record(&records_at(&store, Height(2))).unwrap().outcomes;
    assert_eq!(outcomes[2], Outcome::Failed(Reason::RequirementFailed { operation: 0 }));
    let vectors = json!({
        "format": 1,
        "about": "Examples for FORMAT.md. Bytes in hex; keys are Ed25519 keys whose seeds are 32 equal bytes.",
        "hashes": hashes(),
        "keys": keys(),
        "blocks": blocks.iter().map(block_vector).collect::<Vec<_>>(),
        "votes": votes(&blocks),
        "certificate": certificates(&blocks),
        "change": change(&blocks),
        "execution": execution(&blocks, &store),
        "store": records(&store),
        "refused": refused(&blocks),
    });
    let made = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    for (line, (kept, made)) in (1..).zip(kept.lines().zip(made.lines())) {
        assert_eq!(kept, made, "vectors.json, line {line}: the format has changed");
    }
    assert_eq!(kept.len(), made.len());
}

fn records_at(store: &Store, height: Height) -> Vec<u8> {
    let key = quipu_ledger::store::record::height_key(height);
    let mut records = store.records(Family::Results).unwrap().map(|record| record.unwrap());
    records.find(|(found, _)| **found == key).unwrap().1.into_vec()
}

/// A verifier in another language, written from `FORMAT.md` alone, agrees; and it refuses a changed file.
#[test]
fn an_independent_verifier_agrees() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let verify = |vectors: &std::path::Path| {
        let script = here.join("tests/independent/verify_vectors.py");
        std::process::Command::new("python3")
            .arg("-B")
            .arg(script)
            .arg(vectors)
            .output()
    };
    let Ok(output) = verify(&here.join("vectors.json")) else {
        println!("there is no python3 here: not checked");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");

    let kept = std::fs::read_to_string(here.join("vectors.json")).unwrap();
    let digest = serde_json::from_str::<Value>(&kept).unwrap()["execution"]["heights"][5]["state_digest"].clone();
    let digest = digest.as_str().unwrap();
    let changed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        changed.path(),
        kept.replace(digest, &digest.chars().rev().collect::<String>()),
    )
    .unwrap();
    assert!(!verify(changed.path()).unwrap().status.success());
}

#[test]
fn the_text_names_every_context_in_its_order() {
    let text = include_str!("../FORMAT.md");
    let places = Context::ALL.map(|context| text.find(&format!("| `{}` |", context.string())));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
}
