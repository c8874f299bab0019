//! Every kind of record in a store changed, removed, swapped and added: verification finds it and names its place.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod network;

use std::path::Path;

use network::filled::{CERTIFIED, EXECUTED, SECOND_OPENING, TIP};
use network::raw::{Raw, key, original, place};
use network::*;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, Slot, Term};
use quipu_ledger::block::{Block, Executed, Items};
use quipu_ledger::codec;
use quipu_ledger::rules;
use quipu_ledger::store::record::{self, Family, HeaderRecord, height_key, meta};
use quipu_ledger::verify::{self, Place, VerifyOptions};

/// First, last and two in between.
fn some_of<T: Clone>(records: &[T]) -> Vec<T> {
    let last = records.len() - 1;
    [0, last / 3, last * 2 / 3, last]
        .iter()
        .map(|at| records[*at].clone())
        .collect()
}

const CHAIN: [Family; 2] = [Family::Headers, Family::Bodies];
const DERIVED: [Family; 4] = [Family::Results, Family::State, Family::History, Family::Transactions];

#[test]
fn the_untouched_copy_is_sound() {
    let (dir, filled) = original();
    let before = snapshot(dir.path());
    let mut steps = Vec::new();
    let report = verify::run(dir.path(), &filled.genesis, VerifyOptions::default(), &mut |progress| {
        steps.push(progress);
    })
    .unwrap();
    assert_eq!(report.findings, vec![]);
    assert_eq!(
        (report.height, report.executed, report.committed),
        (TIP, EXECUTED, EXECUTED)
    );
    assert_eq!(report.tip, filled.blocks.last().unwrap().hash());
    assert_eq!(
        report.transactions,
        filled
            .blocks
            .iter()
            .map(|block| block.transactions().len() as u64)
            .sum::<u64>()
    );
    assert!(report.transactions > 400);
    assert_eq!(
        (report.certified, report.not_certified(), report.not_committed()),
        (Some(CERTIFIED), 12, 2)
    );
    assert_eq!(steps.last().unwrap().done, TIP.get() + 1);
    assert_eq!(snapshot(dir.path()), before, "verification wrote into the copy");
}

/// Names, lengths and times of all files.
fn snapshot(dir: &Path) -> Vec<(std::ffi::OsString, u64, std::time::SystemTime)> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let describe = |file: std::fs::DirEntry| {
        let metadata = file.metadata().unwrap();
        (file.file_name(), metadata.len(), metadata.modified().unwrap())
    };
    let mut files: Vec<_> = files.map(describe).collect();
    files.sort();
    files
}

#[test]
fn the_store_has_every_kind_of_record() {
    let raw = Raw::new();
    for family in Family::ALL {
        assert!(!raw.records(family).is_empty(), "{}", family.name());
    }
    let outcomes: std::collections::BTreeSet<String> = raw
        .records(Family::Results)
        .iter()
        .flat_map(|(_, value)| record::decode_results_record(value).unwrap().outcomes)
        .map(|outcome| format!("{outcome:?}"))
        .collect();
    assert_eq!(outcomes.len(), 7, "{outcomes:?}");
    assert!(raw.records(Family::Recent).len() < raw.records(Family::Transactions).len());
}

#[test]
fn a_changed_record_of_the_chain_is_named_by_its_height() {
    for family in CHAIN {
        for (key, value) in some_of(&Raw::new().records(family)) {
            for at in [0, value.len() / 2, value.len() - 1] {
                let mut changed = value.clone();
                changed[at] ^= 1;
                let raw = Raw::new();
                raw.put(family, &key, &changed);
                let report = raw.verify();
                assert_eq!(
                    report.findings[0].place,
                    place(family, &key),
                    "{} byte {at}",
                    report.findings[0]
                );
            }
        }
    }
}

#[test]
fn a_removed_record_of_the_chain_is_named_by_its_height() {
    for family in CHAIN {
        for (key, _) in some_of(&Raw::new().records(family)) {
            let raw = Raw::new();
            raw.delete(family, &key);
            raw.finds("truncated", &place(family, &key));
        }
    }
}

