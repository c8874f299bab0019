//! # xtask: what developers run
//!
//! `cargo xtask setup | test | tidy | demo | readme | mutants | simulate | bench`: everything that a fresh clone needs,
//! in one place, without RocksDB among its own dependencies, so that it builds in half a minute and can prepare what
//! RocksDB needs.
//!
//! | module | keeps |
//! | --- | --- |
//! | [`setup`] | finding, and where possible installing, what the build needs |
//! | [`suite`] | `cargo xtask test`: the checks in their order, and the count of tests at the end |
//! | [`tidy`] | the house rules, each a [`tidy::rule::Rule`] |
//! | [`demo`] | the story of a network whose leader is killed and whose copies are verified |
//! | [`tour`] | the README's commands, run and compared |
//! | [`simulate`] | seeds of the simulated network, as many and as long as one likes, and the trace of one |
//! | [`mod@bench`] | the standard measurements, on networks of their own, beside an earlier set |
//! | [`mutants`] | the search for what kills each planted bug of the ordering engine |
//! | [`keeper`] | that whatever a run started is stopped, however the run ends |
//! | [`command`] | running other programs: cargo without our own traces, output passed on while it is read |
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a developer's tool speaks to its terminal")]

mod bench;
mod command;
mod demo;
mod keeper;
mod mutants;
mod setup;
mod simulate;
mod suite;
mod tidy;
mod tour;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

/// What developers of Quipu run.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install what the build needs: libclang for RocksDB, a C++ compiler, the tools of the tests.
    Setup {
        /// Only look; install nothing.
        #[arg(long)]
        check: bool,
    },
    /// Every check: format, lints, documentation, house rules, tests. Sets up what it needs.
    Test,
    /// Only the house rules.
    Tidy,
    /// Three nodes, a real data set, a killed leader, three verified copies, one flipped byte. Sets up what it needs.
    Demo {
        /// Use the programs in this folder instead of building them.
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
    },
    /// Run the commands of README.md and compare what they print.
    Readme {
        /// Use the programs in this folder instead of building them.
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
    },
    /// Run seeds of the simulated network under every fault; or show the trace of one.
    Simulate(simulate::Options),
    /// Measure the standard set on networks of one and three nodes, in under five minutes. Sets up what it needs.
    Bench(bench::Options),
    /// Search, for each planted bug of the ordering engine, the first seed that kills it and the scenarios that break.
    Mutants {
        /// Only those whose name holds this, or one of several, with commas between.
        #[arg(long, value_name = "PART", default_value = "")]
        name: String,
        /// How many seeds to try.
        #[arg(long, value_name = "N", default_value_t = 2000)]
        seeds: u64,
        /// Write the seeds that are found into the tables.
        #[arg(long)]
        record: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> anyhow::Result<()> {
    let root = workspace_root()?;
    match verb {
        Verb::Setup { check } => setup::run(&root, *check),
        Verb::Test => suite::run(&root),
        Verb::Demo { programs } => demo::run(&root, programs.as_deref()),
        Verb::Readme { programs } => tour::run(&root, programs.as_deref()),
        Verb::Bench(options) => bench::run(&root, options),
        Verb::Simulate(options) => simulate::run(&root, options),
        Verb::Mutants { name, seeds, record } => mutants::run(&root, name, *seeds, *record),
        Verb::Tidy => {
            let findings = tidy::check(&root)?;
            for finding in &findings {
                println!("{finding}");
            }
            if !findings.is_empty() {
                bail!("{} findings of the house rules", findings.len());
            }
            println!("the house is tidy");
            Ok(())
        }
    }
}

/// The root of the checkout that this runs for: cargo says where the crate is; by hand, the current folder counts.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => std::env::current_dir()?,
    };
    let is_root = |directory: &&Path| directory.join("tools/xtask/Cargo.toml").is_file();
    let root = start
        .ancestors()
        .find(is_root)
        .context("not inside a checkout of Quipu")?;
    Ok(root.to_path_buf())
}
