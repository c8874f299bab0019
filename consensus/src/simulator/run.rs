//! Keeps the course of one run: a phase of faults, then a healed network that must make progress.
//!
//! Invariant: seed and options determine a run to the last bit; its hash covers every event, effect and status.
//! Leaves what a fault does to `strike`, and the demands of the second phase to `liveness`.

use super::checkers::Violation;
use super::coverage::Coverage;
use super::faults::{Dose, Fault};
use super::participant::{Event, Participant};
use super::trace::Trace;
use super::world::{Chore, Happening, World};
use crate::block::Configuration;
use crate::engine::Role;
use crate::input::Entropy;
use quipu_crypto::id::Slot;

/// How a network is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long things go wrong, simulated ms.
    pub fault_ms: u64,
    /// How long a process may take from its start until it can vote: the wait for hellos.
    pub start_ms: u64,
    /// The longest election timeout: the healed network may take three of them to have a leader (L1).
    pub election_ms: u64,
    /// How long the healed network is then watched.
    pub watch_ms: u64,
    /// Whether a node outside of the healed majority may go on running while it is cut off from the others, wholly or
    /// in one direction. Not for a participant whose clients take every running node for one that can be reached.
    pub isolate: bool,
    /// Whether processes die often and disks forget often, whatever else the seed draws.
    pub frail_disks: bool,
    /// Whether a readable trace is kept.
    pub trace: bool,
    /// Whether the hash covers the content of every event and effect, not only that it was there.
    pub thorough: bool,
}

impl Options {
    /// A run of `ms` in all, a third of it without faults, of processes that wait up to `start_ms` for hellos and
    /// `election_ms` for a leader.
    #[must_use]
    pub fn lasting(ms: u64, start_ms: u64, election_ms: u64) -> Self {
        let healed_ms = ms.checked_div(3).unwrap_or(0).clamp(5_000, 30_000);
        Self {
            fault_ms: ms.saturating_sub(healed_ms),
            start_ms,
            election_ms,
            watch_ms: healed_ms,
            isolate: true,
            frail_disks: false,
            trace: false,
            thorough: false,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// Over everything that happened, in order.
    pub hash: u64,
    /// What was broken first.
    pub violation: Option<Violation>,
    /// How long it was, simulated ms.
    pub simulated_ms: u64,
    /// Height of the final chain.
    pub height: u64,
    /// Terms that had a leader.
    pub elections: usize,
    /// Requests acknowledged.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// The most that waited in one process at any time.
    pub backlog: u64,
    /// How long the healed network took to have a leader.
    pub leader_after_ms: u64,
    /// Which faults struck whom, and what else was met.
    pub coverage: Coverage,
    /// Readable, where it was asked for.
    pub trace: Vec<String>,
}

pub(super) struct Run<P: Participant> {
    pub(super) world: World<P>,
    pub(super) options: Options,
    pub(super) requests: u64,
    pub(super) leader_after_ms: u64,
}

/// Runs a network of `members` under the faults that `seed` draws.
pub fn run<P: Participant>(setup: P::Setup, members: Configuration, seed: u64, options: Options) -> Report {
    let trace = Trace::new(seed, options.thorough, options.trace);
    let mut run = Run::<P> {
        world: World::new(setup, members, seed, trace, options.frail_disks),
        options,
        requests: 0,
        leader_after_ms: 0,
    };
    for slot in run.world.slots() {
        let wait = run.world.random.below(50);
        run.world.plan(wait, Happening::Start(slot));
    }
    run.plan_chore(Chore::Client);
    for fault in Fault::ALL.iter().filter(|fault| fault.dose() == Dose::Period) {
        run.plan_chore(Chore::Strike(*fault));
    }
    run.until(options.fault_ms);
    run.demand_progress();
    let world = run.world;
    Report {
        seed,
        hash: world.trace.hash(),
        violation: world.failed,
        simulated_ms: world.now,
        height: world.oracle.final_height().get(),
        elections: world.oracle.elections(),
        acknowledged: world.tally.acknowledged,
        reads: world.tally.reads,
        backlog: world.tally.backlog,
        leader_after_ms: run.leader_after_ms,
        coverage: world.coverage,
        trace: world.trace.into_lines(),
    }
}

impl<P: Participant> Run<P> {
    pub(super) fn until(&mut self, until: u64) {
        while let Some(chore) = self.world.advance(until) {
            match chore {
                Some(Chore::Client) => self.client(),
                Some(Chore::Strike(fault)) => self.world.strike(fault),
                Some(Chore::FailWrite(slot)) => self.world.fail_write(slot),
                Some(Chore::Mend) => self.world.network.mend(),
                None => continue,
            }
            chore.into_iter().for_each(|chore| self.plan_chore(chore));
        }
    }

    pub(super) fn plan_chore(&mut self, chore: Chore) {
        let period = match chore {
            Chore::Client => self.world.faults.client_ms,
            Chore::Strike(fault) => self.world.faults.amount(fault),
            Chore::FailWrite(_) | Chore::Mend => 0,
        };
        if period > 0 {
            let wait = self.world.random.between(1, period.saturating_mul(2));
            self.world.plan(wait, Happening::Chore(chore));
        }
    }

    /// Clients write to whoever says that it leads, and now and then to somebody else.
    fn client(&mut self) {
        self.requests = self.requests.saturating_add(1);
        let anybody = self.world.any_slot();
        let leaders: Vec<Slot> = self
            .world
            .nodes
            .iter()
            .filter(|(_, node)| node.role() == Some(Role::Leader))
            .map(|(slot, _)| *slot)
            .collect();
        let pick = self.world.random.below(u64::try_from(leaders.len()).unwrap_or(0));
        let leader = leaders.get(usize::try_from(pick).unwrap_or(0)).copied();
        let slot = leader.filter(|_| self.world.random.chance(900)).unwrap_or(anybody);
        if self.world.random.chance(250) {
            self.world.oracle.read_asked(self.requests);
            self.world.event(slot, None, Event::Read(self.requests));
        } else {
            self.world.event(slot, None, Event::Submit(self.requests));
        }
    }

    pub(super) fn fail(&mut self, invariant: &'static str, detail: String) {
        self.world.judge(Err(Violation { invariant, detail }));
    }
}
