//! Keeps the nodes and the one queue of everything that will happen to them, and moves time from one to the next.
//!
//! Invariants: two things at one time happen in the order in which they were planned; a thing planned for a process
//! that has died since does not happen to the one after it.
//! Leaves what goes wrong, and when, to `run`.

use std::collections::BTreeMap;

use quipu_crypto::id::Slot;

use super::checkers::{Oracle, Verdict, View, Violation};
use super::disk::Disk;
use super::faults::Faults;
use super::network::Network;
use super::participant::{Effect, Event, Participant};
use super::random::Random;
use super::run::Trace;
use crate::block::Configuration;
use crate::engine::Status;
use crate::input::{Entropy, PersistSeq, SessionId, Tick};

/// Between two ticks of a process.
const TICK_MS: u64 = 10;

/// The simulated network.
pub struct World<P: Participant> {
    pub(super) setup: P::Setup,
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) nodes: BTreeMap<Slot, Node<P>>,
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) acknowledged: u64,
    pub(super) reads: u64,
    pub(super) failed: Option<Violation>,
    /// Nothing goes wrong any more.
    pub(super) healed: bool,
    queue: BTreeMap<(u64, u64), Happening<P::Message>>,
    planned: u64,
}

/// One node: its disk stays, its processes come and go.
pub(super) struct Node<P: Participant> {
    pub(super) process: Option<P>,
    pub(super) status: Option<Status>,
    pub(super) disk: Disk<P>,
    /// Never starts again.
    pub(super) dead: bool,
    /// Which process of this node it is.
    pub(super) life: u64,
    pub(super) paused_until: u64,
    /// Its clock's speed, of a thousand.
    pub(super) rate: u64,
    entropy: Random,
    /// Messages that wait for a write.
    held: Vec<(PersistSeq, Slot, SessionId, P::Message)>,
    done: PersistSeq,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening<M> {
    /// An event of a process, or of its next one where `life` is `None`.
    Event {
        slot: Slot,
        life: Option<u64>,
        event: Event<M>,
    },
    /// The clock of a process.
    Tick { slot: Slot, life: u64 },
    /// A disk has done what it was at.
    Written { slot: Slot, life: u64 },
    /// Two nodes find each other.
    Connect(Slot, Slot),
    /// A process starts.
    Start(Slot),
    /// Something for `run` to do.
    Chore(u8),
}

impl<P: Participant> World<P> {
    /// A network of nodes that never ran.
    pub fn new(setup: P::Setup, members: Configuration, seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults::draw(&mut random);
        let mut nodes = BTreeMap::new();
        let former = members.outgoing.difference(&members.voters);
        for slot in members.voters.iter().chain(former).chain(&members.learners).copied() {
            let low = 1000_u64.saturating_sub(faults.skew);
            let rate = random.between(low, 1000_u64.saturating_add(faults.skew));
            nodes.insert(
                slot,
                Node {
                    process: None,
                    status: None,
                    disk: Disk::new(P::blank(&setup, slot)),
                    dead: false,
                    life: 0,
                    paused_until: 0,
                    rate,
                    entropy: random.split(),
                    held: Vec::new(),
                    done: PersistSeq(0),
                },
            );
        }
        Self {
            setup,
            now: 0,
            random,
            faults,
            nodes,
            network: Network::default(),
            oracle: Oracle::new(members),
            trace,
            acknowledged: 0,
            reads: 0,
            failed: None,
            healed: false,
            queue: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Every slot.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn plan(&mut self, after_ms: u64, happening: Happening<P::Message>) {
        self.planned = self.planned.saturating_add(1);
        self.queue
            .insert((self.now.saturating_add(after_ms), self.planned), happening);
    }

    /// Lets the next thing happen that lies before `until`; answers a chore, or `None` when time is up.
    pub(super) fn advance(&mut self, until: u64) -> Option<Option<u8>> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 < until);
        let Some(entry) = entry.filter(|_| self.failed.is_none()) else {
            self.now = self.now.max(until);
            return None;
        };
        let (at, _) = *entry.key();
        let happening = entry.remove();
        self.now = self.now.max(at);
        P::clock(&self.setup, self.now, self.healed);
        match happening {
            Happening::Chore(chore) => return Some(Some(chore)),
            Happening::Start(slot) => self.start(slot),
            Happening::Connect(left, right) => self.connect(left, right),
            Happening::Tick { slot, life } => self.tick(slot, life),
            Happening::Written { slot, life } => self.written(slot, life),
            Happening::Event { slot, life, event } => self.event(slot, life, event),
        }
        Some(None)
    }