#[test]
fn swapped_records_of_the_chain_are_named_by_the_first_height() {
    for family in CHAIN {
        for height in [Height(2), Height(19), SECOND_OPENING, TIP.previous().unwrap()] {
            let raw = Raw::new();
            let (a, b) = (height_key(height), height_key(height.next()));
            let (first, second) = (raw.get(family, &a), raw.get(family, &b));
            raw.put(family, &a, &second).put(family, &b, &first);
            raw.finds("damaged_block", &Place::Height(height));
        }
    }
}

#[test]
fn a_record_of_the_chain_where_none_belongs_is_named() {
    for family in CHAIN {
        let raw = Raw::new();
        let last = raw.get(family, &height_key(TIP));
        raw.put(family, &height_key(TIP.next()), &last);
        raw.finds("truncated", &Place::Height(TIP.next()));

        let raw = Raw::new();
        raw.put(family, &height_key(TIP.plus(5)), &last);
        raw.finds("truncated", &Place::Height(TIP.next()));

        let raw = Raw::new();
        let stray = [height_key(Height(7)).as_slice(), &[0]].concat();
        raw.put(family, &stray, &last);
        let name = format!("{}/{}", family.name(), stray.escape_ascii());
        raw.finds("extra_record", &key(&name));
    }
}

/// Stores a block in place of the one at its height, as someone with the proposer's key could.
fn replace(raw: &Raw, block: &Block) {
    let record = HeaderRecord {
        hash: block.hash(),
        signature: block.signature().copied(),
        header: block.header_bytes().to_vec(),
    };
    let at = height_key(block.header().height);
    raw.put(Family::Headers, &at, &codec::encode(&record))
        .put(Family::Bodies, &at, block.body_bytes());
}

fn block_at(height: Height) -> &'static Block {
    &original().1.blocks[usize::try_from(height.get()).unwrap()]
}

#[test]
fn a_forged_signature_of_a_proposer_is_named() {
    for height in [Height(1), Height(12), SECOND_OPENING, TIP] {
        let block = block_at(height);
        for signature in [None, Some(key_of_nobody().sign(&block.hash()))] {
            let forged = Block::new(block.header().clone(), signature, block.body().clone()).unwrap();
            let raw = Raw::new();
            replace(&raw, &forged);
            let kind = if signature.is_none() {
                "not_signed"
            } else {
                "wrong_signature"
            };
            raw.finds(kind, &Place::Height(height));
        }
    }
    let block_0 = &original().1.genesis;
    let raw = Raw::new();
    replace(
        &raw,
        &rules::seal(block_0.header().clone(), block_0.body().clone(), &node_key(0)).unwrap(),
    );
    raw.finds("damaged_block", &Place::Height(Height::ZERO));
}

fn key_of_nobody() -> quipu_crypto::key::SecretKey {
    network::key(250)
}

#[test]
fn an_election_without_its_votes_is_named_even_if_the_leader_signs_it() {
    let block = block_at(SECOND_OPENING);
    let Items::Votes(votes) = block.body().items.clone() else {
        panic!()
    };
    let mut stray = votes.clone();
    stray[0].signature = stray[1].signature;
    let mut swapped = votes.clone();
    swapped.swap(0, 1);
    let mut marked = votes.clone();
    marked[2].outgoing = true;
    let mut strange = votes.clone();
    strange[2].slot = Slot(5);
    let added = [votes.clone(), vec![votes[2]]].concat();
    let cases = [
        ("wrong_votes", votes[1..2].to_vec()),
        ("no_own_vote", vec![votes[0], votes[2]]),
        ("wrong_votes", stray),
        ("wrong_votes", swapped),
        ("wrong_votes", marked),
        ("wrong_votes", strange),
        ("wrong_votes", added),
    ];
    for (kind, votes) in cases {
        let body = votes_of(votes);
        let mut header = block.header().clone();
        header.body_root = body.root();
        header.item_count = body.items.count();
        let raw = Raw::new();
        replace(&raw, &rules::seal(header, body, &node_key(1)).unwrap());
        raw.finds(kind, &Place::Height(SECOND_OPENING));
    }
}

