//! A power cut at every write and every sync of two hundred operations on a real store.
//!
//! A process runs the script under `strace`; from the trace the directory is rebuilt as a cut at each boundary would
//! leave it, in several worlds (see [`disk::Cut`]), and each image is opened and gone on with. The process lives three
//! times: it is killed twice, and what the second life leaves has a torn end, so that recovery is cut short as well.
//!
//! `QUIPU_POWER_CUT_EVERY=1` tears and scatters at every boundary (default: every so many), `QUIPU_POWER_CUT_SEED`
//! draws other tears. A failure keeps the image that it was found in.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]

#[path = "../model/mod.rs"]
mod model;
#[path = "../network/mod.rs"]
mod network;

mod check;
mod damage;
mod disk;
mod images;
mod lives;
mod script;
mod trace;

use std::collections::BTreeMap;

use quipu_ledger::store::Executor;

use check::{Derived, Reference};
use disk::Cut;
use images::{Boundary, Images};
use lives::{End, Recording};
use model::Model;
use script::Script;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Every derived record after each height, from a store that nothing happens to; each height is compared with the naive
/// model first.
fn derived(script: &Script) -> Vec<Derived> {
    let dir = images::scratch();
    let store = check::create(dir.path(), script).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    let mut model = Model::new(&script.genesis);
    let mut all = vec![check::derived(&store).unwrap()];
    let committed = script.points.last().unwrap().committed;
    for block in script
        .final_chain()
        .skip(1)
        .take_while(|block| block.id().height <= committed)
    {
        let append = quipu_ledger::store::LogChange::Append(block.clone());
        store.write_log(&[append], false).unwrap();
        let done = executor.execute(block, &script.membership).unwrap();
        assert_eq!(done.results, model.execute(block, &script.membership));
        assert_eq!(done.executed, model.last());
        all.push(check::derived(&store).unwrap());
    }
    all
}

fn reference(script: &Script) -> Reference<'_> {
    let derived = derived(script);
    Reference { script, derived }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    if !lives::can_trace() {
        return;
    }
    let script = script::write();
    let reference = reference(&script);
    let every = number("QUIPU_POWER_CUT_EVERY", 4);
    let seed = number("QUIPU_POWER_CUT_SEED", 1);

    let mut recording = Recording::new(&script);
    recording.live(script.unsafe_from(70), End::Killed);
    recording.live(script.unsafe_from(140), End::Killed);
    let torn = recording.tear(&reference, seed);
    recording.live(script::LENGTH, End::Stopped);

    let mut images = Images::new(&reference, &recording);
    for (index, boundary) in (0..).zip(0..recording.boundaries.len()) {
        let mut cuts = vec![Cut::Killed, Cut::Synced, Cut::Journal];
        if index % every == 0 {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(index);
            cuts.extend([Cut::Torn(seed), Cut::Holed(seed), Cut::Scattered(seed)]);
        }
        for cut in cuts {
            images.add(boundary, cut);
        }
    }
    let found = images.check();
    eprintln!("{}", recording.figures());
    eprintln!("the third life begins after operation {torn}");
    eprintln!("{}", images.figures(&found));
    images.judge(&found, Boundary::is_lawful);
    recording.assert_eventful();

    // The judge can tell: had every operation been acknowledged when it began, some would be missing.
    let early = images.failures(&found, |boundary, found| {
        let acknowledged = boundary.started;
        let eager = Boundary {
            acknowledged,
            ..boundary.clone()
        };
        eager.is_lawful(found)
    });
    let mut by_cut: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in &early {
        *by_cut.entry(failure.cut.name()).or_default() += 1;
    }
    eprintln!("acknowledged too early, found by: {by_cut:?}");
    assert!(
        by_cut.contains_key("killed") && by_cut.contains_key("synced"),
        "{by_cut:?}"
    );
}

/// The judge can tell: a batch that is written in pieces is seen in pieces.
#[test]
fn a_batch_in_two_pieces_is_found() {
    if !lives::can_trace() {
        return;
    }
    let script = script::write();
    let reference = reference(&script);
    let mut recording = Recording::new(&script);
    recording.live(30, End::Split);
    let mut images = Images::new(&reference, &recording);
    for boundary in 0..recording.boundaries.len() {
        images.add(boundary, Cut::Synced);
    }
    let found = images.check();
    let failures = images.failures(&found, Boundary::is_lawful);
    let pieces = |failure: &&images::Failure| failure.what.contains("the log is as it never was");
    assert!(
        failures.iter().filter(pieces).count() > 3,
        "{} failures",
        failures.len()
    );
}
