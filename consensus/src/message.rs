//! Keeps the messages between engines. `B` is a block: decoded in the engine, bytes on the wire (`map_blocks`).
//!
//! Invariants: enums grow only at the end (postcard discriminants are part of the wire format); an answer that says no
//! is a type of its own, so it can never raise what the leader believes to be stored.
//! Leaves envelope, length caps and signatures to the host.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Incarnation, Slot, Term};
use serde::{Deserialize, Serialize};

/// What engines say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<B> {
    /// Leader to follower: blocks, or none (a contact).
    Append(Append<B>),
    /// Follower to leader: stored durably up to here.
    Accepted(Accepted),
    /// Follower to leader: does not fit; try from here.
    Rejected(Rejected),
    /// Would you vote for me? Changes nothing at the asked.
    PreVote(VoteRequest),
    /// Answer to [`Message::PreVote`]; never signed.
    PreVoteAnswer(VoteAnswer),
    /// Vote for me.
    RequestVote(VoteRequest),
    /// Answer to [`Message::RequestVote`]; a granted one is signed by the host when it leaves.
    VoteAnswer(VoteAnswer),
    /// At start: who I am and where I stand; what do you remember of me?
    Hello(Hello),
    /// Answer to [`Message::Hello`].
    Welcome(Welcome),
    /// The leader asks its best follower to campaign at once.
    TimeoutNow(TimeoutNow),
    /// My copy of this block is damaged: have you one?
    Want(Want),
    /// Answer to [`Message::Want`].
    Found(Found<B>),
}

impl<B> Message<B> {
    /// The same message with each block turned into something else: bytes into a decoded block, or back.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn map_blocks<C, E>(self, mut map: impl FnMut(B) -> Result<C, E>) -> Result<Message<C>, E> {
        Ok(match self {
            Self::Append(append) => Message::Append(Append {
                term: append.term,
                previous: append.previous,
                blocks: append.blocks.into_iter().map(map).collect::<Result<_, E>>()?,
                commit: append.commit,
                read_token: append.read_token,
                sign_at: append.sign_at,
            }),
            Self::Accepted(accepted) => Message::Accepted(accepted),
            Self::Rejected(rejected) => Message::Rejected(rejected),
            Self::PreVote(request) => Message::PreVote(request),
            Self::PreVoteAnswer(answer) => Message::PreVoteAnswer(answer),
            Self::RequestVote(request) => Message::RequestVote(request),
            Self::VoteAnswer(answer) => Message::VoteAnswer(answer),
            Self::Hello(hello) => Message::Hello(hello),
            Self::Welcome(welcome) => Message::Welcome(welcome),
            Self::TimeoutNow(order) => Message::TimeoutNow(order),
            Self::Want(want) => Message::Want(want),
            Self::Found(found) => Message::Found(Found {
                height: found.height,
                hash: found.hash,
                block: found.block.map(&mut map).transpose()?,
            }),
        })
    }
}

/// Blocks for a follower. Every field but `blocks` is small and fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append<B> {
    /// The leader's term.
    pub term: Term,
    /// The block that `blocks` follow on.
    pub previous: BlockId,
    /// In order of height, each on the one before.
    pub blocks: Vec<B>,
    /// The last block that the leader knows to be committed.
    pub commit: BlockId,
    /// Number of this message within the leader's session, echoed in the answer: confirms reads and contact.
    pub read_token: u64,
    /// Height of the leader's term that voters shall sign (seam for commit certificates); zero for none.
    pub sign_at: Height,
}

/// What a node has executed, opaque to the engine. Travels in every [`Accepted`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Executed up to here.
    pub height: Height,
    /// Hash of the quadruple at that height.
    pub digest: Hash,
}

/// Stored durably: the follower's chain equals the leader's up to `upto`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The term in which it accepted.
    pub term: Term,
    /// Last block of the *message* that is answered, never more (CCF#6001).
    pub upto: BlockId,
    /// What the follower has executed.
    pub executed: Report,
    /// From [`Append::read_token`].
    pub read_token: u64,
}

/// Does not fit, or is of an older term; or fits, but finds no room, or comes to a node that acknowledges nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The follower's term.
    pub term: Term,
    /// The `previous` of the message.
    pub previous: Height,
    /// The follower's term at that height, or of its last block where it has none there.
    pub conflict_term: Term,
    /// First height of that term in the follower's chain.
    pub conflict_first: Height,
    /// The follower's last block; where the message fits, the last one that the leader has as well.
    pub tip: BlockId,
    /// From [`Append::read_token`].
    pub read_token: u64,
}

/// A candidate's question, also of the pre-vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The term that is asked for.
    pub term: Term,
    /// Number of the candidacy within this start of the candidate; echoed, so that answers to an older one are void.
    pub round: u64,
    /// The candidate's last block.
    pub last: BlockId,
    /// Height of the membership block in force at the candidate.
    pub membership: Height,
    /// Whether the leader itself asked for this election ([`TimeoutNow`]): followers then do not insist on it.
    pub transfer: bool,
}

/// Answer to a [`VoteRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteAnswer {
    /// The voter's term, or for a granted pre-vote the term asked for.
    pub term: Term,
    /// From the request.
    pub round: u64,
    /// Whether it is granted.
    pub granted: bool,
    /// The candidate's last block that the vote is for (from the request).
    pub last: BlockId,
    /// The voter's signed statement, opaque here: empty when the engine makes it, filled by the host when it leaves,
    /// verified by the host before the engine sees it.
    pub signature: VoteSignature,
}

/// Signature entries of a vote in the host's encoding; at most [`VoteSignature::MAX_BYTES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteSignature(pub Vec<u8>);

impl VoteSignature {
    /// Two entries of a slot, an outgoing flag and an Ed25519 signature fit.
    pub const MAX_BYTES: usize = 256;
}

/// A node at its start, before it takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which data directory.
    pub incarnation: Incarnation,
    /// Drawn by chance at each start: tells the asking process from every other.
    pub nonce: u64,
    /// The number of this start: higher than any that the directory has on record.
    pub start: u64,
    /// Whether that number is on record now, for good: then this is no question, the node takes part.
    pub claimed: bool,
    /// Its term.
    pub term: Term,
    /// Its last block.
    pub tip: BlockId,
}

/// Answer to a [`Hello`]: the answering node's own place and what it remembers of the asking one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// From the hello, so that an answer to another process is void.
    pub nonce: u64,
    /// The answering node's term.
    pub term: Term,
    /// Its last block.
    pub tip: BlockId,
    /// Whether it takes part itself: its disk, too, may have forgotten what it held.
    pub takes_part: bool,
    /// What it remembers that the asking node promised.
    pub remembered: Promise,
}

/// The highest that one node has seen another promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Number of the last start that it claimed.
    pub start: u64,
    /// Term of a vote granted, or asked for by itself.
    pub vote: Term,
    /// Last block acknowledged as durable.
    pub accepted: BlockId,
}

/// The leader hands over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutNow {
    /// The leader's term; of another term it is void.
    pub term: Term,
    /// To whom.
    pub target: Slot,
}

/// A block whose copy here is damaged, by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Where it stands.
    pub height: Height,
    /// Its hash: whoever has a block of this hash has this block.
    pub hash: Hash,
}

/// Answer to a [`Want`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<B> {
    /// From the question.
    pub height: Height,
    /// From the question.
    pub hash: Hash,
    /// The block; `None` where the asked node has it not.
    pub block: Option<B>,
}
