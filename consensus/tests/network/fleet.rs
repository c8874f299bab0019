//! Runs many seeds on all cores, and adds up what came of them.
//!
//! Invariant: what is added up does not depend on which core ran which seed.

#![allow(dead_code, unreachable_pub, clippy::arithmetic_side_effects)] // sums of tests

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use quipu_consensus::simulator::checkers::{Violation, meaning};
use quipu_consensus::simulator::coverage::Coverage;
use quipu_consensus::simulator::run::Report;

/// What came of all seeds so far.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub seeds: u64,
    pub simulated_ms: u64,
    pub violations: Vec<(u64, Violation)>,
    pub blocks: u64,
    pub elections: usize,
    pub acknowledged: u64,
    pub reads: u64,
    /// The most that waited in one process of any run, and in which.
    pub backlog: (u64, u64),
    /// The longest that a healed network took to have a leader, and in which run.
    pub leader_after_ms: (u64, u64),
    pub coverage: Coverage,
}

impl Totals {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.simulated_ms += report.simulated_ms;
        self.blocks += report.height;
        self.elections += report.elections;
        self.acknowledged += report.acknowledged;
        self.reads += report.reads;
        self.backlog = self.backlog.max((report.backlog, report.seed));
        self.leader_after_ms = self.leader_after_ms.max((report.leader_after_ms, report.seed));
        self.coverage.add(&report.coverage);
        if let Some(violation) = report.violation {
            self.violations.push((report.seed, violation));
            self.violations.sort_by_key(|(seed, _)| *seed);
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        format!(
            "{} seeds, {:.1} simulated hours, {} violations, {} blocks, {} elections, {} acknowledgements, {} reads",
            self.seeds,
            self.hours(),
            self.violations.len(),
            self.blocks,
            self.elections,
            self.acknowledged,
            self.reads
        )
    }

    #[allow(clippy::cast_precision_loss, clippy::as_conversions)] // for people
    pub fn hours(&self) -> f64 {
        self.simulated_ms as f64 / 3_600_000.0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.coverage)?;
        let (backlog, seed) = self.backlog;
        writeln!(out, "at most {backlog} things waited in one process (seed {seed})")?;
        let (ms, seed) = self.leader_after_ms;
        writeln!(
            out,
            "a healed network had a leader after at most {ms} simulated ms (seed {seed})"
        )?;
        for (seed, violation) in &self.violations {
            let Violation { invariant, detail } = violation;
            writeln!(out, "seed {seed} breaks {invariant} ({}): {detail}", meaning(invariant))?;
        }
        write!(out, "{}", self.line())
    }
}

/// Runs seeds from `first` on, on all cores, until `count` of them are done or `more` says no; `more` is asked after
/// each.
pub fn run_seeds(
    first: u64,
    count: u64,
    run: &(dyn Fn(u64) -> Report + Sync),
    mut more: impl FnMut(&Totals) -> bool,
) -> Totals {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let sender = sender.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = seed >= first.saturating_add(count) || stop.load(Ordering::Relaxed);
                    if over || sender.send(run(seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in receiver {
            totals.add(report);
            if !more(&totals) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    totals
}
