//! The shortest complete host of an engine, and so the example of one: it proposes, stores, loads and executes.
//!
//! Invariant: it does what the crate's documentation asks of a host, in that order, and nothing cleverer.
//! Leaves gates, sessions and syncs to the world around it.

use std::collections::BTreeMap;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Incarnation, Slot};

use super::block::SimulatedBlock;
use super::participant::{Claim, Effect, Event, Link, Participant};
use crate::block::{Block, Configuration};
use crate::engine::{Engine, Restored, Settings, Status};
use crate::input::{Entropy, FetchId, Input, ReadTicket, Tick};
use crate::message::{Message, Promise, Report};
use crate::output::{Halt, LogOperation, Output, VoteRecord};
use crate::raft::{Raft, Rules};

/// A process that is only an engine and its host.
#[derive(Debug)]
pub struct EngineHost<R> {
    engine: Raft<SimulatedBlock, R>,
    /// The store as this process reads it back: every write that it asked for.
    store: Vec<SimulatedBlock>,
    /// Client requests that no proposal has taken yet.
    waiting: Vec<u64>,
    /// Requests that this node proposed, by the block they are in.
    proposed: BTreeMap<Height, (BlockId, u64)>,
    committed: Height,
    executed: Height,
    loads: Vec<(FetchId, Height, Height, u64)>,
    halted: bool,
}

/// Everything that a network's hosts share.
#[derive(Clone, Debug)]
pub struct EngineSetup<R> {
    /// Of every engine.
    pub settings: Settings,
    /// Of every engine.
    pub rules: R,
    /// In force from block 0 on.
    pub configuration: Configuration,
}

/// The disk of an engine's host.
#[derive(Clone, Debug)]
pub struct EngineDisk {
    start: u64,
    vote: VoteRecord,
    blocks: Vec<SimulatedBlock>,
    links: Vec<Link>,
    hint: Height,
    promises: BTreeMap<Slot, Promise>,
}

type Effects = Vec<Effect<Message<SimulatedBlock>, Vec<LogOperation<SimulatedBlock>>>>;

impl<R: Rules + Clone> Participant for EngineHost<R> {
    type Message = Message<SimulatedBlock>;
    type Write = Vec<LogOperation<SimulatedBlock>>;
    type Image = EngineDisk;
    type Setup = EngineSetup<R>;

    fn blank(_setup: &Self::Setup, _slot: Slot) -> EngineDisk {
        let genesis = SimulatedBlock::genesis();
        EngineDisk {
            start: 0,
            vote: VoteRecord::default(),
            links: vec![link(&genesis)],
            blocks: vec![genesis],
            hint: Height::ZERO,
            promises: BTreeMap::new(),
        }
    }

    fn apply(disk: &mut EngineDisk, write: &Self::Write) {
        for operation in write {
            match operation {
                LogOperation::SetVote(record) => disk.vote = *record,
                LogOperation::Truncate { from } => {
                    disk.blocks.truncate(place(*from));
                    disk.links.truncate(place(*from));
                }
                LogOperation::Append(blocks) => {
                    disk.links.extend(blocks.iter().map(link));
                    disk.blocks.extend(blocks.iter().cloned());
                }
                LogOperation::CommitHint(height) => disk.hint = *height,
                LogOperation::Remember { peer, promise } => {
                    disk.promises.insert(*peer, *promise);
                }
            }
        }
    }

