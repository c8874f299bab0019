//! Seeded runs of the product's rules: many seeds, no violation; the same seed twice, the same run.
//!
//! `QUIPU_SEEDS` sets how many seeds, `QUIPU_FIRST_SEED` where to begin; a failure names its seed and prints its trace.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a test stops where it fails

mod network;

use std::collections::BTreeMap;

use network::simulate;
use quipu_consensus::raft::RaftRules;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn no_seed_breaks_an_invariant() {
    let first = number("QUIPU_FIRST_SEED", 1);
    let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut blocks, mut elections, mut acknowledged, mut reads) = (0, 0, 0, 0);
    let mut broken = Vec::new();
    for seed in first..first + number("QUIPU_SEEDS", 300) {
        let report = simulate(RaftRules, seed, false);
        blocks += report.height;
        elections += report.elections;
        acknowledged += report.acknowledged;
        reads += report.reads;
        for (name, count) in report.faults {
            *faults.entry(name).or_default() += count;
        }
        if let Some(violation) = report.violation {
            println!("seed {seed}: {} {}", violation.invariant, violation.detail);
            broken.push(seed);
        }
    }
    println!("{blocks} blocks, {elections} terms led, {acknowledged} acknowledged, {reads} reads, faults {faults:?}");
    if let Some(seed) = broken.first() {
        let report = simulate(RaftRules, *seed, true);
        let skip = report
            .trace
            .len()
            .saturating_sub(usize::try_from(number("QUIPU_LINES", 60)).unwrap());
        println!("{}", report.trace.get(skip..).unwrap_or_default().join("\n"));
        panic!("seeds {broken:?} break an invariant; the first one's trace is above");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 1..=20 {
        assert_eq!(
            simulate(RaftRules, seed, false).hash,
            simulate(RaftRules, seed, true).hash,
            "seed {seed}"
        );
    }
    assert_ne!(simulate(RaftRules, 1, false).hash, simulate(RaftRules, 9, false).hash);
}
