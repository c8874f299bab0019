//! Keeps what an engine asks its host to do, in the order in which it is to be begun.
//!
//! Invariant: a message with `after: Some(seq)` must not leave before the write `seq` is durable (I20). The ordering
//! rule is data, so the simulator can check it and permute everything else.

use quipu_crypto::id::{BlockId, Height, Slot, Term};

use crate::input::{FetchId, PersistSeq, ReadTicket, SessionId};
use crate::message::{Message, Promise, VoteSignature};

/// Which stream a message belongs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Small and urgent: votes, answers, contacts.
    Control,
    /// New blocks.
    Log,
    /// Old blocks for one who is behind.
    Bulk,
}

/// Term and vote: one record, always written together (rule P1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VoteRecord {
    /// The highest term seen.
    pub term: Term,
    /// Who got this node's vote in it.
    pub voted_for: Option<Slot>,
}

/// One change of the durable log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOperation<B> {
    /// Replace the vote record.
    SetVote(VoteRecord),
    /// Remove this height and everything above it.
    Truncate {
        /// The first height that goes.
        from: Height,
    },
    /// Append, each on the one before.
    Append(Vec<B>),
    /// Committed at least up to here; a hint for the next start (rule P4).
    CommitHint(Height),
    /// What a peer was seen to promise.
    Remember {
        /// Whose promise.
        peer: Slot,
        /// The highest that was seen.
        promise: Promise,
    },
    /// What the node has promised once this batch is durable: kept beside the log, after the batch, without a sync. At
    /// the next start it tells whether the log has lost its end (D-4).
    Watermark(Promise),
    /// This start is claimed: the next one has a higher number (D-10).
    Start(u64),
    /// The node has forgotten what it promised, and takes part again only with this block or what supersedes it; with
    /// `None`, it has all that it needs (D-10).
    Recover(Option<BlockId>),
    /// Write this block again where it stands in the chain: its stored copy is damaged. Nothing else moves.
    Restore(B),
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output<B> {
    /// Write these operations as one atomic batch; with `sync`, make them durable before reporting `seq` as persisted.
    Persist {
        /// Its number; the next is one more.
        seq: PersistSeq,
        /// What to write, in order.
        operations: Vec<LogOperation<B>>,
        /// Whether a sync must follow; without, the write may be lost until a later one is synced.
        sync: bool,
    },
    /// Send over that session, once `after` is durable. A session that has ended swallows the message.
    Send {
        /// To whom.
        to: Slot,
        /// Over which connection.
        session: SessionId,
        /// On which stream.
        class: Class,
        /// What to say.
        message: Message<B>,
        /// Not before this write is durable.
        after: Option<PersistSeq>,
    },
    /// Everything up to this block is committed. It may not be durable here yet: the host executes it when it is.
    Commit {
        /// The last committed block.
        upto: BlockId,
    },
    /// Read these blocks from the store, at most about `max_bytes` (one block at least), answer with `Input::Loaded`.
    Fetch {
        /// Names the question.
        fetch: FetchId,
        /// The first height wanted.
        first: Height,
        /// The last height wanted.
        last: Height,
        /// About how much at most.
        max_bytes: u64,
    },
    /// The read of `ticket` may be answered from a state that has executed `height`.
    ReadReady {
        /// The read.
        ticket: ReadTicket,
        /// What must have been executed before it is answered.
        height: Height,
    },
    /// The read of `ticket` cannot be confirmed here any more; ask again, elsewhere.
    ReadLost {
        /// The read.
        ticket: ReadTicket,
    },
    /// The role changed.
    Role(RoleChange),
    /// Blocks from this height on are no longer in the chain.
    Truncated {
        /// The first height that is gone.
        from: Height,
    },
    /// Two blocks of equal height and term and different hash: keep them.
    Evidence(Evidence),
    /// An invariant is broken or the disk has failed: nothing follows; stop the process.
    Halt(Halt),
}

/// What a node is to the others now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// Follows `leader`, or nobody yet.
    Follower {
        /// In which term.
        term: Term,
        /// Whom.
        leader: Option<Slot>,
    },
    /// Asks for votes.
    Candidate {
        /// For which term.
        term: Term,
    },
    /// Won the election. The host must at once propose an opening block that carries these votes (its own, which it
    /// signs itself, is not among them).
    Leader {
        /// The term that it leads.
        term: Term,
        /// The signed votes of the others, in order of their slots.
        votes: Vec<(Slot, VoteSignature)>,
    },
}

/// Two blocks where one can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What this node holds.
    pub held: BlockId,
    /// What it was shown.
    pub shown: BlockId,
    /// By whom.
    pub by: Slot,
}

/// Why an engine stopped for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// A write failed; what is durable is unknown.
    #[error("a write of the log failed; what is durable is unknown")]
    WriteFailed,
    /// A completion came out of order or for nothing.
    #[error("write {got} was reported, {expected} expected")]
    UnexpectedCompletion {
        /// Reported.
        got: u64,
        /// Next in order.
        expected: u64,
    },
    /// An invariant does not hold.
    #[error("invariant broken: {0}")]
    Invariant(&'static str),
}