    fn start(setup: &Self::Setup, slot: Slot, disk: &mut EngineDisk, now: Tick, entropy: &mut dyn Entropy) -> Self {
        disk.start = disk.start.saturating_add(1);
        let store = disk.blocks.clone();
        let base = store
            .get(place(disk.hint))
            .map_or(BlockId::default(), SimulatedBlock::id);
        let mut terms = Vec::new();
        for id in store.iter().map(Block::id) {
            if terms.last().is_none_or(|(term, _)| *term < id.term) {
                terms.push((id.term, id.height));
            }
        }
        let mut configuration = (Height::ZERO, setup.configuration.clone());
        for block in store.iter().filter(|block| block.id.height <= base.height) {
            if let Some(found) = block.configuration() {
                configuration = (block.id.height, found);
            }
        }
        let restored = Restored {
            slot,
            incarnation: Incarnation::default(),
            start: disk.start,
            vote: disk.vote,
            terms,
            base,
            blocks: store.get(place(base.height.next())..).unwrap_or_default().to_vec(),
            commit_hint: disk.hint,
            configuration,
            promises: disk.promises.clone(),
        };
        Self {
            engine: Raft::new(setup.settings, restored, setup.rules.clone(), now, entropy),
            store,
            waiting: Vec::new(),
            proposed: BTreeMap::new(),
            committed: disk.hint,
            executed: Height::ZERO,
            loads: Vec::new(),
            halted: false,
        }
    }

    fn handle(&mut self, now: Tick, entropy: &mut dyn Entropy, event: Event<Self::Message>, effects: &mut Effects) {
        if self.halted {
            return;
        }
        for (fetch, first, last, max_bytes) in std::mem::take(&mut self.loads) {
            let input = self.load(fetch, first, last, max_bytes);
            self.step(now, entropy, input, effects);
        }
        let input = match event {
            Event::Tick => Input::Tick,
            Event::PeerUp(peer, session) => Input::PeerUp { peer, session },
            Event::PeerDown(peer, session) => Input::PeerDown { peer, session },
            Event::Receive(from, session, message) => Input::Receive { from, session, message },
            Event::Written(seq) => Input::Persisted { seq },
            Event::WriteFailed(seq) => Input::PersistFailed { seq },
            Event::Read(ticket) => Input::Read {
                ticket: ReadTicket(ticket),
            },
            Event::Transfer => Input::Transfer { to: None },
            Event::Wake => return,
            Event::Submit(request) => {
                self.waiting.push(request);
                return self.propose(now, entropy, effects);
            }
        };
        self.step(now, entropy, input, effects);
        self.execute(now, entropy, effects);
        self.propose(now, entropy, effects);
    }

    fn status(&self) -> Status {
        self.engine.status()
    }

    fn chain(disk: &EngineDisk) -> &[Link] {
        &disk.links
    }

    fn vote(disk: &EngineDisk) -> VoteRecord {
        disk.vote
    }

    fn claim(message: &Self::Message) -> Claim {
        match message {
            Message::Append(append) => Claim::Term(append.term),
            Message::Accepted(accepted) => Claim::Accepted(accepted.term, accepted.upto),
            Message::Rejected(rejected) => Claim::Term(rejected.term),
            Message::VoteAnswer(answer) if answer.granted => Claim::Vote(answer.term),
            Message::VoteAnswer(answer) => Claim::Term(answer.term),
            Message::RequestVote(request) => Claim::Candidacy(request.term),
            Message::Hello(hello) => Claim::Term(hello.term),
            Message::Welcome(welcome) => Claim::Term(welcome.term),
            Message::TimeoutNow(order) => Claim::Term(order.term),
            Message::PreVote(_) | Message::PreVoteAnswer(_) => Claim::Nothing,
        }
    }
}

impl<R: Rules + Clone> EngineHost<R> {
    /// The blocks on a disk, block 0 first.
    #[must_use]
    pub fn blocks(disk: &EngineDisk) -> &[SimulatedBlock] {
        &disk.blocks
    }