    fn start(&mut self, slot: Slot) {
        let Some(node) = self
            .nodes
            .get_mut(&slot)
            .filter(|node| node.process.is_none() && !node.dead)
        else {
            return;
        };
        let now = clock(self.now, node.rate);
        node.life = node.life.saturating_add(1);
        node.done = PersistSeq(0);
        let process = P::start(&self.setup, slot, &mut node.disk.durable, now, &mut node.entropy);
        node.disk.view = node.disk.durable.clone();
        node.process = Some(process);
        let life = node.life;
        self.oracle.restarted(slot);
        self.trace.line(self.now, slot, 1, || format!("starts, life {life}"));
        self.plan(TICK_MS, Happening::Tick { slot, life });
        for other in self.slots() {
            let wait = self.random.between(1, 40);
            if other != slot {
                self.plan(wait, Happening::Connect(slot, other));
            }
        }
    }

    /// A process dies; `loud` peers hear of it.
    pub(super) fn crash(&mut self, slot: Slot) {
        let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.process.is_some()) else {
            return;
        };
        node.process = None;
        node.status = None;
        node.held.clear();
        node.paused_until = 0;
        node.disk.crash(&mut self.random);
        self.trace.line(self.now, slot, 2, || "crashes".to_owned());
        for other in self.slots() {
            self.end_session(slot, other);
        }
        let verdict = self.check_disk(slot);
        self.judge(verdict);
    }

    /// Ends a session; each side hears of it soon or never.
    pub(super) fn end_session(&mut self, left: Slot, right: Slot) {
        let Some(session) = self.network.disconnect(left, right) else {
            return;
        };
        for (slot, peer) in [(left, right), (right, left)] {
            if self.random.chance(700) {
                let wait = self.random.below(50);
                let event = Event::PeerDown(peer, session);
                self.plan(
                    wait,
                    Happening::Event {
                        slot,
                        life: None,
                        event,
                    },
                );
            }
        }
    }

    fn connect(&mut self, left: Slot, right: Slot) {
        let up = |slot: &Slot| self.nodes.get(slot).is_some_and(|node| node.process.is_some());
        if !up(&left) || !up(&right) || self.network.is_connected(left, right) {
            return;
        }
        let session = self.network.connect(left, right);
        for (slot, peer) in [(left, right), (right, left)] {
            let wait = self.random.below(5);
            let event = Event::PeerUp(peer, session);
            self.plan(
                wait,
                Happening::Event {
                    slot,
                    life: None,
                    event,
                },
            );
        }
    }

    fn tick(&mut self, slot: Slot, life: u64) {
        if self
            .nodes
            .get(&slot)
            .is_some_and(|node| node.life == life && node.process.is_some())
        {
            self.plan(TICK_MS, Happening::Tick { slot, life });
            self.event(slot, Some(life), Event::Tick);
        }
    }

    /// Delivers an event, later where the process is paused.
    pub(super) fn event(&mut self, slot: Slot, life: Option<u64>, event: Event<P::Message>) {
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        if life.is_some_and(|life| life != node.life) || node.process.is_none() {
            return;
        }
        if node.paused_until > self.now {
            let wait = node.paused_until.saturating_sub(self.now);
            if !matches!(event, Event::Tick) {
                self.plan(wait, Happening::Event { slot, life, event });
            }
            return;
        }
        let now = clock(self.now, node.rate);
        self.trace.line(self.now, slot, 3, || format!("<- {event:?}"));
        let mut effects = Vec::new();
        if let Some(process) = &mut node.process {
            process.handle(now, &mut node.entropy, &node.disk.view, event, &mut effects);
            let status = process.status();
            self.trace.status(&status);
            node.status = Some(status);
        }
        for effect in effects {
            let verdict = self.perform(slot, effect);
            self.judge(verdict);
        }
        let verdict = self.check(slot);
        self.judge(verdict);
    }

    fn perform(&mut self, slot: Slot, effect: Effect<P::Message, P::Write>) -> Verdict {
        self.trace.line(self.now, slot, 4, || format!("-> {effect:?}"));
        match effect {
            Effect::Write { seq, write, sync } => return self.write(slot, seq, write, sync),
            Effect::Send {
                to,
                session,
                message,
                after,
            } => {
                let Some(node) = self.nodes.get_mut(&slot) else {
                    return Ok(());
                };
                match after.filter(|seq| *seq > node.done) {
                    Some(seq) => node.held.push((seq, to, session, message)),
                    None => return self.leave(slot, to, session, &message),
                }
            }
            Effect::Commit(upto) => {
                let Some(node) = view(&self.nodes, slot) else {
                    return Ok(());
                };
                return self.oracle.committed(node, upto, &|slot| view(&self.nodes, slot));
            }
            Effect::Acknowledge(request, id) => {
                self.acknowledged = self.acknowledged.saturating_add(1);
                return self.oracle.acknowledged(slot, request, id);
            }
            Effect::ReadReady(ticket, height) => {
                self.reads = self.reads.saturating_add(1);
                return self.oracle.read_answered(slot, ticket, height);
            }
            Effect::Wake(after_ms) => {
                let life = self.nodes.get(&slot).map(|node| node.life);
                let event = Event::Wake;
                self.plan(after_ms, Happening::Event { slot, life, event });
            }
            Effect::Broken(violation) => return Err(violation),
            Effect::Halt(_, true) => self.crash(slot),
            Effect::Restart(after_ms) => {
                self.crash(slot);
                self.plan(after_ms, Happening::Start(slot));
            }
            Effect::Halt(reason, false) => {
                return Err(Violation {
                    invariant: "halt",
                    detail: format!("{slot}: {reason}"),
                });
            }
        }
        Ok(())
    }

