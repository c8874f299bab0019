//! Runs seeds of the simulated network with the bare engine in every node: `cargo xtask simulate`, which says more.

#[path = "../tests/network/mod.rs"]
mod network;

use std::process::ExitCode;

use network::{hunt, lasting, simulate_for};
use quipu_consensus::raft::RaftRules;
use quipu_consensus::simulator::run::Options;

fn main() -> ExitCode {
    hunt::hunt("engine", &|wish| {
        let options = Options {
            frail_disks: wish.frail_disks,
            trace: wish.trace,
            ..lasting(wish.ms)
        };
        simulate_for(RaftRules, wish.seed, options)
    })
}
