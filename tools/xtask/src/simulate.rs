//! Keeps `cargo xtask simulate`: many seeds of a simulated network, or the trace of one. The simulator lives in
//! `quipu-consensus`; this builds and runs an example of the participant's crate, and passes on what it prints.

use std::path::Path;

use anyhow::ensure;

use crate::{command, setup};

/// Whose network is simulated.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Participant {
    /// The bare engine, with blocks that only have a number in them.
    Engine,
    /// The node's whole replica, with the real rules of the ledger.
    Replica,
}

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// How many seeds; 2000 unless `--minutes` ends the run.
    #[arg(long)]
    seeds: Option<u64>,
    /// How long each run is, in simulated seconds: two thirds with faults, one third healed.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Let the disks forget and the processes die often in each N-th seed, whatever else it draws; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    frail_disks: u64,
    /// Go on with further seeds for so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Whose network.
    #[arg(long, value_enum, default_value = "engine")]
    participant: Participant,
    /// Show the trace of this seed instead.
    #[arg(long, value_name = "SEED")]
    trace: Option<u64>,
    /// How many lines of a trace, from its end.
    #[arg(long, default_value_t = 200)]
    lines: u64,
}

/// Runs the seeds; fails where one breaks an invariant.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let package = match options.participant {
        Participant::Engine => "quipu-consensus",
        Participant::Replica => "quipu-node",
    };
    let mut cargo = command::cargo(root, &[]);
    cargo.args(["run", "--release", "--package", package, "--example", "simulate", "--"]);
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            cargo.args([name, &value.to_string()]);
        }
    };
    number("--first-seed", Some(options.first_seed));
    number("--seconds", Some(options.seconds));
    number("--frail-disks", Some(options.frail_disks));
    number("--seeds", options.seeds);
    number("--minutes", options.minutes);
    number("--trace", options.trace);
    number("--lines", Some(options.lines));
    let summary = setup::target_directory(root)?.join("simulation-summary.txt");
    cargo.arg("--summary").arg(&summary);
    println!("$ {}", command::shown(&cargo));
    if options.trace.is_none() {
        println!("the summary so far is in {}, each minute", summary.display());
    }
    ensure!(command::succeeds(&mut cargo)?, "an invariant is broken, or nothing ran");
    Ok(())
}
