//! # quipu-ledger: what was decided, and what is true because of it
//!
//! A world state is not stored truth but a consequence: replaying the chain from genesis always yields it again.
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
