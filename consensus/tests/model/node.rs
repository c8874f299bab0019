//! Keeps one node of the model: the product's engine behind its host, a disk with writes under way, a clock.
//!
//! Invariants: a node never changes, a step makes another one; equal fingerprints, equal behaviour. What a sync has
//! reported survives a crash, of the rest a prefix does, any prefix; whoever starts, starts from that, as a process.
//! Leaves which steps there are to `system`, and what must hold to `history`.

use std::collections::{BTreeMap, VecDeque};

use quipu_consensus::engine::{Role, Status};
use quipu_consensus::input::{Entropy, PersistSeq, SessionId, Tick};
use quipu_consensus::message::Message;
use quipu_consensus::output::{LogOperation, VoteRecord};
use quipu_consensus::raft::Rules;
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::engine_host::{EngineDisk, EngineHost, EngineSetup};
use quipu_consensus::simulator::participant::{Effect, Event, Link, Participant};
use quipu_crypto::id::{BlockId, Height, Slot};

use super::fingerprint::fingerprint;

/// Just less than the longest election timeout: every deadline passes, and a leader that was heard before is silent
/// for long enough to be given up, but a leader of its own right gives up only at the second time.
const SILENCE_MS: u64 = 199;

type Write = Vec<LogOperation<SimulatedBlock>>;

/// What a test's rules must be able to do besides deciding.
pub(super) trait Decides: Rules + Clone + std::fmt::Debug + Send + Sync + 'static {}
impl<R: Rules + Clone + std::fmt::Debug + Send + Sync + 'static> Decides for R {}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) fingerprint: u64,
    pub(super) from: Slot,
    pub(super) to: Slot,
    pub(super) session: SessionId,
    pub(super) message: Message<SimulatedBlock>,
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stimulus {
    /// Almost an election timeout passes.
    Silence,
    /// A client writes.
    Submit(u64),
    /// The oldest write is done.
    Written,
    /// The power fails; so many of the writes that were not synced have reached the disk; the node starts again at
    /// once, under new sessions. Being down for longer is to be heard and to hear later.
    Crash(usize, Vec<(Slot, SessionId)>),
    /// A peer is reached under a new session.
    Connect(Slot, SessionId),
    /// A message arrives.
    Deliver(&'static Letter),
}

impl Stimulus {
    /// Tells it from every other.
    pub(super) fn key(&self) -> u64 {
        match self {
            Self::Deliver(letter) => letter.fingerprint,
            other => fingerprint(other, Tick(0), PersistSeq(0)),
        }
    }
}

/// What a step tells the world.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Commit(BlockId),
    Acknowledge(BlockId),
    Halt,
}

/// What came of a step.
pub(super) struct Outcome<R> {
    pub(super) node: Node<R>,
    pub(super) sent: Vec<&'static Letter>,
    pub(super) told: Vec<Told>,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node<R> {
    pub(super) fingerprint: u64,
    pub(super) slot: Slot,
    pub(super) status: Status,
    /// What is there after a crash for sure, and what the process reads back.
    pub(super) durable: EngineDisk,
    pub(super) view: EngineDisk,
    /// Which process of this node it is.
    pub(super) life: u64,
    /// Height that this process took for committed at its start.
    pub(super) began: Height,
    /// The session of each peer that the process knows.
    pub(super) connected: BTreeMap<Slot, SessionId>,
    host: EngineHost<R>,
    clock: Tick,
    /// Reported without a sync.
    cached: Vec<Write>,
    /// Asked for.
    queue: VecDeque<(PersistSeq, Write, bool)>,
    /// Messages that wait for a write.
    held: Vec<(PersistSeq, &'static Letter)>,
    done: PersistSeq,
}

/// Draws the number of the life, so that no process takes an answer to another one for its own.
struct Life(u64);

impl Entropy for Life {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.min(bound.saturating_sub(1))
    }
}

/// Nothing is left to chance: deadlines are as short as may be, and blocks small.
struct Least;

impl Entropy for Least {
    fn below(&mut self, _bound: u64) -> u64 {
        0
    }
}

impl<R: Decides> Node<R> {
    /// A node that has just started on `disk`.
    pub(super) fn start(setup: &EngineSetup<R>, slot: Slot, mut disk: EngineDisk, clock: Tick, life: u64) -> Self {
        let host = EngineHost::start(setup, slot, &mut disk, clock, &mut Life(life));
        let status = host.status();
        Self {
            fingerprint: 0,
            slot,
            began: status.commit.height,
            status,
            view: disk.clone(),
            durable: disk,
            life,
            connected: BTreeMap::new(),
            host,
            clock,
            cached: Vec::new(),
            queue: VecDeque::new(),
            held: Vec::new(),
            done: PersistSeq(0),
        }
    }

    pub(super) fn blank(setup: &EngineSetup<R>, slot: Slot) -> Self {
        // Late enough for "never" to be long ago.
        let clock = Tick(10_000);
        let mut node = Self::start(setup, slot, EngineHost::blank(setup, slot), clock, 1);
        node.fingerprint = node.told_apart_by();
        node
    }

    pub(super) fn chain(&self) -> &[Link] {
        EngineHost::<R>::chain(&self.view)
    }

    pub(super) fn durable_chain(&self) -> &[Link] {
        EngineHost::<R>::chain(&self.durable)
    }

    pub(super) fn vote(&self) -> VoteRecord {
        EngineHost::<R>::vote(&self.durable)
    }

