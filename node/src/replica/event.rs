//! Keeps what a replica is told and what it asks for: the whole border between deciding and performing.

use bytes::Bytes;
use quipu_consensus::input::{FetchId, PersistSeq, SessionId};
use quipu_consensus::message::Message;
use quipu_consensus::output::{Class, Evidence, LogOperation};
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, TimeMs, TransactionId};
use quipu_crypto::key::PublicKey;
use quipu_ledger::block::{Block, Executed};
use quipu_ledger::result::TransactionResult;
use quipu_ledger::transaction::VerifiedTransaction;

use crate::chain_block::ChainBlock;
use crate::client_protocol::{Receipt, Rejection};

/// Names somebody who waits for an answer at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who brings a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant's line says what its fields are")]
pub enum Origin {
    /// A client of this node, by the key of its connection; it waits for the answer.
    Client { key: PublicKey, ticket: Ticket },
    /// A peer, for a client of its own.
    Peer { slot: Slot, session: SessionId },
}

/// What happened.
#[derive(Debug)]
#[expect(missing_docs, reason = "a variant's line says what its fields are")]
pub enum Event {
    /// Time passed.
    Tick,
    /// A peer can be reached.
    PeerUp { peer: Slot, session: SessionId },
    /// A session ended.
    PeerDown { peer: Slot, session: SessionId },
    /// A message whose signatures and chain rules were found good.
    Engine {
        from: Slot,
        session: SessionId,
        message: Message<ChainBlock>,
    },
    /// A peer sent a block or a vote that no honest node makes.
    Faulty { from: Slot },
    /// A transaction to order.
    Submit {
        origin: Origin,
        transaction: VerifiedTransaction,
    },
    /// There was no room at this node's door for these, which a peer had forwarded.
    NoRoom {
        slot: Slot,
        session: SessionId,
        transactions: Vec<TransactionId>,
    },
    /// The leader had no room for these.
    Busy {
        from: Slot,
        session: SessionId,
        transactions: Vec<TransactionId>,
        retry_after_ms: u64,
    },
    /// A client wants to read what is committed now.
    Read { ticket: Ticket },
    /// A follower wants to.
    ReadIndex {
        from: Slot,
        session: SessionId,
        number: u64,
    },
    /// The leader's answer to this node's question.
    ReadHeight { number: u64, height: Option<Height> },
    /// A peer's clock.
    Clock { from: Slot, time: TimeMs },
    /// Somebody waits for the chain's time to reach `time`.
    Expire { time: TimeMs },
    /// The write is durable.
    Persisted { seq: PersistSeq },
    /// The write failed.
    PersistFailed { seq: PersistSeq },
    /// Blocks from the store.
    Loaded {
        fetch: FetchId,
        previous: BlockId,
        blocks: Vec<ChainBlock>,
    },
    /// A block was executed.
    Executed(ExecutedBlock),
    /// The disk fell below its floor of free space, or has room again.
    Space { enough: bool },
    /// The stored block at this height cannot be read; this is the hash that the chain has there.
    Damaged { height: Height, hash: Hash },
    /// The node shall stop: hand over if it leads.
    Stop,
}

/// What the executor found.
#[derive(Debug)]
pub struct ExecutedBlock {
    /// The block.
    pub id: BlockId,
    /// Its time.
    pub time: TimeMs,
    /// The quadruple after it.
    pub executed: Executed,
    /// Results of its transactions.
    pub results: Vec<TransactionResult>,
}

/// What to do.
#[derive(Debug)]
#[expect(missing_docs, reason = "a variant's line says what its fields are")]
pub enum Action {
    /// Write to the log, in order.
    Persist {
        seq: PersistSeq,
        operations: Vec<LogOperation<ChainBlock>>,
        sync: bool,
    },
    /// Send an encoded frame once `after` is durable.
    Send {
        to: Slot,
        session: SessionId,
        class: Class,
        frame: Bytes,
        after: Option<PersistSeq>,
    },
    /// Execute the block of this height; where it is not given it is in the store.
    Execute { height: Height, block: Option<Block> },
    /// Read blocks from the store.
    Fetch {
        fetch: FetchId,
        first: Height,
        last: Height,
        max_bytes: u64,
    },
    /// The transaction was executed.
    Answer { ticket: Ticket, receipt: Receipt },
    /// It was executed before: look its first position up in the index.
    AnswerFromIndex { ticket: Ticket, id: TransactionId },
    /// It will not be executed through this call.
    Reject { ticket: Ticket, rejection: Rejection },
    /// The read may be answered from the executed state; `false` where that took too long.
    ReadNow { ticket: Ticket, confirmed: bool },
    /// Keep the evidence.
    Evidence(Evidence),
    /// Say that the leader named another result of execution than was found here; the engine knows.
    Distrusted { leader: Slot },
    /// Stop the process: something is broken.
    Halt(String),
}
