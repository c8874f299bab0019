//! Searches the seeds and the scenarios that kill each planted bug: `cargo xtask mutants [--name PART] [--seeds N]
//! [--record]`.
//!
//! Prints a line for each: the first seed of N that kills it, the invariant, every scenario that breaks. Fails where
//! one survives, or where what is recorded in `tests/planted` is not what was found; `--record` writes it there.

// A developer's tool speaks to its terminal and stops where it fails.
#![allow(clippy::print_stdout, clippy::expect_used)]

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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use planted::{Mutant, mutants};

/// What the command line asks for.
struct Wanted {
    name: String,
    seeds: u64,
    record: bool,
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

/// Prints what kills the mutant; whether all is as recorded. Only one thread at a time records.
fn search(mutant: &Mutant, wanted: &Wanted, scenarios: &BTreeMap<String, String>, recording: &Mutex<()>) -> bool {
    let seeds = wanted.seeds;
    let broken = mutant.breaks(scenarios);
    let violation = |seed| mutant.run(seed).violation.map(|violation| (seed, violation));
    let killed = (1..=seeds).find_map(violation);
    let recorded = killed
        .as_ref()
        .is_some_and(|(seed, violation)| (*seed, violation.invariant) == (mutant.seed, mutant.invariant));
    if let Some((seed, violation)) = killed.as_ref().filter(|_| wanted.record && !recorded) {
        let _alone = recording.lock();
        record(mutant, *seed, violation.invariant);
    }
    let (seed, invariant, detail) = match killed {
        Some((seed, violation)) => (seed.to_string(), violation.invariant, violation.detail),
        None => ("none".to_owned(), "", format!("survives {seeds} seeds")),
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
    let chosen: Vec<&Mutant> = mutants().filter(|mutant| mutant.name.contains(&wanted.name)).collect();
    println!(
        "  mutant, first killing seed of {}, invariant, scenarios that break",
        wanted.seeds
    );
    let next = AtomicUsize::new(0);
    let other = AtomicUsize::new(0);
    let recording = Mutex::new(());
    let work = || {
        while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !search(mutant, &wanted, &scenarios, &recording) {
                other.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let other = other.into_inner();
    println!("{} mutants, {other} not as recorded (!)", chosen.len());
    if other == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