#[test]
fn a_block_that_its_proposer_made_anew_does_not_fit_the_next_one() {
    let block = block_at(Height(25));
    let mut header = block.header().clone();
    header.time = header.time.next();
    let raw = Raw::new();
    replace(&raw, &rules::seal(header, block.body().clone(), &node_key(1)).unwrap());
    raw.finds("wrong_previous", &Place::Height(Height(26)));
}

/// The last block made anew by its own leader, with something in it that the rules forbid.
#[test]
fn a_forbidden_block_at_the_tip_is_named() {
    let last = block_at(TIP);
    let seal = |change: &dyn Fn(&mut quipu_ledger::block::Header)| {
        let mut header = last.header().clone();
        change(&mut header);
        rules::seal(header, last.body().clone(), &node_key(1)).unwrap()
    };
    let wrong = |named: Executed| move |header: &mut quipu_ledger::block::Header| header.executed = named;
    let parent = block_at(TIP.previous().unwrap()).header().executed;
    let check = |kind: &str, block: &Block| {
        let raw = Raw::new();
        replace(&raw, block);
        raw.finds(kind, &Place::Height(TIP));
    };
    check(
        "wrong_executed",
        &seal(&wrong(Executed {
            height: EXECUTED,
            ..parent
        })),
    );
    check(
        "executed_changed",
        &seal(&wrong(Executed {
            state_root: last.hash(),
            ..parent
        })),
    );
    check("term_not_opened", &seal(&|header| header.term = Term(9)));
    check(
        "wrong_chain_root",
        &seal(&|header| header.chain_root = header.body_root),
    );

    let mut transactions = last.transactions().to_vec();
    let mut bytes = transactions[3].bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    transactions[3] = quipu_ledger::transaction::SignedTransaction::decode(bytes).unwrap();
    let body = transactions_of(transactions);
    let mut header = last.header().clone();
    header.body_root = body.root();
    check(
        "wrong_transaction_signature",
        &rules::seal(header, body, &node_key(1)).unwrap(),
    );
}

#[test]
fn a_changed_derived_record_is_named() {
    for family in DERIVED {
        for (key, value) in some_of(&Raw::new().records(family)) {
            for at in [0, value.len() / 2, value.len() - 1] {
                let mut changed = value.clone();
                changed[at] ^= 1;
                let raw = Raw::new();
                raw.put(family, &key, &changed);
                raw.finds("changed_record", &place(family, &key));
            }
        }
    }
}

#[test]
fn a_removed_derived_record_is_named() {
    for family in [&DERIVED[..], &[Family::Recent]].concat() {
        for (key, _) in some_of(&Raw::new().records(family)) {
            let raw = Raw::new();
            raw.delete(family, &key);
            raw.finds("missing_record", &place(family, &key));
        }
    }
}

#[test]
fn swapped_derived_records_are_named_by_the_first() {
    for family in DERIVED {
        let records = Raw::new().records(family);
        let pairs = records.iter().flat_map(|a| records.iter().map(move |b| (a, b)));
        let (a, b) = pairs.clone().find(|(a, b)| a.0 < b.0 && a.1 != b.1).unwrap();
        let raw = Raw::new();
        raw.put(family, &a.0, &b.1).put(family, &b.0, &a.1);
        raw.finds("changed_record", &place(family, &a.0));
    }
}

#[test]
fn an_added_derived_record_is_named() {
    for family in [&DERIVED[..], &[Family::Recent]].concat() {
        let raw = Raw::new();
        let records = raw.records(family);
        let (template, value) = &records[records.len() / 2];
        let mut added = template.clone();
        *added.last_mut().unwrap() ^= 0x55;
        if family == Family::Results {
            added = height_key(EXECUTED.next()).to_vec();
        }
        assert!(records.iter().all(|(key, _)| *key != added));
        raw.put(family, &added, value);
        raw.finds("extra_record", &place(family, &added));

        let raw = Raw::new();
        raw.put(family, b"\x00", value);
        raw.finds("extra_record", &key(&format!("{}/\\x00", family.name())));
    }
}