    pub(super) fn leads(&self) -> bool {
        self.status.role == Role::Leader
    }

    pub(super) fn has_writes(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many writes a crash may lose.
    pub(super) fn unsynced(&self) -> usize {
        self.cached.len() + self.queue.len()
    }

    /// What the node is after `stimulus`.
    pub(super) fn step(&self, setup: &EngineSetup<R>, stimulus: &Stimulus) -> Outcome<R> {
        let mut next = self.clone();
        let mut sent = Vec::new();
        let mut told = Vec::new();
        match stimulus {
            Stimulus::Silence => {
                next.clock = next.clock.plus(SILENCE_MS);
                next.handle(Event::Tick, &mut sent, &mut told);
            }
            Stimulus::Submit(request) => next.handle(Event::Submit(*request), &mut sent, &mut told),
            Stimulus::Written => {
                if let Some(seq) = next.complete(&mut sent) {
                    next.handle(Event::Written(seq), &mut sent, &mut told);
                }
            }
            Stimulus::Crash(survive, sessions) => {
                next = self.restart(setup, *survive);
                for (peer, session) in sessions {
                    next.connect(*peer, *session, &mut sent, &mut told);
                }
            }
            Stimulus::Connect(peer, session) => next.connect(*peer, *session, &mut sent, &mut told),
            Stimulus::Deliver(letter) => {
                let event = Event::Receive(letter.from, letter.session, letter.message.clone());
                next.handle(event, &mut sent, &mut told);
            }
        }
        next.fingerprint = next.told_apart_by();
        Outcome { node: next, sent, told }
    }

    /// Everything but what follows from the rest: the view from disk and writes, the status from the engine.
    fn told_apart_by(&self) -> u64 {
        let disk = (&self.durable, &self.cached, &self.queue);
        let process = (&self.host, &self.connected, self.life, self.began);
        let waiting: Vec<_> = self
            .held
            .iter()
            .map(|(seq, letter)| (*seq, letter.fingerprint))
            .collect();
        fingerprint(&(self.slot, process, disk, waiting), self.clock, self.done)
    }

    fn connect(&mut self, peer: Slot, session: SessionId, sent: &mut Vec<&'static Letter>, told: &mut Vec<Told>) {
        self.connected.insert(peer, session);
        self.handle(Event::PeerUp(peer, session), sent, told);
    }

    /// The oldest write reaches the disk; what waited for it leaves.
    fn complete(&mut self, sent: &mut Vec<&'static Letter>) -> Option<PersistSeq> {
        let (seq, write, sync) = self.queue.pop_front()?;
        self.cached.push(write);
        if sync {
            for write in self.cached.drain(..) {
                EngineHost::<R>::apply(&mut self.durable, &write);
            }
        }
        self.done = seq;
        let (free, held) = self.held.drain(..).partition(|(after, _)| *after <= seq);
        self.held = held;
        let free: Vec<(PersistSeq, &'static Letter)> = free;
        sent.extend(free.into_iter().map(|(_, letter)| letter));
        Some(seq)
    }

    fn restart(&self, setup: &EngineSetup<R>, survive: usize) -> Self {
        let mut disk = self.durable.clone();
        let unsynced = self.cached.iter().chain(self.queue.iter().map(|(_, write, _)| write));
        for write in unsynced.take(survive) {
            EngineHost::<R>::apply(&mut disk, write);
        }
        Self::start(setup, self.slot, disk, self.clock, self.life + 1)
    }

    fn handle(&mut self, event: Event<Message<SimulatedBlock>>, sent: &mut Vec<&'static Letter>, told: &mut Vec<Told>) {
        let mut effects = Vec::new();
        self.host
            .handle(self.clock, &mut Least, &self.view, event, &mut effects);
        self.status = self.host.status();
        for effect in effects {
            match effect {
                Effect::Write { seq, write, sync } => {
                    EngineHost::<R>::apply(&mut self.view, &write);
                    self.queue.push_back((seq, write, sync));
                }
                Effect::Send {
                    to,
                    session,
                    message,
                    after,
                } => {
                    let letter = self.letter(to, session, message);
                    match after.filter(|seq| *seq > self.done) {
                        Some(seq) => self.hold(seq, letter),
                        None => sent.push(letter),
                    }
                }
                Effect::Commit(upto) => told.push(Told::Commit(upto)),
                Effect::Acknowledge(_, id) => told.push(Told::Acknowledge(id)),
                Effect::Halt(..) | Effect::Broken(..) => told.push(Told::Halt),
                Effect::See(_) => {}
                // Reads are not asked for, and whole replicas are not modelled.
                other => unreachable!("an engine's host asks for {other:?}"),
            }
        }
    }

    /// Twice the same is once: whatever leaves may arrive more than once.
    fn hold(&mut self, seq: PersistSeq, letter: &'static Letter) {
        let place = (seq, letter.fingerprint);
        if let Err(at) = self
            .held
            .binary_search_by_key(&place, |(seq, held)| (*seq, held.fingerprint))
        {
            self.held.insert(at, (seq, letter));
        }
    }

    fn letter(&self, to: Slot, session: SessionId, message: Message<SimulatedBlock>) -> &'static Letter {
        let from = self.slot;
        let fingerprint = fingerprint(&(from, to, session, &message), Tick(0), PersistSeq(0));
        // States refer to it for as long as the test runs, and there are few.
        Box::leak(Box::new(Letter {
            fingerprint,
            from,
            to,
            session,
            message,
        }))
    }
}
