//! Runs seeds of the simulated network with the whole replica in every node: `cargo xtask simulate --participant
//! replica`, which says more.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code
)] // made of the parts of a test, which stops where it fails and prints more

#[path = "../tests/simulation/clients.rs"]
mod clients;
#[path = "../tests/simulation/derived.rs"]
mod derived;
#[path = "../../consensus/tests/network/fleet.rs"]
mod fleet;
#[path = "../tests/founding/mod.rs"]
mod founding;
#[path = "../tests/simulation/host.rs"]
mod host;
#[path = "../../consensus/tests/network/hunt.rs"]
mod hunt;
#[path = "../tests/simulation/image.rs"]
mod image;
#[path = "../tests/simulation/network.rs"]
mod network;
#[path = "../tests/simulation/record.rs"]
mod record;
#[path = "../tests/simulation/worker.rs"]
mod worker;

use std::process::ExitCode;

use quipu_consensus::simulator::run::Options;

fn main() -> ExitCode {
    hunt::hunt("replica", &|wish| {
        let chosen = |options| Options {
            frail_disks: wish.frail_disks,
            trace: wish.trace,
            ..options
        };
        network::simulate_for(wish.seed, wish.ms, chosen).report
    })
}
