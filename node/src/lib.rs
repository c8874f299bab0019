//! # quipu-node: a member of the network
//!
//! Orders, executes and keeps the chain together with its peers, and serves clients. Read [`replica`] first: it decides
//! everything and performs nothing. [`run`] performs everything and decides nothing: it owns the clock, the threads'
//! queues and the [`gate`] that holds a message until the write that it speaks of is durable.
//!
//! ## The way of a transaction
//!
//! One direction, each step one module, each queue bounded.
//!
//! | step | who | thread |
//! | --- | --- | --- |
//! | a call comes in on a client's stream | [`network`] (`service`), [`client_service`] | tokio |
//! | waits in a lane of whoever brings it ([`fair`]) | [`door::Door`] | |
//! | size, network, known id, expiry, rights, signatures in a batch | [`admit::Admitter`] | admit |
//! | waits here until its fate is known; forwarded to the leader | [`replica`] (`answer`) | replica |
//! | waits in its sender's lane; cut when the disk is idle; sealed | [`pool::Pool`], [`replica`] (`lead`) | replica |
//! | appended, replicated, committed | `quipu_consensus::raft` | replica |
//! | at a follower: chain rules, proposer, votes, senders | [`inspect::Inspector`] | inspect |
//! | held until this node has executed what the block names | [`replica`] (`follow`) | replica |
//! | one synced batch for all writes that wait | [`log_writer`] | log-writer |
//! | executed: state, results, history, index, replay memory | [`executor`] | executor |
//! | answered to whoever waits | [`replica`] (`answer`), [`run`] | replica |
//!
//! A linearizable read goes to the leader for a height ([`replica`], `read`) and is served by [`client_service`] from
//! the store once this node has executed it. A peer that is behind gets old blocks through [`executor::fetch`].
//!
//! How long each step takes, and how long transactions wait before it, is counted in [`stages`] as it happens (blocks
//! on their way through the loop in [`passage`]); [`usage`] has what the process takes of its machine. A client reads
//! both with `Call::Measures`.
//!
//! ## What holds
//!
//! - executed <= min(committed, own durable); own durable <= appended.
//! - No message leaves before the write that it depends on is durable.
//! - Only a `VerifiedTransaction` enters the pool, only a committed block is executed, only the executor writes state.
//! - A block enters the engine only when every signature in it was verified and this node has itself found the
//!   `executed` quadruple that it names, or the block repeats its parent's.
//! - A failed write ends the process: no retry, for nobody knows what a failed sync has left.
//! - A damaged block is asked for by its hash and written back ([`damage`], [`scrub`]); whoever needs it waits. A
//!   damaged end of the chain, above what is executed, is cut at start; the [`watermark`] then keeps the node from
//!   voting until it has caught up. A derived record that cannot be read is never guessed: a client is told so, and
//!   where the executor needs it the process ends with the name of its family.
//! - Below a floor of free space a node takes no blocks and does not lead ([`space`]).
//!
//! ## What is absent on purpose
//!
//! No async in anything that decides; no lock held across a decision; no retry of a sync; no certificate authority; no
//! 0-RTT and no session tickets. Membership changes, snapshots and commit certificates come later: their bytes are
//! fixed, and `replica` reads the membership in force from the chain's tip wherever it matters.
#![forbid(unsafe_code)]

pub mod admit;
pub mod chain_block;
pub mod client;
pub mod client_protocol;
pub mod client_service;
pub mod clock;
pub mod config;
pub mod damage;
pub mod door;
pub mod executor;
pub mod fair;
pub mod gate;
pub mod init;
pub mod inspect;
pub mod inspect_peers;
pub mod limits;
pub mod log_writer;
pub mod network;
pub mod passage;
pub mod peer_protocol;
pub mod pool;
pub mod replica;
pub mod run;
pub mod scrub;
pub mod space;
pub mod stages;
pub mod start;
pub mod status;
pub mod usage;
pub mod verified;
pub mod watermark;
pub mod youngest;
