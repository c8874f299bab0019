//! Every order of events around the product's engine, within bounds: messages in any order, repeated or lost, writes
//! that are late, silences, a crash at any place of the disk's work and the restart from what was there.
//!
//! `QUIPU_MODEL=long` looks further where a setting is too large to be finished.

// A test stops where it fails.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::print_stdout
)]

mod fingerprint;
mod history;
mod mutants;
mod node;
mod orderly;
mod system;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mutants::{PLANTED, Planted};
use node::Decides;
use quipu_consensus::raft::RaftRules;
use quipu_consensus::simulator::random::Random;
use stateright::{Checker, HasDiscoveries, Model};
use system::{Bounds, Network, Step};

/// Two terms, two writes of clients, one crash with a restart.
const TWO_TERMS: Bounds = Bounds::of(2, 3, 2, 1);
/// Two terms and one crash with a restart, in an orderly network: a space with an end. The blocks that open a term are
/// its two proposals.
const TWO_TERMS_IN_ORDER: Bounds = Bounds::of(2, 2, 0, 1).orderly();
const THREADS: usize = 2;
/// Runs drawn by chance, at most.
const WALKS: u32 = 200_000;
/// A search that needs longer than this is none for a test.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Prints what a check came to; whether it was the whole space.
fn report<R: Decides>(bounds: Bounds, begun: Instant, checker: &impl Checker<Network<R>>) -> bool {
    let (unique, visited) = (
        checker.unique_state_count(),
        checker.model().visited.load(Ordering::Relaxed),
    );
    let (nodes, steps) = checker.model().parts();
    let whole = unique == visited;
    println!(
        "{bounds:?}: {unique} unique states, {visited} of them visited, {}, depth {}, {:?}",
        if whole { "finished" } else { "not finished" },
        checker.max_depth(),
        begun.elapsed(),
    );
    println!("  made of {nodes} states of single nodes and {steps} steps between them");
    for (name, path) in checker.discoveries() {
        println!("  {name}: after {} steps", path.into_actions().len());
    }
    whole
}

/// One term, one crash with a restart: everything that can happen does, and nothing breaks.
#[test]
fn a_term_with_a_crash_and_a_restart_is_safe_to_the_last_state() {
    search_to_the_last_state(Bounds::of(1, 1, 0, 1));
}

/// Two terms, two proposals, one crash with a restart: so many states, and not one that is left out.
#[test]
fn two_terms_with_a_crash_in_an_orderly_network_are_safe_to_the_last_state() {
    let unique = search_to_the_last_state(TWO_TERMS_IN_ORDER);
    assert!(unique >= 2_000_000, "too few states: {unique}");
}

/// The whole space, in which all that it is there for must be met; how many states it has.
fn search_to_the_last_state(bounds: Bounds) -> usize {
    let begun = Instant::now();
    let checker = Network::new(RaftRules, bounds)
        .checker()
        .threads(THREADS)
        .timeout(PATIENCE)
        .spawn_dfs()
        .join();
    assert!(report(bounds, begun, &checker), "the space was not finished");
    checker.assert_properties();
    checker.unique_state_count()
}

/// Two terms, two writes of clients, one crash with a restart: as many states as there is time for.
#[test]
fn two_terms_with_writes_and_a_crash_are_safe_as_far_as_the_search_goes() {
    let long = std::env::var("QUIPU_MODEL").is_ok_and(|text| text == "long");
    let bounds = TWO_TERMS;
    let begun = Instant::now();
    let checker = Network::new(RaftRules, bounds)
        .checker()
        .threads(THREADS)
        .timeout(PATIENCE)
        .target_state_count(if long { 300_000_000 } else { 30_000_000 })
        .spawn_dfs()
        .join();
    report(bounds, begun, &checker);
    nothing_breaks(&checker);
    assert!(checker.unique_state_count() >= 2_000_000, "too few states");
}

/// The same space holds what it is there for: runs drawn by chance meet it all.
#[test]
fn two_terms_with_writes_and_a_crash_come_to_everything_that_matters() {
    let bounds = TWO_TERMS;
    let network = Network::new(RaftRules, bounds);
    let mut missing = network.properties();
    missing.retain(|property| !property.expectation.discovery_is_failure());
    let mut random = Random::new(1);
    for walk in 1..=WALKS {
        let steps = network.walk(&mut random, |state| {
            missing.retain(|property| !(property.condition)(&network, state));
        });
        assert!(steps.is_none(), "{steps:#?}");
        if missing.is_empty() {
            return println!("all met after {walk} walks of {bounds:?}");
        }
    }
    let missing: Vec<_> = missing.iter().map(|property| property.name).collect();
    unreachable!("never met: {missing:?}");
}

fn nothing_breaks(checker: &impl Checker<Network<RaftRules>>) {
    for property in checker.model().properties() {
        if property.expectation.discovery_is_failure() {
            let found = checker.discovery(property.name);
            let steps = found.map(stateright::Path::into_actions);
            assert!(steps.is_none(), "{}: {steps:#?}", property.name);
        }
    }
}

/// An orderly network hides what needs a late write or, as figure 8, one silence more: the other settings are for that.
#[test]
fn an_orderly_network_refutes_planted_bugs() {
    for (planted, _, _) in PLANTED {
        if matches!(planted, Planted::CountsItselfUnsynced | Planted::CommitsOlderTerms) {
            continue;
        }
        let (broken, steps) = shortest_harm(planted, TWO_TERMS_IN_ORDER);
        println!("{planted:?} breaks {broken:?} in {} steps", steps.len());
        assert!(!broken.is_empty(), "{planted:?} breaks nothing");
    }
}

#[test]
fn the_model_refutes_planted_bugs() {
    for (planted, bounds, invariant) in PLANTED {
        let (broken, steps) = if bounds.terms == 1 {
            shortest_harm(planted, bounds)
        } else {
            harm_by_chance(planted, bounds)
        };
        println!("{planted:?} breaks {broken:?} in {} steps:", steps.len());
        for step in &steps {
            println!("    {step:?}");
        }
        assert!(broken.contains(invariant), "{planted:?} breaks {broken:?}");
    }
}

/// The shortest way to a broken invariant, and all that are broken within as many steps.
fn shortest_harm(planted: Planted, bounds: Bounds) -> (BTreeSet<&'static str>, Vec<Step>) {
    let begun = Instant::now();
    let checker = Network::new(planted, bounds)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    report(bounds, begun, &checker);
    let paths = checker.discoveries().into_values();
    let ways = paths.filter_map(|path| Some((path.last_state().history.broken?, path.into_actions())));
    let ways: Vec<_> = ways.collect();
    let broken = ways.iter().map(|(broken, _)| *broken).collect();
    let shortest = ways.into_iter().map(|(_, steps)| steps).min_by_key(Vec::len);
    (broken, shortest.unwrap_or_default())
}

/// A run to a broken invariant, for what lies too deep for a search in breadth.
fn harm_by_chance(planted: Planted, bounds: Bounds) -> (BTreeSet<&'static str>, Vec<Step>) {
    let network = Network::new(planted, bounds);
    let mut random = Random::new(1);
    let broken = (1..=WALKS).find_map(|_| network.walk(&mut random, |_| {}));
    broken.map_or_else(Default::default, |(broken, steps)| (BTreeSet::from([broken]), steps))
}
