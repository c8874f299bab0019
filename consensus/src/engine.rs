//! Keeps the trait of an ordering engine, what it starts from and what it shows of itself.
//!
//! Invariant: `step` is a pure function of the engine, the time, the chance and the input.

use std::collections::BTreeMap;

use quipu_crypto::id::{BlockId, Height, Incarnation, Slot, Term};

use crate::block::{Block, Configuration};
use crate::input::{Entropy, Input, Tick};
use crate::message::{Promise, Report};
use crate::output::{Output, VoteRecord};

/// An ordering engine.
pub trait Engine {
    /// What it orders.
    type Block: Block;

    /// Takes one input; what is to be done is appended to `out`, in order.
    fn step(
        &mut self,
        now: Tick,
        entropy: &mut dyn Entropy,
        input: Input<Self::Block>,
        out: &mut Vec<Output<Self::Block>>,
    );

    /// Where it stands. Cheap: for metrics and the invariant checkers.
    fn status(&self) -> Status;

    /// Where the next block belongs; `None` unless this node leads and has room for more uncommitted bytes.
    fn proposal(&self) -> Option<Proposal>;

    /// A block that is still in memory.
    fn block(&self, height: Height) -> Option<&Self::Block>;
}

/// Where the next block belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The term that it is proposed in.
    pub term: Term,
    /// The block that it follows on.
    pub parent: BlockId,
    /// Whether it must be the opening block.
    pub opening: bool,
    /// Membership block in force at `parent`.
    pub membership: Height,
}

/// What an engine starts from: all of it read from the store.
#[derive(Clone, Debug)]
pub struct Restored<B> {
    /// This node.
    pub slot: Slot,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// The number of the last start that was claimed ([`crate::output::LogOperation::Start`]).
    pub starts: u64,
    /// Term and vote.
    pub vote: VoteRecord,
    /// Where each term begins: (term, first height), ascending, the whole chain.
    pub terms: Vec<(Term, Height)>,
    /// The block before `blocks`; block 0 where `blocks` begins at 1.
    pub base: BlockId,
    /// The end of the chain, at least everything above `commit_hint`.
    pub blocks: Vec<B>,
    /// Committed at least up to here.
    pub commit_hint: Height,
    /// The membership in force at `base`, and the height of its block.
    pub configuration: (Height, Configuration),
    /// What the peers were seen to promise.
    pub promises: BTreeMap<Slot, Promise>,
    /// What this node noted of its own promises beside the store, where it did: the store may have lost its end (D-4).
    pub watermark: Option<Promise>,
    /// The block that a recovery had still to get ([`crate::output::LogOperation::Recover`]), where it did not end.
    pub recovering: Option<BlockId>,
}

/// Times and limits of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Shortest election timeout, ms.
    pub election_min_ms: u64,
    /// Longest election timeout, ms.
    pub election_max_ms: u64,
    /// Longest silence of a leader, ms.
    pub heartbeat_ms: u64,
    /// How long blocks may wait for their commit, or be committed before the own disk has them, until a leader gives
    /// way, ms: several election timeouts.
    pub stall_ms: u64,
    /// How long a start waits for every voter's hello before a majority is enough, ms.
    pub hello_wait_ms: u64,
    /// Most bytes of blocks in one message (one block at least).
    pub append_bytes: u64,
    /// Most bytes in flight to one peer.
    pub window_bytes: u64,
    /// Most uncommitted bytes before the leader takes no more.
    pub uncommitted_bytes: u64,
    /// Most bytes of committed blocks kept in memory for those who are a little behind.
    pub cache_bytes: u64,
}

/// Where an engine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub slot: Slot,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead.
    pub leader: Option<Slot>,
    /// Its last block, durable or not.
    pub tip: BlockId,
    /// Its last durable block.
    pub durable: BlockId,
    /// The last block that it knows to be committed.
    pub commit: BlockId,
    /// Height of the membership block in force.
    pub membership: Height,
    /// At a leader: what it knows of each peer.
    pub peers: BTreeMap<Slot, PeerStatus>,
}

/// Roles as an operator sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Started, has not heard enough hellos: takes no part in deciding.
    Waiting,
    /// Knows that it forgot a promise: fetches only.
    Recovering,
    /// Follows.
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What a leader knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Durable there, and equal to the leader's chain. Invariant: never beyond the peer's durable tip (I10).
    pub matched: Height,
    /// The next height to send. Invariant: above `matched`.
    pub next: Height,
    /// Bytes of blocks that are on their way there. Invariant: they fit the window, or it is one block (L4).
    pub in_flight: u64,
    /// Answered within the last election timeout.
    pub active: bool,
    /// What it last said to have executed.
    pub executed: Report,
}
