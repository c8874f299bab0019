//! Seeded runs of whole replicas over the real rules: real keys, blocks, admission and execution, on simulated disks
//! and a simulated network. Many seeds, no violation; the same seed twice, the same run.
//!
//! `QUIPU_SEEDS` sets how many seeds, `QUIPU_FIRST_SEED` where to begin; a failure names its seed and prints its trace.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)] // a test stops where it fails

mod clients;
mod derived;
#[path = "../../../consensus/tests/network/fleet.rs"]
mod fleet;
#[path = "../founding/mod.rs"]
mod founding;
mod host;
mod image;
mod network;
mod record;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};

use fleet::run_seeds;
use network::{Outcome, simulate_for};
use quipu_consensus::simulator::run::Options;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// How long a run is, simulated ms.
const RUN_MS: u64 = 24_000;

fn simulate(seed: u64, trace: bool) -> Outcome {
    simulate_for(seed, RUN_MS, |options| Options { trace, ..options })
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (first, count) = (number("QUIPU_FIRST_SEED", 1), number("QUIPU_SEEDS", 200));
    let (refusals, compared) = (AtomicU64::new(0), AtomicU64::new(0));
    let run = |seed| {
        let outcome = simulate(seed, false);
        refusals.fetch_add(outcome.refusals, Ordering::Relaxed);
        compared.fetch_add(outcome.compared, Ordering::Relaxed);
        outcome.report
    };
    let totals = run_seeds(first, count, &run, |_| true);
    let (refusals, compared) = (refusals.into_inner(), compared.into_inner());
    println!("{totals}\n{refusals} refusals, {compared} executions compared");
    if let Some((seed, _)) = totals.violations.first() {
        let trace = simulate(*seed, true).report.trace;
        let skip = trace.len().saturating_sub(number("QUIPU_LINES", 60) as usize);
        println!("{}", trace.get(skip..).unwrap_or_default().join("\n"));
        let broken: Vec<u64> = totals.violations.iter().map(|(seed, _)| *seed).collect();
        panic!("seeds {broken:?} break an invariant; the first one's trace is above");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 1..=10 {
        let (once, again) = (simulate(seed, false).report, simulate(seed, true).report);
        assert_eq!(once.hash, again.hash, "seed {seed}");
    }
    assert_ne!(simulate(1, false).report.hash, simulate(9, false).report.hash);
}
