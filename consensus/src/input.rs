//! Keeps what can happen to an engine. Time and chance come in as arguments of `Engine::step`, never from inside.
//!
//! Invariant: the host feeds completions (`Persisted`) in the order of the writes that they answer.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot};

use crate::message::{Message, Report};

/// Milliseconds on a clock that only ever goes forward. Its zero means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    /// `ms` later; stays at the end of time rather than wrapping.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How many ms `self` is after `earlier`; zero where it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One connection to a peer. A later connection has a larger number; what comes from an older one is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Number of a write that the engine asked for; the next is one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersistSeq(pub u64);

/// Names a question for blocks that the engine no longer holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// Names a read that waits for its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadTicket(pub u64);

/// Where chance comes from: a seeded generator in the simulator, the system's in the node.
pub trait Entropy {
    /// A number drawn evenly from 0 to `bound - 1`; 0 where `bound` is 0.
    fn below(&mut self, bound: u64) -> u64;
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<B> {
    /// Time passed. At least once per tenth of the election timeout.
    Tick,
    /// A peer can be reached under a new session.
    PeerUp {
        /// Who.
        peer: Slot,
        /// The new connection; larger than every one before with this peer.
        session: SessionId,
    },
    /// That session ended.
    PeerDown {
        /// Who.
        peer: Slot,
        /// The connection that ended.
        session: SessionId,
    },
    /// A message that the host has verified: blocks' signatures, votes' signatures, `executed` quadruples.
    Receive {
        /// Whose key the connection has.
        from: Slot,
        /// The connection that it came over.
        session: SessionId,
        /// What was said.
        message: Message<B>,
    },
    /// A block that the host made at [`crate::engine::Engine::proposal`], in the same turn; first of all the opening
    /// block. A block that does not stand exactly there is a mistake of the host: the engine halts.
    Propose {
        /// The block.
        block: B,
    },
    /// The write `seq` and all before it are done, and durable where a sync was asked for.
    Persisted {
        /// The last of them.
        seq: PersistSeq,
    },
    /// A write failed: the engine halts (rule P9).
    PersistFailed {
        /// Which.
        seq: PersistSeq,
    },
    /// Answer to `Output::Fetch`: blocks in order, the first one's parent beside them. Empty where there are none.
    Loaded {
        /// The question.
        fetch: FetchId,
        /// Parent of the first block.
        previous: BlockId,
        /// The blocks.
        blocks: Vec<B>,
    },
    /// This node has executed up to here.
    Executed {
        /// The height, and what the others are to compare.
        report: Report,
    },
    /// A client wants to read what is committed now.
    Read {
        /// Names it in the answer.
        ticket: ReadTicket,
    },
    /// Hand leadership over (to `to`, or to the best follower), e.g. before a stop.
    Transfer {
        /// To whom; `None` for the voter that holds most.
        to: Option<Slot>,
    },
    /// The host found the leader of the current term to be wrong (another `executed`, a forged block): treat it as
    /// failed for this term.
    Distrust {
        /// Whom.
        leader: Slot,
    },
    /// Whether this node may campaign (its clock is sound). True at start.
    MayCampaign(bool),
    /// Whether the disk has room for more blocks (D-8). True at start. Without, a leader hands over and a follower
    /// takes no blocks; votes are still given, they need next to nothing.
    MayAppend(bool),
    /// The stored block at this height of the chain cannot be read, or is not the one that stood there: the engine
    /// asks the peers for the block of that hash (R-18, D-3). Reported again, it is the same report.
    Damaged {
        /// Where.
        height: Height,
        /// The hash that the chain has there: from the header beside it, or from the block above.
        hash: Hash,
    },
}
