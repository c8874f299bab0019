//! The shortest complete host of an engine, and so the example of one: it proposes, loads, executes and scrubs.
//!
//! Invariant: it does what the crate's documentation asks of a host, in that order, and nothing cleverer.
//! Leaves gates, sessions and syncs to the world around it.

use std::collections::BTreeMap;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{BlockId, Height, Incarnation, Slot};

use super::block::SimulatedBlock;
use super::coverage::Sight;
use super::duties::Duties;
pub use super::engine_disk::EngineDisk;
use super::engine_disk::{Load, place};
use super::participant::{Claim, Damage, Effect, Event, Link, Participant};
use crate::block::Configuration;
use crate::engine::{Engine, Restored, Settings, Status};
use crate::input::{Entropy, Input, ReadTicket, Tick};
use crate::message::{Message, Report};
use crate::output::{Halt, LogOperation, Output, VoteRecord};
use crate::raft::{Raft, Rules};

/// A process that is only an engine and its host.
#[derive(Clone, Debug)]
pub struct EngineHost<R> {
    engine: Raft<SimulatedBlock, R>,
    /// Client requests that no proposal has taken yet.
    waiting: Vec<u64>,
    /// Requests that this node proposed, by the block they are in.
    proposed: BTreeMap<Height, (BlockId, u64)>,
    /// Blocks larger than this do not fit into a window.
    window_bytes: u64,
    large_one_of: u64,
    committed: Height,
    executed: Height,
    /// What executing the last of them came to.
    state: Hash,
    loads: Vec<Load>,
    duties: Duties,
    /// The next height that the scrubber looks at.
    scrub: Height,
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
    /// One block of so many may be larger than a window; zero for none.
    pub large_one_of: u64,
}

type Effects = Vec<Effect<Message<SimulatedBlock>, Vec<LogOperation<SimulatedBlock>>>>;

impl<R: Rules + Clone> Participant for EngineHost<R> {
    type Message = Message<SimulatedBlock>;
    type Write = Vec<LogOperation<SimulatedBlock>>;
    type Image = EngineDisk;
    type Setup = EngineSetup<R>;

    fn blank(_setup: &Self::Setup, _slot: Slot) -> EngineDisk {
        EngineDisk::blank()
    }

    fn apply(disk: &mut EngineDisk, write: &Self::Write) {
        disk.write(write);
    }

    fn damage(disk: &mut EngineDisk, damage: Damage, at: Height) -> bool {
        disk.damage(damage, at)
    }

    fn start(setup: &Self::Setup, slot: Slot, disk: &mut EngineDisk, now: Tick, entropy: &mut dyn Entropy) -> Self {
        let base = disk
            .links
            .get(place(disk.hint))
            .map_or(BlockId::default(), |link| link.id);
        let mut blocks = Vec::new();
        let mut height = base.height.next();
        while let Some(block) = disk.read(height) {
            blocks.push(block.clone());
            height = height.next();
        }
        // What cannot be read above what is committed is cut, and missed: the watermark still names it.
        disk.truncate(height);
        let mut terms = Vec::new();
        for id in disk.links.iter().map(|link| link.id) {
            if terms.last().is_none_or(|(term, _)| *term < id.term) {
                terms.push((id.term, id.height));
            }
        }
        let mut configuration = (Height::ZERO, setup.configuration.clone());
        for link in disk.links.iter().filter(|link| link.id.height <= base.height) {
            if let Some(found) = &link.configuration {
                configuration = (link.id.height, found.clone());
            }
        }
        let restored = Restored {
            slot,
            incarnation: Incarnation::default(),
            starts: disk.starts,
            vote: disk.vote,
            terms,
            base,
            blocks,
            commit_hint: disk.hint,
            configuration,
            promises: disk.promises.clone(),
            watermark: disk.watermark,
            recovering: disk.recovering,
        };
        Self {
            engine: Raft::new(setup.settings, restored, setup.rules.clone(), now, entropy),
            waiting: Vec::new(),
            proposed: BTreeMap::new(),
            committed: disk.hint,
            executed: disk.hint,
            state: Hash::ZERO,
            window_bytes: setup.settings.window_bytes,
            large_one_of: setup.large_one_of,
            loads: Vec::new(),
            duties: Duties::default(),
            scrub: Height::ZERO,
            halted: false,
        }
    }