#[test]
fn an_id_that_is_remembered_for_another_time_is_named() {
    let raw = Raw::new();
    let (entry, _) = raw.records(Family::Recent)[3].clone();
    let mut later = entry.clone();
    later[7] ^= 1;
    raw.delete(Family::Recent, &entry).put(Family::Recent, &later, &[]);
    let report = raw.verify();
    assert_eq!(report.findings.len(), 2);
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.place == place(Family::Recent, &entry))
    );

    let raw = Raw::new();
    raw.put(Family::Recent, &entry, b"value");
    raw.finds("changed_record", &place(Family::Recent, &entry));
}

#[test]
fn records_of_meta_are_named() {
    let check = |kind: &str, name: &[u8], change: &dyn Fn(&Raw)| {
        let raw = Raw::new();
        change(&raw);
        raw.finds(kind, &place(Family::Meta, name));
    };
    for name in [
        meta::EXECUTED,
        meta::LATTICE,
        meta::FRONTIER,
        meta::NETWORK,
        meta::INCARNATION,
    ] {
        check("missing_record", name, &|raw| {
            raw.delete(Family::Meta, name);
        });
        check("changed_record", name, &|raw| {
            raw.put(Family::Meta, name, b"?");
        });
    }
    for name in [meta::LATTICE, meta::FRONTIER, meta::NETWORK] {
        let mut value = Raw::new().get(Family::Meta, name);
        *value.last_mut().unwrap() ^= 1;
        check("changed_record", name, &|raw| {
            raw.put(Family::Meta, name, &value);
        });
    }
    let promise = record::promise_key(Slot(1));
    for name in [meta::VOTE, meta::COMMIT, meta::START, &promise] {
        check("changed_record", name, &|raw| {
            raw.put(Family::Meta, name, &[0xff; 7]);
        });
    }
    check("changed_record", b"promise/1", &|raw| {
        raw.put(Family::Meta, b"promise/1", b"");
    });
    check("extra_record", b"other", &|raw| {
        raw.put(Family::Meta, b"other", b"1");
    });
}

#[test]
fn a_quadruple_that_was_changed_is_named() {
    let executed: Executed = codec::decode(&Raw::new().get(Family::Meta, meta::EXECUTED), 256).unwrap();
    for changed in [
        Executed {
            height: Height(39),
            ..executed
        },
        Executed {
            state_digest: Hash::ZERO,
            ..executed
        },
        Executed {
            results_chain: Hash::of(Context::ResultsChain, &[]),
            ..executed
        },
    ] {
        let raw = Raw::new();
        raw.put(Family::Meta, meta::EXECUTED, &codec::encode(&changed));
        raw.finds("changed_record", &key("meta/executed"));
    }
}

#[test]
fn certificates_beside_the_chain_are_named() {
    let at = height_key(CERTIFIED);
    let check = |change: &dyn Fn(&Raw), height: Height| {
        let raw = Raw::new();
        change(&raw);
        raw.finds("wrong_stored_certificate", &Place::Height(height));
    };
    let value = Raw::new().get(Family::Certificates, &at);
    for byte in 0..value.len() {
        if byte % 40 == 0 {
            let mut changed = value.clone();
            changed[byte] ^= 1;
            check(
                &|raw| {
                    raw.put(Family::Certificates, &at, &changed);
                },
                CERTIFIED,
            );
        }
    }
    let other = height_key(Height(29));
    check(
        &|raw| {
            raw.put(Family::Certificates, &other, &value);
        },
        Height(29),
    );
    let raw = Raw::new();
    raw.put(Family::Certificates, &height_key(Height(99)), &value);
    raw.finds("truncated", &Place::Height(TIP.next()));
}
