//! # quipu-ledger: what was decided, and what is true because of it
//!
//! Remembers what was decided, and what is true because of it. Blocks of signed transactions form a chain; executing
//! the chain in order yields results, a world state, histories and indexes. A world state is not stored truth but a
//! consequence: replaying the chain from genesis always yields it again. So there is one log, and after a crash the
//! rest is made anew from it.
//!
//! Three questions are kept apart, and each has one module that answers it: may this block follow (`rules`: the chain
//! alone decides), what does it do (`execute`: the chain and the state before it), and where is it kept (`store`: the
//! only one that knows RocksDB). Nobody here knows a network, a clock or chance, so replicas and auditors agree.
//!
//! | module | keeps |
//! | --- | --- |
//! | [`transaction`], [`operation`] | what a member signs: bytes -> `SignedTransaction` -> `VerifiedTransaction` |
//! | [`block`], [`vote`], [`certificate`], [`membership`] | what a block holds, by kind, and how it is hashed |
//! | [`codec`], [`limits`] | the one strict encoding, and every limit of the data |
//! | [`rules`] | whether a block may follow on a [`rules::ChainTip`]; senders' signatures in batch |
//! | [`execute`], [`state`], [`result`] | what a block does: effects, state digest, results chain, as pure functions |
//! | `store` | the chain, its consequences and a node's promises in one RocksDB; feature `store`, on by default |
//! | `verify` | offline verification of a copy: every rule, a replay, every record; feature `store` |
//!
//! The way of a transaction through this crate:
//!
//! 1. a client makes it with [`transaction::SignedTransaction::sign`]; a node reads it with `decode` and proves its
//!    signature with [`transaction::VerifiedTransaction::verify_all`]; [`execute::check_rights`] is early advice;
//! 2. the leader puts it into a body, [`rules::ChainTip::next`] makes the header, [`rules::seal`] signs the block;
//! 3. a follower reads the block ([`block::Block::decode`]: well-formed, and bound to its header), asks
//!    [`rules::ChainTip::check`] and [`rules::signatures::check`], and appends it with `store::Store::write_log`;
//! 4. when the block is committed, `store::Executor::execute` asks [`execute::execute_by`] for its effects and writes
//!    them in one batch: state, result, history, index and replay memory, with the height that they belong to. Where
//!    it has threads (`store::Workers`) and the block names many keys, they share it: keys are loaded in pieces, each
//!    transaction runs under locks that were queued in block order, and the last one to hold a key's lock puts what
//!    became of the key into the state digest. A transaction waits only for earlier ones, and what conflicts runs in
//!    block order: there is no deadlock, nothing is undone, and the outcome is that of running one after the other;
//! 5. the quadruple [`block::Executed`] goes into a later header, so the chain also says what came of it;
//! 6. years later, `verify::run` does 3 to 5 again for a copy that it does not trust, and compares record for record.
//!
//! `FORMAT.md` describes every byte, well enough to write step 6 in another language; `vectors.json` has an example
//! of each, and `tests/independent` is such a verifier.
//!
//! Choices where the design is silent: a list of signatures with one bad entry is refused as a whole, so there is one
//! list for one meaning; a certificate in a body may be of any earlier block; a transaction that fails stays known
//! until it expires, so it cannot be tried again with the same id; reading needs no right, so `require` needs none
//! either.
#![forbid(unsafe_code)]
#![warn(clippy::as_conversions)]

pub mod block;
pub mod certificate;
pub mod codec;
pub mod execute;
pub mod limits;
pub mod membership;
pub mod operation;
pub mod result;
pub mod rules;
pub mod state;
#[cfg(feature = "store")]
pub mod store;
pub mod transaction;
#[cfg(feature = "store")]
pub mod verify;
pub mod vote;
