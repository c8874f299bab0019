//! Keeps what a seed draws for a network of whole replicas, and runs it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use quipu_consensus::block::Configuration;
use quipu_consensus::engine::Settings;
use quipu_consensus::simulator::checkers::Violation;
use quipu_consensus::simulator::random::Random;
use quipu_consensus::simulator::run::{Options, Report, run};
use quipu_node::limits::{ENGINE_SETTINGS, REMEMBERED_BLOCKS};

use crate::clients::Clients;
use crate::founding::{Founding, slot_of};
use crate::host::{Dose, Host, Setup, text_of};

/// What came of a run.
pub(crate) struct Outcome {
    /// Acknowledged is what a client was answered with.
    pub(crate) report: Report,
    pub(crate) refusals: u64,
    pub(crate) compared: u64,
}

/// Small windows, so that their ends are met within seconds.
const SMALL: Settings = Settings {
    append_bytes: 4_000,
    window_bytes: 16_000,
    uncommitted_bytes: 40_000,
    cache_bytes: 16_000,
    ..ENGINE_SETTINGS
};

/// A third of the run is healed. A start also reads its chain and derives again what was lost.
fn options(settings: &Settings, ms: u64) -> Options {
    let start_ms = settings.hello_wait_ms.saturating_add(2_000);
    Options {
        isolate: false,
        ..Options::lasting(ms, start_ms, settings.election_max_ms)
    }
}

fn dose(random: &mut Random) -> Dose {
    let mut sometimes = |permille: u64, low: u64, high: u64| {
        let value = random.between(low, high);
        if random.chance(permille) { value } else { 0 }
    };
    Dose {
        inspect_ms: sometimes(600, 1, 30),
        admit_ms: sometimes(600, 1, 60),
        execute_ms: sometimes(600, 1, 60),
        fetch_ms: sometimes(600, 1, 200),
        stall: sometimes(400, 1, 40),
        busy: sometimes(500, 50, 800),
        flush: sometimes(700, 2, 200),
        wall_ms: sometimes(500, 1, 1_000),
        wrong_ms: match sometimes(300, 2_000, 20_000).cast_signed() {
            ms if ms % 2 == 0 => ms,
            ms => -ms,
        },
        remembered: match sometimes(300, 1, 40) {
            0 => REMEMBERED_BLOCKS,
            few => usize::try_from(few).unwrap(),
        },
    }
}

/// Runs the network of `seed` for `ms` in all: mostly three nodes, sometimes five or one; `chosen` changes what
/// is not as usual.
pub(crate) fn simulate_for(seed: u64, ms: u64, chosen: impl FnOnce(Options) -> Options) -> Outcome {
    let mut random = Random::new(seed ^ 0x5eed);
    let founding = Rc::new(Founding::new(match seed % 8 {
        0 => 1,
        5 => 5,
        _ => 3,
    }));
    let settings = if random.chance(500) { ENGINE_SETTINGS } else { SMALL };
    let clients = Rc::new(RefCell::new(Clients::new(Rc::clone(&founding), random.split())));
    let configuration = Configuration {
        voters: founding
            .keys
            .iter()
            .map(|key| slot_of(&founding.genesis, key))
            .collect(),
        ..Configuration::default()
    };
    let setup = Setup {
        founding,
        settings,
        dose: dose(&mut random),
        clients: Rc::clone(&clients),
    };
    let options = chosen(options(&settings, ms));
    let ran = catch_unwind(AssertUnwindSafe(|| run::<Host>(setup, configuration, seed, options)));
    let mut report = ran.unwrap_or_else(|panic| panicked(seed, panic.as_ref()));
    if let Ok(clients) = clients.try_borrow() {
        report.violation = report.violation.or_else(|| clients.at_the_end().err());
        report.acknowledged = clients.answers;
        report.simulated_ms = clients.now;
        return Outcome {
            report,
            refusals: clients.refusals,
            compared: clients.record.compared,
        };
    }
    Outcome {
        report,
        refusals: 0,
        compared: 0,
    }
}

/// A disk that cannot be: what the checks of an image say.
fn panicked(seed: u64, panic: &(dyn Any + Send)) -> Report {
    Report {
        seed,
        violation: Some(Violation {
            invariant: "panic",
            detail: text_of(panic),
        }),
        ..Report::default()
    }
}
