//! Keeps the course of one run: a phase of faults, then a healed network that must make progress (L1-L3, L5).
//!
//! Invariant: seed and options determine a run to the last bit; its hash covers every event and every status.

use std::collections::BTreeMap;

use quipu_crypto::id::{Slot, Term};

use super::checkers::Violation;
use super::participant::{Event, Participant};
use super::world::{Happening, World};
use crate::block::Configuration;
use crate::engine::{Role, Status};
use crate::input::Entropy;

/// How a network is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long things go wrong, simulated ms.
    pub fault_ms: u64,
    /// How long the healed network may take to have a leader.
    pub settle_ms: u64,
    /// How long it is then watched: no further election, writes acknowledged, all nodes at one height in the end.
    pub watch_ms: u64,
    /// Whether a readable trace is kept.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fault_ms: 8_000,
            settle_ms: 3_000,
            watch_ms: 2_000,
            trace: false,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// Over every event and every status, in order.
    pub hash: u64,
    /// What was broken first.
    pub violation: Option<Violation>,
    /// Height of the final chain.
    pub height: u64,
    /// Terms that had a leader.
    pub elections: usize,
    /// Requests acknowledged.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// Readable, where it was asked for.
    pub trace: Vec<String>,
}

/// What happened, as a hash and, on demand, as text.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    pub(super) fn line(&mut self, now: u64, slot: Slot, kind: u64, text: impl FnOnce() -> String) {
        self.mix(now);
        self.mix(u64::from(slot.get()));
        self.mix(kind);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>6} {slot} {}", text()));
        }
    }

    pub(super) fn status(&mut self, status: &Status) {
        let role = u64::from(status.role == Role::Leader);
        let hash = u64::from_le_bytes(status.tip.hash.as_bytes().first_chunk().copied().unwrap_or_default());
        for number in [
            role,
            status.term.get(),
            status.commit.height.get(),
            status.durable.height.get(),
            hash,
        ] {
            self.mix(number);
        }
        if let Some(lines) = &mut self.lines {
            let Status {
                role,
                term,
                tip,
                durable,
                commit,
                ..
            } = status;
            lines.push(format!(
                "          {role:?} term {term} tip {} durable {} commit {}",
                tip.height, durable.height, commit.height
            ));
        }
    }
}

/// Chores that a run plans for itself, by number: one for each kind of fault, and the client.
const CHORES: [&str; 8] = [
    "client",
    "partition",
    "crash",
    "blackout",
    "pause",
    "session",
    "transfer",
    "write error",
];

struct Run<P: Participant> {
    world: World<P>,
    requests: u64,
    faults: BTreeMap<&'static str, u64>,
    healing: bool,
}

/// Runs a network of `members` under the faults that `seed` draws.
pub fn run<P: Participant>(setup: P::Setup, members: Configuration, seed: u64, options: Options) -> Report {
    let trace = Trace {
        hash: seed,
        lines: options.trace.then(Vec::new),
    };
    let mut run = Run::<P> {
        world: World::new(setup, members, seed, trace),
        requests: 0,
        faults: BTreeMap::new(),
        healing: false,
    };
    for slot in run.world.slots() {
        let wait = run.world.random.below(50);
        run.world.plan(wait, Happening::Start(slot));
    }
    for chore in 0..8 {
        run.plan_chore(chore);
    }
    run.until(options.fault_ms);
    run.heal();
    run.until(options.fault_ms.saturating_add(options.settle_ms));
    run.demand_progress(options.watch_ms);
    let world = run.world;
    Report {
        seed,
        hash: world.trace.hash,
        violation: world.failed,
        height: world.oracle.final_height().get(),
        elections: world.oracle.elections(),
        acknowledged: world.acknowledged,
        reads: world.reads,
        faults: run.faults,
        trace: world.trace.lines.unwrap_or_default(),
    }
}

impl<P: Participant> Run<P> {
    fn until(&mut self, until: u64) {
        while let Some(chore) = self.world.advance(until) {
            if let Some(chore) = chore {
                self.chore(chore);
                self.plan_chore(chore);
            }
        }
    }

    fn period(&self, chore: u8) -> u64 {
        let faults = &self.world.faults;
        match chore {
            0 => faults.client_ms,
            1 => faults.partition_ms,
            2 => faults.crash_ms,
            3 => faults.blackout_ms,
            4 => faults.pause_ms,
            5 => faults.session_ms,
            6 => faults.transfer_ms,
            _ => faults.write_error_ms,
        }
    }

    fn plan_chore(&mut self, chore: u8) {
        let period = self.period(chore);
        if period > 0 {
            let wait = self.world.random.between(1, period.saturating_mul(2));
            self.world.plan(wait, Happening::Chore(chore));
        }
    }

    fn any_slot(&mut self) -> Slot {
        let slots = self.world.slots();
        let count = u64::try_from(slots.len()).unwrap_or(1);
        let place = usize::try_from(self.world.random.below(count)).unwrap_or(0);
        slots.get(place).copied().unwrap_or_default()
    }

