//! Keeps the nodes and the one queue of everything that will happen to them, and moves time from one to the next.
//!
//! Invariants: two things at one time happen in the order in which they were planned; a thing planned for a process
//! that has died since does not happen to the one after it.
//! Leaves what an event does to `delivery`, what goes wrong to `strike`, and when to `run`.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::{Slot, Term};

use super::checkers::{Oracle, Verdict, View, Violation};
use super::clock::Clock;
use super::coverage::Coverage;
use super::disk::Disk;
use super::faults::{Fault, Faults};
use super::network::Network;
use super::participant::{Event, Participant};
use super::random::Random;
use super::trace::{Kind, Trace};
use crate::block::Configuration;
use crate::engine::{Role, Status};
use crate::input::{Entropy, PersistSeq, SessionId};

/// Between two ticks of a process.
const TICK_MS: u64 = 10;

/// No exchange of sound processes is longer than this without any time passing (L4).
const MOST_AT_ONCE: u64 = 20_000;

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
    pub(super) coverage: Coverage,
    pub(super) tally: Tally,
    pub(super) failed: Option<Violation>,
    /// Nothing goes wrong any more.
    pub(super) healed: bool,
    /// Messages that were sent, be it long ago: what a replay takes from.
    pub(super) archive: Vec<Sent<P::Message>>,
    /// The term and leader that the operator wants to end, until then.
    pub(super) wish: Option<(Term, Slot, u64)>,
    /// How many things have happened in the present millisecond.
    at_once: u64,
    /// Boxed, for a tree moves its entries about, and a message may be large.
    queue: BTreeMap<(u64, u64), Box<Happening<P::Message>>>,
    planned: u64,
}

/// What is counted in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    pub(super) reads: u64,
    /// The most that waited in one process or its disk at any time.
    pub(super) backlog: u64,
}

/// A message on a link: from, to, over which session, what.
pub(super) type Sent<M> = (Slot, Slot, SessionId, M);

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
    pub(super) clock: Clock,
    /// In which step of a write the process dies next.
    pub(super) ambush: Option<Fault>,
    /// Nothing leaves any more: the process dies within this step.
    pub(super) mute: bool,
    pub(super) full_until: u64,
    pub(super) slow_until: u64,
    /// The directory as it was while the node was down, some time ago.
    pub(super) copy: Option<P::Image>,
    /// Whether its disk has ever broken the word of a sync.
    pub(super) hit: bool,
    pub(super) entropy: Random,
    /// Messages that wait for a write.
    pub(super) held: Vec<(PersistSeq, Slot, SessionId, P::Message)>,
    pub(super) done: PersistSeq,
}

impl<P: Participant> Node<P> {
    fn new(image: P::Image, entropy: Random) -> Self {
        Self {
            process: None,
            status: None,
            disk: Disk::new(image),
            dead: false,
            life: 0,
            paused_until: 0,
            clock: Clock::default(),
            ambush: None,
            mute: false,
            full_until: 0,
            slow_until: 0,
            copy: None,
            hit: false,
            entropy,
            held: Vec::new(),
            done: PersistSeq(0),
        }
    }

    /// `None` while it is down.
    pub(super) fn role(&self) -> Option<Role> {
        self.status.as_ref().map(|status| status.role)
    }

    /// Whether it is up and takes part in deciding.
    pub(super) fn decides(&self) -> bool {
        self.role()
            .is_some_and(|role| !matches!(role, Role::Waiting | Role::Recovering))
    }
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
    /// One direction of a link is cut, or mended.
    Link { from: Slot, to: Slot, cut: bool },
    /// Something for `run` to do.
    Chore(Chore),
}

/// What a run plans for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// A client writes or reads.
    Client,
    /// A fault strikes.
    Strike(Fault),
    /// The write that a disk is at fails.
    FailWrite(Slot),
    /// All links are mended.
    Mend,
}