    fn handle(
        &mut self,
        now: Tick,
        entropy: &mut dyn Entropy,
        disk: &EngineDisk,
        event: Event<Self::Message>,
        effects: &mut Effects,
    ) {
        if self.halted {
            return;
        }
        self.duties.told(&event);
        let mut inputs: Vec<Input<SimulatedBlock>> = Vec::new();
        for load in std::mem::take(&mut self.loads) {
            disk.answer(load, &mut inputs);
        }
        if matches!(event, Event::Tick) {
            self.scrub(disk, &mut inputs);
        }
        inputs.extend(match event {
            Event::Tick => Some(Input::Tick),
            Event::PeerUp(peer, session) => Some(Input::PeerUp { peer, session }),
            Event::PeerDown(peer, session) => Some(Input::PeerDown { peer, session }),
            Event::Receive(from, session, message) => Some(Input::Receive { from, session, message }),
            Event::Written(seq) => Some(Input::Persisted { seq }),
            Event::WriteFailed(seq) => Some(Input::PersistFailed { seq }),
            Event::Read(ticket) => Some(Input::Read {
                ticket: ReadTicket(ticket),
            }),
            Event::Transfer => Some(Input::Transfer { to: None }),
            Event::DiskFull(full) => Some(Input::MayAppend(!full)),
            Event::Wake => None,
            Event::Submit(request) => {
                self.waiting.push(request);
                None
            }
        });
        for input in inputs {
            self.step(now, entropy, input, effects);
        }
        self.execute(now, entropy, disk, effects);
        self.propose(now, entropy, effects);
        if !self.halted {
            let broken = self.duties.broken(&self.engine.status(), self.window_bytes);
            effects.extend(broken.map(Effect::Broken));
        }
    }

    fn status(&self) -> Status {
        self.engine.status()
    }

    fn chain(disk: &EngineDisk) -> &[Link] {
        &disk.links
    }

    fn starts(disk: &EngineDisk) -> u64 {
        disk.starts
    }

    fn remembered_start(disk: &EngineDisk, peer: Slot) -> u64 {
        disk.promises.get(&peer).map_or(0, |promise| promise.start)
    }

    fn digest(&self) -> Option<(Height, Hash)> {
        (self.state != Hash::ZERO).then_some((self.executed, self.state))
    }

    fn backlog(&self) -> u64 {
        let count = self.proposed.len().saturating_add(self.waiting.len());
        u64::try_from(count.saturating_add(self.loads.len())).unwrap_or(u64::MAX)
    }

    fn vote(disk: &EngineDisk) -> VoteRecord {
        disk.vote
    }

    fn claim(message: &Self::Message) -> Claim {
        Claim::of(message)
    }
}

impl<R: Rules + Clone> EngineHost<R> {
    /// The blocks on a disk, block 0 first.
    #[must_use]
    pub fn blocks(disk: &EngineDisk) -> &[SimulatedBlock] {
        &disk.blocks
    }

