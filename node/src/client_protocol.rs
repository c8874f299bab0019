//! Keeps what clients and nodes say to each other, over ALPN `quipu-client/1`.
//!
//! One bidirectional stream a connection carries frames both ways: 4 bytes big-endian length, then postcard of
//! [`Request`] or [`Response`], strict. Answers come in any order and carry the request's number.
//! Invariants: enums grow only at the end; a frame is never longer than its cap; a call is safe to send twice.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, NetworkId, Slot, Term, TimeMs, TransactionId};
use quipu_ledger::block::Executed;
use quipu_ledger::operation::{Namespace, Version};
use quipu_ledger::result::Outcome;
use serde::{Deserialize, Serialize};

use crate::stages::{Capped, MAX_STAGES, StageRead};
use crate::usage::Usage;

/// ALPN of client connections; its number is the version of this protocol.
pub const CLIENT_ALPN: &[u8] = b"quipu-client/1";
/// Longest frame from a client, bytes.
pub const MAX_REQUEST_BYTES: usize = 512 * 1024;
/// Longest frame to a client, bytes.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// Most requests of one connection that may wait at a node; further ones are answered *busy*.
pub const MAX_WAITING_REQUESTS: usize = 4096;
/// Version of [`Measures`]; where a field or a stage changes its meaning, it grows.
pub const MEASURES_VERSION: u16 = 1;
/// Most entries in one page of a scan or a history.
pub const MAX_PAGE_ENTRIES: u32 = 1000;

/// A call with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique among the calls that wait on this connection.
    pub number: u64,
    /// What is wanted.
    pub call: Call,
}

