//! The simulated network that the tests run: its settings and its members, for any rules.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // each test target uses its part

pub mod fleet;
pub mod hunt;

use quipu_consensus::block::Configuration;
use quipu_consensus::engine::Settings;
use quipu_consensus::raft::Rules;
use quipu_consensus::simulator::engine_host::{EngineHost, EngineSetup};
use quipu_consensus::simulator::run::{Options, Report, run};
use quipu_crypto::id::Slot;

/// Small limits, so that windows, caches and back-pressure are met within seconds.
pub const SETTINGS: Settings = Settings {
    election_min_ms: 150,
    election_max_ms: 300,
    heartbeat_ms: 30,
    stall_ms: 1_500,
    hello_wait_ms: 400,
    append_bytes: 600,
    window_bytes: 2000,
    uncommitted_bytes: 6000,
    cache_bytes: 2000,
};

/// Voters 1 to `count`.
pub fn voters(count: u32) -> Configuration {
    Configuration {
        voters: (1..=count).map(Slot).collect(),
        ..Configuration::default()
    }
}

/// How long a run of the tests is, simulated ms.
pub const RUN_MS: u64 = 60_000;

/// A run of `ms` in all.
pub fn lasting(ms: u64) -> Options {
    Options::lasting(ms, SETTINGS.hello_wait_ms, SETTINGS.election_max_ms)
}

/// Who votes in the network of `seed`: everybody in most; in some it is joint all along, or two only listen.
pub fn members(seed: u64) -> Configuration {
    let slots = |first: u32, last: u32| (first..=last).map(Slot).collect();
    match seed % 32 {
        21 => Configuration {
            voters: slots(3, 5),
            outgoing: slots(1, 3),
            ..Configuration::default()
        },
        25 => Configuration {
            voters: slots(1, 3),
            learners: slots(4, 5),
            ..Configuration::default()
        },
        _ => voters(match seed % 16 {
            0 => 1,
            1..=8 => 3,
            9..=12 => 5,
            _ => 7,
        }),
    }
}

/// Runs the network of `seed`.
pub fn simulate_for<R: Rules + Clone>(rules: R, seed: u64, options: Options) -> Report {
    let configuration = members(seed);
    let setup = EngineSetup {
        settings: SETTINGS,
        rules,
        configuration: configuration.clone(),
        large_one_of: 40,
    };
    run::<EngineHost<R>>(setup, configuration, seed, options)
}

/// Runs the network of `seed` for as long as a run of the tests is.
pub fn simulate<R: Rules + Clone>(rules: R, seed: u64, trace: bool) -> Report {
    let options = Options {
        trace,
        ..lasting(RUN_MS)
    };
    simulate_for(rules, seed, options)
}
