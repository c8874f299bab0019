//! Keeps the command line of a hunt for seeds that break an invariant, for any participant: `cargo xtask simulate`.
//!
//! Invariant: whatever ends the hunt, the summary of what was run so far is in the file that was named for it, at most
//! a minute old.

// A developer's tool speaks to its terminal, tells the time and stops where it fails.
#![allow(dead_code, unreachable_pub, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::panic, clippy::expect_used, clippy::arithmetic_side_effects)]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use quipu_consensus::simulator::checkers::meaning;
use quipu_consensus::simulator::run::Report;

use super::fleet::{Totals, run_seeds};

/// What the command line asks for.
struct Wanted {
    first: u64,
    seeds: Option<u64>,
    seconds: u64,
    /// One seed in this many has frail disks; for zero, none has.
    frail_disks: u64,
    minutes: Option<u64>,
    trace: Option<u64>,
    lines: usize,
    summary: Option<String>,
}

impl Wanted {
    fn from(mut words: impl Iterator<Item = String>) -> Self {
        let mut wanted = Self {
            first: 1,
            seeds: None,
            seconds: 60,
            frail_disks: 0,
            minutes: None,
            trace: None,
            lines: 200,
            summary: None,
        };
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("a value follows {word}"));
            let number = || value.parse().unwrap_or_else(|_| panic!("{word} takes a number"));
            match word.as_str() {
                "--first-seed" => wanted.first = number(),
                "--seeds" => wanted.seeds = Some(number()),
                "--seconds" => wanted.seconds = number(),
                "--frail-disks" => wanted.frail_disks = number(),
                "--minutes" => wanted.minutes = Some(number()),
                "--trace" => wanted.trace = Some(number()),
                "--lines" => wanted.lines = usize::try_from(number()).expect("a number of lines"),
                "--summary" => wanted.summary = Some(value),
                _ => panic!("there is no option {word}"),
            }
        }
        wanted
    }
}

/// A run to make.
pub struct Wish {
    pub seed: u64,
    /// Its length, simulated ms.
    pub ms: u64,
    /// Whether processes die often and disks forget often in it.
    pub frail_disks: bool,
    /// Whether a readable trace is kept.
    pub trace: bool,
}

/// Runs what the command line asks for. `name` is the participant's, for the command that replays a seed.
pub fn hunt(name: &str, run: &(dyn Fn(Wish) -> Report + Sync)) -> ExitCode {
    let wanted = Wanted::from(std::env::args().skip(1));
    let wish = |seed: u64, trace| Wish {
        seed,
        ms: wanted.seconds * 1000,
        frail_disks: wanted.frail_disks > 0 && seed % wanted.frail_disks == 3 % wanted.frail_disks,
        trace,
    };
    if let Some(seed) = wanted.trace {
        return shown(&run(wish(seed, true)), wanted.lines);
    }
    let count = wanted.seeds.unwrap_or(match wanted.minutes {
        Some(_) => u64::MAX,
        None => 2_000,
    });
    let begun = Instant::now();
    let (mut said, mut flushed, mut broken) = (begun, begun, 0);
    let terminal = std::io::stderr().is_terminal();
    let totals = run_seeds(wanted.first, count, &|seed| run(wish(seed, false)), |totals| {
        for (seed, violation) in totals.violations.iter().skip(broken) {
            let replay = format!(
                "cargo xtask simulate --participant {name} --seconds {} --frail-disks {} --trace {seed}",
                wanted.seconds, wanted.frail_disks
            );
            println!(
                "seed {seed} breaks {}: {}\n  {replay}",
                violation.invariant, violation.detail
            );
        }
        broken = totals.violations.len();
        if terminal && said.elapsed() > Duration::from_millis(300) {
            said = Instant::now();
            eprint!("\r{} of {count} seeds, {broken} violations ", totals.seeds);
        }
        if flushed.elapsed() > Duration::from_secs(60) {
            flushed = Instant::now();
            println!("after {} s: {}", begun.elapsed().as_secs(), totals.line());
            flush(&wanted, totals, begun);
        }
        let time = wanted
            .minutes
            .map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
        time.is_none_or(|time| begun.elapsed() < time)
    });
    if terminal {
        eprint!("\r{:60}\r", "");
    }
    println!("{}", summary(&totals, begun));
    flush(&wanted, &totals, begun);
    if totals.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn summary(totals: &Totals, begun: Instant) -> String {
    let wall = begun.elapsed();
    let speed = u128::from(totals.simulated_ms).checked_div(wall.as_millis().max(1));
    format!(
        "{totals}\n{} s of wall time, {} simulated s in each",
        wall.as_secs(),
        speed.unwrap_or(0)
    )
}

fn flush(wanted: &Wanted, totals: &Totals, begun: Instant) {
    if let Some(path) = &wanted.summary
        && let Err(error) = std::fs::write(path, summary(totals, begun) + "\n")
    {
        println!("the summary is not in {path}: {error}");
    }
    let _ = std::io::stdout().flush();
}

/// Prints the end of a run's trace, and what was broken.
fn shown(report: &Report, lines: usize) -> ExitCode {
    let skip = report.trace.len().saturating_sub(lines);
    if skip > 0 {
        println!("... {skip} lines before (--lines N shows more)");
    }
    for line in report.trace.iter().skip(skip) {
        println!("{line}");
    }
    let Some(violation) = &report.violation else {
        println!("seed {} breaks nothing, trace hash {:016x}", report.seed, report.hash);
        return ExitCode::SUCCESS;
    };
    let invariant = violation.invariant;
    println!(
        "\nseed {} breaks {invariant}: {}\n{invariant} is: {}",
        report.seed,
        violation.detail,
        meaning(invariant)
    );
    ExitCode::FAILURE
}