    fn step(&mut self, now: Tick, entropy: &mut dyn Entropy, input: Input<SimulatedBlock>, effects: &mut Effects) {
        if matches!(input, Input::Damaged { .. }) {
            effects.push(Effect::See(Sight::DamageFound));
        }
        if let Input::Loaded { blocks, .. } = &input {
            self.duties.sends(blocks);
        }
        let mut outputs = Vec::new();
        self.engine.step(now, entropy, input, &mut outputs);
        for output in outputs {
            self.duties.answers(&output);
            match output {
                Output::Persist { seq, operations, sync } => {
                    if operations.iter().any(|done| matches!(done, LogOperation::Restore(_))) {
                        effects.push(Effect::See(Sight::Repaired));
                    }
                    let write = operations;
                    effects.push(Effect::Write { seq, write, sync });
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
                } => {
                    effects.push(Effect::See(Sight::Fetched));
                    self.loads.push(Load {
                        fetch,
                        first,
                        last,
                        max_bytes,
                    });
                }
                Output::ReadReady { ticket, height } => effects.push(Effect::ReadReady(ticket.0, height)),
                Output::Truncated { from } => self.proposed.retain(|height, _| *height < from),
                Output::ReadLost { .. } => effects.push(Effect::See(Sight::ReadLost)),
                Output::Evidence(_) => effects.push(Effect::See(Sight::Evidence)),
                Output::Role(_) => {}
                Output::Halt(halt) => {
                    self.halted = true;
                    effects.push(Effect::Halt(halt.to_string(), halt == Halt::WriteFailed));
                }
            }
        }
    }

    fn commit(&mut self, upto: BlockId, effects: &mut Effects) {
        effects.push(Effect::Commit(upto));
        self.committed = self.committed.max(upto.height);
        while let Some(entry) = self.proposed.first_entry().filter(|entry| *entry.key() <= upto.height) {
            // What was cut is not among them any more (`Output::Truncated`).
            let (id, request) = entry.remove();
            effects.push(Effect::Acknowledge(request, id));
        }
    }

    /// Executes what is committed and durable here, and reports it; waits at a block that cannot be read.
    fn execute(&mut self, now: Tick, entropy: &mut dyn Entropy, disk: &EngineDisk, effects: &mut Effects) {
        let upto = self.committed.min(self.engine.status().durable.height);
        let before = self.executed;
        while self.executed < upto {
            let next = self.executed.next();
            let Some(block) = self.engine.block(next).or_else(|| disk.read(next)) else {
                if let Some(damaged) = disk.damaged(next) {
                    self.step(now, entropy, damaged, effects);
                }
                break;
            };
            if block.size > self.window_bytes {
                effects.push(Effect::See(Sight::LargeBlock));
            }
            if next == upto {
                let content = [block.previous.as_bytes().as_slice(), &block.payload.to_le_bytes()];
                self.state = Hash::of(Context::Header, &content);
            }
            self.executed = next;
        }
        if self.executed < upto {
            self.state = Hash::ZERO;
        }
        if self.executed > before {
            let report = Report {
                height: self.executed,
                digest: Hash::ZERO,
            };
            self.step(now, entropy, Input::Executed { report }, effects);
        }
    }

    /// Looks at one stored block a tick, so that damage is found before a reader finds it.
    fn scrub(&mut self, disk: &EngineDisk, inputs: &mut Vec<Input<SimulatedBlock>>) {
        self.scrub = if self.scrub < disk.tip() {
            self.scrub.next()
        } else {
            Height::ZERO
        };
        if disk.read(self.scrub).is_none() {
            inputs.extend(disk.damaged(self.scrub));
        }
    }

    /// Cuts blocks for what waits: the opening block first, then a request each.
    fn propose(&mut self, now: Tick, entropy: &mut dyn Entropy, effects: &mut Effects) {
        while let Some(place) = self.engine.proposal() {
            self.duties.asked(&place);
            let block = if place.opening {
                SimulatedBlock::opening(place.parent, place.term)
            } else {
                let Some(request) = self.waiting.pop() else { return };
                // Most fit into a message; some fit into no window.
                let large = self.large_one_of > 0 && entropy.below(self.large_one_of) == 0;
                let most = if large { 5000 } else { 400 };
                let size = 1_u64.saturating_add(entropy.below(most));
                let block = SimulatedBlock::child(place.parent, place.term, size, request);
                self.proposed.insert(block.id.height, (block.id, request));
                block
            };
            self.step(now, entropy, Input::Propose { block }, effects);
        }
        // Whoever does not lead tells its clients at once; they do not ask again here.
        self.waiting.clear();
    }
}
