//! # quipu-node: a member of the network
//!
//! Read `replica.rs` first: it decides everything and performs nothing. `run.rs` performs everything and decides
//! nothing.
#![forbid(unsafe_code)]

pub mod admit;
pub mod chain_block;
pub mod client;
pub mod client_protocol;
pub mod client_service;
pub mod clock;
pub mod config;
pub mod executor;
pub mod init;
pub mod inspect;
pub mod inspect_peers;
pub mod limits;
pub mod log_writer;
pub mod network;
pub mod peer_protocol;
pub mod pool;
pub mod replica;
pub mod run;
pub mod start;
pub mod status;
pub mod verified;
