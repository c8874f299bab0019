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
#[path = "../founding/mod.rs"]
mod founding;
mod host;
mod image;
mod network;
mod record;
mod worker;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use network::{Outcome, simulate_for};
use quipu_consensus::simulator::coverage::Coverage;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What many runs came to.
#[derive(Default)]
struct Sum {
    runs: u64,
    blocks: u64,
    elections: usize,
    reads: u64,
    answers: u64,
    refusals: u64,
    compared: u64,
    simulated_ms: u64,
    coverage: Coverage,
    broken: Vec<u64>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        let report = outcome.report;
        self.runs += 1;
        self.blocks += report.height;
        self.elections += report.elections;
        self.reads += report.reads;
        self.answers += outcome.answers;
        self.refusals += outcome.refusals;
        self.compared += outcome.compared;
        self.simulated_ms += outcome.simulated_ms;
        self.coverage.add(&report.coverage);
        if let Some(violation) = report.violation {
            println!("seed {}: {} {}", report.seed, violation.invariant, violation.detail);
            self.broken.push(report.seed);
        }
    }
}

/// How long a run is, simulated ms.
const RUN_MS: u64 = 24_000;

fn simulate(seed: u64, trace: bool) -> Outcome {
    simulate_for(seed, RUN_MS, trace)
}

#[test]
fn no_seed_breaks_an_invariant() {
    let first = number("QUIPU_FIRST_SEED", 1);
    let end = first + number("QUIPU_SEEDS", 200);
    let (next, sum, begun) = (AtomicU64::new(first), Mutex::new(Sum::default()), Instant::now());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut seed = next.fetch_add(1, Ordering::Relaxed);
                while seed < end {
                    let outcome = simulate(seed, false);
                    sum.lock().unwrap().add(outcome);
                    seed = next.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let mut sum = sum.into_inner().unwrap();
    sum.broken.sort_unstable();
    println!(
        "{} runs: {} blocks, {} terms led, {} receipts, {} refusals, {} reads, {} executions compared\n{}",
        sum.runs, sum.blocks, sum.elections, sum.answers, sum.refusals, sum.reads, sum.compared, sum.coverage
    );
    println!(
        "{} simulated s in {took:.1} s on {threads} cores",
        sum.simulated_ms / 1000
    );
    if let Some(seed) = sum.broken.first() {
        let trace = simulate(*seed, true).report.trace;
        let skip = trace.len().saturating_sub(number("QUIPU_LINES", 60) as usize);
        println!("{}", trace.get(skip..).unwrap_or_default().join("\n"));
        let broken = &sum.broken;
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
