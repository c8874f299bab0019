//! Keeps the trait of whatever the simulated world runs: a process with a disk that answers events with effects.
//!
//! Invariants: a participant reads no clock and no disk; all of its durable state is its [`Participant::Image`], moved
//! only by the writes that it asks for.
//! Leaves time, faults and checks to the world.

use std::fmt::Debug;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

use super::checkers::Violation;
use super::coverage::Sight;
use crate::block::Configuration;
use crate::engine::Status;
use crate::input::{Entropy, PersistSeq, SessionId, Tick};
use crate::message::Message;
use crate::output::VoteRecord;

/// A process of the simulated world.
pub trait Participant: Sized {
    /// What it sends to its like.
    type Message: Clone + Debug;
    /// One atomic write.
    type Write: Clone + Debug;
    /// What its disk holds.
    type Image: Clone;
    /// What all processes of a network share: settings, rules, members.
    type Setup: Clone;

    /// The disk of a node that never ran.
    fn blank(setup: &Self::Setup, slot: Slot) -> Self::Image;

    /// What a write does to a disk.
    fn apply(image: &mut Self::Image, write: &Self::Write);

    /// The disk does what no write asked for, at a height; answers whether there was anything to strike.
    fn damage(image: &mut Self::Image, damage: Damage, at: Height) -> bool;

    /// Starts a process on a disk, whose damaged end it may cut.
    fn start(setup: &Self::Setup, slot: Slot, image: &mut Self::Image, now: Tick, entropy: &mut dyn Entropy) -> Self;

    /// Takes one event. `disk` is what the process reads: every write that it asked for before.
    fn handle(
        &mut self,
        now: Tick,
        entropy: &mut dyn Entropy,
        disk: &Self::Image,
        event: Event<Self::Message>,
        effects: &mut Vec<Effect<Self::Message, Self::Write>>,
    );

    /// Where its engine stands.
    fn status(&self) -> Status;

    /// The chain on a disk, block 0 first.
    fn chain(image: &Self::Image) -> &[Link];

    /// Term and vote on a disk.
    fn vote(image: &Self::Image) -> VoteRecord;

    /// What a message promises; the checkers hold it against the sender's disk (I20).
    fn claim(message: &Self::Message) -> Claim;

    /// The last start that a process on that disk has claimed.
    fn starts(_image: &Self::Image) -> u64 {
        0
    }

    /// The latest start of `peer` that this disk remembers; zero for none. Nodes that remember nothing are never wiped.
    fn remembered_start(_image: &Self::Image, _peer: Slot) -> u64 {
        0
    }

    /// Up to where it has executed, and a digest of what came of that; `None` where it cannot say now (I19).
    fn digest(&self) -> Option<(Height, Hash)> {
        None
    }

    /// How many things wait in its memory, whatever they are (L4).
    fn backlog(&self) -> u64 {
        0
    }

    /// It is this late now by the true clock; `healed` once nothing goes wrong any more. For what belongs to a network
    /// and to none of its processes, such as clients; the rest has only the clock that [`Self::handle`] shows it.
    fn clock(_setup: &Self::Setup, _now: u64, _healed: bool) {}
}

/// A block as the checkers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its id.
    pub id: BlockId,
    /// Its parent's hash.
    pub previous: Hash,
    /// The client requests that take effect in it, each once in a chain.
    pub requests: Vec<u64>,
    /// For a membership block.
    pub configuration: Option<Configuration>,
}

/// What a message promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing but its sender's term.
    Term(Term),
    /// To have given the vote of `term`, to the receiver.
    Vote(Term),
    /// To stand for election in `term`.
    Candidacy(Term),
    /// To hold this block durably, in `term`.
    Accepted(Term, BlockId),
    /// Nothing at all.
    Nothing,
}

impl Claim {
    /// What a message between engines promises.
    #[must_use]
    pub const fn of<B>(message: &Message<B>) -> Self {
        match message {
            Message::Append(append) => Self::Term(append.term),
            Message::Accepted(accepted) => Self::Accepted(accepted.term, accepted.upto),
            Message::Rejected(rejected) => Self::Term(rejected.term),
            Message::VoteAnswer(answer) if answer.granted => Self::Vote(answer.term),
            Message::VoteAnswer(answer) => Self::Term(answer.term),
            Message::RequestVote(request) => Self::Candidacy(request.term),
            Message::Hello(hello) => Self::Term(hello.term),
            Message::Welcome(welcome) => Self::Term(welcome.term),
            Message::TimeoutNow(order) => Self::Term(order.term),
            Message::PreVote(_) | Message::PreVoteAnswer(_) | Message::Want(_) | Message::Found(_) => Self::Nothing,
        }
    }
}

/// What a disk does that no write asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// The content of one stored block is not what was written; its header record, and so its hash, still is.
    Rot,
    /// The content of one stored block stands in the place of another.
    Misdirected,
    /// This block and all above it are gone, though a sync was reported. The watermark beside the log stays.
    LostTail,
    /// As [`Damage::LostTail`], and the watermark is as it was when the first lost block had just come: it tells that
    /// something is missing, but not how much.
    LostTailAndOldWatermark,
    /// As [`Damage::LostTail`], and the watermark is gone as well: only the peers remember.
    LostTailAndWatermark,
}

/// What happens to a participant.
#[derive(Clone, Debug)]
pub enum Event<M> {
    /// Time passed.
    Tick,
    /// A peer can be reached.
    PeerUp(Slot, SessionId),
    /// A session ended.
    PeerDown(Slot, SessionId),
    /// A message came.
    Receive(Slot, SessionId, M),
    /// A write, and all before it, is done.
    Written(PersistSeq),
    /// A write failed.
    WriteFailed(PersistSeq),
    /// A client wants this request ordered.
    Submit(u64),
    /// A client wants to read.
    Read(u64),
    /// The operator wants another leader.
    Transfer,
    /// The disk has no room any more (`true`), or has room again.
    DiskFull(bool),
    /// The time that [`Effect::Wake`] asked for has come.
    Wake,
}

/// What a participant wants done.
#[derive(Clone, Debug)]
pub enum Effect<M, W> {
    /// Write, and sync if asked.
    Write {
        /// Its number.
        seq: PersistSeq,
        /// What.
        write: W,
        /// Whether it must be durable before it is reported.
        sync: bool,
    },
    /// Send, once `after` is durable.
    Send {
        /// To whom.
        to: Slot,
        /// Over which session.
        session: SessionId,
        /// What.
        message: M,
        /// Which write it waits for.
        after: Option<PersistSeq>,
    },
    /// Committed up to here.
    Commit(BlockId),
    /// The client of this request was told that it is committed in that block.
    Acknowledge(u64, BlockId),
    /// The client of this read was answered from that height.
    ReadReady(u64, Height),
    /// Send [`Event::Wake`] after so many ms: a thread of the process is done then.
    Wake(u64),
    /// The process ends because it was told to, and is started again after so many ms.
    Restart(u64),
    /// The process met a situation that is worth counting.
    See(Sight),
    /// The process found broken what the oracle cannot see.
    Broken(Violation),
    /// The process stops; `true` where a failed disk made it.
    Halt(String, bool),
}