/// An answer with its call's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// From the request.
    pub number: u64,
    /// What came of it.
    pub answer: Answer,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began. Needs a leader.
    #[default]
    Linearizable,
    /// What this node has executed; may be old.
    Local,
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Order and execute a signed transaction; answered with [`Answer::Executed`] when this node has executed it.
    Submit {
        /// Body and signature.
        #[serde(with = "serde_bytes")]
        transaction: Vec<u8>,
    },
    /// What became of a transaction?
    Lookup {
        /// Which.
        id: TransactionId,
        /// Its expiry, where the asker has the signed transaction: only then *never* can be answered.
        expires_at: Option<TimeMs>,
    },
    /// The value of a key.
    Get {
        /// Where.
        namespace: Namespace,
        /// Which.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// As it was after this block; now where none is given.
        at: Option<Height>,
        /// How fresh.
        consistency: Consistency,
    },
    /// The keys with a prefix, in order.
    Scan {
        /// Where.
        namespace: Namespace,
        /// What they begin with; all where empty.
        #[serde(with = "serde_bytes")]
        prefix: Vec<u8>,
        /// Only keys after this one.
        after: Option<serde_bytes::ByteBuf>,
        /// At most so many.
        limit: u32,
        /// How fresh.
        consistency: Consistency,
    },
    /// The versions of a key, oldest first.
    History {
        /// Where.
        namespace: Namespace,
        /// Which.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Only versions after this one.
        after: Option<Version>,
        /// At most so many.
        limit: u32,
        /// How fresh.
        consistency: Consistency,
    },
    /// An executed block: the one of this height, or the last.
    Block {
        /// Which.
        height: Option<Height>,
    },
    /// Answered with the last block once this node has executed something after `after`, or after a while as it is.
    Await {
        /// What the asker has seen.
        after: Height,
    },
    /// Where this node stands.
    Status,
    /// What this process has used, and how long each stage took.
    Measures,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Submit`, and to `Lookup` of one that was executed.
    Executed(Receipt),
    /// To `Submit`: refused here, it is in no block through this call.
    Rejected(Rejection),
    /// To `Submit`: accepted, but its fate is not known here yet. Look it up, or send it again.
    Pending,
    /// To `Lookup`: in no executed block, and may still come.
    Possible {
        /// Time of the last executed block.
        time: TimeMs,
        /// Its height.
        height: Height,
    },
    /// To `Lookup`: an executed block has reached its expiry and it is in none: it never will be.
    Never {
        /// The last executed block.
        height: Height,
    },
    /// To `Lookup` without an expiry: in no executed block.
    NotFound {
        /// The last executed block.
        height: Height,
    },
    /// To `Get`.
    Value {
        /// None where there is none.
        entry: Option<Entry>,
        /// The state that was read.
        height: Height,
    },
    /// To `Scan`.
    Entries {
        /// In order of keys.
        entries: Vec<Entry>,
        /// Where to go on, if there is more.
        next: Option<serde_bytes::ByteBuf>,
        /// The state that was read.
        height: Height,
    },
    /// To `History`.
    Versions {
        /// Oldest first.
        versions: Vec<VersionEntry>,
        /// Where to go on, if there is more.
        next: Option<Version>,
        /// The state that was read.
        height: Height,
    },
    /// To `Block` and `Await`: the block as it travels; none where it is not executed here.
    Block {
        /// `ledger::block::Block::encode`.
        block: Option<serde_bytes::ByteBuf>,
        /// Results of its transactions.
        outcomes: Vec<Outcome>,
        /// The last executed block.
        height: Height,
    },
    /// To `Status`.
    Status(Box<NodeStatus>),
    /// To any call: cannot be answered now.
    Unavailable(Unavailable),
    /// To `Measures`.
    Measures(Box<Measures>),
}

/// Where a transaction stands and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which.
    pub id: TransactionId,
    /// First position in the chain.
    pub version: Version,
    /// What came of it.
    pub outcome: Outcome,
    /// The block that holds it.
    pub block: Hash,
}

/// A value of the world state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// What.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// Written by.
    pub version: Version,
}

/// A version of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// The transaction's position.
    pub version: Version,
    /// The transaction.
    pub id: TransactionId,
    /// None where it deleted the key.
    pub value: Option<serde_bytes::ByteBuf>,
}

/// Why a transaction was refused at the door. Each has a stable code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// Longer than `ledger::limits::MAX_TRANSACTION_BYTES`.
    #[error("the transaction has {length} bytes, at most {cap} are allowed")]
    TooLarge {
        /// Length given.
        length: u64,
        /// Longest allowed.
        cap: u64,
    },
    /// Not a transaction.
    #[error("not a transaction: {0}")]
    Malformed(String),
    /// For another network.
    #[error("the transaction is for network {given}, this is {here}")]
    WrongNetwork {
        /// In the transaction.
        given: NetworkId,
        /// This one.
        here: NetworkId,
    },
    /// The last block's time, or the node's clock, has reached its expiry.
    #[error("the transaction expired at {expires_at} ms, it is {now} ms")]
    Expired {
        /// In the transaction.
        expires_at: TimeMs,
        /// Now.
        now: TimeMs,
    },
    /// Expires later than the network allows.
    #[error("the transaction expires at {expires_at} ms, at most {latest} ms is allowed now")]
    ExpiryTooFar {
        /// In the transaction.
        expires_at: TimeMs,
        /// Latest allowed.
        latest: TimeMs,
    },
    /// The sender is not in the membership.
    #[error("the sender is not a member of this network")]
    UnknownMember,
    /// The sender may not write there.
    #[error("operation {operation}: the sender may not write in namespace '{namespace}', or there is none")]
    NotPermitted {
        /// Index of the operation.
        operation: u32,
        /// Where.
        namespace: Namespace,
    },
    /// The signature is not the sender's.
    #[error("the signature is not the sender's")]
    BadSignature,
    /// Too much is waiting; nothing was done.
    #[error("the node is busy, try again in {retry_after_ms} ms")]
    Busy {
        /// When to try again, ms.
        retry_after_ms: u64,
    },
}

impl Rejection {
    /// Stable code, as the command line prints it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::WrongNetwork { .. } => "wrong_network",
            Self::Expired { .. } => "expired",
            Self::ExpiryTooFar { .. } => "expiry_too_far",
            Self::UnknownMember => "unknown_member",
            Self::NotPermitted { .. } => "not_permitted",
            Self::BadSignature => "bad_signature",
            Self::Busy { .. } => "busy",
        }
    }
}

/// Why a call could not be answered now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unavailable {
    /// No leader could confirm the read in time, or this node did not catch up with what the leader confirmed.
    #[error("the read was not confirmed in time: there is no leader, or this node is behind")]
    NoLeader,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// Too many calls wait.
    #[error("too many calls wait at this node")]
    Busy,
    /// The node's store could not be read.
    #[error("the node could not read its store: {0}")]
    Store(String),
    /// The call is out of bounds.
    #[error("the call is not valid: {0}")]
    Invalid(String),
    /// The node takes no blocks until its disk has room; nothing was done.
    #[error("disk full on {node}: it takes no transactions until there is room")]
    DiskFull {
        /// Its name.
        node: String,
    },
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The network.
    pub network: NetworkId,
    /// Which node.
    pub slot: Slot,
    /// Its name.
    pub name: String,
    /// Its role, as operators say it: `leader`, `follower`, `candidate`, `learner`, `waiting`, `recovering`.
    pub role: String,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead.
    pub leader: Option<Slot>,
    /// Its last block.
    pub tip: BlockId,
    /// The last block that it knows to be committed.
    pub commit: Height,
    /// The last block that it has executed, and the quadruple there.
    pub executed: Executed,
    /// Transactions that wait for a block.
    pub waiting: u64,
    /// Version of the program.
    pub version: String,
    /// How its disk is.
    pub disk: DiskStatus,
    /// How its clock is.
    pub clock: ClockStatus,
}

/// How a node's clock stands beside those of the voters that it reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// How far it is ahead of their median, its own among them, in ms; negative where it is behind.
    pub ahead_ms: i64,
    /// Whether that is too far: the node does not stand for election.
    pub wrong: bool,
}

/// How a node's disk is, and what was found on it since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Bytes that are free for the store.
    pub free: u64,
    /// Below so many the node takes no blocks.
    pub floor: u64,
    /// Whether it takes none now.
    pub full: bool,
    /// What the store has lost at its end, as far as the watermark beside it says: the last block that was durable.
    /// None where nothing was lost, or it came back.
    pub lost: Option<BlockId>,
    /// Blocks that were found damaged.
    pub damaged: u64,
    /// Blocks that were written back.
    pub repaired: u64,
    /// Blocks that the scrubber has read.
    pub scrubbed: u64,
    /// When the scrubber's last whole pass over the chain ended.
    pub passed: Option<TimeMs>,
}

/// What a node has measured of itself since its process began. Everything only grows, but for the memory it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Of these fields and of the stages' meaning: [`MEASURES_VERSION`].
    pub version: u16,
    /// Which node.
    pub slot: Slot,
    /// What its process has used.
    pub usage: Usage,
    /// In the order in which a transaction meets them; [`crate::stages::Stages`] says what each is.
    pub stages: Capped<StageRead, MAX_STAGES>,
}

/// Codes with which a node closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The node stops.
    Stopping = 1,
    /// The key is in no membership that this node knows.
    Stranger = 2,
    /// What came was not the protocol.
    Protocol = 3,
    /// A newer connection of the same peer took its place.
    Replaced = 4,
    /// Too many connections.
    Full = 5,
}