impl<P: Participant> World<P> {
    /// A network of nodes that never ran.
    pub fn new(setup: P::Setup, members: Configuration, seed: u64, trace: Trace, frail_disks: bool) -> Self {
        let mut random = Random::new(seed);
        let oracle = Oracle::new(members.clone());
        // While joint, or where some only listen, a minority of all nodes may be a majority of those who count.
        let may_forget = if oracle.is_plain() {
            members.voters.clone()
        } else {
            BTreeSet::new()
        };
        let mut faults = Faults::draw(&mut random, &may_forget);
        if frail_disks {
            faults = faults.on_frail_disks(&mut random, &may_forget);
        }
        let mut nodes = BTreeMap::new();
        let Configuration {
            voters,
            learners,
            outgoing,
            ..
        } = members;
        let former = outgoing.difference(&voters);
        for slot in voters.iter().chain(former).chain(&learners).copied() {
            nodes.insert(slot, Node::new(P::blank(&setup, slot), random.split()));
        }
        Self {
            setup,
            now: 0,
            random,
            faults,
            nodes,
            network: Network::default(),
            oracle,
            trace,
            coverage: Coverage::default(),
            tally: Tally::default(),
            failed: None,
            healed: false,
            archive: Vec::new(),
            wish: None,
            at_once: 0,
            queue: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Every slot.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.nodes.keys().copied().collect()
    }

    /// One of them.
    pub(super) fn any_slot(&mut self) -> Slot {
        let count = u64::try_from(self.nodes.len()).unwrap_or(1);
        let place = usize::try_from(self.random.below(count)).unwrap_or(0);
        self.nodes.keys().nth(place).copied().unwrap_or_default()
    }

    pub(super) fn plan(&mut self, after_ms: u64, happening: Happening<P::Message>) {
        self.planned = self.planned.saturating_add(1);
        self.queue
            .insert((self.now.saturating_add(after_ms), self.planned), Box::new(happening));
    }

    /// Plans an event of the process that is there when it happens.
    pub(super) fn plan_event(&mut self, after_ms: u64, slot: Slot, event: Event<P::Message>) {
        let life = None;
        self.plan(after_ms, Happening::Event { slot, life, event });
    }

    /// Lets the next thing happen that lies before `until`; answers a chore, or `None` when time is up.
    pub(super) fn advance(&mut self, until: u64) -> Option<Option<Chore>> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 < until);
        let Some(entry) = entry.filter(|_| self.failed.is_none()) else {
            self.now = self.now.max(until);
            return None;
        };
        let (at, _) = *entry.key();
        let happening = entry.remove();
        self.at_once = if at > self.now {
            0
        } else {
            self.at_once.saturating_add(1)
        };
        self.now = self.now.max(at);
        if self.at_once > MOST_AT_ONCE {
            let detail = format!("{MOST_AT_ONCE} things happen without an end at {} ms", self.now);
            self.judge(Err(Violation {
                invariant: "L4",
                detail,
            }));
        }
        P::clock(&self.setup, self.now, self.healed);
        match *happening {
            Happening::Chore(chore) => return Some(Some(chore)),
            Happening::Start(slot) => self.start(slot),
            Happening::Connect(left, right) => self.connect(left, right),
            Happening::Link { from, to, cut } => self.network.set_cut(from, to, cut),
            Happening::Tick { slot, life } => self.tick(slot, life),
            Happening::Written { slot, life } => self.written(slot, life),
            Happening::Event { slot, life, event } => self.event(slot, life, event),
        }
        Some(None)
    }

    /// What a node has on its way to others is lost.
    pub(super) fn silence(&mut self, slot: Slot) {
        self.queue.retain(|_, happening| {
            !matches!(**happening, Happening::Event { event: Event::Receive(from, ..), .. } if from == slot)
        });
    }

    /// Forgets what is still planned of faults, orders that wait for the end of a pause included: only processes,
    /// messages and writes go on.
    pub(super) fn forget_chores(&mut self) {
        self.queue.retain(|_, happening| {
            !matches!(
                **happening,
                Happening::Chore(_)
                    | Happening::Link { .. }
                    | Happening::Event {
                        event: Event::Transfer,
                        ..
                    }
            )
        });
    }

    fn start(&mut self, slot: Slot) {
        let Some(node) = self
            .nodes
            .get_mut(&slot)
            .filter(|node| node.process.is_none() && !node.dead)
        else {
            return;
        };
        let now = node.clock.read(self.now);
        node.life = node.life.saturating_add(1);
        node.done = PersistSeq(0);
        // A start may cut a damaged end.
        let held: Vec<_> = if node.hit {
            P::chain(&node.disk.durable).iter().map(|link| link.id).collect()
        } else {
            Vec::new()
        };
        let process = P::start(&self.setup, slot, &mut node.disk.durable, now, &mut node.entropy);
        node.disk.view = node.disk.durable.clone();
        node.process = Some(process);
        let life = node.life;
        if node.full_until > self.now {
            self.plan_event(0, slot, Event::DiskFull(true));
        }
        self.oracle.restarted(slot);
        if let Some(view) = view(&self.nodes, slot).filter(|_| !held.is_empty()) {
            let verdict = self.oracle.forgot(view, &held);
            self.judge(verdict);
        }
        self.trace.line(self.now, slot, Kind::Starts, "starts, life", &life);
        self.plan(TICK_MS, Happening::Tick { slot, life });
        for other in self.slots() {
            let wait = self.random.between(1, 40);
            if other != slot {
                self.plan(wait, Happening::Connect(slot, other));
            }
        }
    }

    /// A process dies.
    pub(super) fn crash(&mut self, slot: Slot) {
        let all_lost = self.faults.amount(Fault::LostWrites);
        let Some(node) = self.nodes.get_mut(&slot).filter(|node| node.process.is_some()) else {
            return;
        };
        let role = node.role();
        node.process = None;
        node.status = None;
        node.held.clear();
        node.paused_until = 0;
        node.ambush = None;
        node.mute = false;
        let lost = node.disk.crash(all_lost, &mut self.random);
        if let Some(fault) = lost {
            self.coverage.strike(fault, role);
        }
        if self.faults.amount(Fault::OldCopy) > 0 && self.faults.frail.contains(&slot) && self.random.chance(300) {
            node.copy = Some(node.disk.durable.clone());
        }
        self.trace.line(self.now, slot, Kind::Dies, "dies, loses", &lost);
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
                self.plan_event(wait, slot, Event::PeerDown(peer, session));
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
            self.plan_event(wait, slot, Event::PeerUp(peer, session));
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

/// A node as the checkers see it, beside an oracle that is being changed.
pub(super) fn view<P: Participant>(nodes: &BTreeMap<Slot, Node<P>>, slot: Slot) -> Option<View<'_>> {
    let node = nodes.get(&slot)?;
    Some(View {
        slot,
        status: node.status.as_ref(),
        chain: P::chain(&node.disk.view),
        durable: P::chain(&node.disk.durable),
        vote: P::vote(&node.disk.durable),
    })
}