    fn step(&mut self, now: Tick, entropy: &mut dyn Entropy, input: Input<SimulatedBlock>, effects: &mut Effects) {
        let mut outputs = Vec::new();
        self.engine.step(now, entropy, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Persist { seq, operations, sync } => {
                    self.store_back(&operations);
                    effects.push(Effect::Write {
                        seq,
                        write: operations,
                        sync,
                    });
                }
                Output::Send {
                    to,
                    session,
                    message,
                    after,
                    ..
                } => {
                    effects.push(Effect::Send {
                        to,
                        session,
                        message,
                        after,
                    });
                }
                Output::Commit { upto } => self.commit(upto, effects),
                Output::Fetch {
                    fetch,
                    first,
                    last,
                    max_bytes,
                } => self.loads.push((fetch, first, last, max_bytes)),
                Output::ReadReady { ticket, height } => effects.push(Effect::ReadReady(ticket.0, height)),
                Output::Truncated { from } => self.proposed.retain(|height, _| *height < from),
                Output::ReadLost { .. } | Output::Role(_) | Output::Evidence(_) => {}
                Output::Halt(halt) => {
                    self.halted = true;
                    effects.push(Effect::Halt(halt.to_string(), halt == Halt::WriteFailed));
                }
            }
        }
    }

    fn store_back(&mut self, operations: &[LogOperation<SimulatedBlock>]) {
        for operation in operations {
            match operation {
                LogOperation::Truncate { from } => self.store.truncate(place(*from)),
                LogOperation::Append(blocks) => self.store.extend(blocks.iter().cloned()),
                _ => {}
            }
        }
    }

    fn commit(&mut self, upto: BlockId, effects: &mut Effects) {
        effects.push(Effect::Commit(upto));
        self.committed = self.committed.max(upto.height);
        while let Some(entry) = self.proposed.first_entry().filter(|entry| *entry.key() <= upto.height) {
            let (id, request) = entry.remove();
            if self.store.get(place(id.height)).map(Block::id) == Some(id) {
                effects.push(Effect::Acknowledge(request, id));
            }
        }
    }

    /// Executes what is committed and durable here, and reports it.
    fn execute(&mut self, now: Tick, entropy: &mut dyn Entropy, effects: &mut Effects) {
        let height = self.committed.min(self.engine.status().durable.height);
        if height > self.executed {
            self.executed = height;
            let report = Report {
                height,
                digest: Hash::ZERO,
            };
            self.step(now, entropy, Input::Executed { report }, effects);
        }
    }

    /// Cuts blocks for what waits: the opening block first, then a request each.
    fn propose(&mut self, now: Tick, entropy: &mut dyn Entropy, effects: &mut Effects) {
        while let Some(place) = self.engine.proposal() {
            let block = if place.opening {
                SimulatedBlock::opening(place.parent, place.term)
            } else {
                let Some(request) = self.waiting.pop() else { return };
                let size = 1_u64.saturating_add(entropy.below(400));
                let block = SimulatedBlock::child(place.parent, place.term, size, request);
                self.proposed.insert(block.id.height, (block.id, request));
                block
            };
            self.step(now, entropy, Input::Propose { block }, effects);
        }
        // Whoever does not lead tells its clients at once; they do not ask again here.
        self.waiting.clear();
    }

    fn load(&self, fetch: FetchId, first: Height, last: Height, max_bytes: u64) -> Input<SimulatedBlock> {
        let previous = first
            .previous()
            .and_then(|height| self.store.get(place(height)))
            .map(Block::id);
        let mut blocks: Vec<SimulatedBlock> = Vec::new();
        let mut bytes = 0_u64;
        for block in self.store.get(place(first)..=place(last)).unwrap_or_default() {
            bytes = bytes.saturating_add(block.size);
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(block.clone());
        }
        Input::Loaded {
            fetch,
            previous: previous.unwrap_or_default(),
            blocks,
        }
    }
}

fn link(block: &SimulatedBlock) -> Link {
    Link {
        id: block.id,
        previous: block.previous,
        requests: (block.payload != 0).then_some(block.payload).into_iter().collect(),
        configuration: block.configuration.clone(),
    }
}

/// The place of a height in a list that begins with block 0.
fn place(height: Height) -> usize {
    usize::try_from(height.get()).unwrap_or(usize::MAX)
}
