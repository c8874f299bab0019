//! Searches the seeds and the scenarios that kill each planted bug: `cargo xtask mutants [--name PART,PART] [--seeds N]
//! [--record]`.
//!
//! Prints a line for each: the first seed of N that kills it, the invariant, every scenario that breaks. Fails where
//! one survives, or where what is recorded in `tests/planted` is not what was found; `--record` writes it there.

// A developer's tool speaks to its terminal and stops where it fails.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "../tests/network/mod.rs"]
mod network;
#[path = "../tests/planted/mod.rs"]
mod planted;
#[path = "../tests/script/mod.rs"]
mod script;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use planted::{Mutant, differing, mutants};
use quipu_consensus::simulator::checkers::Violation;

/// What the command line asks for.
struct Wanted {
    name: String,
    seeds: u64,
    record: bool,
}

impl Wanted {
    /// Whether one of the parts asked for is in its name.
    fn names(&self, mutant: &Mutant) -> bool {
        self.name.split(',').any(|part| mutant.name.contains(part))
    }
}

fn wanted() -> Wanted {
    let mut wanted = Wanted {
        name: String::new(),
        seeds: 2000,
        record: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--record" {
            wanted.record = true;
            continue;
        }
        let value = words.next().expect("a value follows each option");
        match word.as_str() {
            "--name" => wanted.name = value,
            "--seeds" => wanted.seeds = value.parse().expect("a number of seeds"),
            _ => unreachable!("the options are --name, --seeds and --record, not {word}"),
        }
    }
    wanted
}

/// Writes the seed and the invariant that were found into the table of the mutant.
fn record(mutant: &Mutant, seed: u64, invariant: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/planted");
    let recorded = format!("    {}, {}, \"{}\", ", mutant.name, mutant.seed, mutant.invariant);
    let found = format!("    {}, {seed}, \"{invariant}\", ", mutant.name);
    for entry in fs::read_dir(folder).expect("the tables are there") {
        let path = entry.expect("the tables are there").path();
        let table = fs::read_to_string(&path).expect("a table is text");
        if table.contains(&recorded) {
            fs::write(path, table.replace(&recorded, &found)).expect("a table can be written");
        }
    }
}

/// The first seed that kills a mutant, and what breaks there.
type Killed = Option<(u64, Violation)>;

/// The first of so many seeds that kills each mutant. A seed in which a mutant decides nothing otherwise than the
/// product is not run for it.
fn search(chosen: &[&'static Mutant], seeds: u64) -> Vec<Killed> {
    let found: Vec<Mutex<Killed>> = chosen.iter().map(|_| Mutex::new(None)).collect();
    let (next, said) = (AtomicU64::new(1), AtomicUsize::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let first = |place: usize| {
                found[place]
                    .lock()
                    .expect("no search fails")
                    .as_ref()
                    .map(|(seed, _)| *seed)
            };
            let left = (0..chosen.len()).filter(|place| first(*place).is_none_or(|killed| seed < killed));
            let left: Vec<usize> = left.collect();
            if seed > seeds || left.is_empty() {
                return;
            }
            let (frail, firm): (Vec<&Mutant>, Vec<&Mutant>) = left
                .iter()
                .map(|place| chosen[*place])
                .partition(|mutant| mutant.frail_disks);
            for mutant in differing(seed, &frail).into_iter().chain(differing(seed, &firm)) {
                let place = left.iter().copied().find(|place| chosen[*place].name == mutant.name);
                let (Some(place), Some(violation)) = (place, mutant.run(seed).violation) else {
                    continue;
                };
                let mut killed = found[place].lock().expect("no search fails");
                if killed.as_ref().is_none_or(|(before, _)| seed < *before) {
                    *killed = Some((seed, violation));
                    let dead = said.fetch_add(1, Ordering::Relaxed);
                    eprintln!(
                        "seed {seed} kills {}, {} are left",
                        mutant.name,
                        chosen.len().saturating_sub(dead + 1)
                    );
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let inner = |killed: Mutex<Killed>| killed.into_inner().expect("no search fails");
    // What is rarer than that keeps the seed that a longer search has found.
    let known = |mutant: &Mutant| {
        let violation = (mutant.seed > seeds).then(|| mutant.run(mutant.seed).violation);
        violation.flatten().map(|violation| (mutant.seed, violation))
    };
    let found = found.into_iter().map(inner);
    let pairs = found.zip(chosen);
    pairs.map(|(killed, mutant)| killed.or_else(|| known(mutant))).collect()
}

/// Prints what kills the mutant; whether all is as recorded.
fn report(mutant: &Mutant, killed: Killed, wanted: &Wanted, scenarios: &BTreeMap<String, String>) -> bool {
    let broken = mutant.breaks(scenarios);
    let recorded = killed
        .as_ref()
        .is_some_and(|(seed, violation)| (*seed, violation.invariant) == (mutant.seed, mutant.invariant));
    if let Some((seed, violation)) = killed.as_ref().filter(|_| wanted.record && !recorded) {
        record(mutant, *seed, violation.invariant);
    }
    let (seed, invariant, detail) = match killed {
        Some((seed, violation)) => (seed.to_string(), violation.invariant, violation.detail),
        None => ("none".to_owned(), "", format!("survives {} seeds", wanted.seeds)),
    };
    let well = recorded && broken.contains(&mutant.scenario);
    let mark = if well { " " } else { "!" };
    let detail: String = detail.chars().take(90).collect();
    println!(
        "{mark} {:<28} {seed:>4} {invariant:<5} {detail}\n  {:<34} {}",
        mutant.name,
        "",
        broken.join(" ")
    );
    well
}

fn main() -> ExitCode {
    let wanted = wanted();
    let scenarios = script::scenarios();
    let chosen: Vec<&Mutant> = mutants().filter(|mutant| wanted.names(mutant)).collect();
    let found = search(&chosen, wanted.seeds);
    println!(
        "  mutant, first killing seed of {}, invariant, scenarios that break",
        wanted.seeds
    );
    let other = chosen
        .iter()
        .zip(found)
        .filter(|(mutant, killed)| !report(mutant, killed.clone(), &wanted, &scenarios))
        .count();
    println!("{} mutants, {other} not as recorded (!)", chosen.len());
    if other == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
