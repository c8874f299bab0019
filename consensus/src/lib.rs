//! # quipu-consensus: who decides what comes next
//!
//! The ordering engine of Quipu: an own Raft core without I/O. An engine is told what happened ([`input::Input`]) and
//! answers with what to do ([`output::Output`]); it never waits, reads a clock or touches a disk.
#![forbid(unsafe_code)]
#![warn(clippy::as_conversions)]

pub mod block;
pub mod engine;
pub mod input;
pub mod message;
pub mod output;
pub mod quorum;
pub mod raft;
pub mod simulator;
