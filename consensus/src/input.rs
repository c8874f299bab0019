//! Keeps what can happen to an engine. Time and chance come in as arguments of `Engine::step`, never from inside.
//!
//! Invariant: the host feeds completions (`Persisted`) in the order of the writes that they answer.

use quipu_crypto::id::{BlockId, Slot};

use crate::message::{Message, Report};

/// Milliseconds on a clock that only ever goes forward. Its zero means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

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
    PeerUp { peer: Slot, session: SessionId },
    /// That session ended.
    PeerDown { peer: Slot, session: SessionId },
    /// A message that the host has verified: blocks' signatures, votes' signatures, `executed` quadruples.
    Receive {
        from: Slot,
        session: SessionId,
        message: Message<B>,
    },
    /// A block that the host made on [`crate::engine::Proposal::parent`]; first of all the opening block.
    Propose { block: B },
    /// The write `seq` and all before it are durable.
    Persisted { seq: PersistSeq },
    /// A write failed: the engine halts (rule P9).
    PersistFailed { seq: PersistSeq },
    /// Answer to `Output::Fetch`: blocks in order, the first one's parent beside them. Empty where there are none.
    Loaded {
        fetch: FetchId,
        previous: BlockId,
        blocks: Vec<B>,
    },
    /// This node has executed up to here.
    Executed { report: Report },
    /// A client wants to read what is committed now.
    Read { ticket: ReadTicket },
    /// Hand leadership over (to `to`, or to the best follower), e.g. before a stop.
    Transfer { to: Option<Slot> },
    /// The host found the leader of the current term to be wrong (another `executed`, a forged block): treat it as
    /// failed for this term.
    Distrust { leader: Slot },
    /// Whether this node may campaign (its clock is sound, its disk has room). True at start.
    MayCampaign(bool),
}
