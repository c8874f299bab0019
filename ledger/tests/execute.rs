//! Execution as a pure function: random chains against the naive model, and each rule by itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod model;
mod network;
mod state;

use model::Model;
use network::{delete, put, require};
use proptest::prelude::*;
use quipu_crypto::id::{Height, TimeMs};
use quipu_ledger::execute::{Progress, execute, replay_boundary};
use quipu_ledger::limits::REPLAY_PURGE_STEP_MS;
use quipu_ledger::operation::{Condition, Operation, Version};
use quipu_ledger::result::{Outcome, Reason};
use quipu_ledger::rules::ChainTip;
use quipu_ledger::transaction::SignedTransaction;
use state::Maps;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_chains_come_out_as_in_the_naive_model(plans in model::plans(1..14)) {
        let (membership, blocks) = model::chain(&plans);
        let mut model = Model::new(&blocks[0]);
        let mut maps = Maps::default();
        let mut progress = Progress::genesis();
        for block in &blocks[1..] {
            let effects = execute(&maps, block, &membership).unwrap();
            prop_assert_eq!(&effects.results, &model.execute(block, &membership));
            progress = progress.after(&effects);
            maps.take(block, &effects);
            prop_assert_eq!(progress.executed, model.last());
            let state: Vec<_> = maps.state.iter().map(|(key, stored)| {
                ((key.namespace().to_owned(), key.key().to_vec()), (stored.version, stored.value.clone()))
            }).collect();
            prop_assert_eq!(state, model.state.clone().into_iter().collect::<Vec<_>>());
            let recent: Vec<_> = maps.recent.iter().map(|entry| (entry.expires_at, entry.id)).collect();
            prop_assert_eq!(recent, model.recent());
        }
    }
}

/// A chain of one block of transactions at `START + 2000`, and what came of each.
fn outcomes(make: impl FnOnce(&ChainTip) -> Vec<SignedTransaction>) -> Vec<Outcome> {
    let membership = network::membership(1);
    let tip = ChainTip::genesis(&network::genesis(7, membership.clone())).unwrap();
    let tip = tip
        .check(&network::opening(&tip, quipu_crypto::id::Term(1), 0, &[0]))
        .unwrap();
    let block = network::next(&tip, network::transactions_of(make(&tip)));
    let effects = execute(&Maps::default(), &block, &membership).unwrap();
    effects.results.iter().map(|result| result.outcome).collect()
}

const NOW: TimeMs = TimeMs(network::START.0 + 2000);

fn by(tip: &ChainTip, sender: u8, expires_at: TimeMs, operations: Vec<Operation>) -> SignedTransaction {
    network::transaction(tip.network(), sender, 0, expires_at, operations)
}

#[test]
fn expiry_is_the_first_check_and_its_bounds_are_exact() {
    let write = || vec![put("default", "a", "1")];
    let found = outcomes(|tip| {
        vec![
            by(tip, 3, NOW, write()),
            by(tip, 0, NOW.plus(1), write()),
            by(tip, 0, NOW.plus(60_000), write()),
            by(tip, 3, NOW.plus(60_001), write()),
            by(tip, 3, NOW.plus(60_000), write()),
        ]
    });
    let expected = [
        Outcome::Failed(Reason::Expired),
        Outcome::Applied,
        Outcome::Applied,
        Outcome::Failed(Reason::ExpiryTooFar),
        Outcome::Failed(Reason::UnknownMember),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_transaction_counts_once_even_where_it_failed() {
    let found = outcomes(|tip| {
        let stranger = by(tip, 3, NOW.plus(5), vec![put("default", "a", "1")]);
        let late = by(tip, 0, NOW, vec![put("default", "a", "1")]);
        vec![stranger.clone(), late.clone(), stranger, late]
    });
    let expected = [
        Outcome::Failed(Reason::UnknownMember),
        Outcome::Failed(Reason::Expired),
        Outcome::Failed(Reason::Duplicate),
        Outcome::Failed(Reason::Expired),
    ];
    assert_eq!(found, expected);
}

#[test]
fn rights_come_before_requirements_and_reading_needs_a_namespace() {
    let fails = || require("default", "a", Condition::Present);
    let found = outcomes(|tip| {
        vec![
            by(tip, 0, NOW.plus(1), vec![fails(), put("audit", "a", "1")]),
            by(tip, 0, NOW.plus(2), vec![require("nowhere", "a", Condition::Absent)]),
            by(tip, 0, NOW.plus(3), vec![require("audit", "a", Condition::Absent)]),
            by(
                tip,
                0,
                NOW.plus(4),
                vec![put("default", "a", "1"), delete("nowhere", "a")],
            ),
            by(tip, 0, NOW.plus(5), vec![put("default", "b", "1"), fails()]),
        ]
    });
    let expected = [
        Outcome::Failed(Reason::NotPermitted { operation: 1 }),
        Outcome::Failed(Reason::NotPermitted { operation: 0 }),
        Outcome::Applied,
        Outcome::Failed(Reason::NotPermitted { operation: 1 }),
        Outcome::Failed(Reason::RequirementFailed { operation: 1 }),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_transaction_sees_its_own_writes_and_those_before_it() {
    let first = Version {
        height: Height(2),
        position: 0,
    };
    let found = outcomes(|tip| {
        let own = vec![
            require("default", "a", Condition::Absent),
            put("default", "a", "1"),
            require("default", "a", Condition::Version(first)),
            put("default", "a", "2"),
            require("default", "a", Condition::Value(b"2".to_vec())),
        ];
        let undone = vec![
            delete("default", "a"),
            require("default", "a", Condition::Absent),
            require("default", "a", Condition::Present),
        ];
        let next = vec![
            require("default", "a", Condition::Version(first)),
            delete("default", "a"),
        ];
        let last = vec![require("default", "a", Condition::Absent)];
        [own, undone, next, last]
            .into_iter()
            .zip(1..)
            .map(|(operations, delay)| by(tip, 0, NOW.plus(delay), operations))
            .collect()
    });
    let expected = [
        Outcome::Applied,
        Outcome::Failed(Reason::RequirementFailed { operation: 2 }),
        Outcome::Applied,
        Outcome::Applied,
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_replay_boundary_is_the_last_whole_step() {
    let step = REPLAY_PURGE_STEP_MS;
    for (time, boundary) in [
        (0, 0),
        (step - 1, 0),
        (step, step),
        (step + 1, step),
        (2 * step - 1, step),
    ] {
        assert_eq!(replay_boundary(TimeMs(time)), TimeMs(boundary), "{time}");
    }
}
