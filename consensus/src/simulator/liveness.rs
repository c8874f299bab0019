//! Keeps the second phase of a run: a random majority is healed, the rest stays as it is drawn, and progress is due.
//!
//! Invariants: L1 a leader within three election timeouts, L2 every healed node at the same height in the end, L3
//! fresh writes acknowledged, L4 nothing piles up, L5 at most one election in a healed minute.
//! A node whose disk has forgotten something counts towards no majority here: it may lawfully wait for the others.

use std::collections::BTreeMap;

use quipu_crypto::id::{Height, Slot, Term};

use super::coverage::Sight;
use super::participant::{Event, Participant};
use super::run::Run;
use super::world::{Chore, Happening, Node};
use crate::engine::Role;
use crate::input::Entropy;

/// What becomes of a node when the faults end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It runs, and everybody who runs can reach it.
    Healed,
    /// It is down for good.
    Dead,
    /// It runs, and nobody can reach it, nor it anybody.
    CutOff,
    /// It runs and can send, but hears nothing.
    Deaf,
    /// It runs and hears everybody, but cannot send.
    Mute,
}

/// Restarts and connections take that long in a healed network, ms.
const CONNECT_MS: u64 = 200;

/// Blocks that may be under way to a healed node at any moment, and to one that recovers.
const UNDER_WAY: u64 = 3;
const UNDER_WAY_RECOVERING: u64 = 30;

/// What may wait in a process of a network that has been healed for a while.
const STILL_WAITING: u64 = 300;

impl<P: Participant> Run<P> {
    /// Heals, and demands what a healed network owes.
    pub(super) fn demand_progress(&mut self) {
        let fates = self.heal();
        let begun = self.world.now;
        let patience = self.options.election_ms.saturating_mul(3);
        let until = begun
            .saturating_add(self.options.start_ms)
            .saturating_add(CONNECT_MS)
            .saturating_add(patience);
        let mut term = None;
        while self.world.now < until && term.is_none() {
            self.until(self.world.now.saturating_add(10));
            term = self.leader(&fates);
        }
        self.leader_after_ms = self.world.now.saturating_sub(begun);
        if self.world.failed.is_some() {
            return;
        }
        if term.is_none() && self.is_held_back(&fates) {
            return self.world.coverage.see(Sight::HeldBack);
        }
        if term.is_none() {
            return self.fail("L1", format!("no leader after {patience} ms; {}", self.stand(&fates)));
        }
        // Whoever held a later term than the first winner is heard within another round.
        self.until(self.world.now.saturating_add(patience));
        let led = self.world.oracle.elections();
        let acknowledged = self.world.tally.acknowledged;
        self.world.tally.backlog = 0;
        self.until(self.world.now.saturating_add(self.options.watch_ms));
        if self.world.failed.is_some() {
            return;
        }
        // A leader of before may stand at first: recovering nodes answer it, too.
        let held_back = self.world.tally.acknowledged == acknowledged && self.is_held_back(&fates);
        if held_back {
            self.world.coverage.see(Sight::HeldBack);
        } else if self.world.tally.acknowledged == acknowledged {
            return self.fail("L3", format!("no write was acknowledged; {}", self.stand(&fates)));
        }
        let elections = self.world.oracle.elections().saturating_sub(led);
        if elections > 1 {
            return self.fail("L5", format!("{elections} elections in a healed network"));
        }
        if self.world.tally.backlog > STILL_WAITING {
            let backlog = self.world.tally.backlog;
            return self.fail("L4", format!("{backlog} things wait in a healed network"));
        }
        if !held_back {
            self.converged(&fates);
        }
    }

    /// Whether nobody can be elected because a node recovers whose disk has forgotten nothing. A peer's memory does not
    /// say in which term a block was acknowledged. A node whose chain has moved on since, within the latest term that
    /// the peer knows of, must take it for forgotten, and may wait for those who are gone.
    fn is_held_back(&self, fates: &BTreeMap<Slot, Fate>) -> bool {
        let sound = self.recovering(fates).any(|node| !node.hit);
        let deciding = self.healed(fates).filter(|node| node.decides()).count();
        sound && deciding <= self.world.nodes.len() / 2
    }

    /// Ends the faults, and draws what becomes of each node.
    fn heal(&mut self) -> BTreeMap<Slot, Fate> {
        let world = &mut self.world;
        world.healed = true;
        world.faults = world.faults.healed();
        world.network.mend();
        world.forget_chores();
        let fates = self.fates();
        let world = &mut self.world;
        for (slot, fate) in &fates {
            let Some(node) = world.nodes.get_mut(slot) else {
                continue;
            };
            node.paused_until = 0;
            node.slow_until = 0;
            node.ambush = None;
            node.dead = *fate == Fate::Dead;
            node.full_until = 0;
            let life = node.life;
            world.plan_event(0, *slot, Event::DiskFull(false));
            // What a slow disk or a pause has held up goes on at once.
            world.plan(1, Happening::Written { slot: *slot, life });
            if matches!(fate, Fate::Dead | Fate::CutOff | Fate::Mute) {
                // Or those who still hear it of old would go on following it.
                world.silence(*slot);
            }
            if *fate == Fate::Dead {
                world.crash(*slot);
            } else {
                world.plan(1, Happening::Start(*slot));
            }
        }
        let slots = world.slots();
        for (left, right) in slots
            .iter()
            .flat_map(|left| slots.iter().map(move |right| (*left, *right)))
        {
            let (sends, hears) = (fates.get(&left), fates.get(&right));
            let silent = matches!(sends, Some(Fate::CutOff | Fate::Mute));
            let deaf = matches!(hears, Some(Fate::CutOff | Fate::Deaf));
            world.network.set_cut(left, right, silent || deaf);
            if left < right {
                world.end_session(left, right);
                world.plan(60, Happening::Connect(left, right));
            }
        }
        self.plan_chore(Chore::Client);
        fates
    }

