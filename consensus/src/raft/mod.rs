//! Raft as a pure state machine: one short `match` in `step`, one file for each thing that can happen.
//!
//! Invariant: a handler changes memory first and stages what must be durable; `step` then seals one write and puts it
//! out before everything that waits for it.
//! Leaves safety's decisions to `rules`, the arithmetic to `quorum`.

mod election;
mod evidence;
mod follower;
mod hello;
mod horizon;
mod log;
mod membership;
mod memory;
mod pace;
mod participation;
mod persistence;
mod progress;
mod read;
mod recovery;
mod repair;
mod replication;
mod rules;
mod state;
mod step;
mod transfer;
mod vote;

pub use rules::{RaftRules, Rules};
pub use state::Raft;