    fn chore(&mut self, chore: u8) {
        if chore == 0 {
            return self.client();
        }
        if self.healing {
            return;
        }
        let name = CHORES.get(usize::from(chore)).copied().unwrap_or("unknown");
        let struck = self.faults.entry(name).or_default();
        *struck = struck.saturating_add(1);
        let slot = self.any_slot();
        let other = self.any_slot();
        let world = &mut self.world;
        match chore {
            1 if world.random.chance(400) => world.network.mend(),
            1 => world
                .network
                .partition(&world.nodes.keys().copied().collect::<Vec<_>>(), &mut world.random),
            2 => self.crash(slot),
            3 => self.world.slots().into_iter().for_each(|slot| self.crash(slot)),
            4 => {
                let until = world.now.saturating_add(world.random.between(50, 3000));
                if let Some(node) = world.nodes.get_mut(&slot) {
                    node.paused_until = until;
                }
            }
            5 => {
                world.end_session(slot, other);
                let wait = world.random.between(1, 200);
                if slot != other {
                    world.plan(wait, Happening::Connect(slot, other));
                }
            }
            6 => world.event(slot, None, Event::Transfer),
            _ => {
                world.fail_write(slot);
                self.restart(slot);
            }
        }
    }

    fn crash(&mut self, slot: Slot) {
        self.world.crash(slot);
        self.restart(slot);
    }

    fn restart(&mut self, slot: Slot) {
        let wait = self.world.random.between(1, 1500);
        self.world.plan(wait, Happening::Start(slot));
    }

    /// Clients write to whoever says that it leads, and now and then to somebody else.
    fn client(&mut self) {
        self.requests = self.requests.saturating_add(1);
        let anybody = self.any_slot();
        let leads = |status: &Status| status.role == Role::Leader;
        let mut leaders: Vec<Slot> = Vec::new();
        for (slot, node) in &self.world.nodes {
            if node.status.as_ref().is_some_and(leads) {
                leaders.push(*slot);
            }
        }
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

    /// Ends the faults. A minority may stay dead.
    fn heal(&mut self) {
        self.healing = true;
        self.world.healed = true;
        self.world.faults = self.world.faults.healed();
        self.world.network.mend();
        let slots = self.world.slots();
        // While joint, or where some only listen, half of all nodes may hold every quorum there is: then all come back.
        let spare = match self.world.oracle.is_plain() {
            true => slots.len().saturating_sub(1) / 2,
            false => 0,
        };
        let mut dead = Vec::new();
        if self.world.random.chance(300) {
            dead.extend(
                slots
                    .iter()
                    .copied()
                    .filter(|_| self.world.random.chance(300))
                    .take(spare),
            );
        }
        for slot in &slots {
            if let Some(node) = self.world.nodes.get_mut(slot) {
                node.paused_until = 0;
                node.dead = dead.contains(slot);
            }
            if dead.contains(slot) {
                self.world.crash(*slot);
            } else {
                self.world.plan(1, Happening::Start(*slot));
            }
        }
        for (left, right) in slots
            .iter()
            .flat_map(|left| slots.iter().map(move |right| (*left, *right)))
        {
            if left < right {
                self.world.end_session(left, right);
                self.world.plan(60, Happening::Connect(left, right));
            }
        }
        self.plan_chore(0);
    }

    fn leader(&self) -> Option<Term> {
        let leads = |status: &Status| status.role == Role::Leader;
        let led = self
            .world
            .nodes
            .values()
            .filter_map(|node| node.status.as_ref().filter(|status| leads(status)));
        led.map(|status| status.term).max()
    }

    /// L1 a leader, L5 the same one throughout, L3 writes acknowledged, L2 all nodes at one height.
    fn demand_progress(&mut self, watch_ms: u64) {
        if self.world.failed.is_some() {
            return;
        }
        let Some(term) = self.leader() else {
            return self.fail("L1", "no leader after the faults ended");
        };
        let before = self.world.acknowledged;
        self.until(self.world.now.saturating_add(watch_ms));
        if self.world.acknowledged == before {
            return self.fail("L3", "no write was acknowledged after the faults ended");
        }
        if self.leader() != Some(term) {
            return self.fail("L5", "leadership changed in a healed network");
        }
        let heights: Vec<Option<u64>> = self
            .world
            .nodes
            .values()
            .filter(|node| !node.dead)
            .map(|node| node.status.as_ref().map(|status| status.commit.height.get()))
            .collect();
        let last = self.world.oracle.final_height().get();
        if heights
            .iter()
            .any(|height| height.is_none_or(|height| height.saturating_add(3) < last))
        {
            self.fail("L2", &format!("final height is {last}, the nodes are at {heights:?}"));
        }
    }

    fn fail(&mut self, invariant: &'static str, detail: &str) {
        self.world.judge(Err(Violation {
            invariant,
            detail: detail.to_owned(),
        }));
    }
}