    /// A majority of sound nodes is healed for sure; every other node has a fate of its own, in most runs.
    fn fates(&mut self) -> BTreeMap<Slot, Fate> {
        let world = &mut self.world;
        let mut core: Vec<Slot> = Vec::new();
        let mut sound: Vec<Slot> = world.slots();
        sound.retain(|slot| world.nodes.get(slot).is_some_and(|node| !node.hit));
        let majority = world.nodes.len().checked_div(2).unwrap_or(0).saturating_add(1);
        while core.len() < majority && !sound.is_empty() {
            let place = world.random.below(u64::try_from(sound.len()).unwrap_or(0));
            core.push(sound.swap_remove(usize::try_from(place).unwrap_or(0)));
        }
        // While joint, or where some only listen, half of all nodes may hold every quorum there is.
        let all_healed = world.random.chance(300) || !world.oracle.is_plain();
        let mut fates = BTreeMap::new();
        for slot in world.slots() {
            let fate = match world.random.below(6) {
                _ if all_healed || core.contains(&slot) => Fate::Healed,
                0 | 1 => Fate::Dead,
                _ if !self.options.isolate => Fate::Healed,
                2 => Fate::CutOff,
                3 => Fate::Deaf,
                4 => Fate::Mute,
                _ => Fate::Healed,
            };
            fates.insert(slot, fate);
        }
        fates
    }

    /// The term of the leader that the healed nodes have.
    fn leader(&self, fates: &BTreeMap<Slot, Fate>) -> Option<Term> {
        let status = self.healed(fates).filter_map(|node| node.status.as_ref());
        let led = status.filter(|status| status.role == Role::Leader);
        led.map(|status| status.term).max()
    }

    /// L2: all healed nodes know the same chain to be final, save what is under way.
    fn converged(&mut self, fates: &BTreeMap<Slot, Fate>) {
        if !self.recoveries_get_on(fates) {
            return;
        }
        let all_healed = fates.values().all(|fate| *fate == Fate::Healed);
        if all_healed && self.recovering(fates).next().is_some() {
            let stand = self.stand(fates);
            return self.fail("L2", format!("a recovery has no end though everybody answers; {stand}"));
        }
        let behind = self.healed(fates).any(|node| {
            let recovers = node.role() == Some(Role::Recovering);
            self.missing(node) > if recovers { UNDER_WAY_RECOVERING } else { UNDER_WAY }
        });
        if behind {
            let last = self.world.oracle.final_height();
            self.fail("L2", format!("final height is {last}; {}", self.stand(fates)));
        }
    }

    /// Who recovers acknowledges nothing, so it is sent one message at a time: one that was wiped late may lack
    /// thousands of blocks when the others are done. It is given the time, as long as it gets on.
    fn recoveries_get_on(&mut self, fates: &BTreeMap<Slot, Fate>) -> bool {
        let lacking = |run: &Self| run.recovering(fates).map(|node| run.missing(node)).sum::<u64>();
        let mut before = lacking(self);
        while before > UNDER_WAY_RECOVERING && self.world.failed.is_none() {
            self.until(self.world.now.saturating_add(self.options.watch_ms));
            let left = lacking(self);
            if left >= before {
                self.fail("L2", format!("a recovery does not get on; {}", self.stand(fates)));
            }
            before = left;
        }
        if self.recovering(fates).next().is_some() {
            // The last blocks, and the word of the peers that these are all.
            self.until(self.world.now.saturating_add(self.options.election_ms));
        }
        self.world.failed.is_none()
    }

    fn healed(&self, fates: &BTreeMap<Slot, Fate>) -> impl Iterator<Item = &Node<P>> {
        let nodes = self.world.nodes.iter();
        nodes.filter_map(|(slot, node)| (fates.get(slot) == Some(&Fate::Healed)).then_some(node))
    }

    fn recovering(&self, fates: &BTreeMap<Slot, Fate>) -> impl Iterator<Item = &Node<P>> {
        self.healed(fates).filter(|node| node.role() == Some(Role::Recovering))
    }

    /// How many final blocks a node does not know to be final.
    fn missing(&self, node: &Node<P>) -> u64 {
        let commit = node.status.as_ref().map_or(Height::ZERO, |status| status.commit.height);
        self.world.oracle.final_height().since(commit)
    }

    /// Where everybody stands, in words.
    fn stand(&self, fates: &BTreeMap<Slot, Fate>) -> String {
        let stand = self.world.nodes.iter().map(|(slot, node)| {
            let fate = fates.get(slot);
            match &node.status {
                Some(status) => format!(
                    "{slot} {:?} {:?} term {} commit {}",
                    fate.unwrap_or(&Fate::Healed),
                    status.role,
                    status.term,
                    status.commit.height
                ),
                None => format!("{slot} {:?} down", fate.unwrap_or(&Fate::Healed)),
            }
        });
        stand.collect::<Vec<_>>().join(", ")
    }
}