    fn write(&mut self, slot: Slot, seq: PersistSeq, write: P::Write, sync: bool) -> Verdict {
        let Some(node) = self.nodes.get_mut(&slot) else {
            return Ok(());
        };
        node.disk.ask(seq, write, sync);
        self.drain(slot);
        match self.nodes.get(&slot) {
            Some(node) => {
                let term = P::vote(&node.disk.view).term;
                self.oracle.after_write(slot, term, P::chain(&node.disk.view))
            }
            None => Ok(()),
        }
    }

    /// Starts a disk that is idle and has something to do.
    fn drain(&mut self, slot: Slot) {
        let slow = self.random.below(self.faults.sync_ms.saturating_add(1));
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        let life = node.life;
        if let Some(sync) = node.disk.begin() {
            self.plan(if sync { slow } else { 0 }, Happening::Written { slot, life });
        }
    }

    fn written(&mut self, slot: Slot, life: u64) {
        let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.life == life) else {
            return;
        };
        if node.process.is_none() {
            return;
        }
        if node.paused_until > self.now {
            let wait = node.paused_until.saturating_sub(self.now);
            return self.plan(wait, Happening::Written { slot, life });
        }
        let Some(seq) = node.disk.complete() else { return };
        node.done = seq;
        let (free, held) = std::mem::take(&mut node.held)
            .into_iter()
            .partition(|(after, ..)| *after <= seq);
        node.held = held;
        let free: Vec<(PersistSeq, Slot, SessionId, P::Message)> = free;
        for (_, to, session, message) in free {
            let verdict = self.leave(slot, to, session, &message);
            self.judge(verdict);
        }
        self.drain(slot);
        self.event(slot, Some(life), Event::Written(seq));
    }

    /// The next write of a disk fails: its process hears of it, and must stop.
    pub(super) fn fail_write(&mut self, slot: Slot) {
        let Some(node) = self.nodes.get(&slot) else { return };
        if let Some(seq) = node.disk.next().filter(|_| node.paused_until <= self.now) {
            let life = Some(node.life);
            self.event(slot, life, Event::WriteFailed(seq));
        }
    }

    fn leave(&mut self, slot: Slot, to: Slot, session: SessionId, message: &P::Message) -> Verdict {
        if let Some(node) = view(&self.nodes, slot) {
            self.oracle.leaves(node, to, P::claim(message))?;
        }
        let arrivals = self
            .network
            .arrivals(slot, to, self.now, &self.faults, &mut self.random);
        for at in arrivals {
            let wait = at.saturating_sub(self.now);
            let event = Event::Receive(slot, session, message.clone());
            self.plan(
                wait,
                Happening::Event {
                    slot: to,
                    life: None,
                    event,
                },
            );
        }
        Ok(())
    }

    fn check(&mut self, slot: Slot) -> Verdict {
        let Some(node) = view(&self.nodes, slot) else {
            return Ok(());
        };
        self.oracle.after_step(node, &|slot| view(&self.nodes, slot))
    }

    fn check_disk(&mut self, slot: Slot) -> Verdict {
        let Some(node) = view(&self.nodes, slot) else {
            return Ok(());
        };
        self.oracle.after_write(slot, node.vote.term, node.durable)?;
        self.oracle.after_step(node, &|slot| view(&self.nodes, slot))
    }

    pub(super) fn judge(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.failed.get_or_insert(violation);
        }
    }
}

fn view<P: Participant>(nodes: &BTreeMap<Slot, Node<P>>, slot: Slot) -> Option<View<'_>> {
    let node = nodes.get(&slot)?;
    Some(View {
        slot,
        status: node.status.as_ref(),
        chain: P::chain(&node.disk.view),
        durable: P::chain(&node.disk.durable),
        vote: P::vote(&node.disk.durable),
    })
}

/// A process's clock.
fn clock(now: u64, rate: u64) -> Tick {
    Tick(now.saturating_mul(rate).checked_div(1000).unwrap_or(now))
}
